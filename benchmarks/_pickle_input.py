"""The bytes of a pickle, from a stream, within limits."""

from __future__ import annotations

__all__ = ["MARGIN", "Input", "Limits", "Readable"]

import pickle
from dataclasses import dataclass
from typing import Final, Protocol

#: Zeros after the stream's end, and at least so many bytes before it: more than an opcode with a one-byte length has.
MARGIN: Final = 512

_CHUNK = 2**20


@dataclass(frozen=True)
class Limits:
    """What a pickle may cost.

    Attributes
    ----------
    string
        Bytes of one string, number or block of bytes.
    entry
        Bytes between two entries that are given out, or in all if none is. A byte becomes at most some ninety.
    names
        Bytes of strings that later entries may refer to.
    """

    string: int = 64 * 2**20
    entry: int = 256 * 2**20
    names: int = 256 * 2**20


class Readable(Protocol):
    """What a pickle is read from."""

    def read(self, count: int, /) -> bytes:
        """Read at most so many bytes; none only at the end."""


class Input:
    """A buffer on a stream.

    Parameters
    ----------
    stream
        Read from its present position on.
    limits
        How much may be read between two entries, and at once.
    """

    def __init__(self, stream: Readable, limits: Limits) -> None:
        self._stream, self._limits = stream, limits
        self._buffer, self._at, self._end, self._before = b"", 0, 0, 0
        self._ended = False
        self._since = 0  # where the present entry began

    @property
    def rest(self) -> bytes:
        """What has been read from the stream beyond the end of the pickle."""
        return self._buffer[self._at : self._end]

    def _check_end(self) -> None:
        if self._at > self._end:
            raise EOFError("it ends within an object")

    def _refill(self, count: int = MARGIN + 1) -> None:
        """Have at least so many bytes after the present one; zeros (no opcode) follow the stream's end."""
        if self._ended and self._at >= self._end:
            raise EOFError("it has no end")
        self._check_end()
        self._before += self._at
        parts, there = [self._buffer[self._at : self._end]], self._end - self._at
        if self._before + there - self._since > self._limits.entry + _CHUNK:
            raise pickle.UnpicklingError(f"an entry of more than {self._limits.entry} bytes")
        while not self._ended and there < count:
            part = self._stream.read(_CHUNK)
            self._ended = not part
            there += len(part)
            parts.append(part)
        if self._ended:
            parts.append(bytes(MARGIN))
        self._buffer, self._at, self._end = b"".join(parts), 0, there

    def _take(self, count: int) -> bytes:
        if count > self._limits.string:
            raise pickle.UnpicklingError(f"a string of {count} bytes, the limit is {self._limits.string}")
        if self._at + count > self._end:
            self._refill(count)
            if count > self._end:
                raise EOFError("it ends within a string")
        found = self._buffer[self._at : self._at + count]
        self._at += count
        return found

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\n", self._at, self._end)) < 0:
            there = self._end - self._at
            if self._ended or there > self._limits.string:
                raise EOFError("a line without an end")
            self._refill(there + 1)
        found = self._buffer[self._at : end]
        self._at = end + 1
        return found
