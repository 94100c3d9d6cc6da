"""EXIF facts: hemispheres, damaged rationals, times and text."""

import io
import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from tests.images import encode, gps_exif, scene, with_jpeg_segment
from workers.photo.reading import exif

GPS = ExifTags.GPS
PHOTO = ExifTags.Base


def gps(latitude=(51, 30, 0), longitude=(0, 7, 30), north="N", east="W", **tags):
    """Return a GPS directory as Pillow reads it; a reference of None is left out."""
    directory = {GPS.GPSLatitude: latitude, GPS.GPSLongitude: longitude, **tags}
    if north is not None:
        directory[GPS.GPSLatitudeRef] = north
    if east is not None:
        directory[GPS.GPSLongitudeRef] = east
    return directory


@pytest.mark.parametrize(
    ("north", "east", "expected"),
    [
        ("N", "E", (0.125, 51.5)),
        ("S", "E", (0.125, -51.5)),
        ("N", "W", (-0.125, 51.5)),
        ("S", "W", (-0.125, -51.5)),
        ("s\0", b"W\0", (-0.125, -51.5)),
        ("South", "west", (-0.125, -51.5)),
    ],
)
def test_hemisphere_references_give_the_sign(north, east, expected):
    assert exif.position(gps(north=north, east=east)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "directory",
    [
        {},
        gps(north=None),
        gps(east=None),
        gps(north="X"),
        gps(north=""),
        gps(latitude=(IFDRational(0, 0), IFDRational(0, 0), IFDRational(0, 0))),
        gps(latitude=(48, 53.32, IFDRational(0, 0))),
        gps(latitude=(math.nan, 0, 0)),
        gps(latitude=(math.inf, 0, 0)),
        gps(latitude=(-51, 30, 0)),
        gps(latitude=(51, 61, 0)),
        gps(latitude=(90, 0, 0.1)),
        gps(longitude=(180, 0, 0.1)),
        gps(latitude=(0, 0, 0), longitude=(0, 0, 0)),
        gps(latitude="51.5"),
        gps(latitude=()),
        gps(latitude=(51, 30, 0, 0)),
        gps(latitude=None),
        gps(latitude=("51", "30", "0")),
    ],
)
def test_an_unusable_position_is_absent(directory):
    assert exif.position(directory) is None


@pytest.mark.parametrize(
    ("latitude", "degrees"),
    [((90, 0, 0), 90), ((51, 28.98, 0), 51.483), ((51, 59, 60), 52), (51.5, 51.5), ((51.5,), 51.5)],
)
def test_degrees_come_in_one_to_three_parts(latitude, degrees):
    assert exif.position(gps(latitude=latitude))[1] == pytest.approx(degrees)


def test_zero_on_one_axis_is_a_position():
    assert exif.position(gps(latitude=(0, 0, 0), longitude=(9, 0, 0), east="E")) == (9, 0)


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_a_position_survives_degrees_minutes_and_seconds(latitude, longitude):
    def parts(angle):
        thousandths = round(abs(angle) * 3_600_000)
        minutes, rest = divmod(thousandths, 60_000)
        return (*divmod(minutes, 60), IFDRational(rest, 1000))

    found = exif.position(
        gps(
            parts(latitude),
            parts(longitude),
            north="N" if latitude >= 0 else "S",
            east="E" if longitude >= 0 else "W",
        )
    )
    if round(latitude * 3_600_000) == 0 == round(longitude * 3_600_000):
        assert found is None
    else:
        assert found == pytest.approx((longitude, latitude), abs=0.0005 / 3600 + 1e-9)


