"""The archive of one trial: photographs, duplicates, and files that are not photographs."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random

from tests.faults.worker import MARKER
from tests.images import bad_files, good_files
from workers.s3.service import S3Service

_COPIES = 0.15
_BAD = 0.08


@dataclass(frozen=True)
class Contents:
    """Key → bytes, and key → the (state, code) that each object must end with."""

    files: Mapping[str, bytes]
    expected: Mapping[str, tuple[str, str | None]]


def contents(rng: Random, bucket: str, objects: int, poison: int = 0) -> Contents:
    """Return so many objects in random order, with bytes that no other bucket has."""
    good, bad = good_files()["plain.jpg"], bad_files()
    kinds = sorted(bad)
    copies, broken = round(objects * _COPIES), round(objects * _BAD)
    originals = [good + f"#{bucket}{i}".encode() for i in range(objects - copies - broken - poison)]
    files: list[tuple[str, bytes, tuple[str, str | None]]] = [
        *(("good.jpg", data, ("geotagged", None)) for data in originals),
        *(("copy.jpg", rng.choice(originals), ("geotagged", None)) for _ in range(copies)),
    ]
    for _ in range(broken):
        name = rng.choice(kinds)
        data, code = bad[name]
        files.append((name, data, ("failed", code)))
    for i in range(poison):
        deadly = good + MARKER + f"{bucket}{i}".encode()
        files.append(("poison.jpg", deadly, ("quarantined", "worker_killed")))
    rng.shuffle(files)
    named = [(f"{i:05}-{name}", data, end) for i, (name, data, end) in enumerate(files)]
    return Contents(
        {key: data for key, data, _end in named}, {key: end for key, _data, end in named}
    )


def upload(archive: S3Service, bucket: str, files: Mapping[str, bytes]) -> None:
    """Upload the files to a bucket, several at once."""
    archive.ensure_bucket(bucket)
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(archive.upload, bucket, k, v) for k, v in files.items()]:
            done.result()
