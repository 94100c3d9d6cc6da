"""Settings of the database connection."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class DatabaseSettings(BaseSettings):
    """Read from environment variables prefixed `GEOTAG_` (`geotag/settings.py` adds the files)."""

    model_config = SettingsConfigDict(env_prefix="GEOTAG_", extra="ignore")

    database_url: SecretStr | None = Field(
        None,
        description="PostgreSQL with PostGIS: postgresql+psycopg2://user:password@host:port/name. "
        "`geotag up` starts a private one when this is not set.",
    )
    database_pool: int = Field(
        10, ge=1, description="Most connections of one process; its threads share them."
    )
    database_timeout: float = Field(
        10.0, gt=0, description="Longest time for connecting to the database, in seconds."
    )
