"""The forms that results can take; apart from the writers, which are slow to import."""

from enum import StrEnum


class Format(StrEnum):
    """What `--format` takes."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    GEOJSON = "geojson"


class ListFormat(StrEnum):
    """What `--format` of lists without positions takes."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class ReportFormat(StrEnum):
    """What `--format` of `geotag evaluate` takes."""

    TABLE = "table"
    JSON = "json"
    HTML = "html"


class Small(StrEnum):
    """What becomes of a cell with too few photographs."""

    DROP = "drop"
    MERGE = "merge"
