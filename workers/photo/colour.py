"""Convert any stored pixels to eight-bit sRGB.

In two steps: `plain` makes eight bits a channel without transparency at full size; `to_srgb`
applies the colour profile, which is cheaper on the small picture that the network gets.
"""

import io

import numpy as np
from PIL import Image, ImageCms, TiffImagePlugin

from workers.errors import UnsupportedFormat

# Transparent pixels are laid on white, the colour of paper and web pages.
BACKGROUND = (255, 255, 255, 255)

BITS_PER_SAMPLE = 258  # TIFF 6.0, section 8
PHOTOMETRIC = 262
WHITE_IS_ZERO = 0


def plain(image: Image.Image) -> Image.Image:
    """Return a loaded image of any mode as L, RGB or CMYK: eight bits a channel, opaque.

    Transparency is laid on white. Raises UnsupportedFormat for number ranges without a known
    white (32-bit integers, floating point) and for Lab.
    """
    if image.mode.startswith("I;16"):
        return _eight_bits(image)
    if image.mode in ("I", "F", "LAB"):
        raise UnsupportedFormat(f"pixels of the kind {image.mode} are not decoded")
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), colours).convert(
            "RGB"
        )
    if image.mode in ("L", "RGB", "CMYK"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return an L, RGB or CMYK image as sRGB, by its ICC profile if that is usable.

    A broken profile, or one of another colour space than the pixels, is ignored: the picture is
    then taken for sRGB, as if it had none.
    """
    if profile:
        try:
            converted = ImageCms.profileToProfile(
                image,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            converted = None
        if converted is not None:
            return converted
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return 12- or 16-bit grey as L; Pillow's own conversion clips values above 255 to white."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    bits = tags.get(BITS_PER_SAMPLE, (16,))[0]
    white = (1 << bits) - 1
    grey = np.minimum(np.asarray(image), white).astype(np.uint32)
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        grey = white - grey
    return Image.fromarray(((grey * 255 + white // 2) // white).astype(np.uint8))
