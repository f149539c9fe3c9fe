"""Decompressing a file in one call gives what the standard library's reader gives."""

import bz2
from pathlib import Path

import numpy as np
import pytest

from tauzero.benchmarks._nats_pickles import _contents, _decompressed
from tauzero.spaces import BenchmarkFormatError

CONTENT = np.random.default_rng(0).integers(0, 9, 200_000).astype(np.uint8).tobytes()
ONE, TWO = bz2.compress(CONTENT), bz2.compress(CONTENT[:1000])


def standard(path: Path, limit: int) -> bytes | None:
    try:
        with bz2.open(path) as stream:
            return stream.read(limit + 1)
    except (OSError, EOFError, ValueError):
        return None


@pytest.mark.parametrize("limit", [10, 999, 1000, 199_999, 200_000, 200_001, 300_000])
@pytest.mark.parametrize(
    "packed",
    [
        ONE, ONE + TWO, TWO + ONE + TWO, ONE + b"garbage", ONE + b"BZh9 garbage", ONE[:-5], ONE + TWO[:-5], ONE[:200],
        b"", b"no bz2 at all", b"BZh9", bz2.compress(b""), bz2.compress(b"") + TWO,
    ],
    ids=range(13),
)  # fmt: skip
def test_equals_the_standard_reader(packed: bytes, limit: int, tmp_path: Path) -> None:
    path = tmp_path / "x.bz2"
    path.write_bytes(packed)
    expected = standard(path, limit)
    if expected is None or not packed:  # an empty file is none to us
        with pytest.raises(BenchmarkFormatError, match="truncated or no bz2"):
            _decompressed(path, limit)
    else:
        assert _decompressed(path, limit) == expected


def test_files_come_in_order_and_a_damaged_one_when_it_is_its_turn(tmp_path: Path) -> None:
    files = [tmp_path / f"{k}.bz2" for k in range(12)]
    for k, path in enumerate(files):
        path.write_bytes(b"damaged" if k == 9 else bz2.compress(bytes([k]) * 5))
    contents = _contents(files, 100)
    assert [next(contents) for _ in range(9)] == [(path, bytes([k]) * 5) for k, path in enumerate(files[:9])]
    with pytest.raises(BenchmarkFormatError, match=r"9\.bz2"):
        next(contents)
