"""One long run with faults throughout, in an order that the seed decides."""

from random import Random

import pytest

from tests.faults.faults import FAULTS
from tests.faults.report import Report
from tests.faults.site import Site
from tests.faults.trial import Trial

OBJECTS = 2000
POISON = 3


@pytest.mark.soak
@pytest.mark.parametrize("site", ["rabbitmq", "valkey"], indirect=True)
def test_soak(site: Site, rng: Random, report: Report) -> None:
    faults = [fault for fault in FAULTS if fault.inject and fault.runs == 1]
    rng.shuffle(faults)
    faults.sort(key=lambda fault: not fault.early)
    loses = POISON + sum(fault.loses for fault in faults)
    trial = Trial(site, rng, OBJECTS, poison=POISON, loses=loses)
    with trial.going():
        for number, fault in enumerate(faults):
            trial.until_done(number / len(faults) * rng.uniform(0.8, 1.0))
            trial.struck_by(fault.inject)
    verdict = trial.judge(f"soak: {len(faults)} faults")
    report.add(verdict)
    assert verdict.problems == ()
