"""Migrate a database to our schema, and back."""

from importlib import resources

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, text


def _config(connection: Connection) -> Config:
    config = Config()
    with resources.as_file(resources.files("db")) as package:
        # A per cent sign would begin an interpolation (configparser).
        location = str(package / "migrations").replace("%", "%%")
        config.set_main_option("script_location", location)
    config.attributes["connection"] = connection
    return config


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Upgrade the database to a revision. Concurrent callers take turns."""
    with engine.begin() as connection:
        connection.execute(
            text("SELECT pg_advisory_xact_lock(hashtextextended('geotag.schema', 0))")
        )
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS postgis"))
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS geotag"))
        command.upgrade(_config(connection), revision)


def downgrade(engine: Engine, revision: str = "base") -> None:
    """Downgrade the database to a revision; `base` drops our tables with their rows."""
    with engine.begin() as connection:
        command.downgrade(_config(connection), revision)
