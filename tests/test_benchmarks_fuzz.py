"""Damaged, foreign and malicious files: a reader gives a table or `BenchmarkFormatError`, and nothing else.

What the damage is stands in ``fuzz_helpers.py``; ``performance/fuzz_readers.py`` does the same with many more files.
"""

from __future__ import annotations

import bz2
import json
import pickle
import random
import zlib
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixtures_tables import STORE, store
from fuzz_helpers import fixtures, foreign, fuzz, malicious

from tauzero import benchmarks, spaces
from tauzero.benchmarks import READERS, Benchmark, _damage, _readers, _safe_pickle, read_store
from tauzero.benchmarks._table import Column, Table
from tauzero.spaces import BenchmarkFormatError, InvalidGenotypeError

RANDOM = 40  # damaged files of each fixture beside the special ones
GOOD = {"same", "table", "refused"}
FIXTURES = fixtures()


def test_every_reader_has_a_fixture() -> None:
    covered = {name.partition("/")[0] for name in FIXTURES}
    assert covered == {*READERS, STORE}, "each reader needs an entry in FUZZ of a tests/fixtures_*.py"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(FIXTURES))
def test_damaged_files(name: str) -> None:
    found = fuzz(name, 0, RANDOM)
    wrong = [fact for fact in found if fact["outcome"] not in GOOD]
    assert not wrong, "\n".join(map(str, wrong[:10]))
    outcomes = Counter(fact["outcome"] for fact in found)
    intact = {fact["case"]: fact["outcome"] for fact in found if fact["case"].split(": ")[-1] in {"intact", "nothing"}}
    assert intact, name
    assert set(intact.values()) == {"same"}, intact
    assert outcomes["refused"] > RANDOM / 2
    assert len(found) >= RANDOM + len(foreign())
    if name == STORE:
        assert not outcomes["table"], "a damaged store was read as another table"


def test_enough_files() -> None:
    """At least 500 files, by the count of one of them: every fixture has the foreign contents and the random ones."""
    assert len(FIXTURES) * (RANDOM + len(foreign())) >= 500 - 26 * 2  # and wheels and pickles have those that do harm
    assert len(malicious(Path("marker"))) >= 26


# -- stores -----------------------------------------------------------------------------------


def test_a_flipped_value_is_found_where_it_is_used(tmp_path: Path) -> None:
    path = store(tmp_path)
    data = bytearray(path.read_bytes())
    place = data.index(np.float64(12.0).tobytes())  # 11 + 1, of architecture 11
    data[place + 6] ^= 1  # still a percentage, and a likely one
    path.write_bytes(bytes(data))
    table = benchmarks.load("nasbench201", path)
    np.testing.assert_array_equal(table.query_index([3, 11], seed=0), [3, 11])  # another column
    for use in (table.table, lambda: table.query_index([0]), table.verify):
        with pytest.raises(BenchmarkFormatError, match=r"cifar10/test_accuracy/200/mean.*CRC-32.*benchmarks import"):
            use()
    with pytest.raises(BenchmarkFormatError, match="CRC-32"):
        benchmarks.import_table("nasbench201", path, tmp_path / "copy.arrow")
    assert not (tmp_path / "copy.arrow").exists()


def test_every_bit_of_a_store_counts(tmp_path: Path) -> None:
    """Flipping any bit is noticed, or changes nothing that is read (padding, the file's own checks)."""
    path = store(tmp_path)
    data = path.read_bytes()
    intact = _everything(path)
    rng = random.Random(0)
    noticed = 0
    for place in rng.sample(range(len(data)), 400):
        damaged = bytearray(data)
        damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(damaged))
        try:
            assert _everything(path) == intact
        except BenchmarkFormatError:
            noticed += 1
    assert noticed > 150


def _everything(path: Path) -> tuple[object, ...]:
    table = read_store(path)
    Benchmark(table).verify()
    values = [(c.name, c.unit, c.description, c.values.tobytes()) for c in table.columns]
    index = b"" if table.index is None else table.index.tobytes()
    return values, index, table.licence, table.provenance, table.name, table.space


