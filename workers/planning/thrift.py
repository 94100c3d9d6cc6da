"""Read structures in Thrift's compact protocol, as in the page headers of Parquet files.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from typing import Any

_STOP, _TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = (
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12,
)  # fmt: skip
_DEEPEST = 8  # structures in each other


def read_struct(data: bytes) -> tuple[dict[int, Any], int]:
    """Return the structure that data begins with, by field number, and its length in bytes.

    Raises:
        ValueError: data begins with no complete structure.
    """
    reader = _Reader(data)
    try:
        return reader.struct(_DEEPEST), reader.at
    except IndexError:
        raise ValueError("it has no end") from None


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("a number is too long")

    def integer(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def skip(self, length: int) -> None:
        self.at += length

    def struct(self, deepest: int) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while (head := self.byte()) != _STOP:
            number = number + (head >> 4) if head >> 4 else self.integer()
            fields[number] = self.value(head & 15, deepest)
        return fields

    def value(self, kind: int, deepest: int) -> Any:
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind in (_I16, _I32, _I64):
            return self.integer()
        if kind == _BYTE:
            return self.byte()
        if kind == _DOUBLE:
            return self.skip(8)
        if kind == _BINARY:
            return self.skip(self.varint())
        if kind in (_LIST, _SET) and deepest:
            return self.items(deepest - 1)
        if kind == _STRUCT and deepest:
            return self.struct(deepest - 1)
        raise ValueError(f"a field of type {kind}")

    def items(self, deepest: int) -> None:
        head = self.byte()
        length = self.varint() if head >> 4 == 15 else head >> 4
        for _ in range(length):
            # A truth value is a byte of its own here, unlike in a structure.
            kind = head & 15
            self.value(_BYTE if kind in (_TRUE, _FALSE) else kind, deepest)
