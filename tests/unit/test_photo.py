"""The decoding path: every kind of file, orientation, colour, fit, limits."""

import csv
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from tests import images
from workers.errors import DecodeTimeout, PhotoError, TooManyBytes, TooManyPixels, UnsupportedFormat
from workers.photo import imagefile, reading
from workers.photo.reading import InputSpec, PhotoLimits, read_photo

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")

SPEC = InputSpec(images.HEIGHT, images.WIDTH, "crop")
LIMITS = PhotoLimits(max_bytes=200 * 2**20, max_pixels=250_000_000, decode_seconds=30)
GOOD = images.good_files()
BAD = images.bad_files()
CAMERA = Path(__file__).parents[3] / "shared" / "photos" / "camera"


def quarters(pixels):
    """Return the colours in the middle of the four quarters, [4, 3]."""
    height, width, _ = pixels.shape
    return np.array(
        [pixels[height * y // 4, width * x // 4] for y, x in itertools.product((1, 3), (1, 3))]
    )


def assert_shows_scene(pixels, tolerance=3):
    expected = np.array(list(images.COLOURS.values()))
    found = quarters(pixels)
    if (found == found[:, :1]).all():  # a grey file: luma of ITU-R BT.601, as in JPEG
        expected = np.repeat(np.round(expected @ [[0.299], [0.587], [0.114]]), 3, axis=1)
    np.testing.assert_allclose(found, expected, atol=tolerance)


@pytest.mark.parametrize("name", GOOD)
def test_good_file_decodes_to_the_scene(name):
    result = read_photo(GOOD[name], SPEC, LIMITS)
    assert result.pixels.shape == (images.HEIGHT, images.WIDTH, 3)
    assert result.pixels.dtype == np.uint8
    assert result.pixels.flags.c_contiguous
    assert_shows_scene(result.pixels)
    assert (result.facts.width, result.facts.height) == (images.WIDTH, images.HEIGHT)


@pytest.mark.parametrize("name", BAD)
def test_bad_file_raises_its_error(name):
    data, code = BAD[name]
    with pytest.raises(PhotoError) as raised:
        read_photo(data, SPEC, LIMITS)
    assert raised.value.code == code
    assert "0x" not in raised.value.message


def test_there_are_files_of_every_kind():
    assert len(GOOD) + len(BAD) >= 35
    assert {code for _, code in BAD.values()} == {
        "empty", "truncated", "corrupt", "not_an_image", "unsupported_format", "too_many_pixels"
    }  # fmt: skip


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_every_orientation_is_shown_upright(image_format, orientation):
    # A camera held that way stores the scene turned by the inverse.
    turn = reading._TURNS.get(orientation)
    inverse = {Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
               Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90}.get(turn, turn)  # fmt: skip
    stored = images.scene() if inverse is None else images.scene().transpose(inverse)
    data = images.encode(stored, image_format, exif=images.gps_exif(orientation=orientation))
    result = read_photo(data, SPEC, LIMITS)
    assert_shows_scene(result.pixels, tolerance=6)
    assert (result.facts.width, result.facts.height) == (images.WIDTH, images.HEIGHT)
    assert result.facts.camera_make == "Maker"
    assert result.facts.latitude < 0


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_odd_orientation_is_ignored(orientation):
    data = images.encode(images.scene(), "PNG", exif=images.gps_exif(orientation=orientation))
    assert_shows_scene(read_photo(data, SPEC, LIMITS).pixels)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 99), st.integers(1, 99))
@settings(max_examples=25, deadline=None)
def test_any_size_fits_exactly(width, height, wanted_width, wanted_height):
    for fit, image_format in itertools.product(("crop", "squash"), ("JPEG", "BMP")):
        data = images.encode(Image.new("RGB", (width, height), (10, 200, 30)), image_format)
        result = read_photo(data, InputSpec(wanted_height, wanted_width, fit), LIMITS)
        assert result.pixels.shape == (wanted_height, wanted_width, 3)
        assert np.abs(result.pixels - np.array([10.0, 200.0, 30.0])).max() <= 3


