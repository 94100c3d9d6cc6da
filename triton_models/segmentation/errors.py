"""The one error of this package."""


class Unusable(ValueError):
    """A file or folder that was given cannot be used; the message says which, and why."""
