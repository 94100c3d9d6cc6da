"""Decode a photograph to the pixels that the network gets, and read its EXIF facts.

Training, evaluation and serving share this one path. Scaled decoding, the resampling filter and the
order of the steps all change pixels, and a network needs pixels made like those it was trained on.
The same bytes always give the same pixels.

    bytes ─identify─▶ format ─open─▶ header ─limits, facts─▶ ─decode─▶ plain ─fit─▶ turn ─▶ sRGB

The first frame or page is the photograph, where a file has several.
"""

import io
import struct
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pi_heif
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from workers.errors import (
    CorruptImage,
    DecodeTimeout,
    PhotoError,
    TooManyBytes,
    TooManyPixels,
    TruncatedImage,
    UnsupportedFormat,
)
from workers.photo import colour, exif
from workers.photo.imagefile import declared_pixels, identify, is_truncated

# Otherwise Pillow loads its plugins at the first picture, when several threads open pictures.
Image.init()
# Pillow's own limit is one for the whole process, and is exceeded by twice before it raises. Ours
# is checked for each picture before its pixels are decoded.
Image.MAX_IMAGE_PIXELS = None
# One thread a picture: the worker decodes several at once.
pi_heif.register_heif_opener(decode_threads=1, thumbnails=False)

# Pillow warns about each photograph with damaged EXIF, which is of no use in a worker's log.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# What the decoders raise on inconsistent bytes (found by fuzzing).
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    RuntimeError,
    struct.error,
)

# JPEG decodes at 1/2, 1/4 or 1/8 for less work. Staying at twice the wanted size or above leaves
# the final filter enough to work with: on 49 camera photographs at 224 px, at least 38 dB PSNR
# against full decoding in 58 % of its time (at the wanted size itself: 28 dB in 49 %).
_DRAFT_MARGIN = 2

# EXIF orientation (Exif 2.32, 4.6.4): how to turn the stored pixels to show them upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {5, 6, 7, 8}

# TIFF tags of camera raw files, whose first page is only a preview (DNG 1.7, TIFF 6.0 section 8).
_DNG_VERSION = 50706
_NEW_SUBFILE_TYPE = 254


@dataclass(frozen=True)
class InputSpec:
    """Input of the network: its size in pixels, and how a photograph is made to fit.

    `crop`: the shorter side is scaled to the input, then the centre is taken.
    `squash`: each side is scaled by itself, and the proportions change.
    """

    height: int
    width: int
    fit: Literal["crop", "squash"]


@dataclass(frozen=True)
class PhotoLimits:
    """Limits for one photograph: bytes, pixels (of the whole, unscaled picture), seconds."""

    max_bytes: int
    max_pixels: int
    decode_seconds: float


@dataclass(frozen=True, kw_only=True)
class PhotoFacts(exif.ExifFacts):
    """Facts of a photograph that need no model; `width` and `height` are as displayed."""

    format: str
    width: int
    height: int


@dataclass(frozen=True)
class Photo:
    """A photograph ready for the network: sRGB uint8 [height, width, 3], C-contiguous."""

    pixels: NDArray[np.uint8]
    facts: PhotoFacts


