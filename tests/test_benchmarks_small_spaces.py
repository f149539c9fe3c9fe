"""Readers of NAS-Bench-Macro and NAS-Bench-Graph: values, damage, and the genuine files."""

from __future__ import annotations

import json
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fixtures_small_spaces import (
    FUZZ,
    GRAPH,
    MACRO,
    graph_figures,
    graph_pickle,
    macro_records,
    write_graph_folder,
    write_graph_parquet,
    write_graph_wheel,
    write_macro,
)

from tauzero import benchmarks, spaces
from tauzero.benchmarks import _nasbench_graph_package, _nasbench_macro_json, _readers
from tauzero.spaces import BenchmarkFormatError

ROWS = GRAPH.sample(40, 3, unique=True)


# -- NAS-Bench-Macro --------------------------------------------------------------------------


def test_macro_values(tmp_path: Path) -> None:
    rows = MACRO.sample(200, 1, unique=True)
    records = macro_records(rows)
    table = benchmarks.load("nasbench_macro", write_macro(tmp_path / "x.json", rows))
    asked = rows[::-1]
    names = MACRO.to_string(asked)
    runs = np.array([records[name]["test_acc"] for name in names])
    for k in range(3):
        np.testing.assert_array_equal(table.query(asked, seed=k), runs[:, k])
    np.testing.assert_allclose(table.query(asked), [records[name]["mean_acc"] for name in names], rtol=1e-6)
    for metric, field in (("parameters", "params"), ("flops", "flops")):
        np.testing.assert_array_equal(table.query(asked, metric=metric), [records[name][field] for name in names])
    assert (table.main_metric(), table.epochs(), table.runs()) == ("test_accuracy", (50,), (0, 1, 2))
    assert len(table.architectures) == 6_561


def test_a_published_record_is_read(tmp_path: Path) -> None:
    """Two records of the published file as they stand there (github.com/xiusu/NAS-Bench-Macro, Apache-2.0)."""
    text = (
        '{"02012100": {"test_acc": [89.47000122070312, 88.94999694824219, 89.16999816894531], "mean_acc": '
        '89.19666544596355, "std": 0.21312667374448538, "params": 890666, "flops": 47327744}, "22222200": {"test_acc": '
        '[93.13999938964844, 93.11000061035156, 92.98999786376953], "mean_acc": 93.07999928792317, "std": '
        '0.0648083016909048, "params": 1269610, "flops": 79266304}}'
    )
    path = tmp_path / "nas-bench-macro_cifar10.json"
    path.write_text(text, encoding="utf-8")
    table = benchmarks.load("nasbench_macro", path)
    assert table.query(MACRO.from_string(["22222200", "02012100"])) == pytest.approx([93.08, 89.196665])
    assert table.query(MACRO.from_string(["02012100"]), seed=1) == pytest.approx([88.95])


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    records = macro_records(MACRO.from_string(["00000000", "10220212"]))
    change(records)
    return json.dumps(records)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed(lambda r: r["10220212"].update(params=1)), "params of 10220212 must be those of the network, 2211722"),
        (changed(lambda r: r["10220212"].update(flops="x")), "flops of 10220212 must be those of the network"),
        (changed(lambda r: r["10220212"].update(mean_acc=50)), "mean_acc of 10220212 must be that of its three runs"),
        (changed(lambda r: r["10220212"].update(std=3.0)), "std of 10220212"),
        (changed(lambda r: r["10220212"].update(test_acc=[1, 2])), "test_acc of 10220212 must be three accuracies"),
        (changed(lambda r: r["10220212"].update(test_acc=[1, 2, 101])), "three accuracies in percent"),
        (changed(lambda r: r["10220212"].update(test_acc=[1, 2, True])), "three accuracies in percent"),
        (changed(lambda r: r["10220212"].pop("std")), "10220212 must have test_acc, mean_acc, std, params, flops"),
        (changed(lambda r: r.update({"1022021": {}})), "architectures are eight digits 0 to 2. Got '1022021'"),
        (changed(lambda r: None)[:-20], "truncated or damaged JSON"),
        (changed(lambda r: None).replace("10220212", "00000000"), "'00000000' stands there twice"),
        (changed(lambda r: r["10220212"].update(std=float("nan"))), "NaN is no number"),
    ],
)
def test_damaged_macro_files(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BenchmarkFormatError, match=message):
        benchmarks.load("nasbench_macro", path)


