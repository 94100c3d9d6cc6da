"""`geotag results` and `geotag show`: print the results of photographs."""

from typing import Annotated

import typer

from geotag.formats import Format
from geotag.options import FormatOption, RunOption, WideOption

app = typer.Typer(no_args_is_help=True, help="Results.")


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
        str | None, typer.Option(help="The answers of this release, not the newest ones.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    form: FormatOption = Format.TABLE,
    wide: WideOption = False,
) -> None:
    """Print a line, record or feature for each photograph; docs/results.md explains the names."""
    from db.archives import registered
    from db.reads import ResultFilter, is_registered, stream_results
    from db.schema import STATES
    from geotag.context import make_context
    from geotag.results.places import near
    from geotag.results.writers import at_most, write_results
    from workers.errors import UsageError
    from workers.s3.service import parse_s3_url

    if state is not None and state not in ("pending", *STATES):
        raise UsageError(f"no state {state}: pending, {', '.join(STATES)}")
    is_url = source is not None and source.startswith("s3://")
    bucket, prefix = parse_s3_url(source) if source and is_url else (None, "")
    engine = make_context().engine
    archive = None if is_url else source
    if archive is not None and all(a.name != archive for a in registered(engine, removed=True)):
        raise UsageError(f"no archive {archive!r} is registered: geotag archive list --removed")
    if release is not None and not is_registered(engine, release):
        raise UsageError(f"no release {release} is registered")
    which = ResultFilter(
        run_id=run_id, archive=archive, bucket=bucket, prefix=prefix, state=state, release=release
    )
    write_results(at_most(stream_results(engine, which), limit), form, near, wide=wide)


@app.command()
def show(
    key: Annotated[str, typer.Argument(help="An object's key, or its s3:// URL.")],
    form: FormatOption = Format.TABLE,
    wide: WideOption = False,
) -> None:
    """Print all that is known of one object: result, candidates, regions, facts, attempts."""
    from geotag.context import make_context
    from geotag.results.show import print_shown
    from workers.s3.service import parse_s3_url

    bucket, name = parse_s3_url(key) if key.startswith("s3://") else (None, key)
    print_shown(make_context(), bucket, name, form, wide=wide)
