"""The student's classes, and its training targets from the teacher's maps.

The classes are the categories of Cityscapes (Cordts et al., 2016, table 1) with two changes for
photographs of landmarks: `vegetation` and `terrain` are separate classes, and poles, lights and
signs (0.1 % of the pixels, mostly mistakes) are left out. `unknown` is a pixel on which the
teacher's views disagree. Often it shows what the teacher never learnt: water, mountains, rooms.
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
SMOOTHING = 5  # px: details narrower than about half of this are noise of the teacher

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
    """Return the student's target: UINT8 [views, S, S] teacher's ids → UINT8 [S, S] our ids.

    A pixel gets a class if at least all views but one vote for it, and else `unknown`. Two classes
    have other rules, because of the teacher's known mistakes. It takes stone for people, so
    `human` needs every vote. It takes sky for buildings, so half of the votes suffice for `sky`
    where the others say `construction`. A mode filter of SMOOTHING px then removes slivers.
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
