"""A chunk that takes longer than Valkey's visibility timeout is delivered to one worker only."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Connection, Queue

from geotag.context import Context
from tests.conftest import Geotag
from tests.images import good_files
from tests.stack_helpers import attempts, only_backfill_worker, results, upload
from workers.broker.visibility import renew

# `geotag worker` with two processes, for a decoder that takes three visibility timeouts.
WORKER = """
import time
from workers.chunks import pipeline

read_photo = pipeline.read_photo

def slow(*arguments):
    time.sleep(30)
    return read_photo(*arguments)

pipeline.read_photo = slow
from geotag.machine.worker import work
work("backfill", 2, "INFO")
"""


@pytest.fixture
def slow_worker(running: Context, tmp_path: Path) -> Iterator[Path]:
    """Run the only backfill worker; the fixture is the path of its log."""
    with only_backfill_worker(running, WORKER, tmp_path, GEOTAG_VISIBILITY_TIMEOUT="10") as log:
        yield log


def test_long_chunk_is_delivered_once(
    running: Context, bucket: str, geotag: Geotag, slow_worker: Path
) -> None:
    upload(running, bucket, {"a.jpg": good_files()["plain.jpg"] + bucket.encode()})
    done = geotag("run", f"s3://{bucket}")
    assert done.returncode == 0, done.stderr + slow_worker.read_text()
    assert results(running, bucket)["a.jpg"].state == "geotagged"
    assert attempts(running, bucket) == {"a.jpg": [None]}
    assert "goes back to the queue" not in slow_worker.read_text()


@pytest.mark.parametrize("renewed", [True, False])
def test_only_what_is_renewed_stays_in_hand(running: Context, bucket: str, renewed: bool) -> None:
    url = running.settings.worker.broker_url.get_secret_value()
    options = {"visibility_timeout": 2, "unacked_restore_interval": 1}
    with Connection(url, transport_options=options) as connection:
        queue = Queue(bucket)(connection.channel())
        queue.declare()
        connection.Producer().publish("chunk", routing_key=bucket)
        message = queue.get(no_ack=False)
        assert message is not None
        for _ in range(8):
            time.sleep(0.5)  # twice the timeout in all
            if renewed:
                renew(message.channel)
        message.channel.qos.restore_visible(interval=1)
        again = queue.get(no_ack=True)
        assert (again is None) == renewed
        message.ack()
        renew(message.channel)  # an acknowledged message is not restored
        message.channel.qos.restore_visible(interval=1)
        assert queue.get() is None
        queue.delete()
