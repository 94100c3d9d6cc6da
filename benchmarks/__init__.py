"""Benchmarks, each one command. `benchmarks/results` has their results, with date and machine."""
