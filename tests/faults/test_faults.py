"""Each fault in the middle of a run, on each broker: nothing lost, nothing doubled."""

from random import Random

import pytest

from tests.faults.conftest import OBJECTS
from tests.faults.faults import FAULTS, Fault, fault_named, try_out
from tests.faults.report import Report
from tests.faults.site import Site

# CI runs this selection, which covers each part of the recovery once. Site and fault have separate
# decorators: parametrized together, pytest would start a site for every fault.
ON_RABBITMQ = ("worker killed", "broker wiped", "planner killed")
ON_VALKEY = ("pool process killed", "worker told to stop")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
@pytest.mark.parametrize("site", ["rabbitmq", "valkey"], indirect=True)
def test_fault_loses_and_doubles_nothing(
    site: Site, fault: Fault, rng: Random, report: Report
) -> None:
    verdict = try_out(site, fault, rng, OBJECTS)
    report.add(verdict)
    assert verdict.problems == ()


@pytest.mark.faults_ci
@pytest.mark.parametrize("name", ON_RABBITMQ)
@pytest.mark.parametrize("site", ["rabbitmq"], indirect=True)
def test_selection_on_rabbitmq(site: Site, name: str, rng: Random, report: Report) -> None:
    verdict = try_out(site, fault_named(name), rng, 100)
    report.add(verdict)
    assert verdict.problems == ()


@pytest.mark.faults_ci
@pytest.mark.parametrize("name", ON_VALKEY)
@pytest.mark.parametrize("site", ["valkey"], indirect=True)
def test_selection_on_valkey(site: Site, name: str, rng: Random, report: Report) -> None:
    verdict = try_out(site, fault_named(name), rng, 100)
    report.add(verdict)
    assert verdict.problems == ()
