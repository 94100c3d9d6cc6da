"""The database engine, and which of its errors are transient."""

from functools import cache
from importlib import resources

from sqlalchemy import Engine, TextClause, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db.settings import DatabaseSettings


class DatabaseUrlMissing(Exception):
    """GEOTAG_DATABASE_URL is not set and no local stack has been started."""


def make_engine(settings: DatabaseSettings) -> Engine:
    """An engine for one process; make it after a fork, never before.

    Connections are checked before use (`pool_pre_ping`), so that a restarted server costs a
    reconnection and not an error.

    Raises:
        DatabaseUrlMissing: no URL is known.
    """
    if settings.database_url is None:
        raise DatabaseUrlMissing
    url = make_url(settings.database_url.get_secret_value())
    if url.drivername == "postgresql":  # as everybody else writes it
        url = url.set(drivername="postgresql+psycopg2")
    return create_engine(
        url,
        pool_pre_ping=True,
        pool_size=settings.database_pool,
        connect_args={
            "connect_timeout": max(2, round(settings.database_timeout)),
            "application_name": "geotag",
            # Keepalives: a worker whose machine is gone must lose its lease before TCP's two hours.
            # No JIT: estimates of tables that fill and empty like queues are often far too high,
            # and a short statement was compiled for longer than it ran.
            "options": "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10"
            " -c tcp_keepalives_count=3 -c jit=off",
        },
    )


# SQLSTATEs that say nothing about the statement or its values (PostgreSQL manual, appendix A).
_TRANSIENT_CLASSES = {
    "08",  # connection exception
    "40",  # transaction rollback: serialization failure, deadlock
    "53",  # insufficient resources: disk full, out of memory, too many connections
    "57",  # operator intervention: shutdown, statement cancelled or timed out
    "58",  # system error: the server's own input or output
}
_TRANSIENT_STATES = {
    "25006",  # read-only transaction: a standby answers during a failover
    "25P03",  # idle_in_transaction_session_timeout
    "25P04",  # transaction_timeout
    "55P03",  # lock_not_available: lock_timeout
}


def is_transient(error: Exception) -> bool:
    """Return whether the same statement may succeed later.

    Where PostgreSQL gave a reason, its SQLSTATE decides; otherwise a lost connection is transient.
    """
    code = getattr(getattr(error, "orig", None), "pgcode", None)
    if code:
        return code in _TRANSIENT_STATES or code[:2] in _TRANSIENT_CLASSES
    # PendingRollbackError: the connection was lost at an earlier statement.
    if isinstance(error, (OperationalError, InterfaceError, PoolTimeout, PendingRollbackError)):
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated


@cache
def sql(name: str) -> TextClause:
    """The statement in `db/sql/NAME.sql`."""
    return text(resources.files("db").joinpath("sql", f"{name}.sql").read_text("utf-8"))
