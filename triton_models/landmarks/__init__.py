"""The release `landmarks`: a TransLocator that has learnt 19 places, and what it is worth.

photographs ─▶ views (cached pixels and maps) ─▶ learning (one network) ─▶ heldout (answers about
photographs left out) ─▶ familiarity, calibration ─▶ evaluation, release.

`python -m triton_models.landmarks --help` makes it all again.
"""
