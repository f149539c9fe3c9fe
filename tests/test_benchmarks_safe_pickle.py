"""Pickles are read without believing them."""

from __future__ import annotations

import functools
import io
import os
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tauzero.benchmarks import _safe_pickle
from tauzero.spaces import BenchmarkFormatError

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Calls:
    """Pickles as the call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.reduced


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_content_is_read_as_it_is(protocol: int) -> None:
    content = {
        "numbers": [1, -(2**70), 1.5, True, None],
        "text": ["ä", b"\x00\xff", b""],
        "containers": (OrderedDict(a=1, b=[2]), {3, 4}, frozenset({5}), {}),
    }
    assert _safe_pickle.loads(pickle.dumps(content, protocol), "test") == content


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int8", "uint16", "int64", ">f4", ">i8", "bool"])
def test_numpy_scalars_and_arrays(protocol: int, dtype: str) -> None:
    array = np.arange(12).reshape(3, 4).astype(dtype)
    content = [array, np.asfortranarray(array), array[0, 1], array[:0], np.array(array[0, 0])]
    back = _safe_pickle.loads(pickle.dumps(content, protocol), "test")
    for given, got in zip(content, back, strict=True):
        # numpy may turn foreign byte order into the machine's own.
        assert np.asarray(got).dtype.newbyteorder("=") == given.dtype.newbyteorder("=")
        np.testing.assert_array_equal(got, given)


def test_numpy_before_2_had_other_module_names() -> None:
    data = pickle.dumps([np.float64(1.5), np.arange(3.0)], 4)
    old = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray_")
    assert old != data
    # Same lengths keep the framing intact; rename in the opcode stream instead of by hand.
    old = pickletools.optimize(old).replace(b"\x8c\x16numpy.core.multiarray_", b"\x8c\x15numpy.core.multiarray")
    frame = old.index(b"\x95")
    old = old[:frame] + old[frame + 9 :]  # frames are optional
    value, array = _safe_pickle.loads(old, "test")
    assert value == 1.5
    np.testing.assert_array_equal(array, [0.0, 1.0, 2.0])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_commands_are_refused_and_not_run(protocol: int, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    data = pickle.dumps([1, Calls(os.system, f"touch {witness}")], protocol)
    with pytest.raises(BenchmarkFormatError, match=r"evil\.pkl.*(posix|nt)\.system"):
        _safe_pickle.loads(data, "evil.pkl")
    assert not witness.exists()


@pytest.mark.parametrize(
    "payload",
    [
        Calls(eval, "1"),
        Calls(getattr, [], "append"),
        Calls(functools.partial, max, 1),
        Calls(np.load, "x"),
        Calls(np.fromfile, "x"),
        np.array([object], dtype=object),
        np.zeros(2, dtype=[("a", "f8")]),
        np.array(["text"]),
        Path("x"),
        np.random.default_rng(0),
        np.dtype("O"),
    ],
    ids=lambda p: type(p).__name__,
)
def test_everything_else_is_refused(payload: object) -> None:
    with pytest.raises(BenchmarkFormatError, match="not safe"):
        _safe_pickle.loads(pickle.dumps(payload), "foreign.pkl")


def test_dotted_names_do_not_lead_out_of_the_list() -> None:
    data = b"\x80\x04\x8c\x0bcollections\x8c\x18OrderedDict.__init__.__x\x93."
    with pytest.raises(BenchmarkFormatError, match="not safe"):
        _safe_pickle.loads(data, "x")


def test_numpy_memory_flags_cannot_be_forged() -> None:
    """An object dtype whose state denies holding objects makes numpy read pointers from the file."""
    forged = (
        b"\x80\x04\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02O8\x89\x88\x87R"
        b"(K\x03\x8c\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb."
    )
    with pytest.raises(BenchmarkFormatError, match=r"numpy\.dtype\('O8'\)"):
        _safe_pickle.loads(forged, "x")


def test_array_shape_that_does_not_fit_its_bytes() -> None:
    data = pickle.dumps(np.arange(3, dtype=np.int8), 4)
    assert data.count(b"K\x03\x85") == 1  # the shape (3,)
    with pytest.raises(BenchmarkFormatError, match="truncated or no pickle"):
        _safe_pickle.loads(data.replace(b"K\x03\x85", b"K\x7f\x85"), "x")


def test_every_truncation_is_an_error() -> None:
    data = pickle.dumps({"421211": {"val_acc": [1.5, 2.5], "x": np.arange(3.0)}}, 4)
    for length in range(len(data)):
        with pytest.raises(BenchmarkFormatError):
            _safe_pickle.loads(data[:length], "short.pkl")


@pytest.mark.parametrize("data", [b"", b"hello world", b"\x89PNG\r\n", b"\x80\xff.", b".", b"(((", b"\x80\x04Ptext\n."])
def test_foreign_files(data: bytes) -> None:
    with pytest.raises(BenchmarkFormatError, match=r"foreign\.pkl"):
        _safe_pickle.loads(data, "foreign.pkl")


def test_random_damage_never_escapes() -> None:
    """Bytes changed at random either read as something or end in the one kind of error."""
    data = bytearray(pickle.dumps([OrderedDict(a=np.float32(1)), np.arange(5.0), "text", 2**80], 4))
    rng = np.random.default_rng(0)
    errors = 0
    for _ in range(300):
        damaged = bytearray(data)
        # A forged huge length or memo index may only cost memory; keep this test small.
        for position in rng.integers(len(data), size=2):
            value = int(rng.integers(128))
            damaged[position] = value if value not in b"rj\x96\x8d\x8e\x8bT" else 0
        try:
            _safe_pickle.loads(bytes(damaged), "damaged")
        except BenchmarkFormatError:
            errors += 1
    assert errors > 100


def test_size_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_safe_pickle, "MAX_BYTES", 100)
    file = tmp_path / "big.pkl"
    file.write_bytes(pickle.dumps(list(range(100))))
    with pytest.raises(BenchmarkFormatError, match="too large"):
        _safe_pickle.load(file)
    file.write_bytes(pickle.dumps([1, 2]))
    assert _safe_pickle.load(file) == [1, 2]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkFormatError, match="nothere"):
        _safe_pickle.load(tmp_path / "nothere.pkl")


def test_extension_registry_is_not_a_way_round() -> None:
    import copyreg

    copyreg.add_extension("os", "system", 240)
    try:
        stream = io.BytesIO()
        pickle.Pickler(stream, 2).dump(os.system)
        data = b"\x80\x02\x82\xf0."
        with pytest.raises(BenchmarkFormatError, match="not safe"):
            _safe_pickle.loads(data, "x")
    finally:
        copyreg.remove_extension("os", "system", 240)
