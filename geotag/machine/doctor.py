"""`geotag doctor`: check the machine, the settings and the services, and print what to do."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from rich.text import Text

from deploy.local.doctor import Check, checks
from geotag import exits
from geotag.context import Context, make_context
from geotag.output import console, plain
from geotag.tables import Column, key_column, print_table, prose_column

if TYPE_CHECKING:
    from db.archives import ArchiveRecord

_COLUMNS = (Column("state"), key_column("check"), prose_column("detail"))


def diagnose(*, wide: bool = False) -> int:
    """Print every check, with advice where it fails; return 0 if all pass, else 4.

    Args:
        wide: show every detail in full, however wide the table becomes.

    Raises:
        UsageError: a setting is wrong.
    """
    context = make_context()
    found = [*checks(context.settings.stack), *_ledger(context)]
    print_checks(found, wide=wide)
    for check in found:
        if not check.ok:
            said = f"{check.name}: {check.detail}"
            console.print(Text.assemble("\n", plain(said)), soft_wrap=True)
            console.print(
                Text.assemble(("what to do: ", "dim"), plain(check.advice)), soft_wrap=True
            )
    return exits.OK if all(check.ok for check in found) else exits.SERVICE_UNAVAILABLE


def print_checks(found: Iterable[Check], *, wide: bool = False) -> None:
    """Print one line for each check."""
    rows = [
        (Text("ok", "green") if check.ok else Text("no", "red"), check.name, check.detail)
        for check in found
    ]
    print_table(_COLUMNS, rows, wide=wide, header=False)


def _ledger(context: Context) -> Iterator[Check]:
    from db.archives import registered
    from db.releases import active_release

    release: list[str] = []
    archives: list[ArchiveRecord] = []

    def schema() -> str:
        found = active_release(context.engine)
        release.extend(found or ())
        archives.extend(registered(context.engine))
        return "the schema is there"

    def active() -> str:
        if not release:
            raise LookupError
        name, digest = release
        return f"{name} {digest[:12]}"

    ledger = _check("ledger", schema)
    yield ledger
    yield _check("active release", active)
    if release:
        yield _check("ensemble", lambda: _served(context, *release))
    if ledger.ok:
        yield from _given_up(context)
    for archive in archives:
        if archive.credentials != "settings":  # the check of S3 uses the settings' credential
            yield _credential(context, archive)


def _given_up(context: Context) -> Iterator[Check]:
    """Return runs whose planning was given up, and schedules whose night cannot be started."""
    from db.runs import parked
    from db.schedules import failing
    from geotag.schedules.schedule import RESCHEDULE

    for run_id, reason in parked(context.engine):
        advice = f"geotag resume {run_id} tries again, geotag cancel {run_id} ends it"
        yield Check(f"run {run_id}", False, f"its planning is given up: {reason}", advice)
    for archive, error in failing(context.engine):
        yield Check(f"schedule {archive}", False, error, RESCHEDULE.format(archive=archive))


def _credential(context: Context, archive: "ArchiveRecord") -> Check:
    """Check that this process can resolve an archive's credential; S3 is not asked."""
    from workers.errors import ArchiveUnavailable, UsageError
    from workers.s3.credentials import session_of
    from workers.s3.errors import s3_errors

    worker = context.settings.worker
    try:
        with s3_errors(archive.name):
            session = session_of(archive.credentials, archive.region or worker.s3_region, worker)
            found = session.get_credentials() is not None
        detail = archive.credentials if found else "boto3 finds no credential"
    except (UsageError, ArchiveUnavailable) as error:
        found, detail = False, error.message
    advice = "" if found else "set it, and geotag up gives it to the workers: docs/archives.md"
    return Check(f"archive {archive.name}", found, detail, advice)


def _served(context: Context, name: str, digest: str) -> str:
    import numpy as np

    from workers.chunks.triton_client import TritonClient
    from workers.errors import ReleaseNotServed

    with closing(TritonClient(context.settings.worker, name)) as locator:
        served = locator.served()
        if served.digest != digest:
            raise ReleaseNotServed(
                f"Triton serves {served.digest[:12]} as {name}, the ledger has {digest[:12]}"
            )
        # Triton calls a model ready whose process has died, so an inference is needed.
        locator.locate(np.zeros((served.spec.height, served.spec.width, 3), np.uint8))
    size = f"{served.spec.width} x {served.spec.height} px"
    return f"geotag_{name}, {size}, " + ("calibrated" if served.calibrated else "not calibrated")


def _check(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look(), "")
    except LookupError:
        return Check(name, False, "none", "geotag up registers one")
    except Exception as error:
        failure = exits.explain(error)
        if failure is None:
            raise
        advice = failure.advice if "doctor" not in failure.advice else "geotag up starts it"
        return Check(name, False, failure.message, advice)