def test_genotypes_are_covered(tmp_path: Path) -> None:
    space = spaces.get("darts")
    rows = space.distinct(space.sample(5, seed=1))[0]
    column = Column("cifar10", "test_accuracy", 100, None, "percent", np.arange(5) + 90.0)
    path = benchmarks.write_store(Table("x", "darts", (column,), "CC0-1.0", {}, genotypes=rows), tmp_path / "x.arrow")
    data = path.read_bytes()
    place = data.index(rows.tobytes())
    cell = rows[2].reshape(2, 4, 4)
    other = (int(cell[0, 0, 2]) + 1) % 7  # another operation, which is as valid
    damaged = bytearray(data)
    damaged[place + 2 * 32 + 2] = other
    path.write_bytes(bytes(damaged))
    with pytest.raises(BenchmarkFormatError, match="genotypes"):
        read_store(path)


def test_stores_without_checksums_are_read(tmp_path: Path) -> None:
    path = store(tmp_path)
    with pa.memory_map(str(path)) as source:
        opened = pa.ipc.open_file(source)
        batch, metadata = opened.get_batch(0), dict(opened.schema.metadata)
        header = json.loads(metadata[b"tauzero"])
        del header["sha256"], header["crc32"]
        for column in header["columns"]:
            assert column.pop("crc32") == zlib.crc32(batch.column(column["name"]).buffers()[1])
        changed = opened.schema.with_metadata({b"tauzero": json.dumps(header).encode()})
        with pa.OSFile(str(tmp_path / "old.arrow"), "wb") as sink, pa.ipc.new_file(sink, changed) as out:
            out.write_batch(pa.record_batch(batch.columns, schema=changed))
    table = benchmarks.load("nasbench201", tmp_path / "old.arrow")
    assert table.query_index([11])[0] == 12
    assert table.verify() == 0
    assert benchmarks.load("nasbench201", path).verify() == 3


# -- pickles ----------------------------------------------------------------------------------

VALUES: list[object] = [
    {"a": [1, 2.5, None, True, "x" * 3, "y" * 24, "z" * 25, "w" * 300, "v" * 70_000, "ä€"]},
    {k: float(k) for k in range(3000)},
    [b"a", b"b" * 300, 2**31, -(2**40), 2**70, 2**3000, -1, 255, 256, 65535, 65536],
    ({1, 2}, frozenset({3}), (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), OrderedDict(a=1, b=[])),
    [f"text {k}" for k in range(2000)] * 2,
    [[k, (k,), {k: k}] for k in range(3_000)],
]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_harm_at_the_end_of_a_pickle_is_found(value: object, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    assert _safe_pickle.loads(data, "x") == value
    # Python's own memo would be a table of gigabytes; this one has room for what is kept.
    for memo in (b"r\xff\xff\xff\x7f", b"p2000000000\n"):
        assert _safe_pickle.loads(data[:-1] + memo + b".", "x") == value
    for harm in (b"\x96" + bytes([255] * 6) + b"\x00\x00", b"B\xff\xff\xff\x7f"):
        with pytest.raises(BenchmarkFormatError):
            _safe_pickle.loads(data[:-1] + harm + b".", "x")


def test_containers_are_bounded() -> None:
    with pytest.raises(BenchmarkFormatError):
        _safe_pickle.loads(b"\x80\x04(" + b"\x8f" * 2_000_000 + b"t.", "x")
    assert _safe_pickle.loads(b"\x80\x04(" + b"\x8f" * 900 + b"t.", "x") == (set(),) * 900


# -- what Parquet can announce, and the net beneath the readers -------------------------------


def test_more_rows_than_any_table_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Billions of equal rows fit into a kilobyte; the number stands in the file's description."""
    from tauzero.benchmarks import _parquet

    path = FIXTURES["nasbench201-parquet"](tmp_path)
    monkeypatch.setattr(_parquet, "_MAX_ROWS", 4)
    with pytest.raises(BenchmarkFormatError, match="says that it has 5 rows"):
        benchmarks.load("nasbench201", path)


@pytest.mark.parametrize("kind", [pa.string(), pa.binary()])
def test_a_text_that_stands_there_a_million_times(tmp_path: Path, kind: pa.DataType) -> None:
    """Kilobytes that would become 30 GB."""
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(300_000, np.int32)), pa.array(["[" * 100_000], kind))
    path = tmp_path / "cells.parquet"
    accuracy = pa.array(np.full(300_000, 90.0))
    pq.write_table(pa.table({"normal": text, "reduce": text, "val_accuracy": accuracy}), path, compression="zstd")
    assert path.stat().st_size < 10_000
    with pytest.raises(BenchmarkFormatError, match=r"'normal' of .*would hold 30000000000 bytes of text"):
        benchmarks.load("nasbench301", path)


