"""How good are predictions? Truth and predictions go in, one document comes out.

``tables`` reads what others wrote; ``truth`` and ``predictions`` say what is in it; ``matching``
lays them side by side; ``scores``, ``confidences`` and ``compare`` measure; ``document`` puts it
all under stable names (docs/evaluation.md), and ``report`` draws that as a page.
"""