def test_huge_and_deep_macro_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    start = '{"00000000": {"test_acc": '
    path.write_text(start + "[" * 100_000, encoding="utf-8")
    with pytest.raises(BenchmarkFormatError, match="truncated or damaged"):
        benchmarks.load("nasbench_macro", path)
    path.write_text(start + "9" * 5_000 + "}}", encoding="utf-8")
    with pytest.raises(BenchmarkFormatError, match=r"truncated or damaged|three accuracies"):
        benchmarks.load("nasbench_macro", path)
    monkeypatch.setattr(_nasbench_macro_json, "_MAX_BYTES", 100)
    with pytest.raises(BenchmarkFormatError, match="too large"):
        benchmarks.load("nasbench_macro", path)


# -- NAS-Bench-Graph --------------------------------------------------------------------------


def check_graph(table: benchmarks.Benchmark, datasets: tuple[str, ...], rtol: float) -> None:
    assert table.datasets == datasets
    order = np.random.default_rng(0).permutation(len(ROWS))
    for dataset in datasets:
        figures = graph_figures(dataset, len(ROWS))
        for metric, name, scale in (
            ("validation_accuracy", "valid_perf", 100),
            ("test_accuracy", "perf", 100),
            ("latency_seconds", "latency", 1),
            ("parameters", "para", 1e6),
        ):
            found = table.query(ROWS[order], dataset, metric)
            np.testing.assert_allclose(found, scale * figures[name][order], rtol=rtol)
    assert table.unit(datasets[0]) == "percent"
    assert table.main_metric(datasets[0]) == "test_accuracy"


@pytest.mark.parametrize("how", ["wheel", "package", "folder around it", "light", "one file"])
def test_graph_package(how: str, tmp_path: Path) -> None:
    datasets: tuple[str, ...] = ("cora", "arxiv")
    if how == "wheel":
        path = write_graph_wheel(tmp_path / "nas_bench_graph-1.4.0-py3-none-any.whl", ROWS)
    else:
        path = write_graph_folder(tmp_path, ROWS)
        places = {"folder around it": tmp_path, "light": path / "light", "one file": path / "light" / "arxiv.bench"}
        path = places.get(how, path)
        datasets = ("arxiv",) if how == "one file" else datasets
    check_graph(benchmarks.load("nasbench_graph", path), datasets, rtol=1e-6)


def test_graph_parquet_with_and_without_proteins(tmp_path: Path) -> None:
    path = write_graph_parquet(tmp_path / "some.parquet", ROWS)
    check_graph(benchmarks.load("nasbench_graph", path), ("cora", "arxiv"), rtol=1e-6)
    beside = write_graph_parquet(tmp_path / "some_proteins.parquet", ROWS[:7], ("proteins",))
    table = benchmarks.load("nasbench_graph", path)
    assert table.datasets == ("cora", "arxiv", "proteins")
    expected = 100 * graph_figures("proteins", 7)["perf"]
    found = table.query(ROWS, "proteins")
    np.testing.assert_allclose(found[:7], expected, rtol=1e-6)
    assert np.isnan(found[7:]).all()
    alone = benchmarks.load("nasbench_graph", beside)
    assert alone.datasets == ("proteins",)
    np.testing.assert_allclose(alone.query(ROWS[:7], "proteins"), expected, rtol=1e-6)


def pickled(content: object) -> bytes:
    return pickle.dumps(content, protocol=3)


