"""The wire format of protocol buffers, as far as reading needs it: numbers, doubles and nested messages.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

__all__ = ["BYTES", "DOUBLE", "VARINT", "Field", "WireError", "fields"]

from collections.abc import Iterator
from typing import NamedTuple

VARINT, DOUBLE, BYTES, FLOAT = 0, 1, 2, 5
_WIDTH = {DOUBLE: 8, FLOAT: 4}
_LONGEST_VARINT = 10


class WireError(ValueError):
    """Bytes that are no message."""


class Field(NamedTuple):
    """One field of a message.

    Attributes
    ----------
    number
        Number of the field.
    kind
        Its wire type: `VARINT`, `DOUBLE` (any eight bytes), `BYTES` (text or a message) or four bytes.
    start, stop
        Where the value stands, without tag and length.
    value
        The number of a `VARINT`, else 0.
    """

    number: int
    kind: int
    start: int
    stop: int
    value: int


def _varint(data: bytes, place: int, stop: int) -> tuple[int, int]:
    """Read an unsigned number; returns it and where it ends."""
    value = 0
    for k in range(_LONGEST_VARINT):
        if place + k >= stop:
            raise WireError("a number is cut off")
        byte = data[place + k]
        value |= (byte & 127) << (7 * k)
        if byte < 128:
            return value & (2**64 - 1), place + k + 1
    raise WireError("a number is longer than ten bytes")


def fields(data: bytes, start: int = 0, stop: int | None = None) -> Iterator[Field]:
    """Yield the fields of a message in the order in which they stand, known or not.

    Raises
    ------
    WireError
        If the bytes are no message.
    """
    place, stop = start, len(data) if stop is None else stop
    while place < stop:
        tag, place = _varint(data, place, stop)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 2**29:
            raise WireError(f"field number {number}")
        begin, value = place, 0
        if kind == VARINT:
            value, place = _varint(data, place, stop)
        elif kind == BYTES:
            length, begin = _varint(data, place, stop)
            place = begin + length
        elif kind in _WIDTH:
            place = begin + _WIDTH[kind]
        else:  # groups have been deprecated since 2008; 6 and 7 are no types
            raise WireError(f"wire type {kind}")
        if place > stop:
            raise WireError(f"field {number} is cut off")
        yield Field(number, kind, begin, place, value)
