"""Fit the calibration of a release on held-out photographs.

The steps build on each other:

1. A temperature for each head (Guo et al. 2017) and the weight of the world prior are fitted by the
   likelihood of the true fine cell under the mixture. The temperatures are fitted together on f*:
   the three heads see the same evidence, so their product is more confident than each.
2. For each radius a logistic curve from the mass within it to the share of hits (Platt 1999)
   corrects errors of the modelled spread within cells.
3. The confidence below which the release abstains is chosen for a given rate of errors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from triton_models.answer.confidence import Calibration, log_odds
from triton_models.answer.decoding import Decoder, Singles
from triton_models.answer.radii import RADII_KM
from triton_models.cells.distance import Floats, great_circle_km
from triton_models.cells.geocells import Hierarchy
from triton_models.fitting.reliability import Flags, wilson

MOST_TEMPERATURE = 20.0
_SHARES = 20
_ONE_SIDED = 2.807034
"""One-sided normal quantile of 0.05 / 20, the Bonferroni correction for _SHARES thresholds."""
_FEWEST = 30
"""Least number of photographs to fit a radius. With fewer, its masses are not corrected."""


class CalibrationError(ValueError):
    """The held-out photographs do not suffice for the calibration asked for."""


@dataclass(frozen=True, eq=False)
class Scored:
    """One held-out photograph: logits [crops, classes] of each head, and the true position."""

    coarse: Singles
    middle: Singles
    fine: Singles
    longitude: float
    latitude: float


@dataclass(frozen=True, eq=False)
class Fit:
    """A calibration and the figures of its fit."""

    calibration: Calibration
    photographs: int
    outside: int
    """Photographs in no fine cell. They have no likelihood and count in steps 2 and 3 only."""
    log_loss_before: float
    """Log loss in nats of the true fine cell, at temperature 1 and without prior."""
    log_loss_after: float


def fit(
    hierarchy: Hierarchy,
    photographs: Sequence[Scored],
    *,
    error_rate: float | None = None,
    familiarity: tuple[float, float] | None = None,
    strangers: Sequence[Scored] = (),
    stranger_weight: float = 1.0,
) -> Fit:
    """Fit all three steps.

    ``error_rate``: the greatest share of answers that may lie more than 200 km off; None: the
    release never abstains. ``familiarity``: as in ``Calibration``, fitted before on known and
    unknown photographs. ``strangers``: photographs of places that were not learnt; in step 2 each
    counts with weight ``stranger_weight``.

    Raises CalibrationError where no photograph lies in a fine cell, or no threshold keeps the rate.
    """
    base = Calibration(familiarity=familiarity)
    decoder = hierarchy.decoder()
    cells = hierarchy.fine.locate(
        [s.longitude for s in photographs], [s.latitude for s in photographs]
    )
    known = [(s, cell) for s, cell in zip(photographs, cells, strict=True) if cell >= 0]
    if not known:
        raise CalibrationError("no held-out photograph lies in a fine cell")
    prior = decoder.prior[[cell for _, cell in known]]

    def likelihoods(log_temperatures: Floats) -> Floats:
        trial = decoder.calibrated(_with_temperatures(base, log_temperatures))
        return np.array([trial.distribution(s.coarse, s.middle, s.fine)[c] for s, c in known])

    def loss(log_temperatures: Floats) -> float:
        p = likelihoods(log_temperatures)
        return mixture_loss(p, prior, fit_prior_weight(p, prior))

    found = minimise(loss, np.zeros(3), bound=float(np.log(MOST_TEMPERATURE)))
    weight = fit_prior_weight(likelihoods(found), prior)
    calibration = replace(_with_temperatures(base, found), prior_weight=weight)
    return Fit(
        calibration=fit_confidence(
            decoder.calibrated(calibration), photographs, error_rate, strangers, stranger_weight
        ),
        photographs=len(photographs),
        outside=len(photographs) - len(known),
        log_loss_before=mixture_loss(likelihoods(np.zeros(3)), prior, 0.0),
        log_loss_after=loss(found),
    )


def fit_prior_weight(p: Floats, prior: Floats) -> float:
    """Return the weight w that maximises the likelihood of (1 - w) p + w prior; both are [n].

    The log-likelihood is concave in w, so its slope is bisected.
    """

    def slope(w: float) -> float:
        return float(np.mean((prior - p) / ((1 - w) * p + w * prior)))

    low, high = 0.0, 1.0
    if slope(low) <= 0:
        return 0.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return (low + high) / 2


def mixture_loss(p: Floats, prior: Floats, weight: float) -> float:
    """Return the mean negative log-likelihood, in nats, of the true cells under the mixture."""
    return float(-np.mean(np.log((1 - weight) * p + weight * prior)))


def fit_logistic(masses: Floats, hits: Flags, weight: Floats | None = None) -> tuple[float, float]:
    """Return slope and intercept of the logistic curve from the log-odds of masses to hits.

    ``weight``: the weight of each photograph; by default 1.

    It is fitted by Newton's method on Platt's targets, which lie inside (0, 1), so that the fit is
    finite even where all photographs are hits. A negative slope would contradict the masses and is
    set to 0.
    """
    w = np.ones(len(hits)) if weight is None else weight
    right, wrong = float(w[hits].sum()), float(w[~hits].sum())
    target = np.where(hits, (right + 1) / (right + 2), 1 / (wrong + 2))
    odds = log_odds(masses)
    x = np.stack([odds, np.ones_like(odds)], axis=1)
    fitted = np.array([0.0, np.log((right + 1) / (wrong + 1))])
    for _ in range(50):
        p = 1 / (1 + np.exp(-(x @ fitted)))
        curvature = (x * (w * p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, x.T @ (w * (target - p)))
        fitted += np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-6:
            break
    if fitted[0] < 0:
        return 0.0, float(np.log((right + 1) / (wrong + 1)))
    return float(fitted[0]), float(fitted[1])


def abstention_threshold(confidence: Floats, hits: Flags, error_rate: float) -> float:
    """Return the least confidence above which the share of errors keeps within the rate.

    It holds with 95 % confidence and not only in this sample. The thresholds that answer 5, 10, …
    100 % of the photographs with a confidence are tried, each against a one-sided Wilson limit with
    Bonferroni's correction for all twenty. A confidence of NaN counts as an abstention.

    Raises CalibrationError where no threshold keeps the rate.
    """
    stated, right = confidence[~np.isnan(confidence)], hits[~np.isnan(confidence)]
    for share in range(_SHARES) if len(stated) else ():
        threshold = float(np.quantile(stated, share / _SHARES, method="lower"))
        answered = right[stated >= threshold]
        if wilson(int(np.sum(~answered)), len(answered), _ONE_SIDED)[1] <= error_rate:
            return threshold
    raise CalibrationError(
        f"no threshold keeps errors at {error_rate:.1%}, with {len(stated)} photographs"
    )


def minimise(f: Callable[[Floats], float], start: Floats, bound: float) -> Floats:
    """Minimise a smooth f of few variables within ±bound, by Newton's method.

    Derivatives are finite differences.
    """
    x, value = start, f(start)
    for _ in range(20):
        gradient, curvature = _derivatives(f, x, value)
        eigenvalues, vectors = np.linalg.eigh(curvature)
        # Absolute eigenvalues give a descent direction where the function is not convex, too.
        size = np.maximum(np.abs(eigenvalues), 1e-3)
        step = -vectors @ ((vectors.T @ gradient) / size)
        step *= min(1.0, 0.7 / max(float(np.abs(step).max()), 1e-12))
        moved, new_value = x, value
        while new_value >= value and np.abs(step).max() > 1e-3:
            moved = np.clip(x + step, -bound, bound)
            new_value, step = f(moved), step / 2
        if new_value >= value:
            return x
        x, value = moved, new_value
    return x


def _derivatives(
    f: Callable[[Floats], float], x: Floats, value: float, h: float = 0.05
) -> tuple[Floats, Floats]:
    """Return gradient and Hessian by central and forward differences."""
    steps = h * np.eye(len(x))
    above, below = (np.array([f(x + sign * s) for s in steps]) for sign in (1, -1))
    curvature = np.diag((above + below - 2 * value) / h**2)
    for i in range(len(x)):
        for j in range(i):
            both = f(x + steps[i] + steps[j])
            curvature[i, j] = curvature[j, i] = (both - above[i] - above[j] + value) / h**2
    return (above - below) / (2 * h), curvature


def _with_temperatures(base: Calibration, logarithms: Floats) -> Calibration:
    coarse, middle, fine = np.exp(logarithms).tolist()
    return replace(base, temperatures=(coarse, middle, fine))


def fit_confidence(
    decoder: Decoder,
    photographs: Sequence[Scored],
    error_rate: float | None = None,
    strangers: Sequence[Scored] = (),
    stranger_weight: float = 1.0,
) -> Calibration:
    """Fit steps 2 and 3 for a decoder with the calibration of step 1; arguments as in ``fit``.

    Step 3 leaves the strangers out: its error rate is that of photographs like the given ones.
    """
    calibration = decoder.calibration or Calibration()
    weight = np.repeat([1.0, stranger_weight], [len(photographs), len(strangers)])
    cells, masses, hits = [], [], []
    for s in (*photographs, *strangers):
        p = decoder.distribution(s.coarse, s.middle, s.fine)
        cell = int(np.argmax(p))
        at = decoder.longitude[cell], decoder.latitude[cell]
        cells.append(cell)
        masses.append(decoder.masses(p, cell))
        hits.append(great_circle_km(s.longitude, s.latitude, *at) <= np.array(RADII_KM))
    hit = np.array(hits)
    resolved = np.array([decoder.resolved(cell) for cell in cells])
    curves = [
        fit_logistic(np.array(masses)[known, r], hit[known, r], weight[known])
        if known.sum() >= _FEWEST
        else (1.0, 0.0)
        for r, known in enumerate(resolved.T)
    ]
    slopes, intercepts = zip(*curves, strict=True)
    calibration = replace(calibration, slopes=slopes, intercepts=intercepts)
    if error_rate is None:
        return calibration
    judge, at_200 = decoder.calibrated(calibration), RADII_KM.index(200.0)
    own = list(zip(masses, cells, strict=True))[: len(photographs)]
    stated = np.array([judge.confidence(m, c)[at_200] for m, c in own], np.float64)
    threshold = abstention_threshold(stated, hit[: len(own), at_200], error_rate)
    return replace(calibration, abstain_below=threshold)
