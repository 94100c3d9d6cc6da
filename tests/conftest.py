"""The real stack, once for a test session, in a data folder of its own; and who runs what.

`make test` runs three processes of pytest-xdist: one for the tests on that stack, one that begins
with those that start stacks of their own, and one for unit tests, which the others join in the end.
"""

import os

# Before numpy and torch are imported: miniatures need one thread, and as many pools as there are
# processes would get in each other's way. A console takes its width when it is made.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("COLUMNS", None)

import shutil
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import pytest

from db import archives
from db.archives import ArchiveRecord
from deploy.local import stack as local_stack
from deploy.local.stack import PASSED_ON
from geotag.context import Context
from geotag.settings import Settings, gather
from tests.command import Done, in_own_process, in_this_process
from workers.telemetry.logs import bound

PROJECT = Path(__file__).parent.parent
SHARED = PROJECT.parent / "shared"
# Two test sessions at once in one checkout need a folder each.
DATA_DIR = PROJECT / os.environ.get("GEOTAG_TEST_STACK", ".geotag-test")

# A slow machine is no fault of an example: speed belongs in benchmarks.
hypothesis.settings.register_profile("geotag", deadline=None)
hypothesis.settings.load_profile("geotag")

Geotag = Callable[..., Done]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--without-torch`, which `make check` gives."""
    parser.addoption(
        "--without-torch",
        action="store_true",
        help="skip whatever imports torch, which takes seconds, and is trained for minutes",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Have every import of torch skip the test, or the module, that it is in."""
    if config.getoption("--without-torch"):
        sys.meta_path.insert(0, _SkipsWhatNeedsTorch())


class _SkipsWhatNeedsTorch(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        if name == "torch":
            pytest.skip("needs torch", allow_module_level=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever lies in tests/integration or tests/faults is marked so, but for CI's selection."""
    for item in items:
        folder = Path(item.path).parent.name
        if folder in ("integration", "faults") and not item.get_closest_marker("faults_ci"):
            item.add_marker(getattr(pytest.mark, folder))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give the tests of one stack to one process, and unit tests by file, in the files' order."""
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class ByStack(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return stack_of(nodeid) or nodeid.partition("::")[0]

    config.option.loadscopereorder = False
    return ByStack(config, log)


def stack_of(nodeid: str) -> str | None:
    """Which stack a test is about, if any. Those of its own come after one another."""
    if nodeid.startswith(("tests/faults/", "tests/integration/test_stack.py")):
        return "a stack of its own"
    return "the running stack" if nodeid.startswith("tests/integration/") else None


@pytest.fixture(autouse=True)
def unbound_log_lines() -> Iterator[None]:
    """Unbind the ids and the stage that a test leaves bound to the log lines of its thread."""
    with bound():
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared photographs and tables, where there is one."""
    if not SHARED.is_dir():
        pytest.skip("the folder ../shared is not here")
    return SHARED


@pytest.fixture(scope="session")
def clean_environment() -> Iterator[None]:
    """No setting of the caller's reaches a test; the test stack has its own folder."""
    kept = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    for name in kept:
        del os.environ[name]
    os.environ["GEOTAG_DATA_DIR"] = str(DATA_DIR)
    # The environment of the Triton server holds no data, and takes a while to make.
    os.environ["GEOTAG_TRITON_VENV"] = str(PROJECT / ".geotag" / "triton-venv")
    os.environ["GEOTAG_CHUNK_SIZE"] = "8"
    os.environ["GEOTAG_TICK_SECONDS"] = "1"
    os.environ["GEOTAG_LOST_AFTER"] = "3"
    os.environ["GEOTAG_RELEASE"] = "untrained"  # the tiny one: it loads and answers at once
    yield
    for name in [name for name in os.environ if PASSED_ON.fullmatch(name)]:
        del os.environ[name]
    os.environ.update(kept)


@pytest.fixture(scope="session")
def running(clean_environment: None) -> Iterator[Context]:
    """A running stack with an empty ledger and two backfill workers; stopped at the end."""
    from geotag.machine.stack import up

    os.environ["GEOTAG_WORKER_PROCESSES"] = "2"
    settings = gather()
    local_stack.delete(settings.stack)
    try:
        context, _stack = up(settings, report=lambda line: print(line, file=sys.stderr))
        # What goes on by itself would meddle with the chunks that tests make by hand.
        local_stack.stop_service(settings.stack, "beat")
        yield context
    finally:
        keep = DATA_DIR.with_name(f"{DATA_DIR.name}-log")
        shutil.rmtree(keep, ignore_errors=True)
        if (DATA_DIR / "log").is_dir():
            shutil.copytree(DATA_DIR / "log", keep)
        local_stack.delete(settings.stack)


def register(context: Context, bucket: str) -> None:
    """Register a bucket of the stack's own S3 service as an archive of the same name."""
    endpoint = context.settings.worker.s3_endpoint or ""
    archives.add(context.engine, ArchiveRecord(bucket, endpoint, bucket, allow_private=True))


@pytest.fixture
def settings(running: Context) -> Settings:
    """The running stack's settings."""
    return running.settings


@pytest.fixture(scope="session")
def triton_url(running: Context) -> str:
    """gRPC address of the running Triton."""
    return running.settings.worker.triton_url


@pytest.fixture
def bucket(running: Context) -> str:
    """A new, empty bucket, registered as an archive of the same name."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    running.s3.ensure_bucket(name)
    register(running, name)
    return name


@pytest.fixture
def geotag(running: Context) -> Geotag:
    """Runs the command line within the test's process: `geotag("run", "s3://…")`."""
    return in_this_process


@pytest.fixture
def geotag_process(running: Context) -> Geotag:
    """Runs the command line as a user does, in a process of its own."""
    return in_own_process
