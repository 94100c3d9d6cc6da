"""Logs and metrics of workers and planners."""
