"""Each fault in the middle of a run, on each broker: nothing lost, nothing doubled."""

from random import Random

import pytest

from tests.faults.conftest import OBJECTS
from tests.faults.faults import FAULTS, Fault
from tests.faults.report import Report
from tests.faults.site import Site
from tests.faults.trial import Trial


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
@pytest.mark.parametrize("site", ["rabbitmq", "valkey"], indirect=True)
def test_fault_loses_and_doubles_nothing(
    site: Site, fault: Fault, rng: Random, report: Report
) -> None:
    trial = Trial(site, rng, OBJECTS, poison=fault.poison, loses=fault.loses * fault.times)
    with trial.going():
        for share in sorted(
            0 if fault.early else rng.uniform(0.05, 0.7) for _ in range(fault.times)
        ):
            trial.until_done(share)
            strike = trial.strike()
            fault.inject(trial)
            strike.end()
    for _ in range(fault.runs - 1):
        with trial.going():
            pass

    verdict = trial.judge(fault.name)

    report.add(verdict)
    assert verdict.problems == ()
