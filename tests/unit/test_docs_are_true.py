"""Files, types, commands and codes that pages, docstrings and advice name exist."""

import ast
import io
import json
import re
import shlex
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from geotag.documents import DOCS, commands
from geotag.failures.advice import ADVICE, advice
from geotag.settings import DECLARED
from triton_models.answer import confidence
from workers import errors
from workers.errors import GeotagError, PhotoError, UsageError

ROOT = DOCS.parent
PACKAGES = ("benchmarks", "db", "deploy", "geotag", "triton_models", "workers")
FOLDERS = (*PACKAGES, ".ci", "docs", "requirements", "tests")
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

FOREIGN_TYPES = {"EfficientNet", "ImageNet", "IsDeleteMarker", "IsLatest", "ViTModel"}
"""CamelCase names in code that are other people's."""
FOREIGN_WORDS = {"Authorization", "Bucket", "False", "Key", "PostGIS", "Size", "Triton", "True"}
"""Capitalised words that stand alone in backticks, or in the diagrams of architecture.md."""
FOREIGN_OPTIONS = {"--load-model", "--model-control-mode"}
"""Of Triton."""
FOREIGN_NAMES = {
    "pool_mode",
    *("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count"),
}
"""Lower-case names of other programs, in backticks."""


def code_of(text: str) -> list[str]:
    """Return the code blocks of a page, and the backticked text outside them."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [*blocks, *spans_of(rest)]


def spans_of(text: str) -> list[str]:
    """Return the text in single backticks."""
    return [span.replace("\n", " ") for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]


@cache
def files() -> frozenset[str]:
    """Return the paths of our files and all their suffixes: `a/b.py` and `b.py`."""
    paths = [p for folder in FOLDERS for p in (ROOT / folder).rglob("*") if p.is_file()]
    paths += [path for path in ROOT.iterdir() if path.is_file()]
    parts = [p.relative_to(ROOT).parts for p in paths if "__pycache__" not in p.parts]
    return frozenset("/".join(part[k:]) for part in parts for k in range(len(part)))


NAMED_FILE = re.compile(r"(?<![\w./*<-])(?:[\w-]+/)*[\w-]+\.(?:py|sql|j2|pbtxt|md)\b(?![\w*])")
NAMED_PATH = re.compile(
    r"(?<![\w./*<:-])(?:benchmarks|db|deploy|docs|geotag|requirements|tests|triton_models|workers)"
    r"/[\w./-]*[\w/]"
)


THEIR_FILES = {"NAME.sql", "db/sql/NAME.sql", "rights.md"}
"""Files that an example on a page has a user write, and placeholders."""


def missing_files(text: str) -> list[str]:
    """Return the missing files that a text names as ours."""
    named = {*NAMED_FILE.findall(text), *NAMED_PATH.findall(text)}
    known = files() | THEIR_FILES
    return sorted(n for n in named if n not in known and not (ROOT / n).exists())


@EVERY_PAGE
def test_files_that_a_page_names_exist(page: Path) -> None:
    code = "\n".join(code_of(page.read_text(encoding="utf-8")))
    assert missing_files(code) == []


def prose_of(path: Path) -> str:
    """Return the comments and docstrings of a Python file."""
    source = path.read_text(encoding="utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
    strings = [
        node.value.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    return "\n".join([*comments, *strings])


def test_files_that_docstrings_and_comments_name_exist() -> None:
    missing = {str(p.relative_to(ROOT)): missing_files(prose_of(p)) for p in SOURCES}
    for path in (ROOT / "db").rglob("*.sql"):
        comments = re.findall(r"--(.*)", path.read_text(encoding="utf-8"))
        missing[str(path.relative_to(ROOT))] = missing_files("\n".join(comments))
    assert {path: names for path, names in missing.items() if names} == {}


@cache
def types() -> frozenset[str]:
    """Return the names of all our classes, and of the alerts."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES]
    classes = {n.name for tree in trees for n in ast.walk(tree) if isinstance(n, ast.ClassDef)}
    rules = (ROOT / "deploy" / "monitoring" / "alerts.yml").read_text(encoding="utf-8")
    return frozenset(classes | set(re.findall(r"alert: (\w+)", rules)))


