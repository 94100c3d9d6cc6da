"""The command line: compose the command groups, and print errors with advice.

Commands import their dependencies when they run, so that `--help` is fast.
"""

import os
import sys

import typer
from rich.console import Console

from geotag import exits
from geotag.archives import commands as archives
from geotag.evaluation import commands as evaluation
from geotag.failures import commands as failures
from geotag.machine import commands as machine
from geotag.partitions import commands as partitions
from geotag.releases import commands as releases
from geotag.results import commands as results
from geotag.runs import commands as runs
from geotag.schedules import commands as schedules
from geotag.training import commands as training

app = typer.Typer(
    name="geotag",
    help="Estimate where each photograph of an archive was taken, with a confidence.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(partitions.app, name="partition")
app.add_typer(archives.app, name="archive")
app.add_typer(schedules.app, name="schedule")
app.add_typer(releases.app, name="releases")
app.add_typer(releases.app, name="models", hidden=True)  # the command's name before 0.2
for group in (machine, runs, results, failures, evaluation, training):
    app.add_typer(group.app)  # no name: top-level commands
_errors = Console(stderr=True)


def main() -> None:
    """Run a command. Print errors that have an explanation, and raise all others."""
    try:
        sys.exit(app(standalone_mode=False))
    except typer.Abort:
        sys.exit(exits.INTERRUPTED)
    except typer.TyperException as error:
        if error.format_message():  # empty if only the help was printed
            _explain(error.format_message(), "geotag --help shows the commands")
        sys.exit(exits.USAGE)
    except KeyboardInterrupt:
        sys.exit(exits.INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output (head, say) has closed the pipe: discard the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(exits.OK)
    except Exception as error:
        failure = exits.explain(error)
        if failure is None:
            raise
        _explain(failure.message, failure.advice)
        sys.exit(failure.exit_code)


def _explain(message: str, advice: str) -> None:
    for label, text in (("[red]error:[/red]", message), ("[dim]what to do:[/dim]", advice)):
        _errors.print(label, end=" ")
        _errors.print(text, markup=False, highlight=False, soft_wrap=True)
