"""The command line. Commands import what they need when they run, so that `--help` is instant."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from geotag import failures
from geotag.commands import archives, failed, models, monitoring, runs, schedules, training
from geotag.formats import Format, ReportFormat, Small

app = typer.Typer(
    name="geotag",
    help="Where was each photograph of an archive taken, and how sure are we?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
partition_app = typer.Typer(
    no_args_is_help=True, help="Build partitions of the Earth, and read the published ones."
)
app.add_typer(partition_app, name="partition")
app.add_typer(archives.app, name="archive")
app.add_typer(schedules.app, name="schedule")
app.add_typer(models.app, name="models")
for group in (runs, failed, monitoring, training):
    app.add_typer(group.app)  # without a name: their commands stand beside those here
_errors = Console(stderr=True)

FormatOption = Annotated[Format, typer.Option("--format", "-f", help="How to print it.")]
RunOption = Annotated[int | None, typer.Option("--run", help="Only this run.")]


def main() -> None:
    """Run a command; a failure that we can explain is printed, not raised."""
    try:
        sys.exit(app(standalone_mode=False))
    except typer.Abort:
        sys.exit(failures.INTERRUPTED)
    except typer.TyperException as error:
        if error.format_message():  # none where only the help was printed
            _explain(error.format_message(), "geotag --help shows the commands")
        sys.exit(failures.USAGE)
    except KeyboardInterrupt:
        sys.exit(failures.INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output (head, say) has seen enough. What is left of it goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(failures.OK)
    except Exception as error:
        failure = failures.explain(error)
        if failure is None:
            raise
        _explain(failure.message, failure.advice)
        sys.exit(failure.exit_code)


def _explain(message: str, advice: str) -> None:
    for label, text in (("[red]error:[/red]", message), ("[dim]what to do:[/dim]", advice)):
        _errors.print(label, end=" ")
        _errors.print(text, markup=False, highlight=False, soft_wrap=True)


def _say(line: str) -> None:
    _errors.print(f"[dim]{line}[/dim]", highlight=False)


@app.command()
def up() -> None:
    """Start the local stack: PostGIS, S3, broker, Triton, workers. Starts only what is missing."""
    from geotag import stack
    from geotag.settings import gather

    _now, running = stack.up(gather(), _say)
    for name, answer in running.answers.items():
        _errors.print(f"[green]up[/green] {name}: {answer}", highlight=False)


@app.command()
def down() -> None:
    """Stop the local stack. Its data stay; `geotag up` goes on where it was."""
    from deploy.local import stack
    from geotag.settings import gather

    stack.down(gather().stack)


@app.command()
def doctor() -> None:
    """Check the machine, the settings and every service, and say what to do about what is wrong."""
    from geotag.doctor import diagnose

    raise typer.Exit(diagnose())


@app.command()
def run(
    source: Annotated[
        str,
        typer.Argument(
            help="An archive's name, s3://bucket/prefix of a registered one, a manifest (.csv or"
            " .parquet with a column of s3:// URLs), or a folder, which is uploaded first."
        ),
    ],
    inventory: Annotated[
        str | None,
        typer.Option(
            help="Read this S3 Inventory (s3://…/manifest.json) of the archive, do not list it."
        ),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial",
            help="The inventory does not cover all of the archive: nothing is taken for vanished.",
        ),
    ] = False,
    wait: Annotated[
        bool, typer.Option(help="Watch it to its end; with --no-wait, only queue it.")
    ] = True,
) -> None:
    """Geotag everything that a source holds and that has no outcome yet.

    Ctrl-C leaves the work going: `geotag status` picks it up, and running the same source again
    resumes it. Exit code 0: every object is geotagged or abstained; 3: some failed; 2: wrong usage
    or settings; 4: a service stayed away.
    """
    from geotag import run as jobs
    from geotag.context import context
    from geotag.watch import report

    now = context()
    what = jobs.source_of(now, source, inventory_url=inventory, partial=partial)
    progress, seconds = jobs.run(now, what, wait=wait)
    raise typer.Exit(report(now, progress, seconds) if progress else failures.OK)


@app.command()
def locate(
    what: Annotated[
        str,
        typer.Argument(help="A file, an s3:// URL, or an https:// URL of a registered endpoint."),
    ],
    form: FormatOption = Format.TABLE,
) -> None:
    """Geotag one picture now, ahead of any backfill, and show what came out."""
    from geotag import run as jobs
    from geotag.context import context
    from geotag.show import print_shown

    now = context()
    progress, bucket, key = jobs.locate(now, what)
    print_shown(now, bucket, key, form)
    failed = progress.failed + progress.quarantined + progress.failed_before
    raise typer.Exit(failures.SOME_FAILED if failed else failures.OK)


@app.command()
def status(
    run_id: RunOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow the run, or the newest one.")
    ] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """How far the newest runs are, and how many objects are in which state.

    With --watch: rate, time left, queue, failures by code, and what it waits for. With --format
    json as well, an object every other second; the exit code is that of geotag run.
    """
    from geotag.context import context
    from geotag.status import print_status
    from geotag.watch import follow

    if watch:
        raise typer.Exit(follow(context(), run_id, form))
    print_status(context(), run_id, form)


@app.command()
def show(
    key: Annotated[str, typer.Argument(help="An object's key, or its s3:// URL.")],
    form: FormatOption = Format.TABLE,
) -> None:
    """Everything that is known of one object: result, candidates, regions, facts, attempts."""
    from geotag.context import context
    from geotag.show import print_shown
    from workers.archive import parse_s3_url

    bucket, name = parse_s3_url(key) if key.startswith("s3://") else (None, key)
    print_shown(context(), bucket, name, form)


@app.command()
def results(
    source: Annotated[
        str | None,
        typer.Argument(help="Only this archive, or what lies under this s3://bucket/prefix."),
    ] = None,
    run_id: RunOption = None,
    state: Annotated[
        str | None,
        typer.Option(help="Only pending, geotagged, abstained, failed or quarantined ones."),
    ] = None,
    release: Annotated[
        str | None, typer.Option(help="As this release has it, not the newest answer.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """One line (or record, or feature) for every photograph; see docs/results.md for the names."""
    from db.archives import registered
    from db.reads import Filter, is_registered, stream_results
    from db.schema import STATES
    from geotag.context import context
    from geotag.output import at_most, write_results
    from geotag.places import near
    from workers.archive import parse_s3_url
    from workers.errors import UsageError

    if state is not None and state not in ("pending", *STATES):
        raise UsageError(f"no state {state}: pending, {', '.join(STATES)}")
    is_url = source is not None and source.startswith("s3://")
    bucket, prefix = parse_s3_url(source) if source and is_url else (None, "")
    engine = context().engine
    archive = None if is_url else source
    if archive is not None and all(a.name != archive for a in registered(engine, removed=True)):
        raise UsageError(f"no archive {archive!r} is registered: geotag archive list --removed")
    if release is not None and not is_registered(engine, release):
        raise UsageError(f"no release {release} is registered")
    which = Filter(
        run_id=run_id, archive=archive, bucket=bucket, prefix=prefix, state=state, release=release
    )
    write_results(at_most(stream_results(engine, which), limit), form, near)


@app.command()
def worker(
    queue: Annotated[
        str, typer.Option(help="backfill, interactive, control or planning.")
    ] = "backfill",
    processes: Annotated[
        int, typer.Option(min=1, help="Processes; each works on one chunk at a time.")
    ] = 1,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
    metrics_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Serve Prometheus metrics on this port.")
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(help="Address of that port; 0.0.0.0 is everybody's.")
    ] = "127.0.0.1",
) -> None:
    """Work on a queue until told to stop (SIGTERM finishes what is in flight)."""
    from geotag.worker import work

    work(queue, processes, log_level, metrics_port, metrics_host)


@app.command()
def beat(
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "WARNING",
) -> None:
    """Have the workers of control and planning look for work, every few seconds (Celery beat).

    Any number may run: a night is started once.
    """
    from geotag.worker import beat as send

    send(log_level)


@app.command()
def demo(
    photos: Annotated[
        Path | None,
        typer.Argument(help="Your own folder; without one, photographs that ship in packages."),
    ] = None,
) -> None:
    """Start everything, geotag real photographs, and show where the results are."""
    from geotag import demo as demonstration
    from geotag import stack
    from geotag.settings import gather

    now, running = stack.up(gather(), _say)
    folders = [photos] if photos else demonstration.sample_folders(now.settings.stack.data_dir)
    raise typer.Exit(demonstration.demo(now, folders, running.psql))


@app.command()
def evaluate(
    images: Annotated[
        Path | None, typer.Option(help="Geotag this folder and score the results.")
    ] = None,
    run_id: Annotated[int | None, typer.Option("--run", help="Score the results of a run.")] = None,
    predictions: Annotated[
        list[Path] | None,
        typer.Option(help="Score a file of predictions, ours or as other projects publish theirs."),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="CSV with an id or file name and a position for each row.")
    ] = None,
    form: Annotated[
        ReportFormat, typer.Option("--format", "-f", help="How to print it.")
    ] = ReportFormat.TABLE,
    output: Annotated[Path | None, typer.Option(help="Write to this file.")] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(help="Im2GPS, Im2GPS3k, YFCC4k or YFCC26k, where the ids do not tell."),
    ] = None,
) -> None:
    """Score one or more systems against ground truth; see docs/evaluation.md."""
    from geotag.evaluate import run_evaluation
    from geotag.scored import results_of_folder, results_of_run

    run_evaluation(
        images=images,
        run=run_id,
        predictions=predictions or (),
        truth=truth,
        form=form,
        output=output,
        benchmark=benchmark,
        results_for_folder=results_of_folder,
        results_for_run=results_of_run,
    )


@partition_app.command("build")
def partition_build(
    coordinates: Annotated[Path, typer.Argument(help="CSV or Parquet with a position a row.")],
    out: Annotated[Path, typer.Option(help="Folder for the two tables.")],
    coarse_max: Annotated[int, typer.Option(help="Most photographs in a coarse cell.")] = 5000,
    middle_max: Annotated[int, typer.Option(help="Most photographs in a middle cell.")] = 2000,
    fine_max: Annotated[int, typer.Option(help="Most photographs in a fine cell.")] = 1000,
    min_count: Annotated[
        int, typer.Option("--min", help="Fewest photographs in a cell; see --small.")
    ] = 50,
    max_level: Annotated[int, typer.Option(min=0, max=30, help="Finest S2 level.")] = 30,
    small: Annotated[
        Small, typer.Option(help="What becomes of a cell with too few photographs.")
    ] = Small.DROP,
    longitude_column: Annotated[str | None, typer.Option(help="Its name.")] = None,
    latitude_column: Annotated[str | None, typer.Option(help="Its name.")] = None,
) -> None:
    """Divide the Earth into coarse, middle and fine cells by where photographs were taken."""
    from geotag.partition import build

    build(
        coordinates,
        out,
        coarse_max=coarse_max,
        middle_max=middle_max,
        fine_max=fine_max,
        min_count=min_count,
        max_level=max_level,
        small=small.value,
        longitude_column=longitude_column,
        latitude_column=latitude_column,
    )


@partition_app.command("tokens")
def partition_tokens(
    path: Annotated[Path, typer.Argument(help="A published CSV, or a table of ours.")],
    partition: Annotated[
        str | None, typer.Option(help="Of our table: coarse, middle or fine.")
    ] = None,
) -> None:
    """Print a partition's S2 tokens in the file's order; damaged ones are repaired and reported."""
    from geotag.partition import print_tokens

    print_tokens(path, partition)
