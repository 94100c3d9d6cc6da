"""The main job over RabbitMQ's quorum queues, with existing servers for everything else."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from amqp.exceptions import NotFound, PreconditionFailed
from kombu import Connection, Queue
from pydantic import SecretStr

from deploy.local import stack
from deploy.local.broker import RABBITMQ_SERVER
from deploy.local.folder import Folder
from deploy.local.supervision import Supervisor
from deploy.local.system import can_install
from deploy.settings import StackSettings
from geotag.context import Context
from tests.images import good_files
from tests.stack_helpers import distinct_pictures, outcomes_of, results, scalar, until, upload
from workers.broker.app import (
    BACKFILL,
    INTERACTIVE,
    QUEUES,
    BrokerUnavailable,
    at_broker,
    make_app,
    publish,
    queued,
)
from workers.settings import WorkerSettings

OBJECTS = 40


@pytest.fixture(scope="module")
def second(running: Context, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a stack that starts only RabbitMQ and workers."""
    if not RABBITMQ_SERVER.exists() and not can_install():
        pytest.skip("RabbitMQ is not here and cannot be installed")
    first = running.settings
    secrets = (first.database.database_url, first.worker.s3_secret_key)
    database_url, secret_key = (str(s and s.get_secret_value()) for s in secrets)
    ours = {
        "GEOTAG_DATA_DIR": str(tmp_path_factory.mktemp("mq")),
        "GEOTAG_LOCAL_BROKER": "rabbitmq",
        "GEOTAG_DATABASE_URL": database_url,
        "GEOTAG_S3_ENDPOINT": str(first.worker.s3_endpoint),
        "GEOTAG_S3_ACCESS_KEY": str(first.worker.s3_access_key),
        "GEOTAG_S3_SECRET_KEY": secret_key,
        "GEOTAG_TRITON_URL": first.worker.triton_url,
    }
    kept = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    settings = StackSettings()
    try:
        up = stack.up(settings, Path(ours["GEOTAG_DATA_DIR"]) / "no-models")
        assert set(up.variables) == {"GEOTAG_BROKER_URL"}  # the stack uses the existing servers
        assert {"postgres", "s3", "triton", "broker"} <= set(up.answers)
        stack.start_workers(settings)
        yield ours | up.variables
    finally:
        stack.delete(settings)
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def pool(environment: dict[str, str]) -> list[psutil.Process]:
    """Return the pool processes of the second stack's backfill workers."""
    states = Supervisor(Folder(Path(environment["GEOTAG_DATA_DIR"]))).states("worker-backfill")
    return [child for s in states if s.pid for child in psutil.Process(s.pid).children()]


def log_of(environment: dict[str, str]) -> str:
    logs = Path(environment["GEOTAG_DATA_DIR"], "log").glob("worker-*.log")
    return "".join(path.read_text() for path in sorted(logs))


def test_only_the_broker_and_the_workers_are_started(second: dict[str, str]) -> None:
    states = Supervisor(Folder(Path(second["GEOTAG_DATA_DIR"]))).states()
    assert {state.program for state in states} == {
        "broker",
        "worker-backfill",
        "worker-interactive",
        "worker-control",
        "worker-planning",
        "beat",
    }
    assert second["GEOTAG_BROKER_URL"].startswith("amqp://")


