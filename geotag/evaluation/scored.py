"""Read the results that `geotag evaluate` scores: of a folder, or of a run."""

from collections.abc import Iterator
from pathlib import Path

from db.reads import ResultFilter, ResultRow, stream_results
from geotag.context import make_context
from geotag.runs.run import run, source_of
from workers.s3.service import parse_s3_url


def results_of_folder(folder: Path) -> Iterator[ResultRow]:
    """Geotag a folder; yield the results of its pictures under the release of that run."""
    context = make_context()
    source = source_of(context, str(folder))
    progress, _seconds = run(context, source)
    release = progress.release if progress else None
    bucket, prefix = parse_s3_url(source.name)
    yield from stream_results(
        context.engine, ResultFilter(bucket=bucket, prefix=prefix, release=release)
    )


def results_of_run(run_id: int) -> Iterator[ResultRow]:
    """Yield the results of a run's objects under the release of that run."""
    yield from stream_results(make_context().engine, ResultFilter(run_id=run_id))
