"""Identify an image's format by its signature, and whether it is truncated by its declared lengths.

Nothing is decoded, and file names are not used.
"""

import re
import struct
from collections.abc import Iterator

from workers.errors import EmptyFile, NotAnImage, UnsupportedFormat

# Signatures of the formats that we decode, under Pillow's names (pi-heif adds HEIF).
# Text may begin with BM as well: a BMP's header size must follow.
_DECODED = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "GIF": rb"GIF8[79]a",
    "WEBP": rb"RIFF.{4}WEBP",
    "BMP": rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
}
# Picture and page formats that are not decoded, to tell them from files that are no picture.
_UNSUPPORTED = {
    "PDF": rb"%PDF-",
    "PostScript": rb"%!PS|\xc5\xd0\xd3\xc6",
    "Photoshop": rb"8BP[SB]",
    "icon": rb"\0\0[\x01\x02]\0[^\0]\0.{3}\0",
    "SVG": rb"(?:\xef\xbb\xbf)?\s*(?:<svg[\s>]|<(?:\?xml|!--|!DOCTYPE svg).*?<svg[\s>])",
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "JPEG XR": rb"II\xbc",
    "OpenEXR": rb"\x76\x2f\x31\x01",
    "Radiance HDR": rb"#\?R(?:ADIANCE|GBE)",
    "DirectDraw surface": rb"DDS ",
    "PNM": rb"P[1-7]\s+[#\dW]",
    "GIMP": rb"gimp xcf",
    "DjVu": rb"AT&TFORM",
    "Apple icon": rb"icns",
    "MNG": rb"[\x8a\x8b][MJ]NG\r\n",
    "QOI": rb"qoif",
    "FITS": rb"SIMPLE  =",
    "DICOM": rb".{128}DICM",
    "Windows metafile": rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF",
    "camera raw": rb"II\*\0.{4}CR|II(?:RO|RS|U\0)|MMOR|FUJIFILMCCD-RAW|II\x1a\0\0\0HEAP|FOVb"
    rb"|.{4}ftypcrx ",
}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_AVIF_BRANDS = {b"avif", b"avis"}
_HEAD = 4096
# Field types (TIFF 6.0, section 2, and BigTIFF) as struct formats; rationals as a double's 8 bytes.
_TIFF_TYPES = dict(enumerate("BBHIdbBhidfd", start=1)) | {13: "I", 16: "Q", 17: "q", 18: "Q"}
# Where the pixels are: offsets and byte counts of strips, then of tiles.
_TIFF_PIECES = (273, 279, 324, 325)


def identify(data: bytes) -> str:
    """Return the format of a picture: JPEG, PNG, GIF, WEBP, BMP, TIFF, HEIF or AVIF.

    Raises EmptyFile, UnsupportedFormat (a picture or page of another kind) or NotAnImage.
    """
    if not data:
        raise EmptyFile("the object has no bytes")
    head = data[:_HEAD]
    # Before TIFF: some raw formats are TIFF with a further mark.
    for name, pattern in _UNSUPPORTED.items():
        if re.match(pattern, head, re.DOTALL):
            raise UnsupportedFormat(f"{name} is not a format that we decode")
    for name, pattern in _DECODED.items():
        if re.match(pattern, head, re.DOTALL):
            return name
    if head[4:8] == b"ftyp":
        return _iso_format(head)
    raise NotAnImage("the bytes are of no image format")


def is_truncated(data: bytes, image_format: str) -> bool:
    """Return whether the file ends before its declared lengths.

    For JPEG, GIF and BMP only the headers are checked: only a decoder finds where their pixels end.
    """
    match image_format:
        case "JPEG":
            return _jpeg_header_is_cut(data)
        case "PNG":
            return not any(kind == b"IEND" for kind in _png_chunks(data))
        case "GIF":
            return not data.rstrip(b"\0").endswith(b";")
        case "WEBP":
            return len(data) < 8 + int.from_bytes(data[4:8], "little")
        case "BMP":
            return len(data) < int.from_bytes(data[10:14], "little")
        case "TIFF":
            return _tiff_is_cut(data)
        case _:
            boxes = list(_boxes(data))
            kinds = {kind for kind, _ in boxes}
            described = kinds & {b"meta", b"moov"}
            has_pixels = b"mdat" in kinds or b"idat" in data  # `idat` is a box within `meta`
            return not (described and has_pixels) or any(end > len(data) for _, end in boxes)


