"""Commands on archives: `geotag archive add`, `list`, `show`, `pause`, `resume`, `remove`."""

from typing import Annotated

import typer

from geotag.formats import ListFormat
from geotag.options import WideOption

app = typer.Typer(no_args_is_help=True, help="Register the archives that may be read.")

NameArgument = Annotated[str, typer.Argument(help="The archive's name.")]
FormOption = Annotated[ListFormat, typer.Option("--format", "-f", help="How to print it.")]


@app.command()
def add(
    name: Annotated[
        str, typer.Argument(help="Name of the archive: letters, digits, '.', '_', '-'.")
    ],
    url: Annotated[str, typer.Argument(help="s3://bucket or s3://bucket/prefix.")],
    endpoint: Annotated[
        str | None,
        typer.Option(help="URL of the S3 service, or 'aws'. Default: GEOTAG_S3_ENDPOINT."),
    ] = None,
    region: Annotated[str | None, typer.Option(help="Region that requests are signed for.")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Profile in boto3's configuration files.")
    ] = None,
    role: Annotated[str | None, typer.Option(help="ARN of a role to assume.")] = None,
    credentials: Annotated[
        str | None,
        typer.Option(
            help="Another credential reference: env:PREFIX (PREFIX_ACCESS_KEY_ID,"
            " PREFIX_SECRET_ACCESS_KEY), chain (boto3's default chain) or settings."
        ),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(help="Read only keys below the prefix that match this glob. Repeatable."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Skip keys that match this glob. Repeatable.")
    ] = None,
    allow_private: Annotated[
        bool,
        typer.Option(
            "--allow-private", help="Allow an endpoint in a private network, and plain HTTP."
        ),
    ] = False,
) -> None:
    """Register an archive. The database stores a credential reference, never a secret.

    Re-registering a removed archive restores it with its results.
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
    removed: Annotated[bool, typer.Option("--removed", help="Include removed archives.")] = False,
    form: FormOption = ListFormat.TABLE,
    wide: WideOption = False,
) -> None:
    """List the registered archives with their numbers of objects, pending and failed."""
    from geotag.archives import registry
    from geotag.context import make_context

    registry.print_list(make_context(), form, removed=removed, wide=wide)


@app.command()
def show(name: NameArgument, form: FormOption = ListFormat.TABLE, wide: WideOption = False) -> None:
    """Show an archive's location, settings, state and counts."""
    from geotag.archives import registry
    from geotag.context import make_context

    context = make_context()
    registry.print_one(context, registry.named(context, name), form, wide=wide)


@app.command()
def pause(name: NameArgument) -> None:
    """Stop planning and publishing for an archive. Chunks in progress are finished."""
    from db.archives import pause as pause_archive
    from geotag.archives import registry
    from geotag.context import make_context

    context = make_context()
    pause_archive(context.engine, registry.named(context, name).name)


@app.command()
def resume(name: NameArgument) -> None:
    """Resume a paused archive: planned chunks, scheduled nights and new runs."""
    from db.archives import resume as resume_archive
    from geotag.archives import registry
    from geotag.context import make_context

    context = make_context()
    resume_archive(context.engine, registry.named(context, name).name)


@app.command()
def remove(name: NameArgument) -> None:
    """Remove an archive and its schedule. Its results stay. It is not read again."""
    from db.archives import remove as remove_archive
    from geotag.archives import registry
    from geotag.context import make_context

    context = make_context()
    remove_archive(context.engine, registry.named(context, name).name)
