"""Parquet files with wrong bytes are refused or read, in a bounded time and amount of memory."""

import subprocess
import sys

import pytest

# Changes bytes of the pages with their headers, or of the footer, and reads what comes of it.
_READER = """
import io, random, resource, sys
import pyarrow, pyarrow.parquet
from workers.errors import UsageError
from workers.planning.parquet import parquet_rows

resource.setrlimit(resource.RLIMIT_DATA, (3 * 2**30, 3 * 2**30))
part = sys.argv[1]
chance = random.Random(part)
table = pyarrow.table(
    {"key": [f"k{n % 7}" for n in range(300)], "size": range(300), "latest": [True, None] * 150}
)
forms = [
    dict(compression=compression, use_dictionary=dictionary, data_page_version=version)
    for compression in ("none", "snappy", "gzip")
    for dictionary in (True, False)
    for version in ("1.0", "2.0")
]
files = []
for form in forms:
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file, data_page_size=200, **form)
    files.append(file.getvalue())
for _ in range(1000):
    data = bytearray(chance.choice(files))
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    first, last = (4, end) if part == "pages" else (end, len(data) - 8)
    for _ in range(chance.randint(1, 4)):
        data[chance.randrange(first, last)] = chance.choice(
            (0, 0x11, 0x15, 0x18, 0x19, 0x1C, 0xFF, chance.randrange(256))
        )
    try:
        for _row in parquet_rows(io.BytesIO(bytes(data)), "file", lambda schema: schema.names):
            pass
    except (UsageError, pyarrow.ArrowException, OSError, ValueError, OverflowError):
        pass
"""


@pytest.mark.parametrize("part", ["pages", "footer"])
def test_wrong_bytes_are_refused_or_read(part: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _READER, part], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


_STRUCTURES = """
import random, sys
from workers.planning.thrift import read_struct

chance = random.Random(sys.argv[1])
for _ in range(50_000):
    data = bytes(
        chance.choice((0, 0x15, 0x18, 0x19, 0x1C, 0x2C, 0xFF, chance.randrange(256)))
        for _ in range(chance.randrange(80))
    )
    try:
        fields, length = read_struct(data)
    except ValueError:
        continue
    assert isinstance(fields, dict) and 0 < length <= len(data)
"""


def test_random_bytes_are_a_structure_or_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _STRUCTURES, "1"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
