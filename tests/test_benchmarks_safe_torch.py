"""Files of torch.save are read without torch, and without believing them: compared with torch itself."""

from __future__ import annotations

import functools
import os
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tauzero.benchmarks import _safe_torch
from tauzero.spaces import BenchmarkFormatError

FORMATS = {"zip": True, "legacy": False}


def content() -> dict[str, Any]:
    base = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    return {
        "plain": base,
        "same storage, transposed": base.t(),
        "part": base[1:3, ::2],
        "expanded": torch.ones(1).expand(5),
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(3.5, dtype=torch.float64),
        "bfloat16": torch.tensor([1.5, -2.25, 3e38, float("nan")]).bfloat16(),
        "half": torch.arange(3).half(),
        "bool": torch.tensor([True, False, True]),
        "integers": [torch.arange(5).to(t) for t in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "size": torch.Size([1, 2]),
        "others": OrderedDict(text="ä", number=1.5, none=None, large=2**70, nested=[(1, 2), {"a": b"\x00"}]),
    }


def assert_same(got: Any, expected: Any) -> None:
    if isinstance(expected, torch.Tensor):
        assert isinstance(got, np.ndarray)
        plain = expected.detach()
        reference = plain.float().numpy() if plain.dtype == torch.bfloat16 else plain.numpy()
        assert (got.dtype, got.shape) == (reference.dtype, reference.shape)
        np.testing.assert_array_equal(got, reference)
    elif isinstance(expected, dict):
        assert list(got) == list(expected)
        for key, value in expected.items():
            assert_same(got[key], value)
    elif isinstance(expected, list):
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other)
    else:
        assert got == expected


def saved(path: Path, value: object, form: str) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=FORMATS[form])
    return path


