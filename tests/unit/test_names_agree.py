"""Names that `db` repeats, because it imports none of our packages, agree with the originals."""

from db import schema
from triton_models.answer.decoding import REGION_LEVELS
from triton_models.answer.radii import RADII_KM
from triton_models.scenes.classes import SCENES


def test_scenes() -> None:
    assert schema.SCENES == SCENES


def test_radii() -> None:
    assert schema.RADII_KM == RADII_KM


def test_region_levels_are_the_same_in_per_cent() -> None:
    assert tuple(round(100 * level) for level in REGION_LEVELS) == schema.REGION_LEVELS


def test_columns_expand_to_all_names() -> None:
    columns = set(schema.geotag.columns.keys())
    assert {f"scene_{name}" for name in SCENES} <= columns
    assert {f"confidence_{km:g}_km" for km in RADII_KM if km != 200} <= columns
    regions = {f"region_{round(100 * level)}" for level in REGION_LEVELS}
    assert {f"{region}_cells" for region in regions} <= columns
