"""Measurements, each one command; results with date and machine lie in `benchmarks/results`."""
