"""Reading pictures: how bytes are fetched and decoded is given from outside.

So that training sees exactly the pixels that serving sees, `geotag train` passes in what the
workers decode with.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


class BadPicture(Exception):
    """This file cannot be used: it is skipped, counted, and listed with its code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type["BadPicture"], tuple[str, str]]:
        """Travel from a reading process to the training one."""
        return BadPicture, (self.code, self.message)


class PicturesUnavailable(Exception):
    """No picture can be had (now): a run stops, and can be resumed. `cause` says why."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(frozen=True)
class Pictures:
    """A way to files (by the names in the CSV), and one to pixels; both may raise BadPicture.

    In training, what is no single picture's fault is raised as PicturesUnavailable.

    They are copied into the reading processes: connections are to be opened lazily.
    """

    fetch: Callable[[str], bytes]
    decode: Callable[[bytes], Pixels]
    """Bytes → sRGB UINT8 [S, S, 3], always of the same S."""

    def read(self, file: str) -> tuple[bytes, Pixels]:
        """Return the SHA-256 of a file's bytes (32 bytes) and its pixels; raises BadPicture."""
        data = self.fetch(file)
        return hashlib.sha256(data).digest(), self.decode(data)
