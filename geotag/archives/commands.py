"""`geotag archive`: which archives may be read, and how."""

from typing import Annotated

import typer

from geotag.formats import ListFormat
from geotag.options import WideOption

app = typer.Typer(no_args_is_help=True, help="Register the archives that may be read.")

NameArgument = Annotated[str, typer.Argument(help="The archive's name.")]
FormOption = Annotated[ListFormat, typer.Option("--format", "-f", help="How to print it.")]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What to call it: letters, digits, '.', '_', '-'.")],
    url: Annotated[str, typer.Argument(help="s3://bucket or s3://bucket/prefix.")],
    endpoint: Annotated[
        str | None,
        typer.Option(
            help="URL of its S3 service, or 'aws'; without it, the one of GEOTAG_S3_ENDPOINT."
        ),
    ] = None,
    region: Annotated[str | None, typer.Option(help="Region that requests are signed for.")] = None,
    profile: Annotated[str | None, typer.Option(help="Profile of boto3's files.")] = None,
    role: Annotated[str | None, typer.Option(help="ARN of a role to take.")] = None,
    credentials: Annotated[
        str | None,
        typer.Option(
            help="Another reference to a credential: env:PREFIX (PREFIX_ACCESS_KEY_ID,"
            " PREFIX_SECRET_ACCESS_KEY), chain (boto3's own) or settings."
        ),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(help="Only keys below the prefix that match this glob; may be given again."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="No keys that match this glob; may be given again.")
    ] = None,
    allow_private: Annotated[
        bool,
        typer.Option(
            "--allow-private", help="Its endpoint may be in a private network and speak plain HTTP."
        ),
    ] = False,
) -> None:
    """Register an archive, so that it may be read. No secret is stored, only where to find it.

    Adding an archive again that was removed brings it back with its results.
    """
    from geotag.archives import registry
    from geotag.context import make_context

    context = make_context()
    record = registry.record_of(
        context,
        name,
        url,
        endpoint=endpoint,
        region=region,
        profile=profile,
        role=role,
        credentials=credentials,
        include=include or [],
        exclude=exclude or [],
        allow_private=allow_private,
    )
    registry.print_one(context, registry.add(context, record), ListFormat.TABLE)


@app.command("list")
def list_(
    removed: Annotated[
        bool, typer.Option("--removed", help="Those that were removed, too.")
    ] = False,
    form: FormOption = ListFormat.TABLE,
    wide: WideOption = False,
) -> None:
    """The registered archives, and how many of their objects are to be done or failed."""
    from geotag.archives import registry
    from geotag.context import make_context

    registry.print_list(make_context(), form, removed=removed, wide=wide)


@app.command()
def show(name: NameArgument, form: FormOption = ListFormat.TABLE) -> None:
    """Where an archive is, how it is read, and what is known of it."""
    from geotag.archives import registry
    from geotag.context import make_context

    context = make_context()
    registry.print_one(context, registry.named(context, name), form)


@app.command()
def pause(name: NameArgument) -> None:
    """Plan and publish nothing more for an archive; what is in flight finishes."""
    from db.archives import pause as pause_archive
    from geotag.archives import registry
    from geotag.context import make_context

    context = make_context()
    pause_archive(context.engine, registry.named(context, name).name)


@app.command()
def resume(name: NameArgument) -> None:
    """Go on with a paused archive: its planned work, its nights, new runs."""
    from db.archives import resume as resume_archive
    from geotag.archives import registry
    from geotag.context import make_context

    context = make_context()
    resume_archive(context.engine, registry.named(context, name).name)


@app.command()
def remove(name: NameArgument) -> None:
    """Never read an archive again. Its results stay, its schedule goes."""
    from db.archives import remove as remove_archive
    from geotag.archives import registry
    from geotag.context import make_context

    context = make_context()
    remove_archive(context.engine, registry.named(context, name).name)
