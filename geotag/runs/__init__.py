"""Runs: start, watch, pause, resume, cancel."""
