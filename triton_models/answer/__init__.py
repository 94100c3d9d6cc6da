"""Decode a network's scores into an answer.

Triton's Python backend runs a copy of this folder, so its modules import NumPy only.
"""
