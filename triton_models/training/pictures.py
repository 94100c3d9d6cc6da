"""Interfaces to read pictures. The caller provides the functions that fetch and decode them.

`geotag train` passes the workers' decoder, so that training sees exactly the pixels of serving.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


class BadPicture(Exception):
    """A file cannot be used. It is skipped, counted, and listed with its code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type["BadPicture"], tuple[str, str]]:
        """Pickle with both arguments, to cross from a reading process to the trainer."""
        return BadPicture, (self.code, self.message)


class PicturesUnavailable(Exception):
    """Pictures cannot be read at present, because of `cause`. The run stops and can be resumed."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(frozen=True)
class Pictures:
    """Functions that fetch a file (by its name in the CSV) and decode it to pixels.

    Both raise BadPicture for a file that cannot be used, and in training PicturesUnavailable for a
    failure that is not one picture's fault. They are copied into the reading processes, so they
    must open connections lazily.
    """

    fetch: Callable[[str], bytes]
    decode: Callable[[bytes], Pixels]
    """Bytes → sRGB UINT8 [S, S, 3], always of the same S."""

    def read(self, file: str) -> tuple[bytes, Pixels]:
        """Return the SHA-256 of a file's bytes (32 bytes) and its pixels; raises BadPicture."""
        data = self.fetch(file)
        return hashlib.sha256(data).digest(), self.decode(data)
