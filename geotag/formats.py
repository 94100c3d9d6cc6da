"""Choices of options such as `--format`. Kept apart from the writers, which import slowly."""

from enum import StrEnum


class Format(StrEnum):
    """Formats of results."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    GEOJSON = "geojson"


class ListFormat(StrEnum):
    """Formats of lists without positions."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class ReportFormat(StrEnum):
    """Formats of `geotag evaluate`."""

    TABLE = "table"
    JSON = "json"
    HTML = "html"


class Small(StrEnum):
    """Treatment of cells with too few photographs."""

    DROP = "drop"
    MERGE = "merge"
