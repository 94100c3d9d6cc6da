"""Calibration fitted on held-out photographs, and how reliable it is."""
