"""The forms that results can take; apart from the writers, which are slow to import."""

from enum import StrEnum


class Format(StrEnum):
    """What `--format` takes."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    GEOJSON = "geojson"
