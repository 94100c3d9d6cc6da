"""Class maps: computed once by an ONNX segmentation network, stored in memory-mapped files.

A map is identified by network, fit, size and the SHA-256 of the picture's bytes. The first three
are in the folder's name, the SHA-256 is the key. Every process appends to its own pair of files,
first maps, then keys. A run that is killed leaves at most maps without a key, which are truncated.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnx_errors
from torch.utils.data import Dataset

from triton_models.training.config import ConfigError
from triton_models.training.pictures import BadPicture, Pictures, Pixels
from triton_models.training.reading import reading

_KEY = 32  # bytes of a SHA-256
_BATCH = 8
_ONNX_ERRORS = (
    onnx_errors.Fail,
    onnx_errors.InvalidArgument,
    onnx_errors.InvalidGraph,
    onnx_errors.InvalidProtobuf,
    onnx_errors.NotImplemented,
)


class Segmenter:
    """An ONNX network UINT8 [B, S, S, 3] → UINT8 [B, S, S] class ids, with any tensor names.

    The names of the classes are in the JSON file beside it, under "classes". `gpu`: the index of
    the GPU to run on if ONNX Runtime supports it. Raises ConfigError for another kind of network.
    """

    def __init__(self, path: Path, gpu: int | None = None) -> None:
        providers: list[Any] = ["CPUExecutionProvider"]
        if gpu is not None and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": gpu}))
        try:
            self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            self.classes = tuple(json.loads(path.with_suffix(".json").read_text())["classes"])
            self._session = onnxruntime.InferenceSession(path, providers=providers)
        except OSError as error:
            raise ConfigError(f"{error.filename}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, *_ONNX_ERRORS) as error:
            raise ConfigError(f"{path}: no segmentation network: {error}") from error
        ends = [*self._session.get_inputs(), *self._session.get_outputs()]
        if [(end.type, len(end.shape)) for end in ends] != [
            ("tensor(uint8)", 4),
            ("tensor(uint8)", 3),
        ]:
            raise ConfigError(f"{path}: its graph is not UINT8 [B, S, S, 3] → UINT8 [B, S, S]")

    def takes(self, size: int) -> bool:
        """Return whether the network accepts pictures with this side in pixels."""
        sides = self._session.get_inputs()[0].shape[1:3]
        return all(side == size or not isinstance(side, int) for side in sides)

    def __call__(self, images: Pixels) -> Pixels:
        """Return the class ids, UINT8 [B, S, S], of pictures UINT8 [B, S, S, 3]."""
        (ids,) = self._session.run(None, {self._session.get_inputs()[0].name: images})
        found: Pixels = ids
        return found


class ClassMaps:
    """The stored maps of one segmentation network, fit and size."""

    def __init__(self, cache: Path, network: str, fit: str, size: int) -> None:
        self.folder = cache / f"{network[:16]}-{fit}-{size}"
        self._size = size
        self._load()

    def _load(self) -> None:
        """Load the index: the first 8 bytes of every key, sorted, and the position of its map."""
        self._shards: list[Pixels] = []
        self._keys = np.empty((0, _KEY), np.uint8)
        shards, rows = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for number, (keys, maps) in enumerate(self._files()):
            flat = np.fromfile(keys, np.uint8)
            found = flat[: len(flat) // _KEY * _KEY].reshape(-1, _KEY)
            shape = (len(found), self._size, self._size)
            self._shards.append(
                np.memmap(maps, np.uint8, "r", shape=shape)
                if len(found)
                else np.empty(shape, np.uint8)
            )
            self._keys = np.concatenate([self._keys, found])
            shards.append(np.full(len(found), number))
            rows.append(np.arange(len(found)))
        short = _short(self._keys)
        order = np.argsort(short, kind="stable")
        self._short, self._keys = short[order], self._keys[order]
        self._shard, self._row = np.concatenate(shards)[order], np.concatenate(rows)[order]

    def _files(self) -> Iterator[tuple[Path, Path]]:
        for keys in sorted(self.folder.glob("keys-*.bin")):
            yield keys, keys.with_name(keys.name.replace("keys-", "maps-"))

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, sha256: bytes) -> Pixels:
        """Return the class ids [S, S] of the picture with these bytes; raises KeyError."""
        key = np.frombuffer(sha256, np.uint8)
        at = int(np.searchsorted(self._short, _short(key[None])[0]))
        if at == len(self._keys) or not np.array_equal(self._keys[at], key):
            raise KeyError(sha256.hex())
        found: Pixels = self._shards[self._shard[at]][self._row[at]]
        return found

    def make(
        self,
        files: Sequence[str],
        pictures: Pictures,
        segmenter: Segmenter,
        *,
        source: str,
        processes: int = 0,
        writer: int = 0,
        made: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Compute the missing maps; a file that was seen before is not read again.

        `source` identifies the folder of the files, `writer` the process. `made` is called with the
        number of further files. A bad picture is skipped here, and counted by training.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        place = hashlib.sha256(source.encode()).hexdigest()[:16]
        seen: set[str] = set()
        for path in self.folder.glob(f"seen-{place}-*.txt"):
            seen.update(path.read_text(encoding="utf-8").split("\n")[:-1])
        missing = [file for file in dict.fromkeys(files) if file not in seen]
        made(len(files) - len(missing))
        with (
            reading(_Reading(missing, pictures), list, processes, batch_size=_BATCH) as batches,
            _Appending(self.folder, writer, self._size) as out,
            (self.folder / f"seen-{place}-{writer}.txt").open("a", encoding="utf-8") as names,
        ):
            for batch in batches:
                read = {sha256: pixels for _, sha256, pixels in batch if pixels is not None}
                new = {sha256: pixels for sha256, pixels in read.items() if sha256 not in self}
                if new:
                    out.append(list(new), segmenter(np.stack(list(new.values()))))
                names.writelines(f"{file}\n" for file, _, pixels in batch if pixels is not None)
                names.flush()
                made(len(batch))
        self._load()

    def __contains__(self, sha256: bytes) -> bool:
        try:
            self.get(sha256)
        except KeyError:
            return False
        return True


class _Appending:
    """A pair of files to which maps and keys are appended; incomplete entries are truncated."""

    def __init__(self, folder: Path, writer: int, size: int) -> None:
        paths = folder / f"maps-{writer}.bin", folder / f"keys-{writer}.bin"
        self._maps, self._keys = (path.open("ab") for path in paths)
        whole = min(self._maps.tell() // size**2, self._keys.tell() // _KEY)
        self._maps.truncate(whole * size**2)
        self._keys.truncate(whole * _KEY)

    def append(self, keys: Sequence[bytes], maps: Pixels) -> None:
        """Write the maps first, so that a key never lacks its map."""
        self._maps.write(np.ascontiguousarray(maps).tobytes())
        self._maps.flush()
        self._keys.write(b"".join(keys))
        self._keys.flush()

    def __enter__(self) -> "_Appending":
        return self

    def __exit__(self, *_: object) -> None:
        self._maps.close()
        self._keys.close()


_Read = tuple[str, bytes, Pixels | None]


class _Reading(Dataset[_Read]):
    """A dataset of (name, SHA-256, pixels); pixels is None for a bad picture."""

    def __init__(self, files: Sequence[str], pictures: Pictures) -> None:
        self._files = files
        self._pictures = pictures

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, at: int) -> _Read:
        try:
            return self._files[at], *self._pictures.read(self._files[at])
        except BadPicture:
            return self._files[at], b"", None


def _short(keys: Pixels) -> npt.NDArray[np.uint64]:
    """Return the first 8 bytes of keys [n, 32] as integers, [n]."""
    return np.ascontiguousarray(keys[:, :8]).view(">u8")[:, 0].astype(np.uint64)