def test_lists_in_a_column(tmp_path: Path) -> None:
    path = FIXTURES["nasbench201-parquet"](tmp_path)
    table = pq.read_table(path)
    lists = pa.array([[1.0], [2.0], None, [3.0] * 1000, []])
    pq.write_table(table.set_column(table.schema.get_field_index("test200_c10_mean"), "test200_c10_mean", lists), path)
    with pytest.raises(BenchmarkFormatError, match="must hold one value in a row"):
        benchmarks.load("nasbench201", path)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.binary()])
def test_texts_of_all_types_are_read(tmp_path: Path, kind: pa.DataType) -> None:
    path = FIXTURES["nasbench301-naslib"](tmp_path)
    table = pq.read_table(path)
    expected = benchmarks.load("nasbench301", path).table(metric="validation_accuracy")
    for name in ("normal", "reduce"):
        texts = pa.array(table[name].to_pylist(), pa.string()).cast(kind)
        table = table.set_column(table.schema.get_field_index(name), name, texts)
    pq.write_table(table, path)
    np.testing.assert_array_equal(benchmarks.load("nasbench301", path).table(metric="validation_accuracy"), expected)


def test_columns_of_another_type(tmp_path: Path) -> None:
    path = FIXTURES["nasbench201-parquet"](tmp_path)
    table = pq.read_table(path)
    texts = pa.array(["a", "b", None, "d", "e"])
    pq.write_table(table.set_column(table.schema.get_field_index("test200_c10_mean"), "test200_c10_mean", texts), path)
    with pytest.raises(BenchmarkFormatError, match=r"nb201\.parquet' was taken for nasbench201-parquet.*ValueError"):
        benchmarks.load("nasbench201", path)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("x"), "KeyError"),
        (MemoryError(), "more memory than there is"),
        (OSError("Invalid data stream"), "Invalid data stream"),
        (InvalidGenotypeError("Got 7."), "an architecture that its space does not have. Got 7"),
        (pa.ArrowInvalid("bad"), "ArrowInvalid: bad"),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "no"), "UnicodeDecodeError"),
        (EOFError(), "EOFError"),
    ],
)
def test_errors_of_readers(
    error: Exception, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_folder: Path
) -> None:
    def fail(path: Path, progress: object) -> Table:
        raise error

    monkeypatch.setitem(_readers.READERS, "x", _readers.Reader("nasbench201", "x", lambda p: p.suffix == ".x", fail))
    (tmp_path / "a.x").write_bytes(b"")
    with pytest.raises(BenchmarkFormatError, match=message) as caught:
        benchmarks.import_table("nasbench201", tmp_path / "a.x")
    assert caught.value.__cause__ is error
    assert not data_folder.exists()


@pytest.mark.parametrize(
    "error", [PermissionError(13, "no"), KeyboardInterrupt(), benchmarks.UnwritableFolderError("x")]
)
def test_errors_that_are_not_the_files(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, _damage.reading(Path("x"), "kind"):
        raise error
    assert caught.value is error


def test_bz2_of_zeros_is_no_benchmark(tmp_path: Path) -> None:
    path = tmp_path / "000000.pickle.pbz2"
    path.write_bytes(bz2.compress(bytes(2**24)) * 64)  # a gigabyte
    with pytest.raises(BenchmarkFormatError):
        benchmarks.import_table("nasbench201", path)
