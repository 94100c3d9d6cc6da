"""Map exceptions to a message, advice and an exit code, so that users see no traceback for them."""

import errno
from dataclasses import dataclass

OK = 0
USAGE = 2
SOME_FAILED = 3
SERVICE_UNAVAILABLE = 4
INTERRUPTED = 130

# Errors of a path that a user gave, or of its disk. ENOENT is not one: commands check the files
# that they read, so any other missing file is a bug.
_PATH_ERRORS = {
    errno.EACCES, errno.EDQUOT, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOSPC,
    errno.ENOTDIR, errno.EPERM, errno.EROFS,
}  # fmt: skip


@dataclass(frozen=True)
class Explanation:
    """An error message, advice, and the process's exit code."""

    message: str
    advice: str
    exit_code: int


def explain(error: Exception) -> Explanation | None:
    """Return the explanation of an exception; None for a bug in this program."""
    from alembic.util.exc import CommandError
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    from db.engine import DatabaseUrlMissing, is_transient
    from db.releases import ReleaseNameTaken
    from db.runs import NoActiveRelease
    from deploy.errors import StackError
    from triton_models.release.release import ReleaseError
    from workers.errors import CredentialRefused, GeotagError, TransientError, UsageError

    if isinstance(error, UsageError):
        advice = "geotag --help shows the commands"
        if str(getattr(error.__cause__, "filename", "")).endswith("stack.env"):
            advice = (
                "run geotag as the owner of the stack, or set GEOTAG_DATA_DIR to another folder"
            )
        return Explanation(error.message, advice, USAGE)
    if isinstance(error, CredentialRefused):
        return Explanation(
            error.message, "check GEOTAG_S3_ACCESS_KEY and GEOTAG_S3_SECRET_KEY", USAGE
        )
    if isinstance(error, TransientError):
        return Explanation(
            error.message, "geotag doctor says which service is unavailable", SERVICE_UNAVAILABLE
        )
    if isinstance(error, GeotagError):
        return Explanation(
            f"{error.message} ({error.code})", "geotag doctor checks the set-up", USAGE
        )
    if isinstance(error, StackError):
        return Explanation(error.message, error.advice, SERVICE_UNAVAILABLE)
    if isinstance(error, DatabaseUrlMissing):
        return Explanation(
            "no database is configured",
            "run geotag up to start one, or set GEOTAG_DATABASE_URL",
            USAGE,
        )
    if isinstance(error, NoActiveRelease):
        return Explanation(
            "no release is active", "run geotag up, or: geotag releases activate NAME", USAGE
        )
    if isinstance(error, (ReleaseError, ReleaseNameTaken, CommandError)):
        return Explanation(str(error), "see docs/architecture.md", USAGE)
    if isinstance(error, SQLAlchemyError) and is_transient(error):
        cause = str(getattr(error, "orig", error)).strip().splitlines()[0]
        # A refused login comes without a SQLSTATE, as psycopg2 was not connected yet.
        if "authentication failed" in cause or " does not exist" in cause:
            return Explanation(
                f"the database refuses the connection: {cause}", "check GEOTAG_DATABASE_URL", USAGE
            )
        if getattr(getattr(error, "orig", None), "pgcode", None):  # the server answered
            return Explanation(
                f"the database cannot do this now: {cause}",
                "try again in a moment; geotag doctor checks the database",
                SERVICE_UNAVAILABLE,
            )
        return Explanation(
            f"the database is unavailable: {cause}", "geotag up starts it", SERVICE_UNAVAILABLE
        )
    if isinstance(error, ModuleNotFoundError) and error.name in ("torch", "onnx", "onnxruntime"):
        return Explanation(
            f"the package {error.name} is not installed",
            "to train and to make releases, install the extra train: pip install '.[train]'",
            USAGE,
        )
    if isinstance(error, DBAPIError) and getattr(error.orig, "pgcode", None) in ("42P01", "3F000"):
        return Explanation("the database has no geotag schema", "geotag up creates it", USAGE)
    if isinstance(error, OSError) and error.errno in _PATH_ERRORS:
        path = error.filename or "the output"
        return Explanation(
            f"{path}: {error.strerror}",
            "check the path, its permissions, and the free space",
            USAGE,
        )
    return None
