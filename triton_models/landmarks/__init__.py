"""Make and evaluate the release `landmarks`: TransLocators trained on 19 places.

photographs ─▶ views (cached pixels and maps) ─▶ learning (one network) ─▶ heldout (answers about
photographs left out) ─▶ familiarity, calibration ─▶ evaluation, release.

No other package imports from here. `python -m triton_models.landmarks --help` lists the steps.
"""
