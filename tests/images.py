"""Good and bad image files, made in memory, one of each kind that occurs in archives.

Every good file shows `scene`, so that a test can tell whether it was decoded rightly: red, green,
blue and yellow quarters (or their greys), from the top left to the bottom right.
"""

import base64
import io
import random
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin
from PIL.TiffImagePlugin import IFDRational

WIDTH, HEIGHT = 96, 64
COLOURS = {
    "top left": (200, 40, 40),
    "top right": (40, 180, 60),
    "bottom left": (40, 60, 200),
    "bottom right": (230, 220, 60),
}
# Both sides are larger than any sensible limit.
BOMB = 60_000

# `scene` as HEIC, made with Debian's heif-enc (`heif-enc -q 50 scene.png`): pi-heif only decodes.
_HEIC = """
AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAUJtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAA
AAAAAAAAAAAA5waXRtAAAAAAABAAAAImlsb2MAAAAAREAAAQABAAAAAAFmAAEAAAAAAAAAkgAAACNpaW5mAAAAAAAB
AAAAFWluZmUCAAAAAAEAAGh2YzEAAAAAwmlwcnAAAACkaXBjbwAAAHhodmNDAQNwAAAAAAAAAAAAHvAA/P34+AAADw
MgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQCEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoDCBBZbqSSmubgQEDAgA
AAMACAAAAwAIQCIAAQAHRAHBcrAiQAAAABRpc3BlAAAAAAAAAGAAAABAAAAAEHBpeGkAAAAAAwgICAAAABZpcG1hAA
AAAAAAAAEAAQOBAoMAAACabWRhdAAAAI4oAa8TgHc8i5F//+xKj/9ufPD7umnkTGL9bsf82a/9On84D7GArwyZ0vkU
B8xp2kFwZ8NfF7MIJ9/0UB81gEeifsrBaed6csR/9ss+PwBuX/ktkropCWyMdYMgs4gBlJG0uUv8MF9BK4EOuE1DZw
p80GtuQLmhXf8Pe/9ZU3b+9HDPE3xFG6Q9JljmPul4
"""


def scene(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Return the picture that every good file shows, RGB."""
    picture = Image.new("RGB", (width, height))
    middle, centre = width // 2, height // 2
    for (left, top), colour in zip(
        [(0, 0), (middle, 0), (0, centre), (middle, centre)], COLOURS.values(), strict=True
    ):
        picture.paste(colour, (left, top, width if left else middle, height if top else centre))
    return picture


def encode(image: Image.Image, image_format: str, **options: Any) -> bytes:
    """Encode the image in that format."""
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def gps_exif(
    latitude: tuple[float, ...] = (51.0, 28.0, 38.5),
    longitude: tuple[float, ...] = (0.0, 0.0, 5.25),
    *,
    north: str | None = "S",
    east: str | None = "W",
    orientation: int | None = None,
) -> Image.Exif:
    """Return EXIF with a position (degrees, minutes, seconds), camera, time and altitude."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Maker", "Model 1"
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.IFD.Exif] = {
        ExifTags.Base.DateTimeOriginal: "2024:02:29 23:59:58",
        ExifTags.Base.OffsetTimeOriginal: "-03:30",
    }
    gps: dict[int, Any] = {
        ExifTags.GPS.GPSLatitude: tuple(IFDRational(round(p * 1000), 1000) for p in latitude),
        ExifTags.GPS.GPSLongitude: tuple(IFDRational(round(p * 1000), 1000) for p in longitude),
        ExifTags.GPS.GPSAltitude: IFDRational(425, 10),
        ExifTags.GPS.GPSAltitudeRef: b"\x01",
    }
    if north is not None:
        gps[ExifTags.GPS.GPSLatitudeRef] = north
    if east is not None:
        gps[ExifTags.GPS.GPSLongitudeRef] = east
    exif[ExifTags.IFD.GPSInfo] = gps
    loaded = Image.Exif()  # Pillow's TIFF writer writes directories only from EXIF that was read
    loaded.load(exif.tobytes())
    return loaded


def with_jpeg_segment(jpeg: bytes, marker: int, payload: bytes) -> bytes:
    """Return the JPEG with one more segment right after its start."""
    segment = bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload
    return jpeg[:2] + segment + jpeg[2:]


