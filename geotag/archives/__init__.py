"""Registered archives: add, list, pause, remove."""
