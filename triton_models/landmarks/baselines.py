"""Baselines on the stem's mean features, in the same folds as the network."""

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

Ints = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]


def commonest(means: Singles, place: Ints, fold: Ints) -> Ints:
    """Return the commonest place of the other folds."""
    found = np.empty_like(place)
    for k in np.unique(fold):
        found[fold == k] = np.bincount(place[fold != k]).argmax()
    return found


def nearest(means: Singles, place: Ints, fold: Ints) -> Ints:
    """Return the place of the nearest photograph of the other folds, by the cosine of means."""
    unit = means / np.linalg.norm(means, axis=1, keepdims=True)
    found = np.empty_like(place)
    for k in np.unique(fold):
        likeness = unit[fold == k] @ unit[fold != k].T
        found[fold == k] = place[fold != k][likeness.argmax(axis=1)]
    return found


def logistic(means: Singles, place: Ints, fold: Ints) -> Ints:
    """Return the places by logistic regression (C = 10) on scaled, standardised means."""
    found = np.empty_like(place)
    for k in np.unique(fold):
        learnt = means[fold != k]
        scale = (learnt.std(axis=0) + 1e-6) * np.sqrt(means.shape[1])
        model = LogisticRegression(C=10.0, max_iter=300).fit(
            (learnt - learnt.mean(axis=0)) / scale, place[fold != k]
        )
        found[fold == k] = model.predict((means[fold == k] - learnt.mean(axis=0)) / scale)
    return found