def test_crop_takes_the_centre_and_squash_everything():
    stripes = Image.new("RGB", (300, 100))
    for index, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
        stripes.paste(colour, (100 * index, 0, 100 * index + 100, 100))
    data = images.encode(stripes, "PNG")
    cropped = read_photo(data, InputSpec(10, 10, "crop"), LIMITS).pixels
    assert (cropped.argmax(axis=2) == 1).all()
    squashed = read_photo(data, InputSpec(9, 9, "squash"), LIMITS).pixels
    assert squashed[4].argmax(axis=1).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_transparency_is_laid_on_white():
    image = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    image.paste((200, 0, 0, 128), (5, 0, 10, 10))
    pixels = read_photo(images.encode(image, "PNG"), InputSpec(10, 10, "crop"), LIMITS).pixels
    assert pixels[5, 1].tolist() == [255, 255, 255]
    np.testing.assert_allclose(pixels[5, 8], [227, 127, 127], atol=1)


@pytest.mark.parametrize(("photometric", "step"), [(1, 1), (0, -1)])
def test_16_bit_grey_keeps_its_range(photometric, step):
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16)
    data = images.raw_tiff(np.tile(ramp, (256, 1)), photometric=photometric, bits=16)
    pixels = read_photo(data, InputSpec(256, 256, "crop"), LIMITS).pixels
    np.testing.assert_allclose(pixels[128, :, 0], np.arange(256)[::step], atol=1)


def test_12_bit_grey_keeps_its_range():
    ramp = np.tile(np.linspace(0, 4095, 256).round().astype(np.uint32), (256, 1))
    first, second = ramp[:, ::2], ramp[:, 1::2]
    # Two samples in three bytes, the most significant bits first (TIFF 6.0, section 8).
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=-1)
    data = images.raw_tiff(ramp.astype(np.uint16), photometric=1, bits=12)
    data = data[: -2 * ramp.size] + packed.astype(np.uint8).tobytes()
    pixels = read_photo(data, InputSpec(256, 256, "crop"), LIMITS).pixels
    np.testing.assert_allclose(pixels[128, :, 0], np.arange(256), atol=1)


def test_a_colour_profile_is_applied():
    # Pillow makes no wide-gamut RGB profile, but its sRGB profile can be edited: with the red and
    # green colorants exchanged, the picture must come out with red and green exchanged.
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = profile.index(b"rXYZ", 128), profile.index(b"gXYZ", 128)
    profile[red : red + 4], profile[green : green + 4] = b"gXYZ", b"rXYZ"
    data = images.encode(images.scene(), "PNG", icc_profile=bytes(profile))
    found = quarters(read_photo(data, SPEC, LIMITS).pixels)
    expected = np.array(list(images.COLOURS.values()))[:, [1, 0, 2]]
    np.testing.assert_allclose(found, expected, atol=4)


def test_a_profile_of_another_colour_space_is_ignored():
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for image in (images.scene(), images.scene().convert("L"), images.scene().convert("CMYK")):
        data = images.encode(image, "JPEG", quality=95, icc_profile=lab)
        assert_shows_scene(read_photo(data, SPEC, LIMITS).pixels)


def test_lab_pixels_are_not_guessed():
    data = images.encode(Image.new("LAB", (8, 8)), "TIFF")
    with pytest.raises(UnsupportedFormat):
        read_photo(data, SPEC, LIMITS)


def test_scaled_decoding_stays_close_to_full_decoding(monkeypatch):
    rng = np.random.default_rng(0)
    detail = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    picture = Image.fromarray(detail).resize((1600, 1200), Image.Resampling.BICUBIC)
    data = images.encode(picture, "JPEG", quality=95)
    spec = InputSpec(128, 128, "crop")
    scaled = read_photo(data, spec, LIMITS).pixels.astype(float)
    monkeypatch.setattr(reading, "_DRAFT_MARGIN", 1000)
    full = read_photo(data, spec, LIMITS).pixels.astype(float)
    assert (scaled != full).any()
    assert np.sqrt(np.mean((scaled - full) ** 2)) < 2


