"""Render class maps over pictures, side by side."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

# One colour for each class of `classes.CLASSES`, near those of Cityscapes. `unknown` has none.
COLOURS = np.array(
    [
        (0, 0, 0),
        (128, 64, 128),
        (230, 150, 60),
        (40, 130, 40),
        (190, 230, 100),
        (60, 140, 240),
        (230, 20, 60),
        (0, 0, 160),
    ],
    np.uint8,
)
STRENGTH = 0.6


def overlay(picture: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Blend the colours of class ids [S, S] over a picture [S, S, 3], except for `unknown`."""
    mixed = (1 - STRENGTH) * picture + STRENGTH * COLOURS[ids % len(COLOURS)]
    return np.where((ids == 0)[..., None], picture, mixed).astype(np.uint8)


def contact_sheet(rows: Sequence[Sequence[np.ndarray]], classes: Sequence[str]) -> Image.Image:
    """Return pictures [S, S, 3] of one size in rows, under a legend of the classes' colours."""
    body = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    sheet = Image.new("RGB", (body.shape[1], body.shape[0] + 20), "white")
    sheet.paste(Image.fromarray(body), (0, 20))
    draw = ImageDraw.Draw(sheet)
    step = max(80, sheet.width // len(classes))
    for k, name in enumerate(classes):
        colour = tuple(int(x) for x in COLOURS[k % len(COLOURS)])
        draw.rectangle((k * step + 4, 4, k * step + 16, 16), fill=colour)
        draw.text((k * step + 20, 4), name, fill="black")
    return sheet