@pytest.mark.parametrize("form", FORMATS)
def test_equals_what_torch_loads(form: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pth", content(), form)
    assert_same(_safe_torch.load(path), torch.load(path, weights_only=True))


@pytest.mark.parametrize("form", FORMATS)
def test_state_dictionaries(form: str, tmp_path: Path) -> None:
    """Their ordered dictionaries carry attributes (versions of layers) and counters of no dimension."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
    path = saved(tmp_path / "x.pth", network.state_dict(), form)
    assert_same(_safe_torch.load(path), network.state_dict())


@pytest.mark.parametrize("form", FORMATS)
def test_tensors_cannot_be_written_to(form: str, tmp_path: Path) -> None:
    found = _safe_torch.load(saved(tmp_path / "x.pth", content(), form))
    with pytest.raises(ValueError, match="read-only"):
        found["plain"][0, 0] = 1


@pytest.mark.parametrize("form", FORMATS)
def test_numpy_scalars_are_read(form: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pth", {"a": np.float64(1.5), "b": np.arange(3)}, form)
    found = _safe_torch.load(path)
    assert found["a"] == 1.5
    np.testing.assert_array_equal(found["b"], [0, 1, 2])


def test_torch_is_not_imported(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pth", content(), "legacy")
    program = (
        "import sys; from pathlib import Path; from tauzero.benchmarks import _safe_torch;"
        f"_safe_torch.load(Path({str(path)!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "function", [os.system, eval, getattr, functools.partial, np.load, torch.load], ids=lambda f: f.__name__
)
def test_commands_are_refused_and_not_run(form: str, function: Any, tmp_path: Path) -> None:
    witness = tmp_path / "witness"

    class Command:
        def __reduce__(self) -> tuple[Any, ...]:
            return function, (f"touch {witness}",)

    path = saved(tmp_path / "evil.pth", {"a": Command()}, form)
    with pytest.raises(BenchmarkFormatError, match=r"evil\.pth' is not safe"):
        _safe_torch.load(path)
    assert not witness.exists()


@pytest.mark.parametrize(
    "value", [torch.nn.Linear(2, 2), torch.complex(torch.ones(2), torch.ones(2))], ids=["module", "complex"]
)
def test_what_is_no_plain_tensor_is_refused(value: Any, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkFormatError, match="not safe"):
        _safe_torch.load(saved(tmp_path / "x.pth", value, "zip"))


@pytest.mark.parametrize("form", FORMATS)
def test_every_truncation_is_an_error(form: str, tmp_path: Path) -> None:
    whole = saved(tmp_path / "x.pth", {"a": torch.arange(3.0), "b": [1, "text"]}, form).read_bytes()
    short = tmp_path / "short.pth"
    for length in range(0, len(whole), 7 if form == "zip" else 2):
        short.write_bytes(whole[:length])
        with pytest.raises(BenchmarkFormatError, match=r"short\.pth"):
            _safe_torch.load(short)


@pytest.mark.parametrize("form", FORMATS)
def test_random_damage_never_escapes(form: str, tmp_path: Path) -> None:
    whole = saved(
        tmp_path / "x.pth", {"a": torch.arange(6.0).view(2, 3).t(), "b": [np.float32(1), "text"]}, form
    ).read_bytes()
    rng = np.random.default_rng(0)
    damaged, errors = tmp_path / "damaged.pth", 0
    tracemalloc.start()
    for _ in range(200):
        data = bytearray(whole)
        for position in rng.integers(len(data), size=int(rng.integers(1, 4))):
            data[position] = int(rng.integers(256))
        damaged.write_bytes(data)
        try:
            _safe_torch.load(damaged)
        except BenchmarkFormatError:
            errors += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert errors > 50
    assert peak < 100e6


def legacy_parts(path: Path) -> list[bytes]:
    """The five pickles of a legacy file, and the rest."""
    data, parts = path.read_bytes(), []
    for _ in range(5):
        end = next(e for e in range(1, len(data) + 1) if data[e - 1 : e] == b"." and _loads(data[:e]))
        parts.append(data[:end])
        data = data[end:]
    return [*parts, data]


def _loads(data: bytes) -> bool:
    try:
        unpickler = pickle._Unpickler(__import__("io").BytesIO(data))  # type: ignore[attr-defined]
        unpickler.persistent_load = lambda _: None  # type: ignore[method-assign]
        unpickler.find_class = lambda *_: lambda *__: None  # type: ignore[method-assign, assignment, misc]
        unpickler.load()
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
    ):
        return False
    return True


def test_a_storage_larger_than_the_file_is_not_allocated(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pth", torch.arange(3.0), "legacy")
    parts = legacy_parts(path)
    forged = parts[3].replace(b"K\x03Nt", b"\x8a\x05\x00\x00\x00\x00\x40Nt")  # 2**38 elements
    assert forged != parts[3]
    path.write_bytes(b"".join([*parts[:3], forged, *parts[4:]]))
    tracemalloc.start()
    with pytest.raises(BenchmarkFormatError, match="more bytes than there are"):
        _safe_torch.load(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("given", "forged"),
    [
        (b"K\x00K\x03\x85", b"K\x00K\x04\x85"),  # size (3,) -> (4,)
        (b"K\x00K\x03\x85", b"K\x01K\x03\x85"),  # offset 0 -> 1
        (b"K\x01\x85", b"K\x02\x85"),  # stride (1,) -> (2,)
        (b"K\x01\x85", b"J\xff\xff\xff\xff\x85"),  # stride -1
        (b"K\x03\x85", b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01\x85"),  # size 2**64
    ],
)
def test_views_beyond_their_storage_are_refused(given: bytes, forged: bytes, tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pth", torch.arange(3.0), "legacy")
    parts = legacy_parts(path)
    plain = pickle_without_memo(parts[3])
    assert given in plain
    path.write_bytes(b"".join([*parts[:3], plain.replace(given, forged), *parts[4:]]))
    with pytest.raises(BenchmarkFormatError, match=r"a tensor of elements|whole numbers"):
        _safe_torch.load(path)


def pickle_without_memo(data: bytes) -> bytes:
    import pickletools

    return pickletools.optimize(data)


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    """torch stores; what is compressed may be a bomb."""
    path = saved(tmp_path / "x.pth", torch.zeros(1000), "zip")
    bomb = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path) as given, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as made:
        for name in given.namelist():
            made.writestr(name, given.read(name))
    with pytest.raises(BenchmarkFormatError, match="compressed"):
        _safe_torch.load(bomb)


def test_byte_order_of_archives(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.pth", torch.arange(3.0), "zip")
    other = tmp_path / "big.pth"
    with zipfile.ZipFile(path) as given, zipfile.ZipFile(other, "w") as made:
        for name in given.namelist():
            data = given.read(name)
            if name.endswith("byteorder"):
                data = b"big"
            if name.endswith("data/0"):
                data = struct.pack(">3f", *struct.unpack("<3f", data))
            made.writestr(name, data)
    np.testing.assert_array_equal(_safe_torch.load(other), [0.0, 1.0, 2.0])


def test_foreign_files_have_no_head(tmp_path: Path) -> None:
    for number, data in enumerate((b"", b"PK\x03\x04", b"PK\x03\x04" + bytes(100), b"BZh9", pickle.dumps([1]))):
        path = tmp_path / str(number)
        path.write_bytes(data)
        assert _safe_torch.head(path) == b""
        with pytest.raises(BenchmarkFormatError):
            _safe_torch.load(path)
    assert _safe_torch.head(tmp_path) == b""
    with pytest.raises(BenchmarkFormatError, match="Cannot read"):
        _safe_torch.load(tmp_path / "nothing")


@pytest.mark.parametrize("form", FORMATS)
def test_head_is_the_beginning_of_the_object(form: str, tmp_path: Path) -> None:
    assert b"meta_archs" in _safe_torch.head(saved(tmp_path / "x.pth", {"meta_archs": [1]}, form))
