"""The mapping from ImageNet's classes to scenes: every class votes at most once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from triton_models.scenes.classes import SCENES
from triton_models.scenes.imagenet import CLASSES, VOTES, scene_probabilities


def test_no_class_votes_twice() -> None:
    assert VOTES.shape == (CLASSES, len(SCENES))
    assert set(VOTES.sum(axis=1)) == {0, 1}


@pytest.mark.parametrize(
    ("wordnet_class", "scene"),
    [
        (532, "indoor"),  # dining table
        (861, "indoor"),  # toilet seat
        (649, "natural"),  # megalith
        (975, "natural"),  # lakeside
        (386, "natural"),  # African elephant
        (839, "urban"),  # suspension bridge
        (920, "urban"),  # traffic light
    ],
)
def test_typical_things_vote_for_their_scene(wordnet_class: int, scene: str) -> None:
    sure = np.eye(CLASSES)[wordnet_class]
    assert SCENES[scene_probabilities(sure).argmax()] == scene


def test_things_without_a_typical_scene_do_not_vote() -> None:
    labrador = np.eye(CLASSES)[208]
    assert scene_probabilities(labrador) == pytest.approx([1 / 3] * 3)


@given(arrays(np.float64, (2, CLASSES), elements=st.floats(0, 1)))
def test_probabilities_sum_to_one(probabilities: np.ndarray) -> None:
    scenes = scene_probabilities(probabilities)
    assert scenes.shape == (2, len(SCENES))
    assert scenes.sum(axis=1) == pytest.approx([1, 1])
    assert (scenes > 0).all()
