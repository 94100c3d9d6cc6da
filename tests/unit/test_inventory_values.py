"""Values in an inventory that no row of S3 has, and rows that concern another prefix."""

import io
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.unit.test_inventory import Written, archives, keys, row, written
from workers.errors import UsageError
from workers.planning.parquet import parquet_rows

__all__ = ["archives", "written"]


def test_a_row_of_another_prefix_concerns_nobody(written: Written) -> None:
    """Any key may be in the same bucket; it must not refuse the archive's inventory."""
    written.csv(row("q/../x.jpg"), row("q/./x.jpg"), row("q/a.jpg", ETag="", Size=""))
    written.csv(row("p/a.jpg"))
    assert keys(list(written.source().pages(None))) == ["p/a.jpg"]


def test_two_columns_of_one_name_are_refused() -> None:
    columns = [pyarrow.array(["s3://photos/a.jpg"]), pyarrow.array(["s3://photos/b.jpg"])]
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(columns, ["url", "url"]), file)
    with pytest.raises(UsageError, match="two columns with the name 'url'"):
        list(parquet_rows(file, "file", lambda schema: schema.names))


@pytest.mark.parametrize("size", ["1" * 30, "-1", str(2**63)])
def test_a_size_that_no_object_has_is_named(written: Written, size: str) -> None:
    written.csv(row("p/a.jpg"), row("p/b.jpg", Size=size))
    assert size in written.refused("row 2")


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("key", pyarrow.array([5])),
        ("bucket", pyarrow.array([5])),
        ("e_tag", pyarrow.array([5])),
        ("size", pyarrow.array([float("inf")])),
        ("last_modified_date", pyarrow.array([2**61], pyarrow.timestamp("us"))),
    ],
)
def test_values_of_another_type_are_refused(written: Written, column: str, values: Any) -> None:
    whole = {"bucket": ["photos"], "key": ["p/a.jpg"], "size": [5], "e_tag": ["1"]}
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(whole | {column: values}), file)
    written.manifest |= {
        "fileFormat": "Parquet",
        "fileSchema": "message s3.inventory { required binary bucket (UTF8); required binary key"
        " (UTF8); optional int64 size; optional binary e_tag (UTF8);}",
    }
    written.put(file.getvalue())
    written.refused(f"s3://{written.where.bucket}/")
