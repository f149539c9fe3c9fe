"""A pickle machine that reads a stream within limits, and can give out a dictionary entry by entry.

Python's own unpickler builds the whole object, which for official files of gigabytes would be tens of gigabytes. It
also trusts the file with memory (the largest index of its memo is allocated at once) and with the C stack (hashing
tuples within tuples). This machine is several times slower and trusts the file with nothing: lengths are compared with
limits before anything is read, tuples nest only so far as hashing them stays cheap, and opcodes that no pickler
writes for plain data do not exist. Opcodes: CPython's Lib/pickletools.py, protocols 0 to 4 and the plain ones of 5.
"""

from __future__ import annotations

__all__ = ["Consumer", "Machine"]

import codecs
import pickle
from collections.abc import Callable
from struct import Struct
from typing import Any, Final, Protocol

from tauzero.benchmarks._pickle_input import MARGIN, Input, Limits, Readable
from tauzero.benchmarks._pickle_names import ForbiddenNameError, Names

_HASHING = 10_000  # elements that hashing a tuple may visit
_NAME = 128  # characters: shorter strings may be field names, to which later entries refer
_FIRST = 16  # entries
_LARGE = 200_000  # sets and calls between two entries: they make more memory of a byte than others
_DOUBLE, _INT, _COUNT, _COUNT8, _COUNT2 = Struct(">d"), Struct("<i"), Struct("<I"), Struct("<Q"), Struct("<H")


class Consumer(Protocol):
    """Takes the entries of watched dictionaries."""

    def watches(self, key: str) -> bool:
        """Whether the dictionary under a key is to be given out entry by entry; entries are dictionaries themselves."""

    def entry(self, parent: str, key: object, value: object) -> None:
        """Take a complete entry of the dictionary under the key `parent`; it is not kept."""


class _Items(list[Any]):
    """The part of the stack that holds keys and values of a watched dictionary, with the key under which it stands."""

    parent: str = ""


