"""The shipped release: what it learns from, and how."""
