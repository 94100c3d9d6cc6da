"""The three scene classes: Places365's groups, as ISNs and TransLocator use them."""

from typing import Literal, get_args

Scene = Literal["indoor", "natural", "urban"]

SCENES: tuple[Scene, ...] = get_args(Scene)
"""Scenes in the order of the scene head's classes, the SCENE tensor, and ``S3_Label`` 0, 1, 2."""