def test_killed_pool_process_loses_nothing(
    running: Context, bucket: str, second: dict[str, str]
) -> None:
    upload(running, bucket, distinct_pictures(good_files()["plain.jpg"], OBJECTS, prefix=bucket))
    run = subprocess.Popen(
        [str(Path(sys.executable).with_name("geotag")), "run", f"s3://{bucket}"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | second,
    )
    open_attempts = (
        "SELECT count(*) FROM geotag.attempt t"
        " JOIN geotag.object_version v ON v.id = t.object_version_id"
        " JOIN geotag.archive a ON a.id = v.archive_id"
        " WHERE a.bucket = :bucket AND t.finished_at IS NULL"
    )

    def stopped_during_an_attempt() -> list[psutil.Process]:
        """Stop the pool processes with SIGSTOP during an attempt, and return them."""
        children = list(pool(second))
        for child in children:
            child.suspend()
        if scalar(running, open_attempts, bucket=bucket):
            return children
        for child in children:
            child.resume()
        return []

    for child in until(stopped_during_an_attempt):
        child.kill()

    out, err = run.communicate(timeout=240)

    assert run.returncode == 0, out + err + log_of(second)
    assert f"{OBJECTS} geotagged" in out
    assert outcomes_of(running, bucket) == dict.fromkeys(results(running, bucket), 1)
    killed = open_attempts.replace("t.finished_at IS NULL", "t.code = 'worker_killed'")
    assert scalar(running, killed, bucket=bucket) > 0


def test_locate_uses_its_own_queue(
    running: Context, second: dict[str, str], tmp_path: Path
) -> None:
    picture = tmp_path / "mine.jpg"
    picture.write_bytes(good_files()["plain.png"] + os.urandom(8))
    done = subprocess.run(
        [str(Path(sys.executable).with_name("geotag")), "locate", str(picture)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | second,
    )
    assert done.returncode == 0, done.stderr
    assert "geotagged" in done.stdout


def test_all_workers_run(second: dict[str, str]) -> None:
    """Two workers on one queue and machine need two names: RabbitMQ lets only one use a name."""

    def consumers() -> int:
        with Connection(second["GEOTAG_BROKER_URL"]) as connection:
            queue = Queue(at_broker(BACKFILL), channel=connection.channel())
            found = queue.queue_declare(passive=True)
        return int(getattr(found, "consumer_count", 0))

    until(lambda: consumers() == 2)


@pytest.mark.parametrize("name", ["geotag.dead", *(f"geotag.{queue}" for queue in QUEUES)])
def test_queues_exist_and_are_quorum_queues(second: dict[str, str], name: str) -> None:
    settings = WorkerSettings(broker_url=SecretStr(second["GEOTAG_BROKER_URL"]))
    (wanted,) = (queue for queue in make_app(settings).conf.task_queues if queue.name == name)
    with Connection(second["GEOTAG_BROKER_URL"]) as connection:
        wanted.bind(connection.channel()).queue_declare(passive=True)  # NotFound if it is missing
        classic = wanted.queue_arguments | {"x-queue-type": "classic"}
        queue = Queue(name, channel=connection.channel(), queue_arguments=classic)
        with pytest.raises(
            PreconditionFailed
        ) as refused:  # RabbitMQ returns the arguments of the queue
            queue.queue_declare()
    assert "quorum" in str(refused.value)


def test_rejected_messages_are_dead_lettered(second: dict[str, str]) -> None:
    settings = WorkerSettings(broker_url=SecretStr(second["GEOTAG_BROKER_URL"]))
    arguments = make_app(settings).conf.task_queues[0].queue_arguments
    with Connection(second["GEOTAG_BROKER_URL"]) as connection:
        jobs = Queue("jobs", routing_key="jobs", queue_arguments=arguments)
        simple = connection.SimpleQueue(jobs(connection.channel()))
        simple.put({"chunk": 3})
        simple.get(timeout=10).reject(requeue=False)

        dead = Queue("geotag.dead", channel=connection.channel())
        message = until(dead.get)
        assert message.payload == {"chunk": 3}
        message.ack()
        simple.queue.delete()


def test_only_our_queues_are_declared(second: dict[str, str]) -> None:
    """Celery's 28 queues for delayed messages do not carry the application's name."""
    with Connection(second["GEOTAG_BROKER_URL"]) as connection, pytest.raises(NotFound):
        Queue("celery_delayed_0", channel=connection.channel()).queue_declare(passive=True)


def test_refusing_broker_is_unavailable(second: dict[str, str]) -> None:
    """The queue exists with other arguments, so RabbitMQ answers PRECONDITION_FAILED."""
    app = make_app(WorkerSettings(broker_url=SecretStr(second["GEOTAG_BROKER_URL"])))
    for queue in app.conf.task_queues:
        queue.queue_arguments = queue.queue_arguments | {"x-delivery-limit": 3}
    with pytest.raises(BrokerUnavailable, match="inequivalent arg"):
        publish(app, BACKFILL, 1, 1, (1,))


def test_queues_are_empty_afterwards(second: dict[str, str]) -> None:
    def messages(name: str) -> int:
        with Connection(second["GEOTAG_BROKER_URL"]) as connection:
            found = Queue(at_broker(name), channel=connection.channel()).queue_declare(passive=True)
        return int(getattr(found, "message_count", 0))

    until(lambda: messages(BACKFILL) == messages(INTERACTIVE) == 0)


def test_workers_log_no_unexpected_warning(second: dict[str, str]) -> None:
    """A warning of Celery about quorum queues means that a guarantee is missing."""
    records = [json.loads(line) for line in log_of(second).splitlines() if line.startswith("{")]
    # Celery reports the processes that a test killed, and our own warnings report the effects.
    expected = r"SIGKILL|WorkerLostError|signal 9|superuser privileges"
    complaints = [
        record
        for record in records
        if record["level"] in ("warning", "error", "critical")
        and not (record["level"] == "warning" and record["logger"].startswith("workers."))
        and not re.search(expected, record["event"] + record.get("exception", ""))
    ]
    assert len(records) > 10
    assert complaints == [], complaints


def test_run_completes_after_its_queue_was_deleted(
    running: Context, bucket: str, second: dict[str, str]
) -> None:
    """The queue is deleted with its messages during a run; the supervised worker notices."""
    pictures = distinct_pictures(good_files()["plain.jpg"], 24, prefix=bucket)
    upload(running, bucket, pictures)
    settings = StackSettings()
    app = make_app(WorkerSettings(broker_url=SecretStr(second["GEOTAG_BROKER_URL"])))
    stack.stop_service(settings, "worker-backfill")
    try:
        planned = subprocess.run(
            [str(Path(sys.executable).with_name("geotag")), "run", f"s3://{bucket}", "--no-wait"],
            check=False,
            env=os.environ | second,
        )
        assert planned.returncode == 0
        until(lambda: queued(app, BACKFILL) == len(pictures) // 8)
        with Connection(second["GEOTAG_BROKER_URL"]) as connection:
            Queue(at_broker(BACKFILL), channel=connection.channel()).delete()
    finally:
        stack.start_service(settings, "worker-backfill")
    until(
        lambda: {row.state for row in results(running, bucket).values()} == {"geotagged"},
        seconds=240,
    )
    assert outcomes_of(running, bucket) == dict.fromkeys(pictures, 1)
