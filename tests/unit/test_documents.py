"""Pages in docs/ agree with the code."""

import json
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import jsonschema
import pytest

import geotag.runs.watch
import workers.broker.app
from db.reads import ResultRow, RunProgress
from geotag import exits
from geotag.documents import DOCS, PAGES, commands
from geotag.settings import DECLARED
from workers.errors import GeotagError, PhotoError, UsageError

ROOT = DOCS.parent


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_generated_page_is_up_to_date(name: str) -> None:
    assert read(name) == PAGES[name](), "run `make docs`"


@pytest.mark.parametrize("group", DECLARED)
def test_every_setting_has_a_description(group: type) -> None:
    silent = [name for name, field in group.model_fields.items() if not field.description]  # type: ignore[attr-defined]
    assert silent == []


def test_settings_page_shows_each_setting_once_and_no_default_of_a_secret() -> None:
    page = PAGES["settings.md"]()
    shown = re.findall(r"^\| `GEOTAG_(\w+)` \|", page, re.MULTILINE)
    assert sorted(shown) == sorted({name.upper() for g in DECLARED for name in g.model_fields})
    assert "6379" not in page


def test_commands_page_has_every_command_and_every_option() -> None:
    page = read("commands.md")
    blocks = dict(re.findall(r"## (geotag[^\n]*)\n\n```text\n(.*?)```", page, re.DOTALL))
    found = {path: command for path, command, _context in commands()}
    assert {"geotag run", "geotag results"} <= found.keys() == blocks.keys()
    for path, command in found.items():
        for parameter in command.params:
            for option in parameter.opts:
                assert option in blocks[path]


def test_exit_codes_are_listed() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", read("commands.md"), re.MULTILINE)}
    ours = {value for name, value in vars(exits).items() if name.isupper() and name[0] != "_"}
    assert listed == ours | {1}


def subclasses(root: type) -> Iterator[type]:
    for child in root.__subclasses__():
        yield child
        yield from subclasses(child)


def test_every_error_code_is_listed() -> None:
    assert issubclass(workers.broker.app.BrokerUnavailable, GeotagError)  # imported
    assert issubclass(geotag.runs.watch.ServiceStayedAway, GeotagError)
    ours = {
        error.__dict__["code"]
        for error in subclasses(GeotagError)
        if "code" in error.__dict__ and error.__module__.partition(".")[0] in ("geotag", "workers")
    }
    # The roots are never raised, and wrong usage is an exit code, never a recorded failure.
    ours -= {PhotoError.code, UsageError.code}
    section = read("results.md").partition("## Codes")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert sorted(listed) == sorted(ours)


def test_stable_names_are_in_the_schema_and_explained() -> None:
    schema = json.loads(read("results.schema.json"))
    jsonschema.Draft202012Validator.check_schema(schema)
    definitions = schema["$defs"]
    result = list(ResultRow.__dataclass_fields__)
    assert definitions["record"]["required"] == result
    assert list(definitions["record"]["properties"]) == result
    run = [*RunProgress.__dataclass_fields__, "done", "pending"]
    assert definitions["run"]["required"] == list(definitions["run"]["properties"]) == run
    page = read("results.md")
    for name in {n for part in definitions.values() for n in part.get("properties", ())}:
        assert f"`{name}`" in page, name


def requirement_names(lines: list[str]) -> set[str]:
    """Return the normalised names (PEP 503) of requirement lines."""
    found = (re.match(r"[A-Za-z0-9._-]+", line) for line in lines)
    return {re.sub(r"[-_.]+", "-", match[0]).lower() for match in found if match}


def lines_of(*names: str) -> list[str]:
    return [
        line
        for name in names
        for line in (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines()
        if line and line[0] not in "#- "
    ]


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named = [
        *project["project"]["dependencies"],
        *(line for extra in project["project"]["optional-dependencies"].values() for line in extra),
        *(line for group in project["dependency-groups"].values() for line in group),
        *lines_of("train.in", "triton.in", "tritonserver.txt", "samples.txt"),
    ]
    listed = re.findall(r"^\| `([\w.-]+)` \|", read("dependencies.md"), re.MULTILINE)
    assert sorted(listed) == sorted(set(listed)), "listed twice"
    assert set(listed) == requirement_names(named)


LICENCES = ("License-Expression", "License")


def licence(package: str) -> str:
    """Return the licence in a package's metadata."""
    about = metadata(package)
    classifiers = [c for c in about.get_all("Classifier") or () if c.startswith("License ::")]
    texts = [text for name in LICENCES for text in about.get_all(name) or ()]
    return " / ".join([*texts, *classifiers])


COPYLEFT = re.compile(r"(?<!L)GPL|(?<!Lesser )General Public License", re.IGNORECASE)


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("AGPL-3.0-only", True),
        ("GPL-2.0-or-later", True),
        ("License :: OSI Approved :: GNU General Public License v3 (GPLv3)", True),
        ("License :: OSI Approved :: GNU Affero General Public License v3", True),
        ("LGPL with exceptions", False),
        ("GNU Lesser General Public License v3 (LGPLv3)", False),
        ("GNU Library or Lesser General Public License (LGPL)", False),
        ("BSD-3-Clause AND MIT", False),
    ],
)
def test_the_licence_check_tells_gpl_from_lgpl(text: str, refused: bool) -> None:
    assert bool(COPYLEFT.search(text)) is refused


def test_serving_depends_on_no_gpl_package() -> None:
    licences = {}
    for package in requirement_names(lines_of("serve.txt")):
        try:
            licences[package] = licence(package)
        except PackageNotFoundError:  # for another Python or another system
            continue
    assert len(licences) > 50
    assert [name for name, text in licences.items() if not text] == []
    assert {name: text for name, text in licences.items() if COPYLEFT.search(text)} == {}


PROSE = [*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_link_targets_exist(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_and_commands_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    settings = {f"GEOTAG_{name.upper()}" for group in DECLARED for name in group.model_fields}
    # Written by `geotag up` for people and tests.
    settings.add("GEOTAG_TRITON_METRICS_URL")
    # Of the tests themselves.
    settings |= {f"GEOTAG_FAULT_{name}" for name in ("SEED", "OBJECTS", "REPORT")}
    assert set(re.findall(r"\bGEOTAG_[A-Z0-9_]*[A-Z0-9]", text)) <= settings
    known = {path.split()[1] for path, _command, _context in commands() if " " in path}
    code = "\n".join(re.findall(r"```.*?```|`[^`]+`", text, re.DOTALL))
    spoken = set(re.findall(r"(?:^|`|bin/)geotag ([a-z]+)\b", code, re.MULTILINE))
    assert spoken <= known
