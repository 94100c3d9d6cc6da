"""Start the whole system: servers, model repository, schema, releases, workers."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import db
import geotag
import workers
from db import migrate
from deploy.errors import StackError
from deploy.local import stack
from deploy.local.folder import Folder
from geotag.archives.registry import own
from geotag.context import Context, make_context
from geotag.releases import lifecycle
from geotag.settings import Settings

Report = Callable[[str], None]


def up(settings: Settings, report: Report) -> tuple[Context, stack.Stack]:
    """Start the services that do not run, and prepare database and releases. Idempotent.

    Raises:
        StackError: a server cannot be started; the error says what to do.
    """
    with Folder(settings.stack.data_dir).lock():  # not while another `up` waits for Triton
        if lifecycle.build_known(settings):
            # Triton reads its repository when it starts.
            report("the model repository has changed: restarting Triton")
            with suppress(StackError):
                stack.stop_service(settings.stack, "triton")
    running = stack.up(settings.stack, lifecycle.repository(settings), report=report)
    context = make_context()  # read again: `up` wrote the addresses of the started services
    migrate.upgrade(context.engine)
    lifecycle.settle(context, report)
    own(context)
    stack.start_workers(context.settings.stack, code=_code(), report=report)
    return context, running


def _code() -> str:
    """Return a digest of the workers' code. Workers with another digest are restarted."""
    digest = hashlib.sha256()
    for package in (db, workers, geotag):
        for source in sorted(Path(package.__path__[0]).rglob("*")):
            if source.suffix in (".py", ".sql"):
                digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
