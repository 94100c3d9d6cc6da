"""Fixtures that keep the work of one integration test from the workers of the next."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from deploy.local import stack
from geotag.context import Context


@pytest.fixture(scope="module", autouse=True)
def no_ticks(running: Context) -> None:
    """Stop beat, which `geotag up` starts in some tests: its ticks follow the real clock."""
    stack.stop_service(running.settings.stack, "beat")


@pytest.fixture(autouse=True)
def nothing_is_left_to_do(request: pytest.FixtureRequest) -> Iterator[None]:
    """Finish all chunks, and close the runs that wait for a planner.

    Otherwise later publishers would publish the chunks, even of archives that no worker can
    reach. The control loop would resume the runs. Triton would keep the releases of the runs
    loaded.
    """
    yield
    if "running" in request.fixturenames:
        with request.getfixturevalue("running").engine.begin() as connection:
            for end in (
                "UPDATE geotag.chunk SET finished_at = now() WHERE finished_at IS NULL",
                "UPDATE geotag.run SET planned_at = now() WHERE planned_at IS NULL",
            ):
                connection.execute(text(end))
