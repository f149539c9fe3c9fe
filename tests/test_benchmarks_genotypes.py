"""Tables over spaces that cannot be enumerated: rows are named by genotypes, found by network."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tauzero import benchmarks, spaces
from tauzero.benchmarks import Benchmark, Column, Table, read_store, write_store
from tauzero.benchmarks._rows import RowFinder
from tauzero.spaces import BenchmarkFormatError, NotEnumerableError

DARTS = spaces.get("darts")
ROWS = DARTS.distinct(DARTS.sample(60, 3))[0][::-1].copy()  # an order that is not the sorted one


def make_table(genotypes: np.ndarray | None = ROWS, **changes: object) -> Table:
    values = np.arange(60) / 10 + 90
    columns = (
        Column("cifar10", "validation_accuracy", 100, None, "percent", values),
        Column("cifar10", "parameters", None, None, "count", np.arange(60, dtype=np.int64)),
        Column("cifar10", "negative_loss", 100, None, "score", -values),
    )
    table = Table("cells", "darts", columns, "CC0-1.0", {"source": "made up"}, genotypes=genotypes)
    return replace(table, **changes)


def renumbered(rows: np.ndarray) -> np.ndarray:
    """The same networks with the two inputs of every node (and their operations) in the other order."""
    return rows.reshape(-1, 4)[:, [1, 0, 3, 2]].reshape(rows.shape).copy()


@pytest.fixture(params=["memory", "store"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Benchmark:
    if request.param == "memory":
        return Benchmark(make_table())
    return benchmarks.load("cells", write_store(make_table(), tmp_path / "cells.arrow"))


def test_columns_are_aligned_with_architectures(table: Benchmark) -> None:
    np.testing.assert_array_equal(table.architectures, ROWS)
    assert table.architectures.dtype == np.int8
    with pytest.raises(ValueError, match="read-only"):
        table.architectures[0] = 0
    values = table.table(None, "validation_accuracy")
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, np.arange(60) / 10 + 90)
    values[:] = 0  # the caller's own
    assert table.table(None, "validation_accuracy").min() == 90


def test_architectures_of_an_enumerable_space_are_the_whole_space() -> None:
    space = spaces.get("transnas_macro")
    column = Column("d", "validation_accuracy", 1, None, "percent", np.array([1.0, 2.0]))
    table = Benchmark(Table("part", space.name, (column,), "", {}, np.array([5, 9])))
    np.testing.assert_array_equal(table.architectures, space.enumerate())
    assert np.flatnonzero(np.isfinite(table.table("d", "validation_accuracy"))).tolist() == [5, 9]


def test_query_finds_networks_however_they_are_written(table: Benchmark) -> None:
    chosen = np.random.default_rng(0).integers(0, 60, 200)
    asked = ROWS[chosen]
    asked[::2] = renumbered(asked[::2])
    values, seconds = table.query(asked, metric="validation_accuracy", return_cost=True)
    np.testing.assert_array_equal(values, chosen / 10 + 90)
    assert np.isnan(seconds).all()
    np.testing.assert_array_equal(table.query(asked, metric="parameters"), chosen)
    assert table.query(np.empty((0, 32), np.int8), metric="parameters").shape == (0,)


def test_what_is_not_there_is_named(table: Benchmark) -> None:
    stranger = DARTS.sample(1, 999)
    with pytest.raises(ValueError, match=r"does not have the architecture in row 1; it has 60 of 1\d+\."):
        table.query(np.concatenate([ROWS[:1], stranger]), metric="parameters")
    with pytest.raises(NotEnumerableError, match=r"`query_index` needs positions.*use `query`"):
        table.query_index([0], metric="parameters")


def test_info_knows_no_share_of_the_space(table: Benchmark) -> None:
    facts = json.loads(json.dumps(table.info()))
    assert facts["rows"] == 60
    assert facts["enumerable"] is False
    assert facts["coverage"]["cifar10"]["validation_accuracy"]["100"] == 1.0
    assert [c["unit"] for c in facts["columns"]] == ["percent", "count", "score"]
    assert "60 architectures" in repr(table)


def test_the_store_keeps_genotypes(tmp_path: Path) -> None:
    path = write_store(make_table(), tmp_path / "cells.arrow")
    again = read_store(path)
    np.testing.assert_array_equal(again.genotypes, ROWS)
    assert again.genotypes is not None
    assert not again.genotypes.flags.writeable
    assert not again.genotypes.flags.owndata  # a view on the mapped file
    other = write_store(again, tmp_path / "again.arrow")
    assert other.read_bytes() == path.read_bytes()
    copy = pickle.loads(pickle.dumps(benchmarks.load("cells", path)))
    np.testing.assert_array_equal(copy.architectures, ROWS)
    (tmp_path / "cut.arrow").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BenchmarkFormatError, match="truncated"):
        read_store(tmp_path / "cut.arrow")


def bad_genotypes() -> dict[str, tuple[Table, str]]:
    twice = ROWS.copy()
    twice[7] = renumbered(ROWS[30:31])
    invalid = ROWS.copy()
    invalid[4, 1] = invalid[4, 0]
    cells = spaces.get("nasbench201").enumerate()[:60]
    return {
        "the same network twice": (make_table(twice), "Rows 7 and 30 are the same darts network"),
        "not a member": (make_table(invalid), "Row 4 is not a member of darts"),
        "none": (make_table(None), "must name its rows by genotypes"),
        "an index": (make_table(index=np.arange(60)), "must name its rows by genotypes and have no index"),
        "too few": (make_table(ROWS[:-1]), r"shape \(60, 32\). Got int8 of shape \(59, 32\)"),
        "wrong dtype": (make_table(ROWS.astype(np.int64)), "Got int64"),
        "wrong space": (make_table(cells, space="nasbench201"), "must not have genotypes"),
    }


@pytest.mark.parametrize("case", bad_genotypes())
def test_bad_genotypes(case: str, tmp_path: Path) -> None:
    table, message = bad_genotypes()[case]
    with pytest.raises(BenchmarkFormatError, match=message):
        write_store(table, tmp_path / "x.arrow")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_cell_in_a_store_is_noticed(tmp_path: Path) -> None:
    path = write_store(make_table(), tmp_path / "x.arrow")
    data = path.read_bytes()
    at = data.index(ROWS[10].tobytes())
    path.write_bytes(data[:at] + ROWS[11].tobytes() + data[at + 32 :])
    with pytest.raises(BenchmarkFormatError, match=r"x\.arrow.*Rows 10 and 11 are the same.*Import the table again"):
        read_store(path)


def test_finding_agrees_with_a_dictionary() -> None:
    finder = RowFinder(DARTS, ROWS)
    known = {row.tobytes(): k for k, row in enumerate(DARTS.canonical(ROWS))}
    asked = np.concatenate([DARTS.sample(100, 5), renumbered(ROWS), DARTS.sample(5, 3)])
    expected = [known.get(row.tobytes(), -1) for row in DARTS.canonical(asked)]
    assert finder.find(asked).tolist() == expected
    assert expected.count(-1) >= 90
    assert RowFinder(DARTS, ROWS[:0]).find(ROWS).tolist() == [-1] * 60


# -- units ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_a_score_is_any_finite_number(value: float) -> None:
    Column("d", "negative_loss", 1, None, "score", np.array([-5.0, np.nan, 3e9])).check()
    with pytest.raises(BenchmarkFormatError, match=r"must be finite or be NaN.*row 1"):
        Column("d", "negative_loss", 1, None, "score", np.array([0.0, value])).check()
    with pytest.raises(BenchmarkFormatError, match="unit must be one of"):
        Column("d", "negative_loss", 1, None, "points", np.array([0.0])).check()


def test_each_dataset_has_a_main_metric_and_unit() -> None:
    columns = (
        Column("a", "validation_accuracy", 1, None, "percent", np.zeros(60)),
        Column("a", "aaa", None, None, "count", np.zeros(60)),
        Column("b", "validation_ssim", 1, None, "score", np.zeros(60)),
        Column("b", "best_validation_ssim", 1, None, "score", np.zeros(60)),
        Column("c", "something", 1, None, "seconds", np.zeros(60)),
    )
    table = Benchmark(make_table(columns=columns))
    assert table.default_metric == "validation_accuracy"
    mains = [table.main_metric(d) for d in (None, "a", "B", "c")]
    assert mains == ["validation_accuracy", "validation_accuracy", "validation_ssim", "something"]
    assert [table.unit(d) for d in "abc"] == ["percent", "score", "seconds"]
    assert table.unit("a", "aaa") == "count"
    with pytest.raises(ValueError, match=r"validation_ssim.*main_metric\('b'\)"):
        table.query(ROWS, "b")


# -- readers ----------------------------------------------------------------------------------

TASKS = ("class_scene", "class_object", "room_layout", "jigsaw", "segmentsemantic", "normal", "autoencoder")


def transnas(space: str, index: list[int], **changes: object) -> dict[str, object]:
    rows = spaces.get(space).enumerate()[index]
    columns: dict[str, object] = {f"op{k}": rows[:, k].astype(np.uint8) for k in range(6)}
    values = np.arange(len(index), dtype=np.float32)
    columns |= {f"val_accuracy_{task}": 10 * k + values for k, task in enumerate(TASKS)}
    columns["val_accuracy_room_layout"] = -values
    columns["bestval_normal"] = np.where(values == 1, np.nan, values / 10).astype(np.float32)
    return columns | changes


@pytest.fixture
def both(tmp_path: Path) -> Path:
    folder = tmp_path / "transnas"
    folder.mkdir()
    pq.write_table(pa.table(transnas("transnas_macro", [7, 2000, 3])), folder / "a.parquet")
    pq.write_table(pa.table(transnas("transnas_micro", [7, 2000, 3])), folder / "b.parquet")
    return folder


@pytest.mark.parametrize("name", ["transnas_micro", "transnas_macro"])
def test_transnas(both: Path, name: str) -> None:
    table = benchmarks.load(name, benchmarks.import_table(name, both))
    assert sorted(table.datasets) == sorted(TASKS)
    rows = table.space.enumerate()[[3, 7, 2000]]
    np.testing.assert_array_equal(table.query(rows, "class_scene", "validation_accuracy"), [2, 0, 1])
    np.testing.assert_array_equal(table.query(rows, "room_layout", "validation_negative_loss"), [-2, 0, -1])
    best = table.query(rows, "normal", "best_validation_ssim")
    np.testing.assert_array_equal(best, np.float32([0.2, 0, np.nan]))
    assert table.unit("normal") == table.unit("room_layout") == "score"
    assert table.unit("segmentsemantic") == "percent"
    assert [table.epochs(t, table.main_metric(t)) for t in ("class_object", "jigsaw", "normal")] == [
        (25,),
        (10,),
        (30,),
    ]
    other = ({"transnas_micro", "transnas_macro"} - {name}).pop()
    source = both / ("b.parquet" if name == "transnas_micro" else "a.parquet")
    with pytest.raises(BenchmarkFormatError, match=f"is a table of '{name}', not of '{other}'"):
        benchmarks.import_table(other, source)


def test_bad_transnas_files(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    incomplete = transnas("transnas_micro", [3])
    del incomplete["val_accuracy_jigsaw"]
    pq.write_table(pa.table(incomplete), path)
    with pytest.raises(BenchmarkFormatError, match="in no format that is known for 'transnas_micro'"):
        benchmarks.import_table("transnas_micro", path)
    pq.write_table(pa.table(transnas("transnas_micro", [3, 4, 3])), path)
    with pytest.raises(BenchmarkFormatError, match="Rows 0 and 2 of the file are the same"):
        benchmarks.import_table("transnas_micro", path)
    pq.write_table(pa.table(transnas("transnas_micro", [3, 4], op1=np.array([0, 4], np.uint8))), path)
    with pytest.raises(ValueError, match=r"Column 1 of transnas_micro.*Got 4 in row 1"):
        benchmarks.import_table("transnas_micro", path)
    pq.write_table(pa.table(transnas("transnas_micro", [3], val_accuracy_jigsaw=[101.0])), path)
    with pytest.raises(BenchmarkFormatError, match=r"jigsaw/validation_accuracy.*Got 101"):
        benchmarks.import_table("transnas_micro", path)


def naslib_cell(cell: np.ndarray) -> str:
    """Sixteen genotype columns as eight pairs of input and operation."""
    nodes = cell.reshape(4, 4).tolist()
    return json.dumps([pair for a, b, x, y in nodes for pair in ([a, x], [b, y])])


def naslib(rows: np.ndarray, accuracy: list[float]) -> dict[str, list[object]]:
    return {
        "normal": [naslib_cell(row[:16]) for row in rows],
        "reduce": [naslib_cell(row[16:]) for row in rows],
        "val_accuracy": accuracy,
    }


def test_nasbench301_cells_with_an_accuracy_are_merged_by_network(tmp_path: Path) -> None:
    rows = np.concatenate([ROWS[:3], renumbered(ROWS[1:2]), ROWS[4:5]])
    pq.write_table(pa.table(naslib(rows, [90.0, 91.0, 92.0, 93.0, float("nan")])), tmp_path / "any.parquet")
    table = benchmarks.load("nasbench301", benchmarks.import_table("nasbench301", tmp_path))
    assert table.info()["rows"] == 3
    np.testing.assert_array_equal(table.query(ROWS[:3], metric="validation_accuracy"), [90, 92, 92])
    facts = table.info()
    assert (facts["provenance"]["rows_with_accuracy"], facts["provenance"]["rows_merged"]) == (4, 1)
    assert "surrogate" in facts["columns"][0]["description"]
    with pytest.raises(ValueError, match="does not have the architecture"):
        table.query(ROWS[4:5], metric="validation_accuracy")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normal": ["[[0,", "[]"]}, "Row 0 has a cell that is no JSON"),
        ({"normal": [naslib_cell(ROWS[0, :16]), None]}, "Row 1 has a cell that is no JSON"),
        ({"reduce": [naslib_cell(ROWS[0, 16:]), "[[0, 1]]"]}, "cells cannot be read: Architecture 1"),
        ({"reduce": [naslib_cell(ROWS[0, 16:]), "7"]}, "cells cannot be read: Architecture 1"),
        ({"val_accuracy": [float("nan")] * 2}, "no value in its column val_accuracy"),
        ({"val_accuracy": [900.0, 90.0]}, "Got 900"),
    ],
)
def test_bad_nasbench301_files(tmp_path: Path, changes: dict[str, list[object]], message: str) -> None:
    pq.write_table(pa.table(naslib(ROWS[:2], [90.0, 91.0]) | changes), tmp_path / "x.parquet")
    with pytest.raises(BenchmarkFormatError, match=message):
        benchmarks.import_table("nasbench301", tmp_path / "x.parquet")


# -- the real files ---------------------------------------------------------------------------


def test_real_transnas_tables(shared_data: Path) -> None:
    best = {"transnas_micro": (54.936306, -0.600999), "transnas_macro": (57.414413, -0.582226)}
    for name, (scene, layout) in best.items():
        table = benchmarks.load(name, shared_data / "transnas101")
        frame = pq.read_table(shared_data / "transnas101" / f"tnb101_{name[9:]}.parquet").to_pandas()
        rows = frame[[f"op{k}" for k in range(6)]].to_numpy()
        for task in TASKS:
            np.testing.assert_array_equal(
                table.query(rows, task, table.main_metric(task)), frame[f"val_accuracy_{task}"].to_numpy()
            )
            metric = f"best_{table.main_metric(task)}"
            np.testing.assert_array_equal(table.query(rows, task, metric), frame[f"bestval_{task}"].to_numpy())
        assert table.table("class_scene", "validation_accuracy").max() == pytest.approx(scene, abs=1e-5)
        assert table.table("room_layout", "validation_negative_loss").max() == pytest.approx(layout, abs=1e-5)


def test_real_nasbench301_cells(shared_data: Path) -> None:
    table = benchmarks.load("nasbench301", shared_data / "other_spaces")
    values = table.table(None, "validation_accuracy")
    assert len(values) == 1_218
    assert (values.min(), values.max()) == pytest.approx((90.727905, 94.488884), abs=1e-5)
    np.testing.assert_array_equal(table.query(renumbered(table.architectures), metric="validation_accuracy"), values)
    assert table.info()["provenance"]["rows_merged"] == 0
