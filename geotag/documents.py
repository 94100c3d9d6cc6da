"""Generate docs/settings.md and docs/commands.md from the code: `python -m geotag.documents`.

A test checks that the pages are up to date.
"""

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import typer
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from db.settings import DatabaseSettings
from deploy.settings import StackSettings
from geotag import exits
from geotag.cli import app
from geotag.settings import DECLARED, CommandSettings
from workers.settings import WorkerSettings

DOCS = Path(__file__).parents[1] / "docs"
WIDTH = 90
"""Columns of the help texts: a code block on the web shows as many without scrolling."""

_GENERATED = (
    "<!-- Written by `python -m geotag.documents` (`make docs`): edit the code instead. -->\n"
)

_TITLES: dict[type[BaseSettings], str] = {
    DatabaseSettings: "Database (`db`)",
    WorkerSettings: "Archive, photographs, Triton, broker (`workers`)",
    StackSettings: "Local stack (`deploy`)",
    CommandSettings: "Command line (`geotag`)",
}

_SETTINGS = """
# Settings

Every setting is an environment variable. The first of these sources that has it wins:

1. the environment;
2. the file `.env` in the current folder, with lines `NAME=value`;
3. `stack.env` in the data folder, where `geotag up` writes the addresses and credentials of the
   servers that it started.

An empty value means not set. An invalid value is refused with exit code 2; the error names the
setting and does not repeat the value. Unknown names are ignored, so check the spelling. Secrets are
never printed or logged, and their defaults are not shown. Workers read settings when they start.
`geotag up` restarts the stack's workers if the environment has changed. After a change of `.env`,
run `geotag down` and `geotag up`.

`geotag up` starts a server unless that server's address is set. If it uses a setting differently
from the other commands, the table describes both uses.
"""

_COMMANDS = f"""
# Commands

`geotag` is in `.venv/bin`. This page is the output of `geotag COMMAND --help`. Results go to standard
output, everything else to standard error. `make help` lists the `make` targets.

## Exit codes

| code | meaning |
|---|---|
| {exits.OK} | success; for a run: every object is geotagged or abstained |
| 1 | a bug in geotag: the traceback is printed; please report it |
| {exits.USAGE} | wrong usage, an invalid setting, or a named thing that does not exist; nothing was geotagged |
| {exits.SOME_FAILED} | every object has an outcome; some failed or were quarantined, in this run or an earlier one |
| {exits.SERVICE_UNAVAILABLE} | a service is unavailable or cannot be started, or `geotag doctor` found a problem; queued work stays queued |
| {exits.INTERRUPTED} | interrupted with Ctrl-C; a queued run continues |

The codes are in `geotag/exits.py`.
"""  # noqa: E501 - a table's row is one line


def settings_page() -> str:
    """Return docs/settings.md: each setting once, under the first package that declares it."""
    declared: dict[str, list[tuple[type[BaseSettings], FieldInfo]]] = {}
    for group in DECLARED:
        for name, field in group.model_fields.items():
            declared.setdefault(name, []).append((group, field))
    sections = [_GENERATED + _SETTINGS]
    for group in DECLARED:
        own = [(name, uses) for name, uses in declared.items() if uses[0][0] is group]
        rows = "".join(_row(name, uses) for name, uses in own)
        header = "| setting | type | default | what |\n|---|---|---|---|\n"
        sections.append(f"## {_TITLES[group]}\n\n{header}{rows}")
    return "\n".join(sections)


def _row(name: str, uses: list[tuple[type[BaseSettings], FieldInfo]]) -> str:
    """Return a row of the table, with the description for `geotag up` if that differs."""
    (_group, field), *others = uses
    default, what = _default(field), field.description or ""
    for _other, again in others:
        if again.description != field.description:
            what += f" For `geotag up`: {again.description}"
        if _default(again) != default:
            default += f"; for `geotag up`: {_default(again)}"
    return f"| `GEOTAG_{name.upper()}` | {_type(field)} | {default} | {_in_table(what)} |\n"


def _type(field: FieldInfo) -> str:
    """Return the type in words, with the bounds that pydantic checks."""
    bounds = [
        f"{sign} {_plain(getattr(constraint, name))}"
        for constraint in field.metadata
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
        if hasattr(constraint, name)
    ]
    return ", ".join([_type_name(field.annotation), *bounds])


def _type_name(annotation: Any) -> str:
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = (part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    names = {SecretStr: "secret", str: "text", int: "integer", float: "number", Path: "path"}
    return names[annotation]


def _default(field: FieldInfo) -> str:
    if field.default is None:
        return "not set"
    return "not shown" if isinstance(field.default, SecretStr) else f"`{_plain(field.default)}`"


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _in_table(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def commands_page() -> str:
    """Return docs/commands.md: the help of the program and of each command."""
    blocks = (f"## {name}\n\n```text\n{text}\n```\n" for name, text in help_texts())
    return "\n".join([_GENERATED + _COMMANDS, *blocks])


def help_texts() -> Iterator[tuple[str, str]]:
    """Yield each command as it is typed, with its help without boxes and colours."""
    for path, command, context in commands():
        # Rich's boxes depend on the terminal; the plain help has the same text.
        command.rich_markup_mode = None
        lines = command.get_help(context).splitlines()
        yield path, "\n".join(line.rstrip() for line in lines)


# Any: Typer's classes of commands and contexts are private.
def commands(parent: Any = None, name: str = "geotag") -> Iterator[tuple[str, Any, Any]]:
    """Yield each command and subcommand: as typed, the command, and the context of its help."""
    command: Any = parent.command.commands[name] if parent else typer.main.get_command(app)
    context = command.context_class(
        command, info_name=name, parent=parent, terminal_width=WIDTH, color=False
    )
    yield context.command_path, command, context
    for nested, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from commands(context, nested)


PAGES = {"settings.md": settings_page, "commands.md": commands_page}


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
