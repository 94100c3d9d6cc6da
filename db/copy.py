"""Rows to PostgreSQL by COPY: the quickest way in (DESIGN.md section 3: 2.3 times the ORM)."""

import io
from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection

Value = str | int | float | bool | bytes | datetime | Sequence[str] | Sequence[float] | None
"""What a cell can hold; a sequence becomes a PostgreSQL array."""


def _escape(value: str) -> str:
    # PostgreSQL's text cannot hold NUL; hostile metadata can.
    value = value.replace("\x00", "\ufffd").replace("\\", "\\\\")
    return value.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _array(values: Sequence[str] | Sequence[float]) -> str:
    def quote(value: str | float) -> str:
        if isinstance(value, str):
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return repr(float(value))

    return "{" + ",".join(quote(value) for value in values) + "}"


def _field(value: Value) -> str:
    """One value in COPY's text format (PostgreSQL documentation, COPY, "Text Format")."""
    if value is None:
        return r"\N"
    if isinstance(value, str):
        return _escape(value)
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, bytes):
        return r"\\x" + value.hex()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Sequence):
        return _escape(_array(value))
    return repr(value)


def stage(
    connection: Connection, columns: dict[str, str], rows: Iterable[Sequence[Value]], *, name: str
) -> int:
    """Fill the temporary table `name` with rows; it goes when the transaction ends.

    Args:
        connection: one with an open transaction.
        columns: PostgreSQL type by column name, in the order of the rows' values.
        rows: the values.
        name: the table's name; an earlier table of that name is replaced.

    Returns:
        The number of rows.
    """
    lines = ["\t".join(map(_field, row)) + "\n" for row in rows]
    declared = ", ".join(f"{column} {type_}" for column, type_ in columns.items())
    cursor = connection.connection.cursor()
    try:
        cursor.execute(f"DROP TABLE IF EXISTS pg_temp.{name}")
        cursor.execute(f"CREATE TEMP TABLE {name} ({declared}) ON COMMIT DROP")
        cursor.copy_expert(f"COPY {name} FROM STDIN", io.StringIO("".join(lines)))
    finally:
        cursor.close()
    return len(lines)
