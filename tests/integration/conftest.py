"""What integration tests leave behind must not reach the workers of those that follow."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from deploy.local import stack
from geotag.context import Context


@pytest.fixture(scope="module", autouse=True)
def no_ticks(running: Context) -> None:
    """`geotag up`, which some tests call, starts beat: its ticks go by the real clock."""
    stack.stop_service(running.settings.stack, "beat")


@pytest.fixture(autouse=True)
def nothing_is_left_to_do(request: pytest.FixtureRequest) -> Iterator[None]:
    """End all chunks, and close the runs that wait for a planner.

    Every publisher publishes all that waits, also of archives that no worker can reach; a kept
    planner goes on with whatever run nobody plans any more; a release stays served for its runs.
    """
    yield
    if "running" in request.fixturenames:
        with request.getfixturevalue("running").engine.begin() as connection:
            for end in (
                "UPDATE geotag.chunk SET finished_at = now() WHERE finished_at IS NULL",
                "UPDATE geotag.run SET planned_at = now() WHERE planned_at IS NULL",
            ):
                connection.execute(text(end))
