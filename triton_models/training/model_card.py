"""The model card of a release that was made from a training run."""

from triton_models.evaluation.scores import Score
from triton_models.fitting.calibration import Fit
from triton_models.fitting.reliability import ConfidenceReport, Interval, wilson
from triton_models.training.assessment import FOLDS, REGION, Figures
from triton_models.training.trained import LEARNT, Trained

NO_ATTRIBUTION = """**Not stated.** Write here whose photographs and weights it learnt from, and
under which licences, before you give the release to anybody. This file is no part of its digest."""

_PACKAGED = "with ImageNet weights, from the Python package that carries them (Apache-2.0)"


def text(
    name: str,
    run: Trained,
    fit: Fit,
    figures: Figures,
    error_rate: float | None,
    attribution: str | None,
) -> str:
    """Return the model card as Markdown."""
    config, network = run.description["config"], run.network
    learnt, n, regions = run.count(LEARNT), figures.all.n, figures.regions
    return f"""# Release `{name}`

**It knows what {learnt:,} photographs in {network.fine:,} cells show. It cannot name a place \
outside its cells, and what it says of photographs from elsewhere was not measured.**

| | |
|---|---|
| locator | `{config["network"]["preset"]}`, branches: {network.branches}, by `geotag train` |
| starts from | {_start(run)} |
| class maps | {_class_maps(run)} |
| cells | {network.coarse:,} coarse, {network.middle:,} middle, {network.fine:,} fine, by the \
places of {int(run.hierarchy.fine.photographs.sum()):,} photographs |
| pictures | {network.image_size} × {network.image_size} px ({config["data"]["fit"]}), \
crops of {network.crop_size} px: {network.crops} |
| photographs | {learnt:,}, SHA-256 of names and labels {run.description["data.photographs"]} |

## Held-out photographs

{n:,} photographs that it was not trained on; {fit.outside:,} of them lie in no fine cell. Each \
was read with a calibration fitted on the others ({FOLDS} folds). Whether pictures of one series \
are in several folds, or among both these and those that it learnt from, was not looked at. \
Intervals are of 95 %.

| % within | 1 km | 25 km | 200 km | 750 km | 2500 km |
|---|---|---|---|---|---|
{_accuracy(f"all {n:,}", figures.all)}
{_answered(figures, fit)}
{_threshold(figures, fit, error_rate)}

| confidence within 200 km, photographs | calibration error (95 %) | Brier (best constant) | \
log loss (best constant) |
|---|---|---|---|
{_reliability("as it comes from the network", figures.raw)}
{_reliability("calibrated", figures.calibrated)}

- Regions of {REGION:.0%} hold {_share(regions.coverage, regions.coverage_interval)} of the true \
places; their mean area is {regions.mean_area_km2:,.0f} km².
- Log loss of the true fine cell, fitted on the same photographs: {fit.log_loss_before:.3f} nats \
before, {fit.log_loss_after:.3f} after.
- {_scene(figures)}

## Attribution

{(attribution or NO_ATTRIBUTION).strip()}
"""


def _start(run: Trained) -> str:
    weights = run.description["config"]["weights"]
    if weights["stem"] == "package":
        return f"the stem {run.network.stem} {_PACKAGED}"
    named = [f"`{value.rpartition('/')[2]}`" for key in ("vit", "stem") if (value := weights[key])]
    return ", ".join(named) or "random weights"


def _class_maps(run: Trained) -> str:
    classes = run.description["classes"]
    if classes is None:
        return "none: it looks at pixels alone"
    return f"{len(classes)} classes, by the network {run.description['data.segmentation'][:12]}"


def _accuracy(name: str, score: Score) -> str:
    cells = (
        f"{value:.1f} ({low:.1f} to {high:.1f})"
        for value, (low, high) in zip(score.accuracy, score.accuracy_intervals, strict=True)
    )
    return f"| {name} | " + " | ".join(cells) + " |"


def _answered(figures: Figures, fit: Fit) -> str:
    if fit.calibration.abstain_below is None or figures.answered is None:
        return ""
    return _accuracy(f"the {figures.answered.n:,} that it answers", figures.answered) + "\n"


def _threshold(figures: Figures, fit: Fit, error_rate: float | None) -> str:
    threshold = fit.calibration.abstain_below
    if threshold is None or error_rate is None:
        return "It always answers: no greatest rate of errors was asked for."
    answered = figures.answered.n if figures.answered else 0
    share = _share(answered / figures.all.n, wilson(answered, figures.all.n))
    return (
        f"It abstains below a confidence of {threshold:.3f} at 200 km. That was chosen on these"
        f" photographs, so that at most {100 * error_rate:g} % of its answers are farther off; it"
        f" answers {share} of them."
    )


def _reliability(name: str, report: ConfidenceReport | None) -> str:
    if report is None:
        return f"| {name} | no fine cell is small enough to state it | – | – |"
    low, high = report.calibration_error_interval
    return (
        f"| {name}, {report.count:,} | {report.calibration_error:.3f} ({low:.3f} to {high:.3f}) "
        f"| {report.brier:.4f} ({report.brier_constant:.4f}) "
        f"| {report.log_loss:.4f} ({report.log_loss_constant:.4f}) |"
    )


def _scene(figures: Figures) -> str:
    n, right = figures.scene_labels, figures.scene_hits
    if not n:
        return "Scene: not measured, as no held-out photograph has a label."
    return (
        f"Scene (indoor, natural, urban): right for {_share(right / n, wilson(right, n))} of"
        f" {n:,} with a label; the commonest one is {figures.commonest_scene / n:.1%}."
    )


def _share(share: float, interval: Interval) -> str:
    low, high = interval
    return f"{100 * share:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
