"""Records of a TFRecord file, whole blocks at once, every checksum verified.

A record is its length (eight bytes, little-endian), the masked CRC-32C of these eight bytes, the data, and their masked
CRC-32C (four bytes each): tensorflow/core/lib/io/record_writer.h.
"""

from __future__ import annotations

__all__ = ["LONGEST", "Block", "first_record", "record_blocks"]

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tauzero.benchmarks._crc32c import crc32c_of_parts, masked
from tauzero.spaces import BenchmarkFormatError

#: Bytes of the longest record that is read; those of neural architectures have some hundreds.
LONGEST = 1 << 16

_BLOCK = 1 << 24  # bytes that are read at a time
_HEAD, _FRAME = 12, 16  # bytes before the data, and around them
_LENGTH = struct.Struct("<Q").unpack_from
_REMEDY = "The file is damaged: get it again."


@dataclass(frozen=True)
class Block:
    """Some records in a row.

    Attributes
    ----------
    data
        ``uint8[size]``: this piece of the file.
    starts, lengths
        ``int64[n]``: the data of each record are ``data[start : start + length]``.
    first
        Number of the first record in the file, from 0.
    offset
        Where `data` begin in the file, in bytes.
    end
        Where the record after the last one begins in the file, in bytes.
    """

    data: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    first: int
    offset: int
    end: int

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Where each record begins in the file, its length field included, ``int64[n]`` bytes."""
        return self.starts - _HEAD + self.offset

    def named(self, row: int) -> str:
        """Name of a record for messages."""
        return f"Record {self.first + row} (at byte {self.offsets[row]})"

    def record(self, row: int) -> bytes:
        """Data of one record."""
        return self.data[self.starts[row] : self.starts[row] + self.lengths[row]].tobytes()


def first_record(path: Path) -> tuple[bool, bytes]:
    """Whether the first length field has the right checksum, and what follows it (at most `LONGEST` bytes)."""
    if not path.is_file():
        return False, b""
    with path.open("rb") as stream:
        data = stream.read(_HEAD + LONGEST)
    if len(data) < _HEAD:
        return False, b""
    return bool(_sound(np.frombuffer(data, dtype=np.uint8), np.array([0]), np.array([8]))[0]), data[_HEAD:]


def record_blocks(path: Path, offset: int = 0, first: int = 0) -> Iterator[Block]:
    """Yield the records from a place on, in blocks of at most 16 MB.

    Parameters
    ----------
    path
        The file.
    offset
        Bytes before the record to begin with.
    first
        Its number.

    Raises
    ------
    BenchmarkFormatError
        If the file is truncated, a checksum is wrong or a record is longer than `LONGEST`; the message names the
        record by its number and its place in bytes.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        while offset < size:
            stream.seek(offset)
            data = stream.read(_BLOCK)
            lengths = _lengths(data)
            spans = np.array(lengths, dtype=np.int64)
            starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(spans + _FRAME)])
            used = int(starts[-1])
            block = Block(np.frombuffer(data, dtype=np.uint8), starts[:-1] + _HEAD, spans, first, offset, offset + used)
            _check(path, block)
            if not lengths:
                raise _stopped(path, data, first, offset, size)
            yield block
            offset, first = block.end, first + len(block)


def _lengths(data: bytes) -> list[int]:
    """Lengths of the records that are there as a whole."""
    lengths = []
    place, size = 0, len(data)
    while place + _HEAD <= size:
        (length,) = _LENGTH(data, place)
        place += _FRAME + length
        if place > size or length > LONGEST:
            break
        lengths.append(length)
    return lengths


def _sound(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Whether the four bytes after each part are its masked checksum, ``bool[n]``."""
    places = (starts + lengths)[:, None] + np.arange(4)
    stored = np.ascontiguousarray(data[places]).view("<u4").reshape(-1)
    return masked(crc32c_of_parts(data, starts, lengths)) == stored


def _check(path: Path, block: Block) -> None:
    """Verify both checksums of all records; the first one that is wrong is named."""
    heads = _sound(block.data, block.starts - _HEAD, np.full(len(block), 8))
    bodies = _sound(block.data, block.starts, block.lengths)
    wrong = ~(heads & bodies)
    if wrong.any():
        row = int(np.argmax(wrong))
        what = "data" if heads[row] else "length field"
        raise BenchmarkFormatError(
            f"{block.named(row)} of '{path}': the checksum (CRC-32C) of its {what} is wrong. {_REMEDY}"
        )


def _stopped(path: Path, data: bytes, number: int, offset: int, size: int) -> BenchmarkFormatError:
    """Why no record can be read from a place on."""
    where = f"Record {number} (at byte {offset}) of '{path}'"
    if len(data) >= _HEAD:
        if not _sound(np.frombuffer(data, dtype=np.uint8), np.array([0]), np.array([8]))[0]:
            return BenchmarkFormatError(f"{where}: the checksum (CRC-32C) of its length field is wrong. {_REMEDY}")
        (length,) = _LENGTH(data, 0)
        if length > LONGEST:
            return BenchmarkFormatError(
                f"{where} is {length} bytes long, at most {LONGEST} are expected: it is no table of architectures."
            )
    return BenchmarkFormatError(f"{where} is cut off: the file ends at byte {size}. {_REMEDY}")
