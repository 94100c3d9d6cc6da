"""Which modules may import which (docs/architecture.md), and which modules commands load."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent.parent
OURS = {"db", "deploy", "geotag", "triton_models", "workers"}
MAY_IMPORT = {
    "db": set(),
    "deploy": set(),
    "triton_models": set(),
    "workers": {"db"},
    "geotag": OURS,
}

# The subpackages of each package in layers, lowest first. A subpackage imports only from layers
# below its own, never from its neighbours. A file beside the folders counts as one.
LAYERS = {
    "deploy": ("errors settings", "model_control", "local"),
    "geotag": (
        "exits formats interruption settings",
        "context options output",
        "tables",
        "archives failures partitions results schedules",
        "runs training",
        "evaluation releases",
        "machine",
        "cli",
        "documents",
    ),
    "triton_models": (
        "answer",
        "cells networks repository",
        "fitting scenes",
        "evaluation release",
        "training",
        "landmarks segmentation",
    ),
    "workers": (
        "errors settings",
        "photo s3 telemetry",
        "broker",
        "chunks",
        "planning",
    ),
}


def modules(package: str) -> list[Path]:
    return sorted((PROJECT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Return the top-level names of all imports of a module, nested ones included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("package", sorted(OURS))
def test_package_imports_only_what_its_layer_may(package: str) -> None:
    found = modules(package)
    assert found
    wrong = {
        str(path.relative_to(PROJECT)): others
        for path in found
        if (others := imported(path) & OURS - {package} - MAY_IMPORT[package])
    }
    assert wrong == {}


def name_of(path: Path) -> str:
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def arrows() -> dict[str, frozenset[str]]:
    """Return each of our modules with its imports, nested and type-checking ones included."""
    paths = {name_of(path): path for package in OURS for path in modules(package)}
    graph = {}
    for module, path in paths.items():
        found: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= names & paths.keys()
                if names - paths.keys():
                    found.add(node.module or "")
        graph[module] = frozenset(found & paths.keys() - {module})
    return graph


def test_no_import_is_circular() -> None:
    try:
        TopologicalSorter(arrows()).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("package", sorted(LAYERS))
def test_every_subpackage_is_in_a_layer(package: str) -> None:
    named = [name for line in LAYERS[package] for name in line.split()]
    there = {module.split(".")[1] for module in arrows() if module.startswith(f"{package}.")}
    assert sorted(named) == sorted(there)


@pytest.mark.parametrize("package", sorted(LAYERS))
def test_no_subpackage_imports_from_its_own_layer_or_above(package: str) -> None:
    layer = {name: k for k, line in enumerate(LAYERS[package]) for name in line.split()}
    wrong = []
    for module, imported_modules in arrows().items():
        for other in imported_modules:
            if not (module.startswith(f"{package}.") and other.startswith(f"{package}.")):
                continue
            here, there = module.split(".")[1], other.split(".")[1]
            if here != there and layer[there] >= layer[here]:
                wrong.append(f"{module} imports {other}")
    assert wrong == []


def test_nothing_outside_landmarks_imports_it() -> None:
    """`landmarks` makes one release. General code belongs elsewhere."""
    knowing = {
        module
        for module, imported_modules in arrows().items()
        if any(other.startswith("triton_models.landmarks") for other in imported_modules)
    }
    assert {m for m in knowing if not m.startswith("triton_models.landmarks")} == set()


def test_what_runs_inside_triton_imports_itself_and_numpy() -> None:
    found = {
        other
        for path in modules("triton_models/answer")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for other in (
            [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
        )
    }
    allowed = {*sys.stdlib_module_names, "numpy"}
    others = {name for name in found if name and name.partition(".")[0] not in allowed}
    assert all(name.startswith("triton_models.answer.") for name in others)


def test_no_package_imports_the_tests() -> None:
    assert [path for name in OURS for path in modules(name) if "tests" in imported(path)] == []


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=PROJECT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["worker", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    loaded = python(
        "import sys\n"
        "from geotag.cli import app\n"
        f"app({arguments}, standalone_mode=False)\n"
        "print('LOADED', *sorted({name.partition('.')[0] for name in sys.modules}))"
    ).rpartition("LOADED")[2]
    heavy = "sqlalchemy celery kombu numpy torch boto3 PIL pyarrow tritonclient"
    assert set(loaded.split()) & set(heavy.split()) == set()


# What `geotag up`, `run`, `locate` and `worker` load. Each of these must work without torch, which
# is an extra that serving does not install.
SERVING = (
    "geotag.cli, geotag.context, geotag.exits, geotag.settings,"
    " geotag.machine.demo, geotag.machine.doctor, geotag.machine.stack, geotag.machine.worker,"
    " geotag.results.show, geotag.runs.run, geotag.runs.status, geotag.runs.watch,"
    " triton_models.release.build, triton_models.release.release,"
    " workers.chunks.pipeline, workers.chunks.tasks, workers.chunks.triton_client,"
    " workers.chunks.work, workers.photo.reading, workers.planning.sources, workers.s3.service"
)


def test_serving_needs_no_torch() -> None:
    blocked = "torch torchvision onnx onnxscript"
    python(
        f"import sys\nfor name in '{blocked}'.split(): sys.modules[name] = None\nimport {SERVING}"
    )


def test_blocking_torch_works() -> None:
    with pytest.raises(AssertionError, match="torch"):
        python("import sys; sys.modules['torch'] = None\nimport triton_models.release.untrained")


@pytest.mark.parametrize(
    "command",
    [
        "train mine.toml",
        "scenes table.csv --photos . --out labelled.csv",
        "models make run --name mine --out .",
    ],
)
def test_training_without_torch_names_the_package_to_install(command: str) -> None:
    code = (
        f"import sys; sys.modules['torch'] = None; sys.argv = ['geotag', *{command.split()}]\n"
        "from geotag.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=PROJECT
    )
    assert done.returncode == 2
    assert "the package torch is not installed" in done.stderr
    assert "install the extra train" in done.stderr
