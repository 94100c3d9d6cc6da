"""Decide which servers the stack starts, and which exist already because their URL is set."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from deploy.local import broker, postgres, s3, triton
from deploy.local.folder import Folder
from deploy.local.health import answers
from deploy.local.program import Service
from deploy.settings import StackSettings


def own_services(
    settings: StackSettings, folder: Folder, model_repository: Path | None = None
) -> list[Service]:
    """Return the servers that the stack starts."""
    existing = existing_servers(settings, folder)
    valkey = settings.local_broker == "valkey"
    services: list[Service] = [
        postgres.Postgres(folder),
        s3.S3(folder),
        broker.Valkey(folder) if valkey else broker.RabbitMQ(folder),
        triton.Triton(folder, settings.triton_venv, model_repository),
    ]
    return [service for service in services if service.name not in existing]


def existing_servers(settings: StackSettings, folder: Folder) -> dict[str, Callable[[], str]]:
    """Return name and check of each server whose URL is set.

    A URL from the stack's own `stack.env` does not count: the file may be loaded into the shell.
    """
    ours = folder.read_stack_env().values()
    secret_key = settings.s3_secret_key.get_secret_value() if settings.s3_secret_key else None
    database = settings.database_url.get_secret_value() if settings.database_url else None
    queue = settings.broker_url.get_secret_value() if settings.broker_url else None
    checks: dict[str, tuple[str | None, Callable[[str], str]]] = {
        "postgres": (database, postgres.check_url),
        "s3": (
            settings.s3_endpoint,
            lambda url: s3.check_endpoint(url, settings.s3_access_key, secret_key),
        ),
        "broker": (queue, broker.check_url),
        "triton": (settings.triton_url, triton.check_url),
    }
    return {
        name: partial(check, url)
        for name, (url, check) in checks.items()
        if url is not None and url not in ours
    }


def ask_existing(name: str, check: Callable[[], str]) -> str:
    """Return the answer of an existing server. Raises ServiceDown."""
    return answers(
        f"the existing {name} server",
        check,
        f"check the address and the credential in the settings, or unset them "
        f"to let `geotag up` start a {name} of its own",
    )