@pytest.mark.parametrize(
    ("value", "reference", "metres"),
    [
        (12.5, b"\x00", 12.5),
        (12.5, None, 12.5),
        (12.5, b"\x01", -12.5),
        (12.5, 1, -12.5),
        (0.0, b"\x01", 0.0),
        (IFDRational(0, 0), b"\x00", None),
        (1e9, b"\x00", None),
        (20_000, b"\x01", None),
        (None, b"\x00", None),
        ("high", b"\x00", None),
    ],
)
def test_altitude(value, reference, metres):
    directory = {GPS.GPSAltitude: value, GPS.GPSAltitudeRef: reference}
    found = exif.altitude({tag: given for tag, given in directory.items() if given is not None})
    assert found == metres
    assert metres is None or math.copysign(1, found) == math.copysign(1, metres)


@pytest.mark.parametrize(
    ("text", "offset", "expected"),
    [
        ("2024:02:29 23:59:58", None, datetime(2024, 2, 29, 23, 59, 58)),
        ("2024-02-29T23:59:58.123", None, datetime(2024, 2, 29, 23, 59, 58)),
        ("2024:02:29 23:59:58\0", "+00:00", datetime(2024, 2, 29, 23, 59, 58, tzinfo=UTC)),
        (
            "2024:02:29 23:59:58",
            "-03:30",
            datetime(2024, 2, 29, 23, 59, 58, tzinfo=timezone(-timedelta(hours=3.5))),
        ),
        ("2024:02:29 23:59:58", "+99:00", datetime(2024, 2, 29, 23, 59, 58)),
        ("2024:02:29 23:59:58", "   :  ", datetime(2024, 2, 29, 23, 59, 58)),
        ("2023:02:29 00:00:00", None, None),
        ("0000:00:00 00:00:00", None, None),
        ("    :  :     :  :  ", None, None),
        (b"\xff\xfe", None, None),
        (None, "+01:00", None),
    ],
)
def test_capture_time(text, offset, expected):
    found = exif.captured_at({PHOTO.DateTimeOriginal: text, PHOTO.OffsetTimeOriginal: offset})
    assert found == expected
    assert expected is None or found.tzinfo == expected.tzinfo


def read(data):
    with Image.open(io.BytesIO(data)) as image:
        return exif.read_facts(image)


def test_facts_of_a_whole_file():
    facts = read(encode(scene(), "JPEG", exif=gps_exif()))
    assert facts == exif.ExifFacts(
        captured_at=datetime(2024, 2, 29, 23, 59, 58, tzinfo=timezone(-timedelta(hours=3.5))),
        camera_make="Maker",
        camera_model="Model 1",
        longitude=pytest.approx(-5.25 / 3600),
        latitude=pytest.approx(-(51 + 28 / 60 + 38.5 / 3600)),
        altitude_m=-42.5,
    )


def test_text_ends_at_a_nul_and_has_a_length():
    tags = Image.Exif()
    tags[PHOTO.Make] = "  Acme\tInc \0garbage"
    tags[PHOTO.Model] = "\x01" + "m" * 5000
    facts = read(encode(scene(), "JPEG", exif=tags))
    assert facts.camera_make == "Acme Inc"
    assert facts.camera_model == "m" * exif.TEXT_LENGTH


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
@given(st.binary(max_size=200))
def test_no_exif_raises(noise):
    jpeg = encode(scene(), "JPEG")
    for head in (b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b""):
        data = with_jpeg_segment(jpeg, 0xE1, b"Exif\0\0" + head + noise)
        with Image.open(io.BytesIO(data)) as image:
            exif.read_facts(image)
            assert 1 <= exif.orientation(image) <= 8


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
@given(st.data())
def test_damage_to_exif_only_loses_facts(data):
    blob = bytearray(gps_exif(orientation=6).tobytes()[6:])
    for _ in range(data.draw(st.integers(1, 8))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    jpeg = with_jpeg_segment(encode(scene(), "JPEG"), 0xE1, b"Exif\0\0" + bytes(blob))
    with Image.open(io.BytesIO(jpeg)) as image:
        facts = exif.read_facts(image)
    assert facts.latitude is None or -90 <= facts.latitude <= 90
    assert facts.longitude is None or -180 <= facts.longitude <= 180
