"""What the student says of a pixel, and which of the teacher's answers it is taught.

The classes are Cityscapes' own categories (Cordts et al., 2016, table 1) with two changes that
these pictures ask for: `vegetation` and `terrain` are kept apart, and poles, lights and signs
(0.1 % of the pixels, and mostly mistakes) are not taught. `unknown` is what the teacher says
differently each time it is asked: often what it never learnt, such as water, mountains, rooms.
"""

import numpy as np
from PIL import Image, ImageFilter

from triton_models.segmentation.teacher import CITYSCAPES, VIEWS

UNKNOWN = "unknown"
MEMBERS = {
    UNKNOWN: ("pole", "traffic light", "traffic sign"),
    "flat": ("road", "sidewalk"),
    "construction": ("building", "wall", "fence"),
    "vegetation": ("vegetation",),
    "terrain": ("terrain",),
    "sky": ("sky",),
    "human": ("person", "rider"),
    "vehicle": ("car", "truck", "bus", "train", "motorcycle", "bicycle"),
}
CLASSES = tuple(MEMBERS)  # in the order of their ids: `unknown` is 0
SMOOTHING = 5  # px: what is narrower than about half of this is noise of the teacher

_UNKNOWN, _CONSTRUCTION, _SKY, _HUMAN = (
    CLASSES.index(name) for name in (UNKNOWN, "construction", "sky", "human")
)
_GROUPS = np.array(
    [next(k for k, names in enumerate(MEMBERS.values()) if name in names) for name in CITYSCAPES],
    np.uint8,
)


def grouped(ids: np.ndarray) -> np.ndarray:
    """Return our class ids for the teacher's, UINT8 of the same shape."""
    ours: np.ndarray = _GROUPS[ids]
    return ours


def target(maps: np.ndarray) -> np.ndarray:
    """What the student is taught: UINT8 [views, S, S] teacher's ids → UINT8 [S, S] our ids.

    A class for which all views but one vote at least, and else `unknown`. Two classes are judged by
    what the teacher is known to confuse: stone with people, who therefore need every vote, and sky
    with buildings, where half of the votes make sky. The commonest class of each SMOOTHING ×
    SMOOTHING neighbourhood then takes the place of slivers.
    """
    answers = grouped(maps)
    votes = np.stack([(answers == k).sum(axis=0) for k in range(len(CLASSES))])
    all_views = len(VIEWS)
    needed = np.full(len(CLASSES), all_views - 1)
    needed[_HUMAN] = all_views
    won = votes >= needed[:, None, None]
    sky = (votes[_SKY] >= all_views / 2) & (votes[_SKY] + votes[_CONSTRUCTION] == all_views)
    ids = np.where(sky, _SKY, np.where(won.any(axis=0), won.argmax(axis=0), _UNKNOWN))
    voted = Image.fromarray(ids.astype(np.uint8))
    return np.asarray(voted.filter(ImageFilter.ModeFilter(SMOOTHING)))
