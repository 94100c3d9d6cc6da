"""Detection of file kinds, and of files that end too early."""

import numpy as np
import pytest

from tests import images
from workers.errors import NotAnImage, UnsupportedFormat
from workers.photo.imagefile import declared_pixels, identify, is_truncated

GOOD = images.good_files()


@pytest.mark.parametrize("name", GOOD)
def test_a_whole_file_is_not_truncated(name):
    assert not is_truncated(GOOD[name], identify(GOOD[name]))


def test_a_tiff_without_its_pixels_or_values_is_truncated():
    pixels = np.zeros((4, 4, 3), np.uint16)
    whole = images.raw_tiff(pixels, photometric=2, bits=16)
    assert not is_truncated(whole, "TIFF")
    assert is_truncated(whole[:-1], "TIFF")
    assert is_truncated(whole[: -pixels.nbytes - 1], "TIFF")
    assert is_truncated(whole[:20], "TIFF")


@pytest.mark.parametrize("name", ["plain.heic", "plain.avif"])
def test_a_container_without_its_metadata_is_truncated(name):
    data = GOOD[name]
    end_of_first_box = int.from_bytes(data[:4])
    assert is_truncated(data[:end_of_first_box], identify(data))
    assert is_truncated(data[: end_of_first_box + 4], identify(data))


def test_declared_pixels_are_the_largest():
    assert declared_pixels(GOOD["plain.heic"], "HEIF") == images.WIDTH * images.HEIGHT
    tile = b"ispe" + bytes(4) + (512).to_bytes(4) * 2
    whole = b"ispe" + bytes(4) + (4000).to_bytes(4) + (3000).to_bytes(4)
    assert declared_pixels(tile + whole + tile, "HEIF") == 12_000_000
    assert declared_pixels(tile, "JPEG") == 0


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"heic" + bytes(4) + b"mif1", "HEIF"),
        (b"mif1" + bytes(4) + b"heic", "HEIF"),
        (b"mif1" + bytes(4) + b"avif", "AVIF"),
        (b"avis" + bytes(4) + b"mif1", "AVIF"),
    ],
)
def test_brands(head, expected):
    assert identify((20).to_bytes(4) + b"ftyp" + head) == expected


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\0\0\0\x14ftypmif1\0\0\0\0jpeg", UnsupportedFormat),
        (b"\0\0\0\x14ftypcrx \0\0\0\0isom", UnsupportedFormat),
        (b"\0\0\0\x14ftypisom\0\0\0\0isom", NotAnImage),
        (b"II*\0\x10\0\0\0CR\x02\0", UnsupportedFormat),
        (b"\xef\xbb\xbf  <svg>", UnsupportedFormat),
        (b"<?xml version='1.0'?><!-- x --><svg ", UnsupportedFormat),
        (b"<?xml version='1.0'?><gpx>", NotAnImage),
        (b"P6\n640 480\n255\n", UnsupportedFormat),
        (b"P6 is a road", NotAnImage),
        (b"\0\1\0\0\0", NotAnImage),
        (b"\xff\xd8", NotAnImage),
        (b" ", NotAnImage),
    ],
)
def test_other_kinds(data, error):
    with pytest.raises(error):
        identify(data)