def raw_tiff(
    pixels: np.ndarray[Any, Any], *, photometric: int, bits: int, tags: dict[int, int] | None = None
) -> bytes:
    """An uncompressed little-endian TIFF of uint16 or float32 pixels, [H, W] or [H, W, channels].

    For types that Pillow reads and cannot write (TIFF 6.0, section 2).
    """
    height, width, *rest = pixels.shape
    channels = rest[0] if rest else 1
    is_float = pixels.dtype.kind == "f"
    data = pixels.astype("<f4" if is_float else "<u2").tobytes()
    entries = {
        256: width, 257: height, 258: bits, 259: 1, 262: photometric,
        277: channels, 278: height, 279: len(data), 339: 3 if is_float else 1, **(tags or {}),
    }  # fmt: skip
    entries[273] = 0  # the strip's offset, which depends on the directory's length
    directory = 8 + 2 + 12 * len(entries) + 4
    bits_at, data_at = directory, directory + 2 * channels
    entries[273] = data_at
    out = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    for tag, value in sorted(entries.items()):
        if tag == 258 and channels > 2:
            out += struct.pack("<HHII", tag, 3, channels, bits_at)
        else:
            out += struct.pack("<HHII", tag, 4, 1, value)
    return out + struct.pack("<I", 0) + struct.pack("<H", bits) * channels + data


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that declares a size and has hardly any pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def damaged(data: bytes, start: float, stop: float) -> bytes:
    """Replace a part of the file, given in fractions of its length, with noise."""
    first, last = int(start * len(data)), int(stop * len(data))
    noise = random.Random(len(data)).randbytes(last - first)
    return data[:first] + noise + data[last:]


def good_files() -> dict[str, bytes]:
    """Return file name → bytes; each decodes to `scene`, in colour or in grey."""
    picture = scene()
    grey = picture.convert("L")
    grey16 = np.asarray(grey).astype(np.uint16) * 257
    rgb16 = np.asarray(picture).astype(np.uint16) * 257
    alpha = picture.copy()
    alpha.putalpha(255)
    palette = picture.quantize(8)
    jpeg = encode(picture, "JPEG", quality=95)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return {
        "plain.jpg": jpeg,
        "progressive.jpg": encode(picture, "JPEG", quality=95, progressive=True),
        "grey.jpg": encode(grey, "JPEG", quality=95),
        "cmyk.jpg": encode(picture.convert("CMYK"), "JPEG", quality=95),
        "icc.jpg": encode(picture, "JPEG", quality=95, icc_profile=srgb),
        "broken-icc.jpg": encode(picture, "JPEG", quality=95, icc_profile=b"\0" * 200),
        "gps.jpg": encode(picture, "JPEG", quality=95, exif=gps_exif()),
        "turned.jpg": encode(
            picture.transpose(Image.Transpose.ROTATE_90),
            "JPEG", quality=95, exif=gps_exif(orientation=6),
        ),
        "broken-exif.jpg": with_jpeg_segment(jpeg, 0xE1, b"Exif\0\0II*\0\xff\xff\xff\x7f" * 9),
        "really-a-png.jpg": encode(picture, "PNG"),
        "no-extension": jpeg,
        "plain.png": encode(picture, "PNG"),
        "grey-16-bit.png": encode(Image.fromarray(grey16), "PNG"),
        "alpha.png": encode(alpha, "PNG"),
        "palette.png": encode(palette, "PNG"),
        "palette-transparent.png": encode(palette, "PNG", transparency=b"\xff" * 8),
        "lzw.tif": encode(picture, "TIFF", compression="tiff_lzw"),
        "pages.tif": encode(
            picture, "TIFF", save_all=True, append_images=[Image.new("RGB", (10, 10))]
        ),
        "grey-16-bit.tif": raw_tiff(grey16, photometric=1, bits=16),
        "colour-16-bit.tif": raw_tiff(rgb16, photometric=2, bits=16),
        "plain.webp": encode(picture, "WEBP", quality=95),
        "lossless.webp": encode(picture, "WEBP", lossless=True),
        "plain.heic": base64.b64decode(_HEIC),
        "plain.avif": encode(picture, "AVIF", quality=95),
        "plain.gif": encode(picture, "GIF"),
        "animated.gif": encode(
            palette, "GIF", save_all=True, append_images=[Image.new("P", palette.size)]
        ),
        "plain.bmp": encode(picture, "BMP"),
    }  # fmt: skip


