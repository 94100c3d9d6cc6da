"""Settings of the local stack. A service whose URL is set is used and not started."""

import re
import sys
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        raise ValueError("no such user, or the home folder is unknown") from None


Absolute = Annotated[Path, AfterValidator(_absolute)]


def _like(pattern: str, example: str) -> AfterValidator:
    """Validate a URL by a pattern, with an error that does not repeat the value.

    A client's error may repeat it: with an unescaped `/`, part of a password is parsed as the port.
    """

    def check(value: str | SecretStr | None) -> str | SecretStr | None:
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text is not None and not (re.match(pattern, text) and _has_readable_port(text)):
            raise ValueError(f"should look like {example}; special characters as %XX")
        return value

    return AfterValidator(check)


def _has_readable_port(url: str) -> bool:
    try:
        urlsplit(url).port  # noqa: B018 - reading it parses it
    except ValueError:
        return False
    return True


class StackSettings(BaseSettings):
    """Settings from variables prefixed `GEOTAG_` and from `.env`. An empty one counts as unset."""

    model_config = SettingsConfigDict(
        env_prefix="GEOTAG_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        validate_default=True,
    )

    data_dir: Absolute = Field(
        Path(".geotag"),
        description="Folder of the local stack: its databases, logs, ports and passwords.",
    )
    local_broker: Literal["valkey", "rabbitmq"] = Field(
        "valkey", description="Which broker `geotag up` starts when no broker URL is set."
    )
    worker_processes: int = Field(
        2,
        ge=1,
        le=64,
        description="Worker processes on the backfill queue of the local stack.",
    )
    shutdown_grace: float = Field(
        20.0,
        gt=0,
        allow_inf_nan=False,
        description="the supervisor kills a worker that still runs 15 seconds later.",
    )
    triton_venv: Absolute = Field(
        Path(".geotag/triton-venv"),
        description="Virtual environment of the local Triton server; stacks may share one.",
    )

    database_url: Annotated[
        SecretStr | None,
        _like(
            r"postgresql(\+psycopg2)?://", "postgresql+psycopg2://user:password@host:5432/database"
        ),
    ] = Field(None, description="An existing PostGIS, postgresql+psycopg2://…; empty to start one.")
    s3_endpoint: Annotated[str | None, _like(r"https?://", "https://host:port")] = Field(
        None, description="URL of an existing S3 service; empty to start one."
    )
    s3_access_key: str | None = Field(
        None, description="Access key of the existing S3; empty to use boto3's default chain."
    )
    s3_secret_key: SecretStr | None = Field(None, description="Secret key of that access key.")
    broker_url: Annotated[
        SecretStr | None, _like(r"(amqps?|rediss?)://", "amqp://user:password@host:5672/vhost")
    ] = Field(None, description="An existing broker, amqp://… or redis://…; empty to start one.")
    triton_url: Annotated[str | None, _like(r"[^/:]+:\d+$", "host:8001")] = Field(
        None, description="gRPC address (host:port) of an existing Triton; empty to start one."
    )


def python_prefix() -> Path:
    """Return the virtual environment of this process. Its `bin` has the servers from wheels."""
    return Path(sys.prefix)
