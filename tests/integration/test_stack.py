"""The local stack: a second one beside other running stacks, with its own model."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import psutil
import psycopg2
import pytest
import tritonclient.grpc as triton
from botocore.exceptions import ClientError
from kombu import Connection, Queue
from pydantic import SecretStr
from tritonclient.utils import InferenceServerException

from deploy.errors import PortTaken, StackNotUp
from deploy.local import doctor, stack
from deploy.local.broker import RABBITMQ_SERVER
from deploy.local.folder import Folder
from deploy.local.ports import LOOPBACK
from deploy.local.postgres import database_url
from deploy.local.strays import find_strays
from deploy.local.system import can_install
from deploy.settings import StackSettings

PROJECT = Path(__file__).parents[2]
WORKER = (sys.executable, "-c", "import signal; signal.pause()")
CONFIGURATION = """
name: "doubler"
backend: "python"
max_batch_size: 4
input [{ name: "X" data_type: TYPE_FP32 dims: [2] }]
output [{ name: "Y" data_type: TYPE_FP32 dims: [2] }]
"""
MODEL = """
import onnxruntime  # the environment of the server has what real models import
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        inputs = [pb.get_input_tensor_by_name(request, "X").as_numpy() for request in requests]
        return [pb.InferenceResponse([pb.Tensor("Y", 2 * x)]) for x in inputs]
"""


@pytest.fixture(scope="module", autouse=True)
def no_ticks() -> None:
    """Replace the fixture of the shared stack, which these tests do not use."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("models")
    version = repository / "doubler" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(MODEL)
    (version.parent / "config.pbtxt").write_text(CONFIGURATION)
    return repository


@pytest.fixture(scope="module")
def settings(
    clean_environment: None, tmp_path_factory: pytest.TempPathFactory, models: Path
) -> Iterator[StackSettings]:
    settings = StackSettings(
        data_dir=tmp_path_factory.mktemp("stack") / "with a space",
        triton_venv=PROJECT / ".geotag" / "triton-venv",
        worker_processes=2,
        _env_file=None,
    )
    try:
        stack.up(settings, models)
        stack.start_workers(settings, command=WORKER)
        yield settings
    finally:
        stack.delete(settings)


@pytest.fixture
def variables(settings: StackSettings) -> dict[str, str]:
    return Folder(settings.data_dir).read_stack_env()


def pids(settings: StackSettings) -> dict[str, int | None]:
    return {line.name: line.pid for line in stack.status(settings)}


