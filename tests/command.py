"""Run `geotag` in a process of its own, or within the process of the tests."""

import io
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# `output` here, since its consoles would keep the width of the command that imports it first.
from geotag import cli, output  # noqa: F401
from geotag.context import Context
from geotag.settings import Settings

Done = subprocess.CompletedProcess[str]

GEOTAG = str(Path(sys.executable).with_name("geotag"))
WIDE = {"COLUMNS": "200"}


def in_own_process(*arguments: str, **environment: str) -> Done:
    """Run `geotag` as a user does: for tests of start-up, of signals, and of torch."""
    return subprocess.run(
        [GEOTAG, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | WIDE | environment,
    )


def in_this_process(*arguments: str, **environment: str) -> Done:
    """Run `geotag` here, which saves a second of imports: for tests of what a command says.

    It reads its settings and makes its clients anew, as a process does, and its connections are
    closed at the end. An exception that it does not explain ends in a traceback and exit code 1.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with (
        Path(os.devnull).open() as nothing,
        pytest.MonkeyPatch.context() as patches,
        _closing_clients(patches),
    ):
        for name, value in (WIDE | environment).items():
            patches.setenv(name, value)
        for name, stream in (("stdin", nothing), ("stdout", out), ("stderr", err)):
            patches.setattr(sys, name, stream)
        patches.setattr(sys, "argv", [GEOTAG, *arguments])
        patches.setattr(sys, "excepthook", sys.excepthook)  # typer sets its own
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        except Exception:  # noqa: BLE001 - as the interpreter does it
            traceback.print_exc()
            code = 1
    assert isinstance(code, int), code
    return Done([GEOTAG, *arguments], code, _text(out), _text(err))


@contextmanager
def _closing_clients(patches: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the connections of every context that is made meanwhile."""
    made: list[Context] = []
    begin = Context.__init__

    def noted(context: Context, settings: Settings) -> None:
        begin(context, settings)
        made.append(context)

    patches.setattr(Context, "__init__", noted)
    try:
        yield
    finally:
        for context in made:
            if "engine" in vars(context):  # a cached property that was asked for
                context.engine.dispose()
            if "app" in vars(context):
                context.app.close()


def _text(stream: io.TextIOWrapper) -> str:
    """What was written, with the line ends of `subprocess.run(text=True)`."""
    stream.flush()
    written = stream.buffer
    assert isinstance(written, io.BytesIO)
    return written.getvalue().decode().replace("\r\n", "\n")
