"""Escape texts that a spreadsheet would run as formulas, and undo it.

A text that begins with a formula character gets an apostrophe before it (OWASP, CSV injection). So
does a text that begins with apostrophes and then a formula character. Taking one apostrophe off
such a text therefore always gives the original.
"""

import re

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_ESCAPED = re.compile(r"'+[=+\-@\t\r]")


def escape_formula(text: str) -> str:
    """Return the text as a spreadsheet may open it."""
    return f"'{text}" if _FORMULA.match(text) else text


def unescape_formula(text: str) -> str:
    """Return the text that `escape_formula` was given."""
    return text[1:] if _ESCAPED.match(text) else text
