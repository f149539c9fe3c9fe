"""What a pickle would do to memory, found out before it is run.

CPython's unpickler believes some numbers in the file: storing an object under number n of the memo makes a table of
2n places, and a ``bytearray`` of n bytes is made before its content is read. Five bytes can so ask for 64 GB; and every
byte that makes an empty set costs two hundred. A pickle has no jumps, so that one pass over its instructions sees
exactly what would be executed. Runs of instructions without dangerous numbers are passed over by one regular
expression.
"""

from __future__ import annotations

__all__ = ["MAX_CONTAINERS", "refusal"]

import re
from typing import Final

#: Lists, dictionaries, sets and tuples that a pickle may at most make.
MAX_CONTAINERS: Final = 2**23

#: Numbers of the memo below this (16 MB of places) are passed over without a further look.
_SAFE_MEMO = 2**20

# Instructions by the form of their argument (``pickletools`` of Python 3.11 lists the same); those with a
# length, a number of the memo, or an end ('.') are looked at one by one.
# A length and as many bytes; those that are most often met are tried first.
_SHORT = b"|".join(b"%b.{%d}" % (re.escape(bytes([n])), n) for n in sorted(range(25), key=lambda n: abs(n - 10)))
_RUN = re.compile(
    rb"(?:[(012NQRabd}e\]ostu)l\x81\x85-\x89\x8f-\x94\x97\x98]"  # nothing
    rb"|[Khq\x80\x82]."  # one byte
    rb"|[G\x95].{8}"
    rb"|r..[\x00-\x0f]\x00"  # the memo, below _SAFE_MEMO
    rb"|[M\x83].."
    rb"|[Jj\x84].{4}"
    rb"|\x8c(?:" + _SHORT + rb")"  # short texts
    rb")++",
    re.DOTALL,
)
_LINES = {ord("F"): 1, ord("I"): 1, ord("L"): 1, ord("S"): 1, ord("V"): 1, ord("P"): 1, ord("g"): 1}
_LINES |= {ord("c"): 2, ord("i"): 2}
_COUNTED = {ord("U"): 1, ord("C"): 1, 0x8C: 1, 0x8A: 1, ord("T"): 4, ord("X"): 4, ord("B"): 4, 0x8B: 4}
_COUNTED |= {0x8D: 8, 0x8E: 8, 0x96: 8}
_CONTAINERS = (b"]", b"}", b")", b"\x8f", b"l", b"d", b"t", b"\x81", b"\x85", b"\x86", b"\x87", b"\x91", b"R")
_STOP, _LONG_BINPUT, _PUT = ord("."), ord("r"), ord("p")


def refusal(data: bytes, max_containers: int = MAX_CONTAINERS) -> str | None:
    """Say why a pickle must not be run; None if its memory is bounded by its size.

    Parameters
    ----------
    data
        The pickle. One that is damaged in another way is passed: the unpickler stops there, too.
    max_containers
        How many containers it may make; counted roughly, from above.
    """
    if len(data) > max_containers and sum(data.count(code) for code in _CONTAINERS) > max_containers:
        return f"it may make more than {max_containers} containers"
    place, end = 0, len(data)
    while place < end:
        run = _RUN.match(data, place)
        if run is not None:
            place = run.end()
            if place >= end:
                return None
        code = data[place]
        place += 1
        if code == _STOP:
            return None
        if code in _COUNTED:
            width = _COUNTED[code]
            length = int.from_bytes(data[place : place + width], "little")
            place += width + length
            if place > end:
                return f"it announces {length} bytes where {max(0, end - (place - length))} are left"
        elif code == _LONG_BINPUT:
            number = int.from_bytes(data[place : place + 4], "little")
            place += 4
            if number > max(_SAFE_MEMO, end):
                return f"it stores an object under the number {number}"
        elif code == _PUT:
            line = data.find(b"\n", place)
            text = data[place : line if line >= 0 else end]
            if len(text) > 10 or (text.strip().isdigit() and int(text) > max(_SAFE_MEMO, end)):
                return f"it stores an object under the number {text[:20]!r}"
            place = line + 1 if line >= 0 else end
        elif code in _LINES:
            for _ in range(_LINES[code]):
                line = data.find(b"\n", place)
                place = line + 1 if line >= 0 else end
        else:
            return None  # no instruction: the unpickler stops here
    return None
