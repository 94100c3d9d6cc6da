"""Training a TransLocator from labelled photographs: one file for each idea, `loop.py` runs them.

config ─▶ photographs (labels) ─▶ examples (pixels, class map) ─▶ augmentation ─▶ network
                                      semantics (cached maps)         loss, optimiser, checkpoint
"""