class Machine(Input):
    """Reads one pickle from a stream.

    Parameters
    ----------
    stream
        Read from its present position on; `rest` is what was read beyond the pickle's end.
    limits
        What it may cost.
    more
        Names that are allowed besides those of `Names`.
    consumer
        Gets the entries of the dictionaries that it watches; in the result they are empty.
    persistent
        What stands for a persistent identifier; None forbids them.
    strings_are_bytes
        Whether what Python 2 wrote as plain strings is read as bytes, not as ASCII text.
    """

    def __init__(
        self,
        stream: Readable,
        limits: Limits,
        more: dict[tuple[str, str], Any] | None = None,
        consumer: Consumer | None = None,
        persistent: Callable[[Any], Any] | None = None,
        *,
        strings_are_bytes: bool = False,
    ) -> None:
        super().__init__(stream, limits)
        self._consumer, self._persistent = consumer, persistent
        self._names = Names(lambda: self._before + self._at, more)
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._young: dict[int, Any] = {}  # the memo of this entry
        self._old: dict[int, Any] = {}
        self._memoized = self._kept = self._large = 0
        self._costs: dict[int, tuple[Any, int]] = {}  # of tuples with tuples within, by identity
        self._watching = False
        self._given = 0  # entries
        self._strings_are_bytes = strings_are_bytes

    def load(self) -> Any:
        """Read the pickle.

        Raises
        ------
        ForbiddenNameError
            If it asks for a name or a persistent object that is not allowed.
        Exception
            One of `DAMAGE`, if it is damaged or beyond the limits.
        """
        while self._run() is not None:
            pass
        self._check_end()
        return self._stack.pop()

    # -- memo, entries, tuples ------------------------------------------------------------------

    def _get(self, index: int) -> Any:
        try:
            return self._young[index] if index in self._young else self._old[index]
        except KeyError:
            raise pickle.UnpicklingError(f"it refers to the object {index}, which is not there") from None

    def _give(self, parent: str, key: object, value: object) -> None:
        assert self._consumer is not None
        self._consumer.entry(parent, key, value)
        for index, made in self._young.items():
            kind = type(made)
            if kind is str:
                # 'x-valid@199' is made anew for each result; constants are in the first entries.
                if len(made) <= _NAME and ("@" not in made or self._given < _FIRST):
                    self._keep(index, made, len(made))
            elif kind is bytes:
                if len(made) <= 1:  # Python has each of these once
                    self._keep(index, made, 1)
            elif not (isinstance(made, dict) or kind in {list, tuple, set, bytearray}):
                self._keep(index, made, 0)
        self._given += 1
        self._start_entry()

    def _keep(self, index: int, made: object, size: int) -> None:
        self._old[index] = made
        self._kept += 200 + size
        if self._kept > self._limits.names:
            raise pickle.UnpicklingError(f"more than {self._limits.names} bytes of names")

    def _start_entry(self) -> None:
        self._young.clear()
        self._costs.clear()
        self._since, self._large = self._before + self._at, 0

    def _tuple(self, items: tuple[Any, ...]) -> tuple[Any, ...]:
        """Check that hashing a tuple is cheap: it visits every tuple within as often as that stands there."""
        inner = [e for e in items if type(e) is tuple]
        if inner:
            costs = self._costs
            cost = len(items) + sum(costs[id(e)][1] if id(e) in costs else len(e) for e in inner)
            if cost > _HASHING:
                raise pickle.UnpicklingError("tuples within tuples within tuples")
            costs[id(items)] = items, cost  # kept alive, so that its identity stays its own
        return items

    def _is_watched(self) -> bool:
        """Whether the top of the stack is a dictionary under a key that is watched."""
        stack = self._stack
        return (
            self._consumer is not None
            and not self._watching
            and len(stack) > 1
            and isinstance(stack[-1], dict)
            and type(stack[-2]) is str
            and self._consumer.watches(stack[-2])
        )

    def _count_large(self) -> None:
        self._large += 1
        if self._large > _LARGE and self._large > (self._before + self._at - self._since) // 16:
            raise pickle.UnpicklingError("too many sets and calls")

    # -- the loop -------------------------------------------------------------------------------

    def _run(self) -> bool | None:  # noqa: PLR0912, PLR0915 - one loop without calls
        """Run opcodes until one is rare, run that; None after the last."""
        buffer, at, stack, young = self._buffer, self._at, self._stack, self._young
        append, safe, memoized = stack.append, len(self._buffer) - MARGIN, self._memoized
        double, number = _DOUBLE.unpack_from, _COUNT.unpack_from
        while at < safe:
            op = buffer[at]
            if op == 0x94:  # MEMOIZE
                young[memoized] = stack[-1]
                memoized += 1
                at += 1
            elif op == 0x47:  # BINFLOAT
                append(double(buffer, at + 1)[0])
                at += 9
            elif op == 0x8C:  # SHORT_BINUNICODE
                end = at + 2 + buffer[at + 1]
                append(str(buffer[at + 2 : end], "utf-8", "surrogatepass"))
                if buffer[end] == 0x94:  # the usual next opcode
                    young[memoized] = stack[-1]
                    memoized += 1
                    end += 1
                    if buffer[end] == 0x47:  # a name, then its value
                        append(double(buffer, end + 1)[0])
                        end += 9
                at = end
            elif op == 0x58 and (length := number(buffer, at + 1)[0]) < MARGIN - 8:  # BINUNICODE, a short one
                end = at + 5 + length
                append(str(buffer[at + 5 : end], "utf-8", "surrogatepass"))
                at = end
            elif op == 0x4B:  # BININT1
                append(buffer[at + 1])
                at += 2
                if buffer[at] == 0x47:  # epoch, then value
                    append(double(buffer, at + 1)[0])
                    at += 9
            elif op == 0x72:  # LONG_BINPUT
                young[number(buffer, at + 1)[0]] = stack[-1]
                at += 5
            elif op == 0x71:  # BINPUT
                young[buffer[at + 1]] = stack[-1]
                at += 2
            elif op == 0x68:  # BINGET
                append(self._get(buffer[at + 1]))
                at += 2
            elif op == 0x6A:  # LONG_BINGET
                append(self._get(number(buffer, at + 1)[0]))
                at += 5
            else:
                self._at, self._memoized = at + 1, memoized
                self._check_end()
                action = _RARE.get(op)
                if action is None:
                    raise pickle.UnpicklingError(f"no opcode for plain data: {op:#x}")
                return action(self)
        self._at, self._memoized = at, memoized
        self._refill()
        return True

    # -- rare opcodes ---------------------------------------------------------------------------

    def _pop_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._marks.pop()
        return items

    def _stop(self) -> None:
        return None

    def _push(self, value: object) -> bool:
        self._stack.append(value)
        return True

    def _mark(self) -> bool:
        above: list[Any] = []
        if self._is_watched():
            self._enter()
            above = _Items()
            above.parent = self._stack[-2]
        self._marks.append(self._stack)
        self._stack = above
        return True

    def _enter(self) -> None:
        """Keep all that was made before a watched dictionary: its entries may refer to it."""
        self._watching = True
        for index, made in self._young.items():
            self._keep(index, made, len(made) if type(made) in {str, bytes} else 0)
        self._start_entry()

    def _set_items(self) -> bool:
        items = self._pop_mark()
        target = self._dict()
        pairs = zip(items[::2], items[1::2], strict=True)
        if isinstance(items, _Items):
            for key, value in pairs:
                self._give(items.parent, key, value)
            self._watching = False
        else:
            for key, value in pairs:
                target[key] = value
        return self._filled()

    def _set_item(self) -> bool:
        value, key = self._stack.pop(), self._stack.pop()
        target = self._dict()
        if self._is_watched():  # a pickler writes the last of 1001 entries like this
            self._enter()
            self._watching = False
            self._give(self._stack[-2], key, value)
        else:
            target[key] = value
        return self._filled()

    def _filled(self) -> bool:
        """Give out an entry whose value, a dictionary, has got what is in it; other values wait for the end."""
        if isinstance(self._stack, _Items) and len(self._stack) == 2:
            key, value = self._stack
            self._stack.clear()
            self._give(self._stack.parent, key, value)
        return True

    def _dict(self) -> dict[Any, Any]:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise pickle.UnpicklingError("entries without a dictionary")
        return target

    def _append(self) -> bool:
        value = self._stack.pop()
        return self._extend([value])

    def _appends(self) -> bool:
        return self._extend(self._pop_mark())

    def _extend(self, items: list[Any]) -> bool:
        if type(self._stack[-1]) is not list:
            raise pickle.UnpicklingError("elements without a list")
        self._stack[-1].extend(items)
        return True

    def _add_items(self) -> bool:
        items = self._pop_mark()
        if type(self._stack[-1]) is not set:
            raise pickle.UnpicklingError("elements without a set")
        self._stack[-1].update(items)
        return True

    def _set(self) -> bool:
        self._count_large()
        return self._push(set())

    def _make_dict(self) -> bool:
        items = self._pop_mark()
        return self._push(dict(zip(items[::2], items[1::2], strict=True)))

    def _make_list(self) -> bool:
        return self._push(list(self._pop_mark()))

    def _make_frozenset(self) -> bool:
        self._count_large()
        return self._push(frozenset(self._pop_mark()))

    def _make_tuple(self) -> bool:
        return self._push(self._tuple(tuple(self._pop_mark())))

    def _tuple_of(self, count: int) -> bool:
        items = self._tuple(tuple(self._stack[-count:]))
        if len(items) < count:
            raise pickle.UnpicklingError("a tuple of nothing")
        del self._stack[-count:]
        return self._push(items)

    def _text(self, data: bytes) -> bool:
        return self._push(str(data, "utf-8", "surrogatepass"))

    def _size(self, width: Struct) -> int:
        size: int = width.unpack(self._take(width.size))[0]
        return size

    def _whole(self, data: bytes) -> bool:
        return self._push(int.from_bytes(data, "little", signed=True))

    def _int_line(self) -> bool:
        line = self._line()
        return self._push({b"00": False, b"01": True}[line] if line in {b"00", b"01"} else int(line))

    def _quoted(self) -> bool:
        line = self._line().strip()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in {b"'", b'"'}:
            raise pickle.UnpicklingError("a string of protocol 0 without quotes")
        return self._string(codecs.escape_decode(line[1:-1])[0])

    def _string(self, data: bytes) -> bool:
        return self._push(data if self._strings_are_bytes else data.decode("ascii"))

    def _put_line(self) -> bool:
        self._young[int(self._line())] = self._stack[-1]
        return True

    def _global(self) -> bool:
        module, name = self._line().decode("utf-8"), self._line().decode("utf-8")
        return self._push(self._names.find(module, name))

    def _stack_global(self) -> bool:
        name, module = self._stack.pop(), self._stack.pop()
        if type(name) is not str or type(module) is not str:
            raise pickle.UnpicklingError("a name that is no string")
        return self._push(self._names.find(module, name))

    def _reduce(self) -> bool:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._count_large()
        if type(arguments) is not tuple or not callable(function):
            raise pickle.UnpicklingError("a call of nothing")
        return self._push(function(*arguments))

    def _new(self) -> bool:
        """A new object of a class that the caller has allowed, as protocol 2 and later write it, without arguments."""
        arguments, kind = self._stack.pop(), self._stack.pop()
        self._count_large()
        if arguments != () or type(kind) is not type:
            raise pickle.UnpicklingError("a new object of no plain class, or with arguments")
        return self._push(kind())

    def _build(self) -> bool:
        state = self._stack.pop()
        restore = getattr(self._stack[-1], "__setstate__", None)
        if restore is None:
            raise pickle.UnpicklingError("a state for something without one")
        restore(state)
        return True

    def _persistent_id(self, pid: object) -> bool:
        if self._persistent is None:
            raise ForbiddenNameError(f"the persistent object {pid!r:.80}")
        return self._push(self._persistent(pid))

    def _extension(self) -> bool:
        raise ForbiddenNameError("an entry of copyreg's extension registry")

    def _skip(self, count: int) -> bool:
        self._take(count)
        return True


