"""How deeply a pickle nests tuples, found out before it is run.

Python hashes a tuple by hashing what is in it, in C and without a limit to the depth: a nest of some hundred thousand
tuples as the key of a dictionary overflows the stack and ends the process. A file of a megabyte can hold one.
"""

from __future__ import annotations

__all__ = ["MAX_TUPLES_UNSEEN", "too_deep"]

import pickletools
from typing import Final

#: Pickles with no more tuples than this cannot overflow a stack of 8 MB (measured: 100,000 do not, 200,000 do), and
#: deeper ones than this are refused.
MAX_TUPLES_UNSEEN: Final = 50_000

_TUPLES = frozenset({"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"})
#: What leaves a list, dictionary or set on the stack, whose content is never hashed with it.
_UNHASHABLE = frozenset({"LIST", "DICT", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"})
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})


def too_deep(data: bytes, limit: int = MAX_TUPLES_UNSEEN) -> bool:
    """Whether tuples stand in one another more than `limit` deep; also true for what is no pickle up to its end.

    Every instruction is looked at in Python: some microseconds each. What calls make of tuples counts as one more.
    """
    stack: list[int | None] = []  # depth of tuples of each object, None for a mark
    memo: dict[int, int] = {}
    try:
        for op, argument, _ in pickletools.genops(data):
            name = op.name
            if name in _GETS:
                stack.append(memo[int(argument)])
            elif name in _PUTS or name == "MEMOIZE":
                memo[len(memo) if name == "MEMOIZE" else int(argument)] = stack[-1] or 0
            elif name == "MARK":
                stack.append(None)
            elif name == "DUP":
                stack.append(stack[-1])
            else:
                depth = _depth_of(name, _taken(op, stack))
                if depth > limit:
                    return True
                stack.extend([depth] * sum(kind is not pickletools.markobject for kind in op.stack_after))
    except (ValueError, KeyError, IndexError):
        return True
    return False


def _taken(op: pickletools.OpcodeInfo, stack: list[int | None]) -> list[int]:
    """Depths of the objects that an instruction takes from the stack, and takes them."""
    found: list[int] = []
    if pickletools.markobject in op.stack_before:
        while (top := stack.pop()) is not None:
            found.append(top)
        count = op.stack_before.index(pickletools.markobject)  # what lies below the mark
    else:
        count = len(op.stack_before)
    found.extend(stack.pop() or 0 for _ in range(count))
    return found


def _depth_of(name: str, parts: list[int]) -> int:
    if name in _UNHASHABLE:
        return 0
    return max(parts, default=0) + (name in _TUPLES or name in {"REDUCE", "NEWOBJ", "FROZENSET"})