def test_the_same_bytes_give_the_same_pixels():
    for data in GOOD.values():
        first, second = (read_photo(data, SPEC, LIMITS) for _ in range(2))
        assert (first.pixels == second.pixels).all()
        assert first.facts == second.facts


def test_the_limit_on_bytes_is_checked_first():
    with pytest.raises(TooManyBytes):
        read_photo(b"no image at all", SPEC, replace(LIMITS, max_bytes=14))


def test_a_limit_on_pixels_is_exact():
    pixels = images.WIDTH * images.HEIGHT
    for name in GOOD:
        read_photo(GOOD[name], SPEC, replace(LIMITS, max_pixels=pixels))
        with pytest.raises(TooManyPixels):
            read_photo(GOOD[name], SPEC, replace(LIMITS, max_pixels=pixels - 1))


@pytest.mark.filterwarnings("error")
def test_pillow_adds_no_limit_of_its_own():
    data = images.encode(Image.new("1", (12_000, 8_000)), "BMP")  # Pillow would warn at 89 million
    assert read_photo(data, SPEC, LIMITS).facts.width == 12_000


@pytest.mark.parametrize("name", GOOD)
def test_the_deadline_holds_in_every_format(name):
    ticks = itertools.count(step=20)  # seconds: the second reading of the clock is within the limit
    with pytest.raises(DecodeTimeout):
        read_photo(GOOD[name], SPEC, LIMITS, clock=lambda: next(ticks))


def test_the_deadline_holds_inside_a_decoder():
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), dtype=np.uint8)
    data = images.encode(Image.fromarray(noise), "JPEG", quality=95)
    time = 0.0
    file = reading._TimedFile(data, 30, clock=lambda: time)
    image = Image.open(file, formats=["JPEG"])
    time = 31.0
    with pytest.raises(DecodeTimeout):
        image.load()


@given(st.sampled_from(sorted(GOOD)), st.data())
@settings(max_examples=150, deadline=None)
def test_any_cut_is_truncated(name, data):
    whole = GOOD[name]
    cut = data.draw(st.integers(24, len(whole) - 1))
    try:
        result = read_photo(whole[:cut], SPEC, LIMITS)
    except PhotoError as error:
        assert error.code == "truncated"  # noqa: PT017 - a cut after the first page is no error
    else:
        assert_shows_scene(result.pixels)


@pytest.mark.parametrize("name", ["plain.avif", "plain.heic"])
def test_file_that_ends_between_two_boxes_is_truncated(name):
    whole = GOOD[name]
    ends = [end for _kind, end in imagefile._boxes(whole) if end < len(whole)]
    assert ends
    for end in ends:
        with pytest.raises(PhotoError) as caught:
            read_photo(whole[:end], SPEC, LIMITS)
        assert caught.value.code == "truncated", end


@given(st.sampled_from(sorted(GOOD)), st.data())
@settings(max_examples=150, deadline=None)
def test_any_damage_gives_a_picture_or_an_error_of_our_tree(name, data):
    damaged = bytearray(GOOD[name])
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        result = read_photo(bytes(damaged), SPEC, replace(LIMITS, max_pixels=10_000_000))
    except PhotoError:
        return
    assert result.pixels.shape == (images.HEIGHT, images.WIDTH, 3)


@pytest.mark.skipif(not CAMERA.is_dir(), reason="needs ../shared/photos/camera")
def test_camera_photographs_decode_and_agree_with_their_metadata():
    with (CAMERA / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        facts = read_photo((CAMERA / row["file"]).read_bytes(), SPEC, LIMITS).facts
        if row["latitude"]:
            expected = float(row["longitude"]), float(row["latitude"])
            assert (facts.longitude, facts.latitude) == pytest.approx(expected, abs=1e-4), row
        else:
            assert (facts.longitude, facts.latitude) == (None, None), row
        assert {facts.width, facts.height} == {int(row["width"]), int(row["height"])}, row
