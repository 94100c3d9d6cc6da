"""Commands that register, list, pause and remove archives."""
