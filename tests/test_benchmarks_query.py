"""Queries and the store, on a small table made here."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tauzero import benchmarks, spaces
from tauzero.benchmarks import Benchmark, Column, Table, read_store, write_store
from tauzero.spaces import BenchmarkFormatError, InvalidGenotypeError, UnknownNameError

SPACE = spaces.get("nasbench201")
SIZE = SPACE.size


def make_table(index: np.ndarray | None = None) -> Table:
    """Values are functions of the index, so that every expected figure can be written down."""
    i = np.arange(SIZE) if index is None else index
    accuracy = (i % 97).astype(np.float32)
    late = np.where(i % 2 == 0, accuracy, np.nan).astype(np.float32)
    columns = (
        Column("cifar10", "validation_accuracy", 200, None, "percent", accuracy + 0.5, "mean"),
        Column("cifar10", "validation_accuracy", 200, 0, "percent", accuracy, "run 0"),
        Column("cifar10", "validation_accuracy", 200, 1, "percent", accuracy + 1, "run 1"),
        Column("cifar10", "validation_accuracy", 12, None, "percent", accuracy / 2, "one value"),
        Column("cifar10", "test_accuracy", 200, None, "percent", late, "every other architecture"),
        Column("cifar10", "training_seconds", 200, None, "seconds", 200.0 + i, "full"),
        Column("cifar10", "training_seconds", 12, None, "seconds", 12.0 + i * 0.06, "part"),
        Column("cifar10", "parameters", None, None, "count", (i + 2**25).astype(np.int32), "more than float32 holds"),
        Column("ImageNet16-120", "validation_accuracy", 200, None, "percent", accuracy / 97, "one value"),
    )
    return Table("nasbench201", "nasbench201", columns, "test licence", {"reader": "test"}, index)


@pytest.fixture(scope="module")
def table() -> Table:
    return make_table()


@pytest.fixture(scope="module")
def store(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(table, tmp_path_factory.mktemp("store") / "nasbench201.arrow")


@pytest.fixture(scope="module", params=["memory", "store"])
def benchmark(request: pytest.FixtureRequest, table: Table, store: Path) -> Benchmark:
    return Benchmark(table) if request.param == "memory" else benchmarks.load("nasbench201", store)


@pytest.fixture(scope="module")
def partial() -> Benchmark:
    return Benchmark(make_table(np.array([3, 10, 11, 15000])))


# -- look-up ----------------------------------------------------------------------------------


def test_query_follows_the_genotypes(benchmark: Benchmark) -> None:
    index = np.array([5, 0, SIZE - 1, 5])
    values = benchmark.query(SPACE.enumerate()[index], metric="validation_accuracy")
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, index % 97 + 0.5)


@pytest.mark.parametrize(("seed", "plus"), [(None, 0.5), (0, 0.0), (1, 1.0), (np.int64(1), 1.0)])
def test_runs_and_their_mean(benchmark: Benchmark, seed: int | None, plus: float) -> None:
    values = benchmark.query_index([1, 2, 3], metric="validation_accuracy", seed=seed)
    np.testing.assert_array_equal(values, np.array([1, 2, 3]) + plus)


def test_epoch_none_is_the_full_budget(benchmark: Benchmark) -> None:
    whole = [benchmark.query_index([8], metric="validation_accuracy", epoch=e)[0] for e in (None, 200, 12)]
    assert whole == [8.5, 8.5, 4.0]


def test_missing_values_are_nan(benchmark: Benchmark) -> None:
    np.testing.assert_array_equal(benchmark.query(SPACE.enumerate()[:4]), [0, np.nan, 2, np.nan])


def test_large_counts_are_exact(benchmark: Benchmark) -> None:
    assert benchmark.query_index([1], metric="parameters")[0] == 2**25 + 1


def test_dataset_none_and_letter_case(benchmark: Benchmark) -> None:
    assert benchmark.datasets == ("cifar10", "ImageNet16-120")
    a = benchmark.query_index([96], "imagenet16-120", "validation_accuracy")
    assert a == pytest.approx(96 / 97)
    first = benchmark.query_index([96], metric="validation_accuracy")
    np.testing.assert_array_equal(first, benchmark.query_index([96], "CIFAR10", "validation_accuracy"))


@pytest.mark.parametrize(("epoch", "seconds"), [(None, [210, 220]), (200, [210, 220]), (12, [12.6, 13.2])])
def test_cost_is_the_training_time_of_the_epochs(benchmark: Benchmark, epoch: int | None, seconds: list[float]) -> None:
    values, cost = benchmark.query_index([10, 20], metric="validation_accuracy", epoch=epoch, return_cost=True)
    assert len(values) == 2
    np.testing.assert_allclose(cost, seconds)


def test_cost_without_training_and_without_times(benchmark: Benchmark) -> None:
    _, free = benchmark.query_index([1, 2], metric="parameters", return_cost=True)
    np.testing.assert_array_equal(free, [0, 0])
    _, unknown = benchmark.query_index([1, 2], "ImageNet16-120", "validation_accuracy", return_cost=True)
    assert np.isnan(unknown).all()


def test_empty_batch(benchmark: Benchmark) -> None:
    values, cost = benchmark.query(np.empty((0, 6), dtype=np.int8), return_cost=True)
    assert values.shape == cost.shape == (0,)
    assert benchmark.query_index(np.empty(0, dtype=np.int64)).shape == (0,)


def test_table_is_the_whole_column_and_a_copy(benchmark: Benchmark) -> None:
    whole = benchmark.table("cifar10", "validation_accuracy", 200, 1)
    np.testing.assert_array_equal(whole, np.arange(SIZE) % 97 + 1)
    whole[:] = -1
    assert benchmark.table("cifar10", "validation_accuracy", 200, 1).min() == 1


def test_batches_do_not_matter(benchmark: Benchmark) -> None:
    rows = SPACE.sample(50, 1)
    singly = [benchmark.query(row[None], metric="validation_accuracy")[0] for row in rows]
    np.testing.assert_array_equal(benchmark.query(rows, metric="validation_accuracy"), singly)


# -- a table of part of the space -------------------------------------------------------------


def test_partial_table_finds_its_rows(partial: Benchmark) -> None:
    np.testing.assert_array_equal(
        partial.query(SPACE.enumerate()[[15000, 3]], metric="validation_accuracy", seed=0), [15000 % 97, 3]
    )
    whole = partial.table(metric="validation_accuracy", seed=0)
    assert whole.shape == (SIZE,)
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(whole)), [3, 10, 11, 15000])


def test_partial_table_names_the_row_it_lacks(partial: Benchmark) -> None:
    with pytest.raises(ValueError, match=r"row 1 \(index 4 .*4 of 15625"):
        partial.query(SPACE.enumerate()[[3, 4]], metric="validation_accuracy")
    with pytest.raises(ValueError, match="row 0"):
        partial.query_index([0], metric="parameters")


def test_partial_table_survives_the_store(partial: Benchmark, tmp_path: Path) -> None:
    path = write_store(make_table(np.array([3, 10, 11, 15000])), tmp_path / "part.arrow")
    again = Benchmark(read_store(path))
    np.testing.assert_array_equal(again.table(), partial.table())
    assert again.info()["coverage"]["cifar10"]["validation_accuracy"]["200"] == 4 / SIZE


# -- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dataset": "cifar1"}, r"dataset of nasbench201 'cifar1'.*'cifar10'"),
        ({"metric": "accuracy"}, r"metric of nasbench201 on cifar10 'accuracy'.*'test_accuracy', 'training_seconds'"),
        ({"metric": ["test_accuracy"]}, "metric"),
        ({"epoch": 100, "metric": "validation_accuracy"}, r"epoch 100 .*Known: 12, 200"),
        ({"epoch": True, "metric": "validation_accuracy"}, "epoch True"),
        ({"epoch": "12", "metric": "validation_accuracy"}, "epoch '12'"),
        ({"epoch": 200, "metric": "parameters"}, "needs no training"),
        ({"seed": 2, "metric": "validation_accuracy"}, r"run 2 .*Known: 0, 1; seed=None"),
        ({"seed": 777, "metric": "validation_accuracy"}, "run 777"),
        ({"seed": True, "metric": "validation_accuracy"}, "run True"),
        ({"seed": 0}, "no single runs of test_accuracy on cifar10 after 200 epochs"),
        ({"seed": 0, "metric": "validation_accuracy", "epoch": 12}, "after 12 epochs"),
    ],
    ids=str,
)
def test_unknown_names_list_what_there_is(benchmark: Benchmark, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        benchmark.query_index([0], **wrong)  # type: ignore[call-overload]
    with pytest.raises(UnknownNameError, match=message):
        benchmark.table(**wrong)  # type: ignore[arg-type]


def test_missing_test_accuracy_says_what_to_do(benchmark: Benchmark) -> None:
    with pytest.raises(
        UnknownNameError, match=r"no test accuracy.*metric='validation_accuracy'.*Known: 'validation_accuracy'"
    ):
        benchmark.query_index([0], "ImageNet16-120")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ([-1], "Got -1 in row 0"),
        ([0, SIZE], f"0 to {SIZE - 1}. Got {SIZE} in row 1"),
        ([0.5], "integers"),
        ([[0]], "vector"),
        ([True], "integers"),
    ],
)
def test_bad_index(benchmark: Benchmark, index: list[object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        benchmark.query_index(index)


@pytest.mark.parametrize("rows", [np.zeros((2, 5)), np.full((1, 6), 5), np.full((1, 6), np.nan), np.zeros(6)])
def test_bad_genotypes(benchmark: Benchmark, rows: np.ndarray) -> None:
    with pytest.raises(InvalidGenotypeError):
        benchmark.query(rows)


# -- what there is ----------------------------------------------------------------------------


def test_listing(benchmark: Benchmark) -> None:
    assert benchmark.metrics() == ("parameters", "test_accuracy", "training_seconds", "validation_accuracy")
    assert benchmark.metrics("ImageNet16-120") == ("validation_accuracy",)
    assert benchmark.epochs("cifar10", "validation_accuracy") == (12, 200)
    assert benchmark.epochs("cifar10", "parameters") == ()
    assert benchmark.runs("cifar10", "validation_accuracy") == (0, 1)
    assert benchmark.runs("cifar10", "validation_accuracy", 12) == ()
    assert benchmark.default_metric == "test_accuracy"
    assert benchmark.space is SPACE


def test_default_metric_without_test_accuracy(table: Table) -> None:
    rest = tuple(c for c in table.columns if c.metric != "test_accuracy")
    assert Benchmark(replace(table, columns=rest)).default_metric == "validation_accuracy"
    assert Benchmark(replace(table, columns=rest[-2:-1])).default_metric == "parameters"


def test_info_is_json_and_complete(benchmark: Benchmark) -> None:
    info = benchmark.info()
    assert json.loads(json.dumps(info)) == info
    assert info["rows"] == info["space_size"] == SIZE
    assert info["datasets"] == ["cifar10", "ImageNet16-120"]
    assert info["epochs"]["cifar10"]["validation_accuracy"] == [12, 200]
    assert info["runs"]["cifar10"]["validation_accuracy"] == {"12": [], "200": [0, 1]}
    assert info["coverage"]["cifar10"]["test_accuracy"]["200"] == pytest.approx(0.5, abs=1e-3)
    assert info["licence"] == "test licence"
    assert info["provenance"] == {"reader": "test"}
    assert info["schema_version"] == 1
    assert len(info["columns"]) == 9


# -- the store --------------------------------------------------------------------------------


def test_store_is_mapped_and_lossless(table: Table, store: Path) -> None:
    back = read_store(store)
    assert [c.key for c in back.columns] == [c.key for c in table.columns]
    for before, after in zip(table.columns, back.columns, strict=True):
        np.testing.assert_array_equal(before.values, after.values)
        assert before.values.dtype == after.values.dtype
        assert (before.unit, before.description) == (after.unit, after.description)
        assert not after.values.flags.owndata
        assert not after.values.flags.writeable


def test_store_is_reproducible(table: Table, store: Path, tmp_path: Path) -> None:
    assert write_store(table, tmp_path / "again.arrow").read_bytes() == store.read_bytes()


def test_replacing_the_file_leaves_an_open_benchmark_intact(table: Table, tmp_path: Path) -> None:
    path = write_store(table, tmp_path / "t.arrow")
    opened = benchmarks.load("nasbench201", path)
    changed = tuple(replace(c, values=np.zeros_like(c.values)) for c in table.columns)
    write_store(replace(table, columns=changed), path)
    assert opened.query_index([5], metric="validation_accuracy")[0] == 5.5
    assert benchmarks.load("nasbench201", path).query_index([5], metric="validation_accuracy")[0] == 0


def test_pickling_sends_the_path_not_the_columns(store: Path, table: Table) -> None:
    mapped = benchmarks.load("nasbench201", store)
    data = pickle.dumps(mapped)
    assert len(data) < 1000
    for again in (pickle.loads(data), pickle.loads(pickle.dumps(Benchmark(table)))):
        np.testing.assert_array_equal(again.table(), mapped.table())


@pytest.mark.parametrize("keep", [0, 5, 8, 100, 0.5, 0.9, -1])
def test_truncated_store(store: Path, tmp_path: Path, keep: float) -> None:
    data = store.read_bytes()
    length = int(len(data) * keep) if isinstance(keep, float) else keep
    path = tmp_path / "nasbench201.arrow"
    path.write_bytes(data[:length])
    with pytest.raises(BenchmarkFormatError, match=r"nasbench201\.arrow.*Import the table again"):
        read_store(path)


def test_truncated_store_in_the_data_folder(store: Path, data_folder: Path) -> None:
    data_folder.mkdir()
    (data_folder / "nasbench201.arrow").write_bytes(store.read_bytes()[:1000])
    with pytest.raises(BenchmarkFormatError, match="tauzero benchmarks import"):
        benchmarks.load("nasbench201")


def test_foreign_arrow_file(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    batch = pa.record_batch({"a": pa.array([1.0, 2.0])})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as out:
        out.write_batch(batch)
    with pytest.raises(BenchmarkFormatError, match="another program"):
        benchmarks.load("nasbench201", path)


def rewrite(store: Path, path: Path, *, header: dict[str, object] | None = None, rows: int | None = None) -> Path:
    """Copy a store with another header or fewer rows, as no release of tauzero would write it."""
    with pa.ipc.open_file(io.BytesIO(store.read_bytes())) as reader:
        batch = reader.get_batch(0)
    described = {**json.loads(batch.schema.metadata[b"tauzero"]), **(header or {})}
    batch = batch.slice(0, rows or SIZE).replace_schema_metadata({b"tauzero": json.dumps(described).encode()})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as out:
        out.write_batch(batch)
    return path


def test_rewrite_itself_is_readable(store: Path, tmp_path: Path) -> None:
    assert read_store(rewrite(store, tmp_path / "x.arrow")).rows == SIZE


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"version": 2}, "version 2.*Update tauzero"),
        ({"version": 0}, "version 0.*Import the table again"),
        ({"version": None}, "version None"),
        ({"format": "other"}, "not that of a tauzero benchmark table"),
        ({"space": "nasbench999"}, "'nasbench999'.*Known: darts, nasbench101, nasbench101x, nasbench201"),
        ({"space": "nasbench101"}, "423624 rows"),
        ({"rows": 7}, "header says 7"),
        ({"columns": []}, "no columns"),
        ({"columns": [{"name": "x"}]}, "incomplete"),
        ({"columns": 5}, "incomplete"),
    ],
    ids=str,
)
def test_header_is_checked(store: Path, tmp_path: Path, header: dict[str, object], message: str) -> None:
    with pytest.raises(BenchmarkFormatError, match=rf"x\.arrow.*{message}"):
        read_store(rewrite(store, tmp_path / "x.arrow", header=header))


def test_missing_rows_are_noticed(store: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkFormatError, match=r"must have 15625 rows.*Got 100"):
        read_store(rewrite(store, tmp_path / "x.arrow", header={"rows": 100}, rows=100))


def test_table_of_another_name(store: Path) -> None:
    with pytest.raises(BenchmarkFormatError, match="of 'nasbench201', not of 'nasbench101'"):
        benchmarks.load("nasbench101", store)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full(SIZE, 100.5), "Got 100.5 in row 0"),
        (np.full(SIZE, -1.0), "Got -1.0"),
        (np.full(SIZE, np.inf), "Got inf"),
        (np.full(SIZE, "x"), "numbers"),
        (np.full(SIZE - 1, 1.0), "15625 values"),
    ],
)
def test_impossible_values_are_not_stored(table: Table, values: np.ndarray, message: str, tmp_path: Path) -> None:
    wrong = Column("cifar100", "test_accuracy", 200, None, "percent", values)
    with pytest.raises(BenchmarkFormatError, match=message):
        write_store(replace(table, columns=(*table.columns, wrong)), tmp_path / "x.arrow")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("index", [[3, 3, 4, 5], [5, 4, 3, 2], [-1, 0, 1, 2], [1, 2, 3, SIZE], [1, 2, 3]])
def test_index_is_checked(index: list[int], tmp_path: Path) -> None:
    wrong = replace(make_table(np.array([3, 10, 11, 15000])), index=np.array(index))
    with pytest.raises(BenchmarkFormatError, match="rise strictly"):
        write_store(wrong, tmp_path / "x.arrow")


def test_two_columns_of_one_key(table: Table, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkFormatError, match="two columns"):
        write_store(replace(table, columns=(*table.columns, table.columns[0])), tmp_path / "x.arrow")


def test_import_of_the_room_is_light() -> None:
    """A fresh process that only lists names pays for neither Arrow nor pandas nor torch."""
    code = (
        "import sys, tauzero.benchmarks as b; b.names()\n"
        "assert not {'pyarrow', 'pandas', 'torch', 'scipy', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


def test_opening_and_asking_need_no_pandas(store: Path) -> None:
    """pyarrow's conversions to numpy import pandas, half a second and 80 MB: columns are mapped without them."""
    code = (
        "import sys, tauzero.benchmarks as b\n"
        "t = b.load('nasbench201', sys.argv[1])\n"
        "t.query(t.space.sample(3, 0)), t.info()\n"
        "assert not {'pandas', 'torch', 'scipy', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(store)], check=True, env=os.environ)


def test_relative_path_survives_a_change_of_folder(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_store(table, "nasbench201.arrow")
    data = pickle.dumps(benchmarks.load("nasbench201", "nasbench201.arrow"))
    monkeypatch.chdir("/")
    assert pickle.loads(data).query_index([1], metric="parameters")[0] == 2**25 + 1