def bad_files() -> dict[str, tuple[bytes, str]]:
    """Return file name → (bytes, the code of the error when they are read)."""
    good = good_files()
    jpeg, tiff = good["plain.jpg"], good["lzw.tif"]
    truncated = {
        f"truncated-{name}": (good[name][: len(good[name]) * 3 // 4], "truncated")
        for name in (
            "plain.jpg", "progressive.jpg", "plain.png", "grey-16-bit.tif", "lzw.tif",
            "plain.webp", "plain.heic", "plain.avif", "plain.gif", "plain.bmp",
        )
    }  # fmt: skip
    header = jpeg.index(b"\xff\xc0")  # SOF0: precision, height, width (ITU-T T.81, B.2.2)
    jpeg_bomb = jpeg[: header + 5] + struct.pack(">HH", BOMB, BOMB) + jpeg[header + 9 :]
    bmp, gif, heic = good["plain.bmp"], good["plain.gif"], good["plain.heic"]
    size = heic.index(b"ispe") + 8
    bombs = {
        "bomb.png": png_header(BOMB, BOMB),
        "bomb.jpg": jpeg_bomb,
        "bomb.bmp": bmp[:18] + struct.pack("<ii", BOMB, BOMB) + bmp[26:],
        "bomb.gif": gif[:6] + struct.pack("<HH", BOMB, BOMB) + gif[10:],
        "bomb.heic": heic[:size] + struct.pack(">II", BOMB, BOMB) + heic[size + 8 :],
        "bomb.tif": raw_tiff(
            np.zeros((1, 1), np.uint16), photometric=1, bits=16, tags={256: BOMB, 257: BOMB}
        ),
    }
    no_tables = jpeg.replace(b"\xff\xdb", b"\xff\xec")  # quantization tables become comments
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("photo.jpg", jpeg)
    return {
        "empty.jpg": (b"", "empty"),
        **truncated,
        **{name: (data, "too_many_pixels") for name, data in bombs.items()},
        "corrupt.jpg": (no_tables, "corrupt"),
        "corrupt.png": (damaged(good["plain.png"], 0.4, 0.6), "corrupt"),
        "corrupt.tif": (damaged(tiff, 0.02, 0.5), "corrupt"),
        "corrupt.webp": (damaged(good["lossless.webp"], 0.3, 0.9), "corrupt"),
        "corrupt.heic": (damaged(heic, 0.72, 0.99), "corrupt"),
        "page.jpg": (b"<!DOCTYPE html>\n<html><svg></svg></html>", "not_an_image"),
        "text.jpg": (b"BM was here. " * 20, "not_an_image"),
        "zip.jpg": (archive.getvalue(), "not_an_image"),
        "noise.jpg": (random.Random(1).randbytes(5000), "not_an_image"),
        "film.jpg": (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0" * 99, "not_an_image"),
        "document.jpg": (b"%PDF-1.7\n1 0 obj\n", "unsupported_format"),
        "drawing.svg": (b'<?xml version="1.0"?>\n<svg xmlns="x"/>', "unsupported_format"),
        "drawing.eps": (encode(scene(), "EPS"), "unsupported_format"),
        "layers.psd": (b"8BPS\0\x01" + b"\0" * 40, "unsupported_format"),
        "favicon.ico": (encode(scene(), "ICO"), "unsupported_format"),
        "picture.jp2": (encode(scene(), "JPEG2000"), "unsupported_format"),
        "float.tif": (
            raw_tiff(np.zeros((HEIGHT, WIDTH), np.float32), photometric=1, bits=32),
            "unsupported_format",
        ),
        "raw.dng": (_dng_preview(), "unsupported_format"),
    }


def _dng_preview() -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[254] = 1  # NewSubfileType: a reduced copy of another image in the file
    return encode(scene(), "TIFF", tiffinfo=tags)