@EVERY_PAGE
def test_types_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    code = "\n".join(code_of(text))
    named = set(re.findall(r"(?<![\w.])[A-Z][a-z]+(?:[A-Z][a-z]+)+\b", code)) - FOREIGN_TYPES
    words = {span for span in spans_of(text) if re.fullmatch(r"[A-Z][a-z]+", span)}
    if page.name == "architecture.md":
        blocks = "\n".join(re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
        words |= set(re.findall(r"\b[A-Z][a-z]+\b", blocks))
    assert sorted((named | (words - FOREIGN_WORDS)) - types()) == []


DOTTED = re.compile(r"(?<![\w./-])(?:benchmarks|db|deploy|triton_models|workers)(?:\.\w+)+")


def exists(dotted: str) -> bool:
    """Return whether a dotted name is a module of ours, or is defined in one."""
    parts = dotted.split(".")
    for k in range(len(parts), 0, -1):
        base = ROOT.joinpath(*parts[:k])
        module = base.with_suffix(".py") if base.with_suffix(".py").is_file() else base
        if module.is_dir():
            module = module / "__init__.py"
        if module.is_file():
            if k == len(parts):
                return True
            defined = re.compile(rf"^(?:def |class )?{parts[k]}\b", re.MULTILINE)
            return bool(defined.search(module.read_text(encoding="utf-8")))
    return False


@EVERY_PAGE
def test_modules_that_a_page_names_exist(page: Path) -> None:
    code = "\n".join(code_of(page.read_text(encoding="utf-8")))
    named = {name for name in DOTTED.findall(code) if not name.endswith((".py", ".toml"))}
    assert sorted(name for name in named if not exists(name)) == []


@cache
def tree() -> dict[str, Any]:
    """Return the commands that users see, by their path."""
    return {path: command for path, command, _context in commands()}


def options(path: str) -> set[str]:
    """Return the options of a command, under all their names."""
    named = {o for p in tree()[path].params for o in (*p.opts, *p.secondary_opts)}
    return {*named, "--help"}


SPOKEN = re.compile(r"(?:^|bin/|&& |no-python )(geotag(?: .*)?)$")


def spoken(text: str) -> Iterator[list[str]]:
    """Yield the words of each `geotag …` command in a page's code."""
    for code in code_of(text):
        for line in code.replace("\\\n", " ").splitlines():
            if found := SPOKEN.search(line.strip()):
                words = shlex.split(found[1], comments=True)
                ends = [k for k, word in enumerate(words) if word in ("|", "&&", ">")]
                yield words[: ends[0]] if ends else words


def complaint(words: list[str]) -> str | None:
    """Return the error in a command line; None if it is valid."""
    path, rest = words[0], words[1:]
    while rest and f"{path} {rest[0]}" in tree():
        path, rest = f"{path} {rest[0]}", rest[1:]
    group = any(name.startswith(f"{path} ") for name in tree())
    if group and rest and re.fullmatch("[a-z-]*[a-z]", rest[0]) and rest[0][0] != "-":
        return f"no command {path} {rest[0]}"
    given = {word.strip("[]").partition("=")[0] for word in rest if word.lstrip("[")[:2] == "--"}
    wrong = given - (options(path) if path in tree() else {"--help", "--version"})
    return f"{path} has no {', '.join(sorted(wrong))}" if wrong else None


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_commands_and_options_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    said = [(" ".join(words), complaint(words)) for words in spoken(text)]
    assert [(line, wrong) for line, wrong in said if wrong] == []
    ours = {option for path in tree() for option in options(path)}
    lone = {re.split("[ =]", span)[0] for span in spans_of(text) if span.startswith("--")}
    assert sorted(lone - ours - FOREIGN_OPTIONS) == []


def test_the_check_of_commands_finds_errors() -> None:
    page = (
        "```sh\ngeotag pack --all\ngeotag results --stat x | less\n"
        "geotag releases activate A\n```\n`geotag run --nope`"
    )
    assert [complaint(words) for words in spoken(page)] == [
        "no command geotag pack",
        "geotag results has no --stat",
        None,
        "geotag run has no --nope",
    ]


@cache
def words_of_the_code() -> frozenset[str]:
    """Return every word in our sources, SQL, alert rules and releases, without the pages."""
    # `prometheus_client` adds `_total` to a counter's name.
    kinds = {".py", ".sql", ".pbtxt", ".j2", ".yml", ".json", ".toml", ".mako", ".csv", ".sh"}
    paths = [p for folder in PACKAGES for p in (ROOT / folder).rglob("*") if p.suffix in kinds]
    paths += [ROOT / "pyproject.toml", *(ROOT / "tests" / "faults").glob("*.py")]
    words = {w for p in paths for w in re.findall(r"\w+", p.read_text(encoding="utf-8"))}
    return frozenset(words | {f"{word}_total" for word in words if word.startswith("geotag_")})


@EVERY_PAGE
def test_names_that_a_page_puts_in_backticks_are_in_the_code(page: Path) -> None:
    if "decisions" in page.parts and "obstore" in page.read_text(encoding="utf-8"):
        pytest.skip("tells of what was replaced")
    named = {
        word
        for span in spans_of(page.read_text(encoding="utf-8"))
        for word in re.findall(r"(?<![\w./-])[a-z]+(?:_[a-z0-9]+)+\b(?![./-])", span)
    }
    assert sorted(named - words_of_the_code() - FOREIGN_NAMES) == []


def all_errors(root: type[GeotagError] = GeotagError) -> Iterator[type[GeotagError]]:
    """Yield every error class below the root of the tree, as `workers/errors.py` has it."""
    for child in root.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from all_errors(child)


def codes() -> dict[str, type[GeotagError]]:
    """Return the codes that an object can fail with."""
    roots = {GeotagError.code, PhotoError.code, UsageError.code}
    own = {c.__dict__["code"]: c for c in all_errors() if "code" in c.__dict__}
    return {code: error for code, error in own.items() if code not in roots}


def test_there_is_advice_for_each_code_and_for_no_other() -> None:
    assert sorted(ADVICE) == sorted(codes())


def test_each_error_of_the_tree_is_raised_somewhere() -> None:
    used = "\n".join(
        path.read_text(encoding="utf-8") for path in SOURCES if path != Path(errors.__file__)
    )
    assert [e.__name__ for e in codes().values() if not re.search(rf"\b{e.__name__}\b", used)] == []


def test_commands_that_the_advice_names_exist() -> None:
    named = {
        tuple(found.split())
        for text in (*ADVICE.values(), advice("of another version"))
        for found in re.findall(r"geotag [a-z]+(?: (?:add|show|list|activate|remove)\b)?", text)
    }
    assert sorted(n for n in named if " ".join(n) not in tree()) == []


def test_codes_that_examples_filter_by_exist() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"code (?:=|in \() ?'(\w+)'", text))
    assert named
    assert named - codes().keys() == set()


