"""The settings of all packages: from the environment, then `.env`, then the stack's `stack.env`."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from db.settings import DatabaseSettings
from deploy.settings import StackSettings
from workers.errors import UsageError
from workers.settings import WorkerSettings

ENV_FILE = Path(".env")


class CommandSettings(BaseSettings):
    """Settings of the command line alone."""

    model_config = SettingsConfigDict(env_prefix="GEOTAG_", extra="ignore")

    bucket: str = Field(
        "photos", description="Bucket that local folders and files are uploaded to."
    )
    release: str = Field(
        "landmarks",
        description="Release that `geotag up` registers. It is also activated, unless a user has"
        " activated another (`geotag releases activate`).",
    )
    wait_seconds: float = Field(
        180.0,
        gt=0,
        description="Seconds without any progress after which `geotag run` and `geotag locate`"
        " report that a service is unavailable (exit 4). Ten times as many if a worker sends"
        " heartbeats and every service answers. The work stays queued. Set it longer than"
        " GEOTAG_VISIBILITY_TIMEOUT, after which a dead worker's chunk is delivered again.",
    )


@dataclass(frozen=True)
class Settings:
    """The settings of every package. Each package declares its own."""

    database: DatabaseSettings
    worker: WorkerSettings
    stack: StackSettings
    command: CommandSettings


def secrets_of(settings: Settings) -> set[str]:
    """Return the secret settings and the passwords in URLs, for masking in logs."""
    found = set()
    for group in (settings.database, settings.worker, settings.stack):
        for value in dict(group).values():
            if not isinstance(value, SecretStr):
                continue
            secret = value.get_secret_value()
            if "://" in secret:
                secret = urlsplit(secret).password or ""
            found |= {secret, unquote(secret)}
    return found - {""}


DECLARED: tuple[type[BaseSettings], ...] = (
    DatabaseSettings,
    WorkerSettings,
    StackSettings,
    CommandSettings,
)
"""The classes that declare settings, in the order of the settings page."""


def gather() -> Settings:
    """Read all settings.

    Raises:
        UsageError: a setting is invalid (the message has its name, never its value), or a file of
            settings is unreadable.
    """
    try:
        stack = StackSettings()
        files = (stack.data_dir / "stack.env", ENV_FILE)
        return Settings(
            database=DatabaseSettings(_env_file=files, _env_ignore_empty=True),
            worker=WorkerSettings(_env_file=files, _env_ignore_empty=True),
            stack=stack,
            command=CommandSettings(_env_file=files, _env_ignore_empty=True),
        )
    except ValidationError as error:
        # The input is left out: it may be a secret.
        wrong = "; ".join(
            f"GEOTAG_{str(problem['loc'][0]).upper()}: {problem['msg']}"
            for problem in error.errors(include_input=False)
        )
        raise UsageError(f"invalid setting: {wrong}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{ENV_FILE} (or the data folder's stack.env) is not UTF-8 text") from None
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error
