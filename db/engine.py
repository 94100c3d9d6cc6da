"""Connections, and the errors that mean that the database is away."""

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
            # A worker whose machine is gone must not hold its chunk until TCP's own two hours.
            # No JIT: our statements are short, and estimates of tables that fill and empty like
            # queues are often far too high, so that one was compiled for longer than it ran.
            "options": "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10"
            " -c tcp_keepalives_count=3 -c jit=off",
        },
    )


def is_away(error: Exception) -> bool:
    """Whether the same statement may work later: the database is away or busy, and we did not err.

    Where PostgreSQL gave a reason, its SQLSTATE decides: classes 08 (connection), 40 (rolled back,
    such as a deadlock), 53 (resources, such as a full disk), 57P (operator intervention, such as
    a shutdown) and 58 (the server's own disk), and 25P03 (we kept a transaction waiting for too
    long); PostgreSQL documentation, appendix A.
    """
    code = getattr(getattr(error, "orig", None), "pgcode", None)
    if code:
        return code[:2] in ("08", "40", "53", "58") or code[:3] == "57P" or code == "25P03"
    # PendingRollbackError: a connection that is kept has been lost before.
    if isinstance(error, (OperationalError, InterfaceError, PoolTimeout, PendingRollbackError)):
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated


@cache
def sql(name: str) -> TextClause:
    """The statement in `db/sql/NAME.sql`."""
    return text(resources.files("db").joinpath("sql", f"{name}.sql").read_text("utf-8"))