def abstentions() -> set[str]:
    """Return the reasons that a decoder can give, as its code spells them."""
    module = ast.parse(Path(confidence.__file__).read_text(encoding="utf-8"))
    (function,) = (
        node
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef) and node.name == "abstention"
    )
    returned = [node for node in ast.walk(function) if isinstance(node, ast.Return)]
    texts = [n for node in returned for n in ast.walk(node) if isinstance(n, ast.Constant)]
    return {n.value for n in texts if isinstance(n.value, str) and n.value}


def test_the_reasons_for_abstaining_are_documented_and_no_others() -> None:
    assert abstentions() == {"too_little_evidence", "unlike_training"}
    contract = (DOCS / "architecture.md").read_text(encoding="utf-8")
    row = re.search(r"^\| out `ABSTENTION` .*$", contract, re.MULTILINE)
    assert row
    assert set(re.findall(r"`([a-z_]+)`", row[0])) == abstentions()
    results = (DOCS / "results.md").read_text(encoding="utf-8")
    row = re.search(r"^\| `abstained` \| (.*)$", results, re.MULTILINE)
    assert row
    assert set(re.findall(r"`([a-z_]+)`", row[1])) - {"code"} == abstentions()
    schema = (DOCS / "results.schema.json").read_text(encoding="utf-8")
    enums = re.findall(r'"code": \{"enum": (\[[^\]]*\])', schema)
    assert abstentions() in [set(json.loads(enum)) for enum in enums]


def test_the_states_of_a_run_are_documented_and_no_others() -> None:
    statement = (ROOT / "db" / "sql" / "run_progress.sql").read_text(encoding="utf-8")
    case = statement.partition("END AS state")[0].rpartition("CASE")[2]
    states = set(re.findall(r"(?:THEN|ELSE) '(\w+)'", case))
    assert "parked" in states
    schema = json.loads((DOCS / "results.schema.json").read_text(encoding="utf-8"))
    assert set(schema["$defs"]["run"]["properties"]["state"]["enum"]) == states
    page = (DOCS / "results.md").read_text(encoding="utf-8")
    row = re.search(r"^\| `state` \| text \| (`planning`.*)$", page, re.MULTILINE)
    assert row
    assert states <= set(re.findall(r"`(\w+)`", row[1]))


def test_settings_that_the_code_names_exist() -> None:
    known = {f"GEOTAG_{name.upper()}" for group in DECLARED for name in group.model_fields}
    # Written by `geotag up` for people, and the variables that mark its processes.
    known |= {"GEOTAG_TRITON_METRICS_URL", "GEOTAG_CODE", "GEOTAG_STACK"}
    named = {
        (str(path.relative_to(ROOT)), name)
        for path in SOURCES
        for name in re.findall(r"\bGEOTAG_[A-Z0-9_]*[A-Z0-9]\b", path.read_text(encoding="utf-8"))
    }
    assert sorted(n for n in named if n[1] not in known) == []


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@EVERY_PAGE
def test_anchors_that_a_page_links_to_exist(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8"))
    broken = [
        f"{name}#{anchor}"
        for name, anchor in links
        if anchor not in anchors(page.parent / name if name else page)
    ]
    assert broken == []


def test_the_glossary_is_short() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    rows = page.partition("## Glossary")[2].partition("\n## ")[0].count("\n| ") - 1
    assert 20 <= rows <= 30
