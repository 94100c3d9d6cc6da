"""Releases: the directory, its digest, how it is made and built into a model repository."""
