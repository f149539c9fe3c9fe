"""The machine that runs pickles: equal to Python's, within limits, entry by entry."""

from __future__ import annotations

import io
import pickle
import time
import tracemalloc
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest

from tauzero.benchmarks import _safe_pickle
from tauzero.benchmarks._pickle_input import Limits
from tauzero.benchmarks._pickle_machine import Machine
from tauzero.spaces import BenchmarkFormatError


@contextmanager
def peak_below(limit: float) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Slow(io.BytesIO):
    """Gives at most a few bytes at a time, as decompressing streams may."""

    def read(self, count: int | None = -1, /) -> bytes:
        return super().read(min(count or 0, 7) if count and count > 0 else 7)


class Taker:
    def __init__(self, *watched: str) -> None:
        self.watched, self.taken = watched, []

    def watches(self, key: str) -> bool:
        return key in self.watched

    def entry(self, parent: str, key: object, value: object) -> None:
        self.taken.append((parent, key, value))


def random_object(rng: np.random.Generator, depth: int = 4) -> Any:
    kind = rng.integers(12 if depth else 8)
    some = range(int(rng.integers(5)))
    makers = [
        lambda: None,
        lambda: bool(rng.integers(2)),
        lambda: int(rng.integers(-(2**62), 2**62)) * 2 ** int(rng.integers(100)),
        lambda: int(rng.integers(300)),
        lambda: float(rng.normal()),
        lambda: "".join(chr(c) for c in rng.integers(1, 0x2000, size=int(rng.integers(400)))),
        lambda: rng.bytes(int(rng.integers(300))),
        lambda: np.float32(rng.normal()),
        lambda: [random_object(rng, depth - 1) for _ in some],
        lambda: tuple(random_object(rng, depth - 1) for _ in some),
        lambda: {f"k{k}": random_object(rng, depth - 1) for k in some},
        lambda: OrderedDict((k, random_object(rng, depth - 1)) for k in some),
    ]
    return makers[kind]()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_equals_python_on_random_objects(protocol: int) -> None:
    rng = np.random.default_rng(protocol)
    for _ in range(30):
        shared = random_object(rng)
        value = [shared, random_object(rng), shared]
        data = pickle.dumps(value, protocol)
        for stream in (io.BytesIO(data + b"rest"), Slow(data)):
            machine = Machine(stream, Limits())
            found = machine.load()
            assert found == value
            assert found[0] is found[2] or not isinstance(shared, dict | list)
        # Protocol 0 escapes some text; all others come out with the same types too.
        assert type(found[0]) in {type(shared), *([] if type(shared) is not OrderedDict else [type(found[0])])}


def test_what_follows_the_pickle_is_left(tmp_path: Any) -> None:
    stream = io.BytesIO(pickle.dumps([1]) + b"rest" * 1000)
    machine = Machine(stream, Limits())
    assert machine.load() == [1]
    assert machine.rest + stream.read() == b"rest" * 1000


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("count", [0, 1, 2, 999, 1000, 1001, 2500])
def test_entries_are_given_out(protocol: int, count: int) -> None:
    """A pickler writes entries by the thousand, and a last one alone in another way."""
    inner = {k: {"name": "cell", "x@1": [float(k)], "names": ("a", k)} for k in range(count)}
    whole = {"before": ["a", "name"], "items": inner, "after": {"items": 1, "name": "cell"}}
    taker = Taker("items")
    root = Machine(io.BytesIO(pickle.dumps(whole, protocol)), Limits(), consumer=taker).load()
    assert taker.taken == [("items", k, v) for k, v in inner.items()]
    assert root == {**whole, "items": {}}


def test_entries_may_refer_to_names_but_not_to_containers() -> None:
    name = "train"  # one object, written once
    good = {"items": {k: {name: k} for k in range(3)}}
    taker = Taker("items")
    Machine(io.BytesIO(pickle.dumps(good)), Limits(), consumer=taker).load()
    assert [v for *_, v in taker.taken] == [{"train": 0}, {"train": 1}, {"train": 2}]
    shared = [1.0]
    bad = {"items": {k: {"a": shared, "b": k} for k in range(3)}}
    with pytest.raises(pickle.UnpicklingError, match="refers to the object"):
        Machine(io.BytesIO(pickle.dumps(bad)), Limits(), consumer=Taker("items")).load()


