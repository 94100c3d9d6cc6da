"""Inventories and manifests that unpack to many times their size.

Each file is read in its own process, whose peak memory is measured.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.parquet
import pytest

_MEBIBYTE = 2**20
_MOST = 250 * _MEBIBYTE
"""More than reading any file may take, and less than the smallest bomb unpacks to."""

# Reads a manifest or inventory at a path; prints the result and the growth of peak memory.
_READER = """
import re, resource, sys
from pathlib import Path
from types import SimpleNamespace
from db.archives import RegisteredArchive
from workers.errors import UsageError
from workers.planning.inventory import inventory
from workers.planning.manifests import manifest_urls

class Folder:
    def of(self, archive): return self
    def head(self, bucket, key): return key
    def fetch(self, key, most): return SimpleNamespace(data=(path.parent / key).read_bytes())
    def download(self, bucket, key, out, size): out.write((path.parent / key).read_bytes())

def peak():  # ru_maxrss would begin at the peak of the process that started this one
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

path = Path(sys.argv[1])
archive = RegisteredArchive("photos", "", "photos", id=1)
resource.setrlimit(resource.RLIMIT_DATA, (3 * 2**30, 3 * 2**30))
before = peak()
try:
    if path.name == "manifest.json":
        pages = inventory(Folder(), [archive], archive, "inventory s3://photos/manifest.json").pages
        said = sum(len(page.objects) for page in pages(None))
    else:
        said = sum(1 for _ in manifest_urls(path))
except UsageError as error:
    said = error.message
print(peak() - before, said)
"""


def read(path: Path) -> tuple[int, str]:
    """Return the growth of the reading process's peak memory, in bytes, and the result."""
    done = subprocess.run(
        [sys.executable, "-c", _READER, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    grown, _space, said = done.stdout.strip().partition(" ")
    return int(grown) * 1024, said


Write = Callable[..., Path]


@pytest.fixture(params=["manifest", "inventory"])
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Write:
    """Write a column of keys as a manifest, or as an inventory of the bucket `photos`."""

    def manifest(keys: pyarrow.Array, **options: Any) -> Path:
        if encoding := options.pop("column_encoding", None):
            options["column_encoding"] = {"url": encoding}
        path = tmp_path / "manifest.parquet"
        pyarrow.parquet.write_table(pyarrow.table({"url": keys}), path, **options)
        return path

    def inventory(keys: pyarrow.Array, **options: Any) -> Path:
        if encoding := options.pop("column_encoding", None):
            options["column_encoding"] = {"key": encoding}
        table = pyarrow.table(
            {
                "bucket": pyarrow.repeat("photos", len(keys)),
                "key": keys,
                "size": pyarrow.repeat(5, len(keys)),
                "e_tag": pyarrow.repeat("0123456789abcdef", len(keys)),
            }
        )
        pyarrow.parquet.write_table(table, tmp_path / "data.parquet", **options)
        schema = (
            "message s3.inventory { required binary bucket (UTF8); required binary key (UTF8);"
            " optional int64 size; optional binary e_tag (UTF8);}"
        )
        return inventory_of(tmp_path, "data.parquet", "Parquet", schema)

    return manifest if request.param == "manifest" else inventory


def inventory_of(folder: Path, file: str, form: str, schema: str) -> Path:
    data = (folder / file).read_bytes()
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    manifest = {
        "sourceBucket": "photos",
        "destinationBucket": "arn:aws:s3:::photos",
        "creationTimestamp": "1700000000000",
        "fileFormat": form,
        "fileSchema": schema,
        "files": [{"key": file, "size": len(data), "MD5checksum": md5}],
    }
    path = folder / "manifest.json"
    path.write_text(json.dumps(manifest))
    return path


def smaller(path: Path, most: int) -> None:
    """Assert that a file is small in relation to its unpacked size."""
    size = sum(file.stat().st_size for file in path.parent.iterdir())
    assert size < most


ONE_PAGE = {
    "use_dictionary": False, "compression": "zstd", "data_page_size": 2**31 - 1,
    "max_rows_per_page": 10**6, "write_batch_size": 10**6,
}  # fmt: skip


def test_a_page_that_unpacks_to_300_megabytes_is_refused(write: Write) -> None:
    path = write(pyarrow.repeat("s3://photos/" + "x" * 1000, 300_000), **ONE_PAGE)
    smaller(path, 4 * _MEBIBYTE)
    grown, said = read(path)
    assert grown < _MOST
    assert "row group 1" in said
    assert "smaller" in said


def test_a_long_value_that_each_row_repeats_is_refused(write: Write) -> None:
    """A dictionary with one long value is small; a thousand rows of that value are not."""
    value = pyarrow.array(["s3://photos/" + "x" * _MEBIBYTE])
    rows = pyarrow.repeat(pyarrow.scalar(0, pyarrow.int32()), 3000)
    path = write(pyarrow.DictionaryArray.from_arrays(rows, value))
    smaller(path, 4 * _MEBIBYTE)
    grown, said = read(path)
    assert grown < _MOST
    assert "longer than" in said


def test_values_that_share_their_beginnings_are_refused(write: Write) -> None:
    """DELTA_BYTE_ARRAY stores each value as its difference from the previous one."""
    keys = pyarrow.repeat("s3://photos/" + "x" * _MEBIBYTE, 300)
    path = write(keys, use_dictionary=False, column_encoding="DELTA_BYTE_ARRAY")
    smaller(path, 4 * _MEBIBYTE)
    grown, said = read(path)
    assert grown < _MOST
    assert "DELTA_BYTE_ARRAY" in said


def test_a_footer_that_states_less_than_the_pages_hold_does_not_help(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    keys = pyarrow.repeat("s3://photos/" + "x" * 1000, 300_000)
    pyarrow.parquet.write_table(pyarrow.table({"url": keys}), path, **ONE_PAGE)
    data = path.read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    stated = zigzag(stated_size(path))
    path.write_bytes(
        data[:footer] + data[footer:].replace(stated, padded(zigzag(1000), len(stated)))
    )
    assert stated_size(path) == 1000
    grown, said = read(path)
    assert grown < _MOST
    assert "row group 1" in said


def stated_size(path: Path) -> int:
    with pyarrow.parquet.ParquetFile(path) as file:
        size: int = file.metadata.row_group(0).column(0).total_uncompressed_size
    return size


def zigzag(number: int) -> bytes:
    """Encode an integer in Thrift's compact protocol."""
    number <<= 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def padded(varint: bytes, length: int) -> bytes:
    """Encode the same integer in more bytes."""
    more = length - len(varint)
    return bytes([*varint[:-1], varint[-1] | 128, *[128] * (more - 1), 0]) if more else varint


def test_a_quoted_row_without_an_end_is_refused(tmp_path: Path) -> None:
    """Each line ends one cell and begins the next, so the row is as long as the file."""
    lines = b'"\n' + b'","cell\n' * 4_000_000
    path = tmp_path / "manifest.csv"
    path.write_bytes(lines)
    grown, said = read(path)
    assert grown < _MOST
    assert "the row" in said


@pytest.mark.parametrize("dictionary", [True, False])
def test_many_rows_in_one_row_group_are_read(write: Write, dictionary: bool) -> None:
    numbers = pyarrow.array(range(200_000)).cast(pyarrow.string())
    keys = pyarrow.compute.binary_join_element_wise("s3://photos/2026", numbers, "/")
    grown, said = read(write(keys, use_dictionary=dictionary, row_group_size=200_000))
    assert said == "200000"
    assert grown < _MOST
