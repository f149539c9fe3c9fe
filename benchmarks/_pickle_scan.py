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

from tauzero.benchmarks._pickle_depth import MAX_TUPLES_UNSEEN, too_deep

#: Lists, dictionaries, sets and tuples that a pickle may at most make.
MAX_CONTAINERS: Final = 2**23

#: Numbers of the memo below this (16 MB of places) are passed over without a further look.
_SAFE_MEMO = 2**20

# Instructions by the form of their argument (``pickletools`` of Python 3.11 lists the same); those with a
# length, a number of the memo, or an end ('.') are looked at one by one.
# A length and as many bytes; those that are most often met are tried first.
_SHORT = b"|".join(b"%b.{%d}" % (re.escape(bytes([n])), n) for n in sorted(range(25), key=lambda n: abs(n - 10)))
_CONTAINERS = rb"]})ldtR\x8f\x81\x85-\x87\x91"
_OTHERS = (
    rb"[(012NQabeosu\x88\x89\x90\x92-\x94\x97\x98]"  # nothing
    rb"|[Khq\x80\x82]."  # one byte
    rb"|[G\x95].{8}"
    rb"|r..[\x00-\x0f]\x00"  # the memo, below _SAFE_MEMO
    rb"|[M\x83].."
    rb"|[Jj\x84].{4}"
    rb"|\x8c(?:" + _SHORT + rb")"  # short texts
)
_RUN = re.compile(rb"(?:[%b]|%b)++" % (_CONTAINERS.replace(b"]", rb"\]"), _OTHERS), re.DOTALL)
_NO_CONTAINERS = re.compile(rb"(?:%b)++" % _OTHERS, re.DOTALL)
_ONLY_CONTAINERS = re.compile(rb"[%b]++" % _CONTAINERS.replace(b"]", rb"\]"))
_TUPLE_CODES = [b"t", b"\x85", b"\x86", b"\x87"]
_LINES = {ord("F"): 1, ord("I"): 1, ord("L"): 1, ord("S"): 1, ord("V"): 1, ord("P"): 1, ord("g"): 1}
_LINES |= {ord("c"): 2, ord("i"): 2}
_COUNTED = {ord("U"): 1, ord("C"): 1, 0x8C: 1, 0x8A: 1, ord("T"): 4, ord("X"): 4, ord("B"): 4, 0x8B: 4}
_COUNTED |= {0x8D: 8, 0x8E: 8, 0x96: 8}
_CODES = [bytes([code]) for code in range(256) if _ONLY_CONTAINERS.match(bytes([code]))]
_LONG_BINPUT, _PUT = ord("r"), ord("p")


def refusal(data: bytes, max_containers: int = MAX_CONTAINERS) -> str | None:
    """Say why a pickle must not be run; None if its memory is bounded by its size.

    Parameters
    ----------
    data
        The pickle. One that is damaged in another way is passed: the unpickler stops there, too.
    max_containers
        How many containers it may make.
    """
    # Bytes that look like them are quickly counted; only where there are many is it worth the while to look closer.
    if len(data) > max_containers and sum(map(data.count, _CODES)) > max_containers and _makes(data, max_containers):
        return f"it makes more than {max_containers} containers"
    place = 0
    while place < len(data):
        run = _RUN.match(data, place)
        reason, place = _look(data, place if run is None else run.end())
        if reason:
            return reason
    # Bytes that look like them are quickly counted here, too, and nearly always few.
    if sum(map(data.count, _TUPLE_CODES)) > MAX_TUPLES_UNSEEN and too_deep(data):
        return f"it nests tuples more than {MAX_TUPLES_UNSEEN} deep, or is no pickle"
    return None


def _makes(data: bytes, more_than: int) -> bool:
    """Whether a pickle makes more than so many containers."""
    place, count = 0, 0
    while place < len(data) and count <= more_than:
        found = _NO_CONTAINERS.match(data, place)
        place = place if found is None else found.end()
        found = _ONLY_CONTAINERS.match(data, place)
        if found is None:
            _, place = _look(data, place)
        else:
            count += found.end() - place
            place = found.end()
    return count > more_than


def _look(data: bytes, place: int) -> tuple[str | None, int]:
    """What is wrong with the one instruction at a place, and where the next one is; the end if there is none."""
    end = len(data)
    if place == end:
        return None, end
    code = data[place]
    place += 1
    if code in _COUNTED:
        start = place + _COUNTED[code]
        length = int.from_bytes(data[place:start], "little")
        reason = f"it announces {length} bytes where {max(0, end - start)} are left"
        return (reason if start + length > end else None), start + length
    if code == _LONG_BINPUT:
        return _memo(int.from_bytes(data[place : place + 4], "little"), end), place + 4
    if code == _PUT:
        after = _after_lines(data, place, 1)
        text = data[place:after].strip()
        return _memo(int(text) if text.isdigit() and len(text) < 20 else end + _SAFE_MEMO, end), after
    if code in _LINES:
        return None, _after_lines(data, place, _LINES[code])
    return None, end  # STOP, or no instruction: the unpickler goes no further


def _memo(number: int, end: int) -> str | None:
    return f"it stores an object under the number {number}" if number > max(_SAFE_MEMO, end) else None


def _after_lines(data: bytes, place: int, lines: int) -> int:
    for _ in range(lines):
        found = data.find(b"\n", place)
        place = found + 1 if found >= 0 else len(data)
    return place