_RARE: Final[dict[int, Callable[[Machine], bool | None]]] = {
    ord("."): Machine._stop,
    ord("("): Machine._mark,
    ord("N"): lambda m: m._push(None),
    0x88: lambda m: m._push(True),
    0x89: lambda m: m._push(False),
    ord("]"): lambda m: m._push([]),
    ord("}"): lambda m: m._push({}),
    ord(")"): lambda m: m._push(()),
    0x8F: Machine._set,
    ord("u"): Machine._set_items,
    ord("s"): Machine._set_item,
    ord("a"): Machine._append,
    ord("e"): Machine._appends,
    0x90: Machine._add_items,
    ord("d"): Machine._make_dict,
    ord("l"): Machine._make_list,
    ord("t"): Machine._make_tuple,
    0x91: Machine._make_frozenset,
    0x85: lambda m: m._tuple_of(1),
    0x86: lambda m: m._tuple_of(2),
    0x87: lambda m: m._tuple_of(3),
    ord("M"): lambda m: m._push(m._size(_COUNT2)),
    ord("J"): lambda m: m._push(m._size(_INT)),
    ord("I"): Machine._int_line,
    ord("L"): lambda m: m._push(int(m._line().rstrip(b"L"))),
    0x8A: lambda m: m._whole(m._take(m._take(1)[0])),
    0x8B: lambda m: m._whole(m._take(m._size(_COUNT))),
    ord("F"): lambda m: m._push(float(m._line())),
    ord("S"): Machine._quoted,
    ord("T"): lambda m: m._string(m._take(m._size(_COUNT))),
    ord("U"): lambda m: m._string(m._take(m._take(1)[0])),
    ord("V"): lambda m: m._push(str(m._line(), "raw-unicode-escape")),
    ord("X"): lambda m: m._text(m._take(m._size(_COUNT))),
    0x8D: lambda m: m._text(m._take(m._size(_COUNT8))),
    ord("B"): lambda m: m._push(m._take(m._size(_COUNT))),
    ord("C"): lambda m: m._push(m._take(m._take(1)[0])),
    0x8E: lambda m: m._push(m._take(m._size(_COUNT8))),
    0x96: lambda m: m._push(bytearray(m._take(m._size(_COUNT8)))),
    ord("p"): Machine._put_line,
    ord("g"): lambda m: m._push(m._get(int(m._line()))),
    ord("c"): Machine._global,
    0x93: Machine._stack_global,
    ord("R"): Machine._reduce,
    0x81: Machine._new,
    ord("b"): Machine._build,
    ord("P"): lambda m: m._persistent_id(m._line().decode("ascii")),
    ord("Q"): lambda m: m._persistent_id(m._stack.pop()),
    **dict.fromkeys((0x82, 0x83, 0x84), Machine._extension),
    0x80: lambda m: m._skip(1),  # the protocol
    0x95: lambda m: m._skip(8),  # a frame: where it ends does not matter
}
