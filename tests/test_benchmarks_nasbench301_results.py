"""Raw results of NAS-Bench-301: runs of one network, protocols, curves, resuming and damage."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures_raw_json import DARTS, nasbench301_folder, nasbench301_result

from tauzero import benchmarks
from tauzero.benchmarks import _nasbench301_results as module
from tauzero.spaces import BenchmarkFormatError

ROWS = DARTS.sample(4, seed=0)


def swapped(row: np.ndarray) -> np.ndarray:
    """The same network with both inputs of every node the other way round."""
    return row.reshape(-1, 4)[:, [1, 0, 3, 2]].reshape(row.shape)


@pytest.fixture
def results() -> dict[str, dict[str, Any]]:
    """Three networks, the first of them trained three times; one training of another protocol; one copy."""
    return {
        "rs/results_0.json": nasbench301_result(ROWS[0], 90.0, curve=4),
        "rs/results_2.json": nasbench301_result(ROWS[1], 91.0, curve=3),
        "rs/results_10.json": nasbench301_result(ROWS[0], 92.0),
        "de/results_1_ti.json": nasbench301_result(swapped(ROWS[0]), 94.0, curve=4),
        "de/results_5.json": nasbench301_result(ROWS[2], 93.0, curve=4),
        "de/results_6.json": nasbench301_result(ROWS[3], 95.0, epochs=50, channels=16),
        "copy/results_0.json": nasbench301_result(ROWS[0], 90.0, curve=4),
    }


def test_trainings_of_a_network_become_runs(results: dict[str, Any], tmp_path: Path) -> None:
    table = benchmarks.load("nasbench301", nasbench301_folder(tmp_path, results))
    assert table.space.name == "darts"
    assert table.main_metric() == "test_accuracy"
    assert len(table.architectures) == 3
    validation = table.query(ROWS[:3], metric="validation_accuracy")
    # In the order of folders and numbers: copy/0 (and rs/0, the same training), de/1, rs/10.
    np.testing.assert_allclose(validation, [(90 + 94 + 92) / 3, 91, 93])
    np.testing.assert_allclose(table.query(ROWS[:3]), validation - 0.5)
    assert table.runs("cifar10", "validation_accuracy") == (0, 1, 2)
    runs = [table.query(ROWS[:3], metric="validation_accuracy", seed=k) for k in range(3)]
    np.testing.assert_array_equal(runs, [[90, 91, 93], [94, np.nan, np.nan], [92, np.nan, np.nan]])
    np.testing.assert_allclose(table.query(ROWS[:3], metric="parameters"), 1_000_000 + 1000 * validation)
    _, seconds = table.query(ROWS[:3], metric="validation_accuracy", return_cost=True)
    np.testing.assert_allclose(seconds, 1000 + validation)
    found = table.info()["provenance"]
    assert found["protocol"]["epochs"] == 100
    expected = {
        "results": 7,
        "results_of_other_protocols": 1,
        "other_protocols": 1,
        "copies": 1,
        "trainings": 5,
        "networks": 3,
        "most_runs_of_a_network": 3,
        "runs_kept_apart": 3,
    }
    assert {key: found[key] for key in expected} == expected
    assert [(s["folder"], s["results"], s["trainings"]) for s in found["sources"]] == [
        ("copy", 1, 1),
        ("de", 3, 2),
        ("rs", 3, 2),
    ]
    codes = table.query(ROWS[:3], metric="source_code")
    assert [found["sources"][int(code)]["folder"] for code in codes] == ["copy", "rs", "de"]


def test_curves_are_means_over_the_trainings_that_have_one(results: dict[str, Any], tmp_path: Path) -> None:
    table = benchmarks.load("nasbench301", nasbench301_folder(tmp_path, results))
    assert table.epochs("cifar10", "validation_accuracy") == (1, 2, 3, 4, 100)
    assert table.epochs("cifar10", "train_accuracy") == (1, 2, 3, 4)
    third, seconds = table.query(ROWS[:3], metric="validation_accuracy", epoch=3, return_cost=True)
    np.testing.assert_allclose(third, [(90 + 94) / 2 * 3 / 4, 91.0, 93 * 3 / 4], rtol=1e-6)
    whole = table.query(ROWS[:3], metric="training_seconds")
    np.testing.assert_allclose(seconds, whole * 3 / 100, rtol=1e-6)
    fourth = table.query(ROWS[:3], metric="train_accuracy", epoch=4)
    np.testing.assert_allclose(fourth, [93.0, np.nan, 94.0], rtol=1e-6)


def test_more_runs_than_are_kept_apart_count_in_the_mean(tmp_path: Path) -> None:
    results = {f"rs/results_{k}.json": nasbench301_result(ROWS[0], 80.0 + k) for k in range(13)}
    table = benchmarks.load("nasbench301", nasbench301_folder(tmp_path, results))
    assert table.runs("cifar10", "test_accuracy") == tuple(range(10))
    assert table.query(ROWS[:1], metric="validation_accuracy")[0] == pytest.approx(86.0)
    assert table.info()["provenance"]["most_runs_of_a_network"] == 13


def test_an_archive_and_a_single_file(results: dict[str, Any], tmp_path: Path) -> None:
    folder = nasbench301_folder(tmp_path, results)
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("nb/readme.txt", "hello")
        for name, result in results.items():
            out.writestr(f"nb/{name}", json.dumps(result))
    one, other = benchmarks.load("nasbench301", folder), benchmarks.load("nasbench301", archive)
    np.testing.assert_array_equal(one.architectures, other.architectures)
    for metric in one.metrics():
        np.testing.assert_array_equal(one.table(metric=metric), other.table(metric=metric))
    assert one.info()["provenance"]["sources"] == other.info()["provenance"]["sources"]
    single = benchmarks.load("nasbench301", folder / "de" / "results_5.json")
    assert single.query(ROWS[2:3], metric="validation_accuracy") == [93.0]


def test_an_interrupted_import_goes_on(
    results: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = nasbench301_folder(tmp_path, results)
    monkeypatch.setattr(module, "_CHUNK", 2)
    read: list[list[str]] = []
    whole = module._read_chunk

    def chunk(files: Any, names: list[str]) -> Any:
        if len(read) == 2:
            read.append([])
            raise KeyboardInterrupt
        read.append(names)
        return whole(files, names)

    monkeypatch.setattr(module, "_read_chunk", chunk)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(KeyboardInterrupt):
        benchmarks.import_table("nasbench301", folder, out)
    steps: list[tuple[int, int]] = []
    path = benchmarks.import_table("nasbench301", folder, out, progress=lambda *step: steps.append(step))
    assert [len(names) for names in read] == [2, 2, 0, 2, 1]
    assert sorted(name for names in read for name in names) == sorted(results)
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    again = benchmarks.import_table("nasbench301", folder, tmp_path / "again.arrow")
    assert path.read_bytes() == again.read_bytes()


CHANGES: dict[str, tuple[Any, str]] = {
    "no configuration": (lambda r: r.pop("optimized_hyperparamater_config"), "must be an object"),
    "an edge less": (
        lambda r: r["optimized_hyperparamater_config"].pop("NetworkSelectorDatasetInfo:darts:edge_normal_0"),
        "edge_normal_0' is missing",
    ),
    "an operation": (
        lambda r: r["optimized_hyperparamater_config"].update(
            {"NetworkSelectorDatasetInfo:darts:edge_reduce_1": "none"}
        ),
        "Unknown operation 'none'",
    ),
    "a list": (
        lambda r: r["optimized_hyperparamater_config"].update({"NetworkSelectorDatasetInfo:darts:edge_reduce_1": []}),
        "must be a text",
    ),
    "info": (lambda r: r.update(info=[]), "info must be an array"),
    "info[0]": (lambda r: r.update(info=[3]), "info[0] must be an object"),
    "text": (lambda r: r["info"][0].update(val_accuracy="90"), "val_accuracy must be a finite number"),
    "beyond": (lambda r: r["info"][0].update(val_accuracy=100.5), "must lie in 0 to 100"),
    "no test": (lambda r: r.pop("test_accuracy"), "test_accuracy must be a finite number, got None"),
    "huge": (lambda r: r.update(runtime=10**400), "an integer of 1329 bits"),
    "time": (lambda r: r.update(runtime=-1), "runtime must lie in 0"),
    "epochs": (lambda r: r.update(budget=0.5), "budget must be a number of epochs"),
    "layers": (
        lambda r: r["optimized_hyperparamater_config"].update({"NetworkSelectorDatasetInfo:darts:layers": True}),
        "layers must be a finite number",
    ),
    "curve": (lambda r: r["learning_curves"].update({"Train/val_accuracy": [90.0, 1e39]}), "0 to 100 percent"),
    "no curve": (lambda r: r["learning_curves"].update({"Train/val_accuracy": {}}), "must be an array"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_damage_names_the_file_and_what_was_expected(name: str, results: dict[str, Any], tmp_path: Path) -> None:
    change, reason = CHANGES[name]
    change(results["de/results_5.json"])
    folder = nasbench301_folder(tmp_path, results)
    with pytest.raises(BenchmarkFormatError) as caught:
        benchmarks.import_table("nasbench301", folder, tmp_path / "out.arrow")
    assert reason in str(caught.value)
    assert "results_5.json' is not a result of NAS-Bench-301" in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["nb_301"]


def test_the_genuine_file(shared_data: Path) -> None:
    folder = shared_data / "originals" / "nasbench301"
    table = benchmarks.load("nasbench301", folder)
    assert table.epochs() == (1500,)
    row = table.architectures
    assert [float(table.query(row, metric=m)[0]) for m in ("validation_accuracy", "test_accuracy")] == [97.68, 97.54]
    assert table.query(row, metric="training_seconds") == [365_136]
    # The file counts the network's parameters: 50 channels, 20 layers, with the auxiliary head.
    counted = DARTS.costs(row, channels=50, layers=20, auxiliary=True)[0]  # type: ignore[attr-defined]
    np.testing.assert_array_equal(table.query(row, metric="parameters"), counted)
