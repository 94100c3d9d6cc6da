"""The list of attributions lies beside a release's model card and is copied with the release."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from triton_models.cells import gazetteer
from triton_models.release.quantise import quantise
from triton_models.release.release import ATTRIBUTIONS, MODEL_CARD, RELEASES, Release, ReleaseError

UNTRAINED = RELEASES / "untrained"
SHIPPED = RELEASES / "landmarks"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(UNTRAINED, tmp_path / "untrained"))


def test_attributions_are_optional_and_no_part_of_the_digest(copy: Path) -> None:
    before = Release.load(copy)
    assert before.attributions == ""
    (copy / ATTRIBUTIONS).write_text("# Attributions\n\nÅ\n", encoding="utf-8")
    after = Release.load(copy)
    assert after.attributions == "# Attributions\n\nÅ\n"
    assert after.digest == before.digest


def test_attributions_that_are_no_text_are_refused(copy: Path) -> None:
    (copy / ATTRIBUTIONS).write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ReleaseError, match=ATTRIBUTIONS):
        Release.load(copy)


def test_a_quantised_release_has_the_attributions_of_its_source(copy: Path) -> None:
    (copy / ATTRIBUTIONS).write_text("# Attributions\n", encoding="utf-8")
    pictures = np.zeros((2, 256, 256, 3), np.uint8)
    quantised = quantise(Release.load(copy), copy.parent / "untrained-int8", pictures)
    assert quantised.attributions == "# Attributions\n"


def test_the_model_card_of_landmarks_is_short_and_links_to_its_attributions() -> None:
    release = Release.load(SHIPPED)
    card = release.file(MODEL_CARD).read_text(encoding="utf-8")
    assert len(card.splitlines()) < 120
    assert f"[{ATTRIBUTIONS}]({ATTRIBUTIONS})" in card
    listed = release.attributions.partition("```text\n")[2].partition("\n```")[0].splitlines()
    assert len(listed) == len(set(listed)) == 1422
    assert listed == sorted(listed)
    for said in ("CC BY", "Apache-2.0", gazetteer.ATTRIBUTION, "commons.wikimedia.org"):
        assert said in release.attributions


@dataclass(frozen=True)
class Photographs:
    """The attributes of a study's photographs that the list reads."""

    titles: tuple[str, ...]


def test_landmarks_writes_its_list_from_the_titles_and_the_segmentation() -> None:
    card = pytest.importorskip("triton_models.landmarks.card")
    study: Any = SimpleNamespace(photographs=Photographs(("B.jpg", "A.jpg")))
    text = card.attributions(study, {"attribution": ["Encoder: x.", "Photographs: theirs."]})
    assert text.startswith("# Attributions of the release `landmarks`\n")
    assert "```text\nA.jpg\nB.jpg\n```\n" in text
    assert "- Encoder: x.\n" in text
    assert "theirs" not in text


def test_the_list_that_ships_is_what_landmarks_writes() -> None:
    card = pytest.importorskip("triton_models.landmarks.card")
    shipped = Release.load(SHIPPED).attributions
    titles = tuple(shipped.partition("```text\n")[2].partition("\n```")[0].splitlines())
    lines = [line[2:] for line in shipped.splitlines() if line.startswith(("- Encoder", "- Teach"))]
    study: Any = SimpleNamespace(photographs=Photographs(titles))
    assert card.attributions(study, {"attribution": lines}) == shipped
