"""Named network configurations. Every row of the published ablation is a preset with one change.

| row of the table | preset and changes |
|---|---|
| ResNet101 | `resnet101` |
| EfficientNet | `efficientnet-lite2` (the published row is EfficientNet-B4) |
| ViT base | `vit-b16`, branches = "rgb", scenes = 0 |
| ViT base + Seg | `vit-b16`, branches = "separate" (or "stacked"), scenes = 0 |
| + multimodal feature fusion | `vit-b16`, scenes = 0 |
| + scene = TransLocator | `vit-b16` |
"""

from typing import Any

from triton_models.networks.translocator import TransLocatorConfig

# ViT-B is from Dosovitskiy et al. (arXiv:2010.11929, table 1); ViT-S and ViT-Ti are from Touvron et
# al. (arXiv:2012.12877, table 1). Their published ImageNet-21k weights expect pixels from -1 to 1.
_VIT = {"depth": 12, "normalisation": "half"}
_POOLED = {"depth": 0, "branches": "rgb"}
_LITE = {"normalisation": "lite", "crop_size": 256, "crops": 1}

PRESETS: dict[str, dict[str, Any]] = {
    "vit-b16": {**_VIT, "width": 768, "heads": 12, "common": 768},
    "vit-s16": {**_VIT, "width": 384, "heads": 6, "common": 384},
    "vit-ti16": {**_VIT, "width": 192, "heads": 3, "common": 192},
    "hybrid": {
        **_LITE,
        "stem": "efficientnet-lite2",
        "width": 192,
        "depth": 4,
        "heads": 3,
        "common": 192,
    },
    "resnet50": {**_POOLED, "stem": "resnet50"},
    "resnet101": {**_POOLED, "stem": "resnet101"},
    "efficientnet-lite0": {**_POOLED, **_LITE, "stem": "efficientnet-lite0"},
    "efficientnet-lite1": {**_POOLED, **_LITE, "stem": "efficientnet-lite1"},
    "efficientnet-lite2": {**_POOLED, **_LITE, "stem": "efficientnet-lite2"},
}


def preset(name: str, *, coarse: int, middle: int, fine: int, **changes: Any) -> TransLocatorConfig:
    """Return a named configuration for these numbers of cells, with some values changed.

    Raises ValueError for an unknown preset or value, or a configuration that cannot be built.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset {name}: {', '.join(PRESETS)}")
    unknown = changes.keys() - TransLocatorConfig.__dataclass_fields__
    if unknown:
        known = ", ".join(TransLocatorConfig.__dataclass_fields__)
        raise ValueError(f"a TransLocator has no {', '.join(sorted(unknown))}; it has {known}")
    return TransLocatorConfig(coarse, middle, fine, **(PRESETS[name] | changes))
