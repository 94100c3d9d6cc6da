"""Who imports whom (docs/architecture.md), and what a command may cost before it does anything."""

import ast
import subprocess
import sys
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


def modules(package: str) -> list[Path]:
    return sorted((PROJECT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top-level names of everything that a module imports, at whatever depth of its code."""
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


def test_the_block_on_torch_does_block() -> None:
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
def test_without_torch_training_says_what_to_install(command: str) -> None:
    code = (
        f"import sys; sys.modules['torch'] = None; sys.argv = ['geotag', *{command.split()}]\n"
        "from geotag.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=PROJECT
    )
    assert done.returncode == 2
    assert "torch is not installed here" in done.stderr
    assert "install the extra train" in done.stderr
