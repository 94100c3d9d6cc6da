"""Score predictions against ground truth.

``tables`` reads CSV files; ``truth`` and ``predictions`` interpret them; ``matching`` joins them by
photograph; ``scores``, ``confidences`` and ``compare`` compute figures; ``document`` gives these
stable names (docs/evaluation.md); ``report`` renders the document as a page.
"""
