"""`geotag releases` without a stack: listing, building and refusals."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.command import Done, in_this_process
from triton_models.release.build import built
from triton_models.release.release import RELEASES, Release

NAME = "untrained"


def geotag(folder: Path, *arguments: str) -> Done:
    """Run `geotag releases …` in an empty folder, with the test's own settings."""
    with pytest.MonkeyPatch.context() as patches:
        patches.chdir(folder)
        for name in [name for name in os.environ if name.startswith("GEOTAG_")]:
            patches.delenv(name)
        data = {"GEOTAG_DATA_DIR": str(folder / "data")}
        return in_this_process("releases", *arguments, COLUMNS="150", **data)


def test_list_shows_shipped_releases_and_names_unavailable_services(tmp_path: Path) -> None:
    done = geotag(tmp_path, "list")
    assert done.returncode == 0
    line = next(line for line in done.stdout.splitlines() if line.startswith(NAME))
    assert line.split()[1:] == [Release.load(RELEASES / NAME).digest[:12], "no", "package"]
    assert "the ledger does not answer" in done.stderr
    assert "Triton does not answer" in done.stderr


def test_list_with_a_damaged_release_shows_the_others(tmp_path: Path) -> None:
    releases = tmp_path / "data" / "releases"
    shutil.copytree(RELEASES / NAME, releases / "mine")
    (releases / "mine" / "release.json").write_bytes(b"\xff")
    done = geotag(tmp_path, "list")
    assert done.returncode == 0
    assert NAME in done.stdout
    assert "damaged: mine: " in done.stderr
    assert "no UTF-8" in done.stderr


def test_closed_output_pipe_is_no_failure(tmp_path: Path) -> None:
    command = 'set -o pipefail; "$0" releases show untrained | true'
    geotag = Path(sys.executable).with_name("geotag")
    done = subprocess.run(
        ["bash", "-c", command, str(geotag)], cwd=tmp_path, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("which", [NAME, str(RELEASES / NAME)])
def test_show(tmp_path: Path, which: str) -> None:
    release = Release.load(RELEASES / NAME)
    shown = geotag(tmp_path, "show", which).stdout
    facts = (release.digest, release.manifest.locator.sha256, "1589 fine", "The weights are random")
    for fact in facts:
        assert fact in shown


def test_build(tmp_path: Path) -> None:
    done = geotag(tmp_path, "build", NAME, "--target", "gpu", "--out", "repository")
    assert (done.returncode, done.stdout) == (0, "repository: untrained built for gpu\n")
    assert built(tmp_path / "repository") == [NAME]
    again = geotag(tmp_path, "build", NAME, "--target", "gpu", "--out", "repository")
    assert again.stdout == "repository: untrained already built for gpu\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("show", "nosuch"), "no release nosuch on this machine: "),
        (("build", "nosuch"), "no release nosuch on this machine: "),
        (("build", NAME, "--target", "tpu"), "'tpu' is not one of"),
        (("build", NAME, "--out", "taken/models"), "taken/models: Not a directory"),
        (("register", "empty"), "is not a release: no cells.parquet"),
        (("activate", NAME), "no database is configured"),
        (("rollback",), "no database is configured"),
        (("quantise", NAME, "--pictures", "empty", "--out", "."), "empty: no photographs"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(
    tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").touch()
    done = geotag(tmp_path, *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_release_is_named(tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(RELEASES / NAME, tmp_path / "damaged"))
    (damaged / "segmentation.onnx").write_bytes(b"")
    done = geotag(tmp_path, "show", str(damaged))
    assert done.returncode == 2
    assert "segmentation.onnx is not the file that release.json was written for" in done.stderr


def test_quantise_skips_files_that_are_no_photographs(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "notes.txt").write_text("no photograph")
    for number in range(3):
        noise = np.random.default_rng(number).integers(256, size=(40, 60, 3), dtype=np.uint8)
        Image.fromarray(noise).save(pictures / f"{number}.png")
    done = geotag(tmp_path, "quantise", NAME, "--pictures", "pictures", "--out", "releases")
    assert done.returncode == 0, done.stderr
    made = Release.load(tmp_path / "releases" / "untrained-int8")
    assert made.manifest.provenance["quantised_on"] == "3 pictures"
    assert made.digest in done.stdout


def test_the_old_name_of_the_commands_still_works_and_is_hidden(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patches:
        patches.chdir(tmp_path)
        old = in_this_process("models", "show", NAME)
        assert (old.returncode, old.stderr) == (0, "")
        assert old.stdout == in_this_process("releases", "show", NAME).stdout
        shown = in_this_process("--help", COLUMNS="150").stdout
    commands = [line.split()[1] for line in shown.splitlines() if line.startswith("│ ")]
    assert "releases" in commands
    assert "models" not in commands
