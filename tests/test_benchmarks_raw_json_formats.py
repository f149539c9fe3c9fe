"""Every format of raw results: its fixture is recognised by its reader alone, and damage is one kind of error."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import pytest
from fixtures_raw_json import FUZZ

from tauzero import benchmarks
from tauzero.benchmarks import READERS
from tauzero.spaces import BenchmarkFormatError

#: What JSON may hold in the place of any value.
TOKENS = (
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"null",
    b"{}",
    b"[]",
    rb'"\ud800"',
    b"9" * 5_000,
    b"9" * 400,
    b"[" * 3_000,
    b'"x"',
    b"true",
    b"-1",
    b"0.5",
)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A mutation of a file."""
    kind = rng.randrange(4)
    at = rng.randrange(len(data))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if kind == 2:
        end = rng.randrange(at, len(data))
        return data[:at] + data[end:]
    places = [k for k, byte in enumerate(data) if byte in b":,["]
    start = rng.choice(places) + 1 if places else at
    end = next((k for k in range(start, len(data)) if data[k] in b",]}"), len(data))
    return data[:start] + rng.choice(TOKENS) + data[end:]


@pytest.mark.parametrize("kind", FUZZ)
def test_a_fixture_is_recognised_by_its_reader_alone(kind: str, tmp_path: Path) -> None:
    source = FUZZ[kind](tmp_path)
    assert [name for name, reader in READERS.items() if reader.recognises(source)] == [kind]
    table = benchmarks.load(READERS[kind].benchmark, source)
    stored = benchmarks.import_table(table.name, source, tmp_path / "out.arrow")
    assert benchmarks.load(table.name, stored).info()["rows"] == table.info()["rows"]


@pytest.mark.parametrize("kind", FUZZ)
def test_damage_is_refused_or_read(kind: str, tmp_path: Path) -> None:
    rng = random.Random(kind)
    source = FUZZ[kind](tmp_path)
    files = [p for p in sorted(source.rglob("*") if source.is_dir() else [source]) if p.suffix in {*_SUFFIXES}]
    refused = 0
    for _ in range(60):
        file = rng.choice(files)
        good = file.read_bytes()
        file.write_bytes(damaged(good, rng))
        refused += 1
        with suppress(BenchmarkFormatError):
            benchmarks.load(READERS[kind].benchmark, source)
            refused -= 1
        file.write_bytes(good)
    assert refused > 20
    benchmarks.load(READERS[kind].benchmark, source)


_SUFFIXES = (".json", ".pickle", ".anb", ".parquet")