def wait_for(condition: Callable[[], bool], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def execute(variables: dict[str, str], statement: str) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(database_url(variables["GEOTAG_DATABASE_URL"]))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def s3_client(variables: dict[str, str], secret_key: str | None = None):  # type: ignore[no-untyped-def]
    return boto3.client(
        "s3",
        endpoint_url=variables["GEOTAG_S3_ENDPOINT"],
        region_name="us-east-1",
        aws_access_key_id=variables["GEOTAG_S3_ACCESS_KEY"],
        aws_secret_access_key=secret_key or variables["GEOTAG_S3_SECRET_KEY"],
    )


def double(variables: dict[str, str]) -> list[float]:
    client = triton.InferenceServerClient(variables["GEOTAG_TRITON_URL"])
    tensor = triton.InferInput("X", [1, 2], "FP32")
    tensor.set_data_from_numpy(np.array([[1.5, -2.0]], dtype=np.float32))
    try:
        return client.infer("doubler", [tensor]).as_numpy("Y")[0].tolist()
    finally:
        client.close()


def test_every_server_works(variables: dict[str, str]) -> None:
    execute(variables, "CREATE EXTENSION IF NOT EXISTS postgis")
    point = "SELECT ST_X('SRID=4326;POINT(12.5 41.9)'::geography::geometry)"
    assert execute(variables, point) == [(12.5,)]

    s3 = s3_client(variables)
    s3.create_bucket(Bucket="kept")
    s3.put_object(Bucket="kept", Key="a photo", Body=b"bytes")
    assert s3.get_object(Bucket="kept", Key="a photo")["Body"].read() == b"bytes"

    with Connection(variables["GEOTAG_BROKER_URL"]) as connection:
        queue = connection.SimpleQueue("kept")
        queue.put({"chunk": 1})
        message = queue.get(timeout=5)
        assert message.payload == {"chunk": 1}
        message.ack()

    assert double(variables) == [3.0, -4.0]


def test_a_second_up_starts_nothing(settings: StackSettings, models: Path) -> None:
    before, said = pids(settings), list[str]()

    stack.up(settings, models, report=said.append)
    stack.start_workers(settings, command=WORKER)

    assert pids(settings) == before
    assert not [line for line in said if "starting" in line]
    assert sorted(before) == [
        *("beat", "broker", "postgres", "s3", "triton"),
        *("worker-backfill-0", "worker-backfill-1", "worker-control"),
        *("worker-interactive", "worker-planning"),
    ]


def test_doctor_finds_no_fault(settings: StackSettings) -> None:
    assert [check for check in doctor.checks(settings) if not check.ok] == []


def of_each(settings: StackSettings, question: Callable[[psutil.Process], Any]) -> Iterator[Any]:
    """Ask each process of the stack; leave out those that end before they answer."""
    for process in find_strays(settings.data_dir):
        with suppress(psutil.NoSuchProcess):
            yield question(process)


def test_everything_listens_on_loopback_only(settings: StackSettings) -> None:
    listening = [
        connection.laddr.ip
        for connections in of_each(settings, lambda process: process.net_connections("tcp"))
        for connection in connections
        if connection.status == psutil.CONN_LISTEN
    ]

    assert len(listening) >= 8
    assert set(listening) <= {LOOPBACK, f"::ffff:{LOOPBACK}"}


def test_no_secret_is_on_a_command_line(settings: StackSettings, variables: dict[str, str]) -> None:
    secrets = [
        Folder(settings.data_dir).secret(name)
        for name in ("postgres", "s3-secret-key", "broker", "supervisor")
    ]
    assert secrets[0] in variables["GEOTAG_DATABASE_URL"]  # these secrets are in use

    for line in of_each(settings, lambda process: " ".join(process.cmdline())):
        assert not [secret for secret in secrets if secret in line]


def test_a_wrong_password_is_refused(variables: dict[str, str]) -> None:
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        s3_client(variables, secret_key="wrong").list_buckets()

    database = variables["GEOTAG_DATABASE_URL"]
    password = database.split(":")[2].partition("@")[0]
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        execute({"GEOTAG_DATABASE_URL": database.replace(password, "wrong")}, "SELECT 1")


@pytest.mark.parametrize("name", [*stack.SERVERS, *stack.WORKERS])
def test_killed_processes_are_restarted(settings: StackSettings, name: str) -> None:
    killed = set(stack.kill_service(settings, name))
    assert killed

    def back() -> bool:
        lines = [line for line in stack.status(settings) if line.name.startswith(name)]
        return all(line.ok and line.pid and line.pid not in killed for line in lines)

    wait_for(back)


def model_process(settings: StackSettings) -> psutil.Process:
    """Return the process in which Triton runs the model."""
    children = psutil.Process(pids(settings)["triton"]).children()
    (found,) = (child for child in children if "doubler" in " ".join(child.cmdline()))
    return found


def answers(variables: dict[str, str]) -> bool:
    try:
        return double(variables) == [3.0, -4.0]
    except InferenceServerException:
        return False


def test_killed_model_process_is_restarted(
    settings: StackSettings, variables: dict[str, str]
) -> None:
    """Triton alone would report the model as ready and fail each inference for ever."""
    model_process(settings).kill()
    assert not answers(variables)

    wait_for(lambda: answers(variables))

    assert [check for check in doctor.checks(settings) if not check.ok] == []


def test_model_may_be_unloaded_and_loaded(
    settings: StackSettings, variables: dict[str, str]
) -> None:
    before = pids(settings)["triton"]
    with triton.InferenceServerClient(variables["GEOTAG_TRITON_URL"]) as client:
        for _ in range(3):
            client.unload_model("doubler")
            wait_for(lambda: not client.is_model_ready("doubler"))
            client.load_model("doubler")

    assert double(variables) == [3.0, -4.0]
    assert pids(settings)["triton"] == before


def test_up_restarts_unsupervised_processes(
    settings: StackSettings, models: Path, variables: dict[str, str]
) -> None:
    children = psutil.Process(pids(settings)["triton"]).children()
    assert len(children) == 2  # the process of the model, and the watcher
    for child in children:
        child.kill()

    stack.up(settings, models)

    assert double(variables) == [3.0, -4.0]


def test_restarted_workers_get_a_new_credential(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_SECRET_ACCESS_KEY", "for workers")

    stack.start_workers(settings, command=WORKER)

    having = {
        name
        for name, pid in pids(settings).items()
        if psutil.Process(pid).environ().get("NAS_SECRET_ACCESS_KEY") == "for workers"
    }
    assert having == {name for name in pids(settings) if name.startswith(("worker", "beat"))}


def test_doctor_names_one_stopped_server(settings: StackSettings) -> None:
    stack.stop_service(settings, "broker")
    wrong = {check.name: check.detail for check in doctor.checks(settings) if not check.ok}
    stack.start_service(settings, "broker")

    assert wrong == {"broker": "broker is not running"}


def test_rabbitmq_beside_servers_that_exist(
    variables: dict[str, str], models: Path, tmp_path: Path
) -> None:
    if not RABBITMQ_SERVER.exists() and not can_install():
        pytest.skip("RabbitMQ is not installed, and we may not install it")
    settings = StackSettings(
        data_dir=tmp_path / "data",
        local_broker="rabbitmq",
        database_url=SecretStr(variables["GEOTAG_DATABASE_URL"]),
        s3_endpoint=variables["GEOTAG_S3_ENDPOINT"],
        s3_access_key=variables["GEOTAG_S3_ACCESS_KEY"],
        s3_secret_key=SecretStr(variables["GEOTAG_S3_SECRET_KEY"]),
        triton_url=variables["GEOTAG_TRITON_URL"],
        _env_file=None,
    )
    try:
        running = stack.up(settings, models)

        assert set(running.variables) == {"GEOTAG_BROKER_URL"}
        assert sorted(running.answers) == sorted(stack.SERVERS)
        assert [line.name for line in stack.status(settings) if line.pid] == ["broker"]
        with Connection(running.variables["GEOTAG_BROKER_URL"]) as connection:
            queue = Queue("jobs", routing_key="jobs", queue_arguments={"x-queue-type": "quorum"})
            jobs = connection.SimpleQueue(queue(connection.channel()))
            jobs.put({"chunk": 3})
            assert jobs.get(timeout=10).payload == {"chunk": 3}
    finally:
        stack.delete(settings)
    assert find_strays(settings.data_dir) == []  # not even epmd, which leaves its node's group


def test_port_taken_by_another_process_is_reported(settings: StackSettings, models: Path) -> None:
    port = Folder(settings.data_dir).port("broker")
    stack.stop_service(settings, "broker")
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind((LOOPBACK, port))
        stranger.listen()

        with pytest.raises(PortTaken, match=f"port {port} of broker is taken by .*{os.getpid()}"):
            stack.up(settings, models)
        checks = {check.name: check for check in doctor.checks(settings)}
        assert f"port {port}" in checks["broker"].detail

    stack.start_service(settings, "broker")


def test_a_killed_supervisor(
    settings: StackSettings, models: Path, variables: dict[str, str]
) -> None:
    orphans = find_strays(settings.data_dir)
    (supervisor,) = [process for process in orphans if process.ppid() == 1]
    supervisor.send_signal(signal.SIGKILL)
    supervisor.wait(10)
    with pytest.raises(StackNotUp):
        stack.status(settings)

    stack.up(settings, models)
    stack.start_workers(settings, command=WORKER)

    assert not [process for process in orphans if process.is_running()]
    assert double(variables) == [3.0, -4.0]


def test_down_stops_every_process_and_keeps_the_data(
    settings: StackSettings, models: Path, variables: dict[str, str]
) -> None:
    execute(variables, "CREATE TABLE kept AS SELECT 42 AS answer")
    with Connection(variables["GEOTAG_BROKER_URL"]) as connection:
        connection.SimpleQueue("kept").put({"chunk": 2})

    stack.down(settings)

    assert find_strays(settings.data_dir) == []
    assert not list(Path("/dev/shm").glob(f"geotag-{Folder(settings.data_dir).key}-*"))
    stack.down(settings)  # nothing to do, and no error

    stack.up(settings, models)

    assert Folder(settings.data_dir).read_stack_env() == variables
    assert execute(variables, "SELECT answer FROM kept") == [(42,)]
    assert s3_client(variables).get_object(Bucket="kept", Key="a photo")["ContentLength"] == 5
    with Connection(variables["GEOTAG_BROKER_URL"]) as connection:
        assert connection.SimpleQueue("kept").get(timeout=5).payload == {"chunk": 2}
