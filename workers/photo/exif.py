"""Read time, camera and position from a photograph's EXIF.

EXIF is often damaged. Nothing here raises for the contents of a file: a field that cannot be read,
or that has an impossible value, is None.
Tag numbers and meanings: Exif 2.32 (CIPA DC-008), sections 4.6.4 to 4.6.6.
"""

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from PIL import ExifTags, Image

# What Pillow's EXIF reader raises on malformed directories (found by fuzzing).
MALFORMED = (
    SyntaxError,
    struct.error,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    OSError,
    EOFError,
)

# The deepest sea floor and the highest balloons, with a margin.
ALTITUDE_RANGE_M = (-11_000.0, 100_000.0)
TEXT_LENGTH = 100


@dataclass(frozen=True, kw_only=True)
class ExifFacts:
    """The facts in a photograph's EXIF; None where a field is absent or impossible.

    `captured_at` is the camera's local time (DateTimeOriginal). It carries its UTC offset where
    OffsetTimeOriginal gives one and is naive otherwise: most cameras do not know their time zone.
    `longitude` and `latitude` are degrees, WGS 84; `altitude_m` is metres above sea level.
    """

    captured_at: datetime | None = None
    camera_make: str | None = None
    camera_model: str | None = None
    longitude: float | None = None
    latitude: float | None = None
    altitude_m: float | None = None


def read_facts(image: Image.Image) -> ExifFacts:
    """Read the facts of an opened image; call it before the pixels are loaded."""
    main = _main(image)
    photo = _directory(image, ExifTags.IFD.Exif)
    gps = _directory(image, ExifTags.IFD.GPSInfo)
    longitude, latitude = position(gps) or (None, None)
    return ExifFacts(
        captured_at=captured_at(photo),
        camera_make=_text(main.get(ExifTags.Base.Make)),
        camera_model=_text(main.get(ExifTags.Base.Model)),
        longitude=longitude,
        latitude=latitude,
        altitude_m=altitude(gps),
    )


def orientation(image: Image.Image) -> int:
    """Return the orientation of the stored pixels, 1 to 8 (Exif 4.6.4); 1, upright, if unknown."""
    value = _main(image).get(ExifTags.Base.Orientation)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def position(gps: Mapping[int, object]) -> tuple[float, float] | None:
    """Return (longitude, latitude) in degrees from a GPS directory, or None.

    None where a hemisphere reference is missing (half of the sign combinations would be wrong by
    thousands of kilometres), where a part is 0/0, negative, or out of range, and at exactly 0, 0,
    which is what devices without a fix write.
    """
    latitude = _angle(gps.get(ExifTags.GPS.GPSLatitude), 90)
    longitude = _angle(gps.get(ExifTags.GPS.GPSLongitude), 180)
    north = _sign(gps.get(ExifTags.GPS.GPSLatitudeRef), "NS")
    east = _sign(gps.get(ExifTags.GPS.GPSLongitudeRef), "EW")
    if latitude is None or longitude is None or north is None or east is None:
        return None
    if latitude == 0 and longitude == 0:
        return None
    return east * longitude, north * latitude


def altitude(gps: Mapping[int, object]) -> float | None:
    """Return metres above sea level from a GPS directory, or None.

    GPSAltitudeRef 1 means below sea level; a missing reference means 0, above (Exif 4.6.6).
    """
    metres = _number(gps.get(ExifTags.GPS.GPSAltitude))
    if metres is None:
        return None
    reference = gps.get(ExifTags.GPS.GPSAltitudeRef)
    # A BYTE: Pillow gives it as bytes; some writers store a number or a digit instead.
    if reference in (1, b"\x01", "1", b"1"):
        metres = 0.0 - metres
    low, high = ALTITUDE_RANGE_M
    return metres if low <= metres <= high else None


def captured_at(photo: Mapping[int, object]) -> datetime | None:
    """Return DateTimeOriginal of an Exif directory, with OffsetTimeOriginal's UTC offset, if any.

    The sub-seconds are left out: too many cameras fill them with noise.
    """
    text = _text(photo.get(ExifTags.Base.DateTimeOriginal)) or ""
    match = re.match(r"(\d{4})[:/-](\d\d)[:/-](\d\d)[ T](\d\d):(\d\d):(\d\d)", text)
    if match is None:
        return None
    try:
        local = datetime(*map(int, match.groups()))  # type: ignore[arg-type]
    except ValueError:
        return None
    return local.replace(tzinfo=_offset(_text(photo.get(ExifTags.Base.OffsetTimeOriginal)) or ""))


def _offset(text: str) -> timezone | None:
    """The time zone of `±HH:MM`; none on Earth is beyond 14 hours."""
    match = re.fullmatch(r"([+-])(\d\d):([0-5]\d)", text)
    if match is None:
        return None
    east = timedelta(hours=int(match[2]), minutes=int(match[3]))
    if east > timedelta(hours=14):
        return None
    return timezone(east if match[1] == "+" else -east)


def _main(image: Image.Image) -> Mapping[int, object]:
    """The tags of directory 0 that we use; each is decoded only when read, so each may fail."""
    tags: dict[int, object] = {}
    for tag in (ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Orientation):
        try:
            tags[tag] = image.getexif().get(tag)
        except MALFORMED:
            continue
    return tags


def _directory(image: Image.Image, tag: int) -> Mapping[int, object]:
    """The directory that `tag` points at, empty where it is missing or broken."""
    try:
        return image.getexif().get_ifd(tag)
    except MALFORMED:
        return {}


def _number(value: object) -> float | None:
    """A finite float; Pillow's rationals become NaN at 0/0."""
    if value is None or isinstance(value, str | bytes):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ArithmeticError):
        return None
    return number if math.isfinite(number) else None


def _angle(value: object, limit: float) -> float | None:
    """Degrees of one to three parts (degrees, minutes, seconds), 0 to `limit`.

    Fractional parts are usual (41°, 51.18′, 0″), and 60 as a rounded minute or second occurs.
    """
    parts = value if isinstance(value, tuple | list) else (value,)
    numbers = [number for number in map(_number, parts) if number is not None and number >= 0]
    if len(numbers) != len(parts) or not 1 <= len(numbers) <= 3:
        return None
    if any(number > 60 for number in numbers[1:]):
        return None
    angle = sum(number / 60**power for power, number in enumerate(numbers))
    return angle if angle <= limit else None


def _sign(reference: object, letters: str) -> int | None:
    """+1 for the first of the two letters, −1 for the second, None for anything else."""
    letter = (_text(reference) or "").upper()[:1]
    return {letters[0]: 1, letters[1]: -1}.get(letter)


def _text(value: object) -> str | None:
    """Printable text up to the first NUL, which PostgreSQL could not store; None if empty."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        return None
    text = "".join(letter if letter.isprintable() else " " for letter in value.split("\0")[0])
    return " ".join(text.split())[:TEXT_LENGTH] or None