def read_photo(
    data: bytes,
    spec: InputSpec,
    limits: PhotoLimits,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Photo:
    """Decode a photograph to exactly `spec`, within `limits`.

    Decoding runs in a thread, which cannot be killed. The deadline is therefore checked between the
    steps and whenever a decoder reads more bytes (JPEG, PNG, GIF, BMP; every 64 KiB). TIFF, WebP,
    HEIF and AVIF decode in one call, which only the limit on pixels bounds.

    Raises a PhotoError: EmptyFile, NotAnImage, UnsupportedFormat, TruncatedImage,
    CorruptImage, TooManyBytes, TooManyPixels or DecodeTimeout. Broken EXIF or a broken colour
    profile never loses a picture.
    """
    if len(data) > limits.max_bytes:
        raise TooManyBytes(f"{len(data)} bytes, the limit is {limits.max_bytes}")
    image_format = identify(data)
    _check_pixels(declared_pixels(data, image_format), limits)
    file = _TimedFile(data, limits.decode_seconds, clock)
    with _decoder_errors_named(data, image_format):
        image = _open(file, image_format)
    _check_pixels(image.width * image.height, limits)
    if image_format == "PNG":
        # Its EXIF may follow the pixels. Pillow decodes these to get there, so decode them here,
        # where decoder errors are handled.
        with _decoder_errors_named(data, image_format):
            image.load()
    # TIFF's reader turns the pixels itself, and gives the turned size from the start.
    orientation = 1 if image_format == "TIFF" else exif.orientation(image)
    width, height = _turned(image.size, orientation)
    facts = PhotoFacts(
        format=image_format, width=width, height=height, **vars(exif.read_facts(image))
    )
    size = _turned((spec.width, spec.height), orientation)
    with _decoder_errors_named(data, image_format):
        image.draft("RGB", _draft_size(image.size, size, spec.fit))
        image.load()
    file.check()
    picture = _fit(colour.plain(image), size, spec.fit)
    file.check()
    if orientation in _TURNS:
        picture = picture.transpose(_TURNS[orientation])
    picture = colour.to_srgb(picture, image.info.get("icc_profile"))
    file.check()
    return Photo(pixels=np.ascontiguousarray(picture), facts=facts)


class _TimedFile(io.BytesIO):
    """The bytes as a file whose reads raise DecodeTimeout after the deadline."""

    def __init__(self, data: bytes, seconds: float, clock: Callable[[], float]) -> None:
        super().__init__(data)
        self._seconds = seconds
        self._clock = clock
        self._deadline = clock() + seconds

    def read(self, size: int | None = -1, /) -> bytes:
        self.check()
        return super().read(size)

    def check(self) -> None:
        if self._clock() > self._deadline:
            raise DecodeTimeout(f"decoding took longer than {self._seconds:g} s")


@contextmanager
def _decoder_errors_named(data: bytes, image_format: str) -> Iterator[None]:
    """Raise a PhotoError in place of a decoder's error."""
    try:
        yield
    except _DECODER_ERRORS as error:
        raise _reason(data, image_format, error) from error


def _open(file: _TimedFile, image_format: str) -> Image.Image:
    image = Image.open(file, formats=[image_format])
    if isinstance(image, TiffImagePlugin.TiffImageFile) and (
        _DNG_VERSION in image.tag_v2 or image.tag_v2.get(_NEW_SUBFILE_TYPE, 0) & 1
    ):
        raise UnsupportedFormat("camera raw is not a format that we decode")
    return image


def _check_pixels(pixels: int, limits: PhotoLimits) -> None:
    if pixels > limits.max_pixels:
        raise TooManyPixels(f"{pixels} pixels, the limit is {limits.max_pixels}")


def _turned(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return (width, height), with its sides exchanged for the orientations 5 to 8."""
    return (size[1], size[0]) if orientation in _SIDEWAYS else size


def _draft_size(stored: tuple[int, int], size: tuple[int, int], fit: str) -> tuple[int, int]:
    """Return the least (width, height) to decode a JPEG to, for `_fit` to scale it down."""
    scales = [wanted / side for wanted, side in zip(size, stored, strict=True)]
    if fit == "crop":
        scales = [max(scales)] * 2
    return (
        int(stored[0] * scales[0] * _DRAFT_MARGIN) or 1,
        int(stored[1] * scales[1] * _DRAFT_MARGIN) or 1,
    )


def _fit(image: Image.Image, size: tuple[int, int], fit: str) -> Image.Image:
    """Return the image at exactly `size`, (width, height): cropped or squashed."""
    width, height = float(image.width), float(image.height)
    if fit == "crop":
        scale = max(size[0] / width, size[1] / height)
        width, height = min(width, size[0] / scale), min(height, size[1] / scale)
    left, top = (image.width - width) / 2, (image.height - height) / 2
    # Pillow's bicubic filter widens with the scale (antialiasing). `reducing_gap`: above three
    # times the wanted size, whole blocks of pixels are averaged first, which is much faster.
    return image.resize(
        size,
        Image.Resampling.BICUBIC,
        box=(left, top, left + width, top + height),
        reducing_gap=3.0,
    )


def _reason(data: bytes, image_format: str, error: Exception) -> PhotoError:
    """Return the PhotoError for a decoder's error."""
    unopened = isinstance(error, UnidentifiedImageError)  # its text is an object's address
    message = f"{image_format}: {'the header cannot be read' if unopened else error}"
    if "truncated" in str(error).lower() or is_truncated(data, image_format):
        return TruncatedImage(message)
    # A complete TIFF whose header cannot be read is an unsupported variant of the format.
    if "unsupported" in str(error).lower() or (unopened and image_format == "TIFF"):
        return UnsupportedFormat(message)
    return CorruptImage(message)
