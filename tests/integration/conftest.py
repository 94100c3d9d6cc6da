"""What integration tests leave behind must not reach the workers of those that follow."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text


@pytest.fixture(autouse=True)
def unreachable_is_not_published(request: pytest.FixtureRequest) -> Iterator[None]:
    """End the chunks that a test made of archives that no worker can reach.

    Every publisher publishes all that waits: workers would wait for those archives for ever.
    """
    yield
    if "running" in request.fixturenames:
        engine = request.getfixturevalue("running").engine
        with engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE geotag.chunk c SET finished_at = now() FROM geotag.archive a"
                    " WHERE a.id = c.archive_id AND a.endpoint LIKE '%.invalid'"
                    " AND c.finished_at IS NULL"
                )
            )
