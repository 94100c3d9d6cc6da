"""Decode the bytes of a file to sRGB pixels and EXIF facts."""
