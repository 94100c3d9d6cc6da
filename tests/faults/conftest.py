"""Fixtures of the fault tests: a site for each broker, and the seed of all randomness."""

import os
import random
from collections.abc import Iterator

import pytest

from deploy.local.broker import RABBITMQ_SERVER
from deploy.local.system import can_install
from tests.faults.report import Report
from tests.faults.site import Site, running_site

# Read at import, because a site removes the caller's variables.
SEED = os.environ.get("GEOTAG_FAULT_SEED") or str(random.randrange(10**6))
REPORT = os.environ.get("GEOTAG_FAULT_REPORT")
OBJECTS = int(os.environ.get("GEOTAG_FAULT_OBJECTS", "300"))


def pytest_report_header() -> str:
    """The seed, so that a run can be repeated."""
    return f"GEOTAG_FAULT_SEED={SEED}"


@pytest.fixture(scope="module")
def report() -> Iterator[Report]:
    """The table of verdicts, printed at the end."""
    table = Report(SEED, REPORT)
    yield table
    table.close()


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """The running stack with the broker that the test is for."""
    if request.param == "rabbitmq" and not RABBITMQ_SERVER.exists() and not can_install():
        pytest.skip("RabbitMQ is not here and cannot be installed")
    with running_site(request.param) as running:
        yield running


@pytest.fixture
def rng(site: Site, request: pytest.FixtureRequest) -> random.Random:
    """A source of randomness of this test alone."""
    return random.Random(f"{SEED} {request.node.name}")
