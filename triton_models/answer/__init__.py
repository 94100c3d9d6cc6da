"""From scores to an answer.

Triton's Python backend runs a copy of this folder, so its modules need NumPy and nothing else.
"""
