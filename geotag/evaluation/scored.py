"""Results for the evaluator: of a folder that is geotagged first, or of a run that was."""

from collections.abc import Iterator
from pathlib import Path

from db.reads import ResultFilter, ResultRow, stream_results
from geotag.context import context
from geotag.runs.run import run, source_of
from workers.s3.service import parse_s3_url


def results_of_folder(folder: Path) -> Iterator[ResultRow]:
    """Geotag a folder through the running system, and yield what is recorded of its pictures."""
    now = context()
    source = source_of(now, str(folder))
    run(now, source)
    bucket, prefix = parse_s3_url(source.name)
    yield from stream_results(now.engine, ResultFilter(bucket=bucket, prefix=prefix))


def results_of_run(run_id: int) -> Iterator[ResultRow]:
    """What is recorded of the objects of a run."""
    yield from stream_results(context().engine, ResultFilter(run_id=run_id))
