"""Commands that run within the tests' process leave nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
SCRIPT = """
import sys
from tests.command import in_this_process
assert "what to do" in in_this_process("failures", "--where", "nonsense").stderr
from geotag.output import console, errors
print(console.width, errors.width, sys.excepthook is sys.__excepthook__)
"""


def test_process_is_as_it_was_before_the_first_command() -> None:
    """A console whose module is first imported by a command would keep that command's COLUMNS."""
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["80", "80", "True"]