def declared_pixels(data: bytes, image_format: str) -> int:
    """Return the pixels that a HEIF or AVIF header declares (its largest `ispe` box), else 0.

    Their libraries have limits of their own, whose errors do not say which limit was exceeded. The
    box is ISO/IEC 23008-12, section 6.5.3.
    """
    if image_format not in ("HEIF", "AVIF"):
        return 0
    sizes = re.findall(rb"ispe\0{4}(.{4})(.{4})", data[: 64 * 1024], re.DOTALL)
    return max(
        (int.from_bytes(width) * int.from_bytes(height) for width, height in sizes), default=0
    )


def _iso_format(head: bytes) -> str:
    """HEIF or AVIF by the brands of an ISO base media file (ISO/IEC 14496-12, section 4.3)."""
    major, size = head[8:12], int.from_bytes(head[:4])
    compatible = {head[at : at + 4] for at in range(16, min(size, len(head)), 4)}
    if major in _AVIF_BRANDS or (major in (b"mif1", b"msf1") and compatible & _AVIF_BRANDS):
        return "AVIF"
    if major in _HEIF_BRANDS or (major in (b"mif1", b"msf1") and compatible & _HEIF_BRANDS):
        return "HEIF"
    if major in (b"mif1", b"msf1"):
        raise UnsupportedFormat("a HEIF file with another codec than HEVC or AV1")
    raise NotAnImage("a video or audio file")


def _jpeg_header_is_cut(data: bytes) -> bool:
    """Whether the segments before the first scan run past the end (ITU-T T.81, annex B)."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return False
        marker = data[at + 1]
        if marker == 0xDA:
            return False
        if marker in (0xFF, 0x01, *range(0xD0, 0xDA)):
            at += 1 if marker == 0xFF else 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return True


def _png_chunks(data: bytes) -> Iterator[bytes]:
    """The types of the chunks that are whole (PNG, section 5.3)."""
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if at <= len(data):
            yield kind


def _boxes(data: bytes) -> Iterator[tuple[bytes, int]]:
    """(type, end) of the top-level boxes of an ISO base media file; a cut header ends past it."""
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            yield b"", at + 8
            return
        size, kind = struct.unpack_from(">I4s", data, at)
        if size == 1 and at + 16 <= len(data):
            size = struct.unpack_from(">Q", data, at + 8)[0]
        elif size == 0:  # to the end of the file
            size = len(data) - at
        at += max(size, 8)
        yield kind, at


def _tiff_is_cut(data: bytes) -> bool:
    """Whether the first directory, its values, or the strips or tiles it names run past the end."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")  # BigTIFF
    word, count_type, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    values: dict[int, tuple[int, ...]] = {}
    try:
        (directory,) = struct.unpack_from(order + word, data, 8 if big else 4)
        (count,) = struct.unpack_from(order + count_type, data, directory)
        first = directory + struct.calcsize(count_type)
        for at in range(first, first + count * entry, entry):
            tag, kind, length = struct.unpack_from(f"{order}HH{word}", data, at)
            layout = f"{order}{length}{_TIFF_TYPES.get(kind, 'x')}"
            value = at + 4 + struct.calcsize(word)
            if struct.calcsize(layout) > struct.calcsize(word):
                (value,) = struct.unpack_from(order + word, data, value)
            if value + struct.calcsize(layout) > len(data):
                return True
            if tag in _TIFF_PIECES:
                values[tag] = struct.unpack_from(layout, data, value)
    except struct.error:
        return True
    pieces = [_TIFF_PIECES[:2], _TIFF_PIECES[2:]]
    return any(
        offset + length > len(data)
        for offsets, lengths in pieces
        for offset, length in zip(values.get(offsets, ()), values.get(lengths, ()), strict=False)
    )
