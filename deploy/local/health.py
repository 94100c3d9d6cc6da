"""Wait until a service answers in its own protocol, or say why it does not."""

import time
from collections.abc import Callable
from pathlib import Path

import psycopg2
from botocore.exceptions import BotoCoreError, ClientError
from kombu.exceptions import OperationalError as BrokerError
from tritonclient.utils import InferenceServerException

from deploy.errors import ServiceDown

# What clients raise while a server does not answer (yet). Any other exception is a bug.
NOT_THERE = (
    psycopg2.Error,
    BotoCoreError,
    ClientError,
    BrokerError,
    InferenceServerException,
    OSError,
)


def wait_until_healthy(
    name: str,
    check: Callable[[], str],
    log: Path,
    *,
    seconds: float,
    given_up: Callable[[], bool],
) -> str:
    """Call `check` until it returns, and return its answer.

    Raises ServiceDown with the last lines of the log when `seconds` have passed, or when
    `given_up` says that the supervisor no longer tries to start the program.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return check()
        except NOT_THERE as error:
            reason = first_line(error)
        if given_up():
            raise ServiceDown(f"{name} does not start:\n{tail(log)}", f"the whole log is {log}")
        if time.monotonic() > deadline:
            raise ServiceDown(
                f"{name} does not answer after {seconds:.0f} s: {reason}\n{tail(log)}",
                f"the whole log is {log}",
            )
        time.sleep(0.1)


def answers(name: str, check: Callable[[], str], advice: str) -> str:
    """Call `check` once and return its answer. Raises ServiceDown."""
    try:
        return check()
    except NOT_THERE as error:
        raise ServiceDown(f"{name} does not answer: {first_line(error)}", advice) from error


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its class if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def tail(log: Path, lines: int = 8) -> str:
    """Return the last lines of a log, indented, or a note that there are none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 16_384))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return "  (no log yet)"
    return "\n".join(f"  {line}" for line in text.splitlines()[-lines:]) or "  (the log is empty)"
