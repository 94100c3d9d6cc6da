"""Logging: one line an event, as JSON or as text, with context and without secrets.

Code that begins work on something binds its ids. Every line logged inside carries them, from any
module or library.

```python
with bound(run=7, chunk=31):
    log.warning("the chunk goes back to the queue")
```
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime
from typing import Literal, ParamSpec, TypeVar

from billiard.util import get_logger
from celery import signals

Form = Literal["json", "text"]
P = ParamSpec("P")
T = TypeVar("T")

HIDDEN = "***"
_SHORTEST_SECRET = 8
"""Characters. A shorter known secret (guest) is left in: it would black out ordinary words."""

_bound: ContextVar[dict[str, object]] = ContextVar("bound", default={})  # noqa: B039 - never changed

_NAMES = (
    "x-(?:amz|goog)-(?:signature|credential|security-token)|(?:google|aws)?accesskeyid|signature"
    "|credential|key-pair-id|sig|(?:session_?)?token|password|passwd|pwd|api_?key"
    "|secret(?:_?(?:access_?)?key)?|access_?key(?:_?id)?"
)
_RULES = (
    # scheme://user:password@host; the password may hold an unescaped @, and the user be missing.
    (re.compile(r"(\w://[^\s/?#:]*):[^\s/?#\"'<>]*@"), rf"\1:{HIDDEN}@"),
    # https://token@host
    (re.compile(r"(https?://)[^\s/?#@:\"'<>]+@", re.IGNORECASE), rf"\1{HIDDEN}@"),
    # The query of a web address may sign it (AWS, Google, Azure, CloudFront): none of it is shown.
    (re.compile(r"(https?://[^\s?\"'<>]*)\?[^\s\"'<>]*", re.IGNORECASE), rf"\1?{HIDDEN}"),
    # Names and values: a query without its host, headers, settings, what repr() makes of a dict.
    (
        re.compile(
            # A colon and a space is prose ("our credential: it …"), but for quoted names.
            rf"(?<![a-z0-9])({_NAMES})([\"']\s*[:=]\s*|\s*(?:=|%3D)\s*|:(?=\S))"
            r"(?:b?\"[^\"]*\"|b?'[^']*'|(?!\*\*\*)[^\s&\"',;)}\]]+)",
            re.IGNORECASE,
        ),
        rf"\1\2{HIDDEN}",
    ),
    (re.compile(r"\b(x-(?:amz|goog)-[\w-]+:\s+)[^\s,]+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b(Basic|Bearer)\s+[\w+/=.~-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
)


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the text without passwords in URLs, URL queries, signatures and known secrets.

    An `s3://bucket/key?x` keeps its question mark: that is a part of the key.
    """
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


@contextmanager
def bound(**ids: object) -> Iterator[None]:
    """Add these names and values to every line that is logged inside; None is left out."""
    token = _bound.set(_bound.get() | {name: v for name, v in ids.items() if v is not None})
    try:
        yield
    finally:
        _bound.reset(token)


def at_stage(name: str) -> None:
    """Bind the current step's name, until the enclosing `bound` ends or another step begins."""
    _bound.set(_bound.get() | {"stage": name})


def carried(work: Callable[P, T]) -> Callable[P, T]:
    """Return the function to call once in another thread, with the ids bound in this one."""
    context = copy_context()

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return context.run(work, *args, **kwargs)

    return run


class Formatter(logging.Formatter):
    """Formats redacted lines with the time (UTC), the level, the event and the bound ids."""

    def __init__(self, form: Form, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._form = form
        long_enough = (secret for secret in secrets if len(secret) >= _SHORTEST_SECRET)
        self._secrets = sorted(long_enough, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON, or as text with an exception below it."""
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": self._redacted(record.getMessage()),
            "logger": record.name,
            "process": record.process,
            **{name: self._redacted_value(value) for name, value in _bound.get().items()},
        }
        if record.exc_info and record.exc_info[0]:
            said["exception"] = self._redacted(
                "".join(traceback.format_exception(*record.exc_info))
            )
        return json.dumps(said, ensure_ascii=False) if self._form == "json" else _text(said)

    def _redacted(self, text: str) -> str:
        return redacted(text, self._secrets)

    def _redacted_value(self, value: object) -> object:
        return value if isinstance(value, (int, float)) else self._redacted(str(value))


def _text(said: dict[str, object]) -> str:
    given = dict(said)
    head = (f"{given.pop(name)}" for name in ("time", "level", "process", "logger", "event"))
    exception = given.pop("exception", None)
    line = " ".join((*head, *(f"{name}={value}" for name, value in given.items())))
    # Text from outside must not begin a line that looks like a line of the log.
    line = line.replace("\n", "\\n").replace("\r", "\\r")
    return f"{line}\n{exception}".rstrip() if exception else line


def configure(level: str, form: Form | None = None, secrets: Iterable[str] = ()) -> None:
    """Send every logger's lines to standard error, Celery's own and the warnings included.

    Args:
        level: DEBUG, INFO, WARNING or ERROR.
        form: as text or JSON; None is text on a terminal and JSON elsewhere.
        secrets: values that are redacted everywhere.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(form or ("text" if sys.stderr.isatty() else "json"), secrets))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    # The pool's own logger does not propagate to the root.
    get_logger().handlers = [handler]
    # Celery sets up its own logging unless this signal has a receiver.
    signals.setup_logging.connect(_leave_as_it_is, dispatch_uid="geotag.logs")


def _leave_as_it_is(**_: object) -> None:
    pass