FIGURES = {"valid_perf": 0.5, "perf": 0.5, "latency": 0.1, "para": 1.0}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickled({1111: FIGURES, 90000: FIGURES}), "Expected up to five digits 0 to 8. Got 90000"),
        (pickled({88111: FIGURES, 10080: FIGURES}), "10080 is not the number by which"),
        (pickled({1111: FIGURES, 88888: FIGURES}), "all four operations are skip connections"),
        (pickled({1111: FIGURES, 2**80: FIGURES}), "is damaged"),
        (pickled({1111: FIGURES, "1112": FIGURES}), "networks are numbers. Got '1112'"),
        (pickled({1111: {**FIGURES, "perf": "high"}}), "the figures of network 1111 must be numbers"),
        (pickled({1111: {**FIGURES, "perf": float("nan")}}), "must be numbers"),
        (pickled({1111: {**FIGURES, "perf": 1.5}}), "must lie in .0, 100. percent"),
        (pickled({1111: {**FIGURES, "latency": 1e30}}), "must be numbers"),
        (pickled({1111: {"valid_perf": 0.5}}), "1111 must have valid_perf, perf, latency, para"),
        (pickled(["valid_perf"]), "expected a dictionary"),
        (pickled({1111: FIGURES})[:-9], "truncated or no pickle"),
        (b"\x80\x03cos\nsystem\nX\x04\x00\x00\x00true\x85R.valid_perf", "not safe to read"),
    ],
)
def test_damaged_graph_pickles(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "cora.bench"
    path.write_bytes(data)
    with pytest.raises(BenchmarkFormatError, match=message):
        benchmarks.load("nasbench_graph", path)


def test_large_graph_files_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = tmp_path / "bomb.whl"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("nas_bench_graph/light/cora.bench", b"\0" * (_nasbench_graph_package._MAX_BYTES + 1))
    with pytest.raises(BenchmarkFormatError, match=r"cora\.bench is too large: 16777217 bytes"):
        benchmarks.load("nasbench_graph", bomb)
    monkeypatch.setattr(_nasbench_graph_package, "_MAX_BYTES", 1_000)
    path = tmp_path / "cora.bench"
    path.write_bytes(graph_pickle("cora", ROWS))
    with pytest.raises(BenchmarkFormatError, match="every epoch, are not read"):
        benchmarks.load("nasbench_graph", path)


def test_damaged_graph_parquet(tmp_path: Path) -> None:
    path = write_graph_parquet(tmp_path / "some.parquet", np.concatenate([ROWS, ROWS[:1]]))
    with pytest.raises(BenchmarkFormatError, match="Rows 0 and 40 of the file are the same nasbench_graph"):
        benchmarks.load("nasbench_graph", path)
    for hashes in ([1111, 99_999], ["a", "b"], [0.5, 1.5]):
        names = [f"cora_{what}" for what in ("val", "test", "latency_s", "params_m")]
        pd.DataFrame({"hash": hashes, **dict.fromkeys(names, 0.5)}).to_parquet(path)
        with pytest.raises(BenchmarkFormatError, match="is damaged"):
            benchmarks.load("nasbench_graph", path)
    write_graph_parquet(path, ROWS)
    write_graph_parquet(tmp_path / "some_proteins.parquet", ROWS)
    with pytest.raises(BenchmarkFormatError, match=r"has cora, which .*some\.parquet' has too"):
        benchmarks.load("nasbench_graph", path)


# -- recognition and damage -------------------------------------------------------------------


@pytest.mark.parametrize("kind", FUZZ)
def test_each_source_is_recognised_by_its_reader_only(kind: str, tmp_path: Path) -> None:
    path = FUZZ[kind](tmp_path)
    assert [name for name, reader in _readers.READERS.items() if reader.recognises(path)] == [kind]


@pytest.mark.parametrize("kind", FUZZ)
def test_mutated_sources(kind: str, tmp_path: Path) -> None:
    """A damaged file is an error of ours, or still a table."""
    path = FUZZ[kind](tmp_path)
    original, rng = path.read_bytes(), random.Random(kind)
    name = _readers.READERS[kind].benchmark
    refused = 0
    for _ in range(150):
        data = bytearray(original)
        place = rng.randrange(len(data))
        change = rng.randrange(4)
        if change == 0:
            del data[place:]
        elif change == 1:
            data[place] ^= 1 << rng.randrange(8)
        elif change == 2:
            data[place : place + 4] = b"\xff\xff\xff\x7f"
        else:
            data[place:place] = rng.randbytes(rng.randrange(1, 9))
        path.write_bytes(data)
        try:
            benchmarks.load(name, path)
        except BenchmarkFormatError:
            refused += 1
    assert refused > 75


# -- genuine files ----------------------------------------------------------------------------


def test_genuine_graph_files_agree(shared_data: Path) -> None:
    package = benchmarks.load("nasbench_graph", shared_data / "originals" / "nasbench_graph")
    table = benchmarks.load("nasbench_graph", shared_data / "other_spaces" / "nasbench_graph.parquet")
    assert package.datasets == ("proteins",)
    assert len(table.datasets) == 9
    for metric in package.metrics("proteins"):
        ours, theirs = table.table("proteins", metric), package.table("proteins", metric)
        assert np.isfinite(ours).sum() == 2_021
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    for dataset in table.datasets[:-1]:
        assert np.isfinite(table.table(dataset, "test_accuracy")).all()
    best = table.architectures[table.table("cora", "test_accuracy").argmax()]
    assert table.table("cora", "test_accuracy").max() == pytest.approx(83.1333, abs=1e-3)
    assert table.query(spaces.get("nasbench_graph").canonical(best[None]), "cora") == pytest.approx([83.1333], abs=1e-3)