def test_memory_does_not_grow_with_entries() -> None:
    class Forgets(Taker):
        def entry(self, parent: str, key: object, value: object) -> None:
            pass

    data = pickle.dumps({"items": {k: {f"v@{e}": float(e + k) for e in range(900)} for k in range(70)}})
    assert len(data) > 1e6
    with peak_below(4e6):  # the whole takes 10 MB
        Machine(io.BytesIO(data), Limits(entry=100_000), consumer=Forgets("items")).load()


def test_values_that_are_no_dictionaries_are_given_out_at_the_end() -> None:
    whole = {"items": {"a": 1, "b": [{"x": 1, "y": 2}], "c": {"d": {"e": {}}}, "f": OrderedDict(g=1), "h": {}}}
    taker = Taker("items")
    Machine(io.BytesIO(pickle.dumps(whole)), Limits(), consumer=taker).load()
    assert taker.taken == [("items", k, v) for k, v in whole["items"].items()]


def test_large_values_are_an_error_and_not_cut() -> None:
    """Python writes a thousand entries at a time, so that the machine would take the first thousand for all."""
    data = pickle.dumps({"items": {k: dict.fromkeys(range(1500)) for k in range(3)}})
    with pytest.raises((IndexError, pickle.UnpicklingError)):
        Machine(io.BytesIO(data), Limits(), consumer=Taker("items")).load()


def test_an_entry_is_bounded() -> None:
    data = pickle.dumps({"items": {k: list(range(1_500_000)) for k in range(2)}})
    with pytest.raises(pickle.UnpicklingError, match="an entry of more"):
        Machine(io.BytesIO(data), Limits(entry=2**20), consumer=Taker("items")).load()


DUP = b"2"
BOMBS = {
    "memo index": b"\x80\x02Nr\xff\xff\xff\xff.",
    "memo index in a line": b"Np4294967295\n.",
    "length of a string": b"\x80\x04X\xff\xff\xff\x7f.",
    "length of bytes": b"\x80\x04\x8e\xff\xff\xff\xff\xff\x00\x00\x00.",
    "length of a bytearray": b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.",
    "length of a number": b"\x80\x04\x8b\xff\xff\xff\x7f.",
    "deep tuple as key": b"\x80\x04}N" + b"\x85" * 1_000_000 + b"K\x01s.",
    "tuples of the same tuple": b"\x80\x04}N\x85\x94"
    + b"".join(b"h%ch%c\x86\x94" % (n, n) for n in range(100))
    + b"K\x01s.",
    "copies of one list": b"\x80\x04(ccollections\nOrderedDict\nq\x00]q\x01("
    + b"NN\x86" * 2000
    + b"e"
    + b"h\x00h\x01\x85R" * 20_000
    + b"t.",
    "copies of one set": b"\x80\x04(c__builtin__\nset\nq\x00]q\x01("
    + b"".join(b"J" + n.to_bytes(4, "little") for n in range(3000))
    + b"e"
    + b"h\x00h\x01\x85R" * 20_000
    + b"t.",
    "attributes of ordered dictionaries": b"\x80\x04(ccollections\nOrderedDict\nq\x00}q\x01("
    + b"".join(b"\x8c\x06%06dN" % n for n in range(3000))
    + b"u"
    + b"h\x00)Rh\x01b" * 20_000
    + b"t.",
    "duplicates": b"\x80\x04]" + DUP * 100 + b".",
}


@pytest.mark.parametrize("name", BOMBS)
def test_small_files_do_not_take_much_memory_or_time(name: str) -> None:
    begin = time.perf_counter()
    with peak_below(60e6 + 100 * len(BOMBS[name])), suppress(BenchmarkFormatError):
        _safe_pickle.loads(BOMBS[name], "bomb.pkl")
    assert time.perf_counter() - begin < 20


@pytest.mark.parametrize("name", [n for n in BOMBS if n.startswith(("length", "deep", "tuples", "copies", "dup"))])
def test_bombs_are_errors(name: str) -> None:
    with pytest.raises(BenchmarkFormatError, match="truncated or no pickle"):
        _safe_pickle.loads(BOMBS[name], "bomb.pkl")


def test_deep_lists_are_read() -> None:
    found = _safe_pickle.loads(b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".", "x")
    depth = 0
    while found:
        (found,), depth = found, depth + 1
    assert depth == 99_999


def test_tuples_as_keys_are_read() -> None:
    value = {("cifar10", 777): 1, (1, (2, (3, "x"))): 2, ((),): 3}
    assert _safe_pickle.loads(pickle.dumps(value), "x") == value
