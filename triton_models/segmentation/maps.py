"""The teacher's maps of many pictures, in one file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from zipfile import BadZipFile

import numpy as np

from triton_models.segmentation.photographs import Photograph, Unusable


@dataclass(frozen=True)
class Maps:
    """The teacher's class maps of each view of each picture."""

    files: Sequence[str]
    ids: np.ndarray  # UINT8 [pictures, views, S, S], the teacher's class ids
    teacher_sha256: str

    @property
    def size(self) -> int:
        """Side of the maps in pixels."""
        return int(self.ids.shape[-1])

    def rows(self, photographs: Sequence[Photograph]) -> list[tuple[Photograph, int]]:
        """Return the photographs that have maps, each with its row of `ids`.

        Raises Unusable where none has.
        """
        known = {file: row for row, file in enumerate(self.files)}
        found = [(photo, known[photo.file]) for photo in photographs if photo.file in known]
        if not found:
            raise Unusable(
                "none of the photographs to use has maps: were they made of this folder?"
            )
        return found

    def save(self, path: Path) -> None:
        """Write a compressed `.npz` file."""
        np.savez_compressed(
            path, files=np.array(self.files), ids=self.ids, teacher=np.array(self.teacher_sha256)
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file that `save` wrote; raises Unusable where it is not such a file."""
        try:
            with np.load(path) as stored:
                return cls(stored["files"].tolist(), stored["ids"], str(stored["teacher"]))
        except (KeyError, ValueError, BadZipFile) as error:
            raise Unusable(f"{path}: not a file that `teach` wrote: {error}") from error
