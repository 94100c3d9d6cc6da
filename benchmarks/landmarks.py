"""The release `landmarks` on pictures of unknown places from cameras, and at other aspect ratios.

`python -m benchmarks.landmarks ../shared/photos` evaluates
- `camera` through the workers' decoder, with pictures from known places counted separately;
- `camera` scaled to 256 × 256 px and compressed like the landmarks (JPEG, quality 90);
- the landmarks, and the landmarks stretched to 4:3 and 3:4 before they are scaled to squares. The
  release was trained on these; `--release FOLD --only held_out.txt` evaluates one that was not.

No parameter of the release was fitted on the pictures of `camera`. docs/landmarks.md says what was
chosen after looking at them.
"""

import argparse
import csv
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from triton_models.cells.distance import great_circle_km
from triton_models.fitting.reliability import wilson
from triton_models.landmarks.photographs import Photographs, read_photographs
from triton_models.release.release import RELEASES, Release
from triton_models.release.serving import ReleaseRunner
from workers.errors import PhotoError
from workers.photo.reading import InputSpec, PhotoLimits, read_photo

SPEC = InputSpec(256, 256, "squash")
LIMITS = PhotoLimits(max_bytes=1 << 28, max_pixels=1 << 28, decode_seconds=60)
AT_200_KM = 2
KNOWN_KM = 1.0
"""A picture taken within this distance of a known place is not one of an unknown place."""


def jpeg(pixels: np.ndarray, size: tuple[int, int] | None = None) -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.resize(size, Image.Resampling.BICUBIC) if size else image).save(out, "JPEG", quality=90)
    return out.getvalue()


def listed(path: Path) -> list[tuple[str, tuple[float, float] | None]]:
    """Return names and positions (longitude and latitude in degrees, where EXIF has them)."""
    with path.open(encoding="utf-8") as file:
        return [
            (
                row["file"],
                (float(row["longitude"]), float(row["latitude"])) if row["latitude"] else None,
            )
            for row in csv.DictReader(file)
        ]


def ask_cameras(ask, photos: Path, photographs: Photographs) -> dict:
    """Return the figures on `camera`, unchanged and scaled to squares; known places separately."""
    strangers, at_home, unread = ([], []), ([], []), []
    for name, at in listed(photos / "camera" / "metadata.csv"):
        data = (photos / "camera" / name).read_bytes()
        try:
            pixels = read_photo(data, SPEC, LIMITS).pixels
        except PhotoError as error:
            unread.append(f"{name}: {error.code}")
            continue
        places = photographs.longitude, photographs.latitude
        known = at is not None and great_circle_km(*at, *places).min() <= KNOWN_KM
        for answers, seen in zip(
            at_home if known else strangers, (data, jpeg(pixels)), strict=True
        ):
            answers.append((ask(seen), at))
    right = [
        sum(bool(great_circle_km(*answer.position, *at) <= KNOWN_KM) for answer, at in answers)
        for answers in at_home
    ]
    return {
        "camera": summary([answer for answer, _ in strangers[0]]),
        "camera_squashed": summary([answer for answer, _ in strangers[1]]),
        "camera_at_known_places": {
            "photographs": len(at_home[0]),
            "right_as_is_and_squashed": right,
        },
        "unread": unread,
    }


def summary(answers: list, hits: list[bool] | None = None) -> dict:
    confidence = np.array([answer.confidence[AT_200_KM] for answer in answers])
    abstained = [bool(answer.abstention) for answer in answers]
    said = {
        "photographs": len(answers),
        "abstained": sum(abstained),
        "abstained_share": round(float(np.mean(abstained)), 4),
        "interval": [round(x, 4) for x in wilson(sum(abstained), len(answers))],
        "reasons": dict(Counter(answer.abstention for answer in answers)),
        "mean_confidence_200_km": round(float(confidence.mean()), 4),
    }
    return said | ({} if hits is None else {"within_200_km": round(float(np.mean(hits)), 4)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", type=Path, help="the folder with camera and landmarks")
    parser.add_argument("--release", type=Path, default=RELEASES / "landmarks")
    parser.add_argument("--only", type=Path, help="landmarks that a fold held out; no camera then")
    parser.add_argument("--out", type=Path, help="a JSON file")
    arguments = parser.parse_args()
    locator = ReleaseRunner(Release.load(arguments.release))

    def ask(data: bytes):
        return locator(read_photo(data, SPEC, LIMITS).pixels)

    photographs = read_photographs(arguments.photos / "landmarks")
    result = {} if arguments.only else ask_cameras(ask, arguments.photos, photographs)
    only = set(arguments.only.read_text().split()) if arguments.only else set(photographs.files)
    for name, size in (("landmarks", None), ("wide_4_3", (341, 256)), ("tall_3_4", (256, 341))):
        answers, hits = [], []
        for file, place in zip(photographs.files, photographs.place, strict=True):
            if file not in only:
                continue
            data = (photographs.folder / file).read_bytes()
            if size:
                data = jpeg(read_photo(data, SPEC, LIMITS).pixels, size)
            answer = ask(data)
            answers.append(answer)
            at = photographs.longitude[place], photographs.latitude[place]
            hits.append(bool(great_circle_km(*answer.position, *at) <= 200))
        result[name] = summary(answers, hits)
    text = json.dumps({"release": locator.release.digest, **result}, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
