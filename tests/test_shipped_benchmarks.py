"""The surrogate benchmarks that ship with tauzero: complete, small, and as good as their cards say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tauzero import benchmarks, evaluation, surrogates

NAMES = surrogates.benchmark_names()
FOLDER = Path(surrogates.__file__).parent / "shipped"
ROOT = Path(__file__).resolve().parents[1]
each = pytest.mark.parametrize("name", NAMES)


def shipped(name: str) -> Any:
    return benchmarks.load(f"surrogate:{name}")


def test_one_for_each_space() -> None:
    assert {n.rpartition("-")[0] for n in NAMES if n.endswith("cifar10")} == {
        "darts", "nasbench101", "nasbench201", "natsbench_size",
    }  # fmt: skip
    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) < 2e6


@each
def test_opens_and_answers(name: str) -> None:
    benchmark = shipped(name)
    assert benchmark.name == f"surrogate:{name}"
    cells = benchmark.space.sample(30, 0)
    mean, cost = benchmark.query(cells, metric=benchmark.default_metric, return_cost=True)
    run = benchmark.query(cells, metric=benchmark.default_metric, seed=0)
    assert ((mean > 5) & (mean < 100)).all()
    assert np.ptp(mean) > 0.1
    assert 0 < np.abs(run - mean).mean() < 6
    assert (cost > 0).all() or np.isnan(cost).all()
    np.testing.assert_array_equal(shipped(name).query(cells, metric=benchmark.default_metric, seed=0), run)


@each
def test_card_and_validity_are_complete(name: str) -> None:
    benchmark, text = shipped(name), (FOLDER / name / "README.md").read_text(encoding="utf-8")
    info, found = benchmark.info(), benchmark.validity
    assert found["format"] == "tauzero.validity"
    held = found["held_out"]
    for key in ("tau", "sparse_tau", "r2", "mae"):
        assert f"| {key} | {held['all'][key]:.4f} | {held['mean'][key]:.4f} ± {held['std'][key]:.4f} |" in text
    assert 0.7 < held["all"]["tau"] < 1
    assert info["licence"] in text
    assert "holdout_mask" in info["provenance"]["held_out"]
    assert all(re.fullmatch(r"[0-9a-f]{64}", f["sha256"]) for f in info["provenance"]["files"])
    assert (ROOT / info["provenance"]["command"].split()[1]).is_file()
    assert found["noise"]["predictive_std"] > 0
    page = (ROOT / "docs" / "surrogate_benchmarks.md").read_text(encoding="utf-8")
    assert f"| `{name}` |" in page
    row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
    assert f"{held['all']['tau']:.3f}" in row
    assert f"{held['rows']:,}" in row


def test_darts_says_that_its_values_were_never_measured() -> None:
    text = (FOLDER / "darts-cifar10" / "README.md").read_text(encoding="utf-8")
    assert "no measurements" in text
    assert "NAS-Bench-301" in text
    assert "no measurements" in shipped("darts-cifar10").info()["provenance"]["limits"]


def test_figures_of_the_pretrained_models_agree() -> None:
    """The same model on the same rows, judged by two scripts."""
    for name in surrogates.pretrained_names():
        card = surrogates.load(name).metadata_
        found = shipped(name).validity["held_out"]
        assert found["rows"] == card["held_out_rows"]
        assert found["all"]["tau"] == pytest.approx(card["kendall_tau"], abs=2e-4)
        assert found["all"]["r2"] == pytest.approx(card["r2"], abs=2e-3)


@each
def test_no_machine_path_and_only_plain_files(name: str) -> None:
    files = [p for p in (FOLDER / name).rglob("*") if p.is_file()]
    assert {p.suffix for p in files} <= {".json", ".safetensors", ".txt", ".md"}
    for path in files:
        if path.suffix in {".json", ".md"}:
            text = path.read_text(encoding="utf-8")
            assert not re.search(r'["\s=`](/|~|[A-Za-z]:\\\\|\.\./)\w', text), path


SOURCES = {
    "darts": ("nasbench301", "other_spaces/nasbench301_naslib.parquet"),
    "natsbench_size": ("natsbench_size", "nats_sss/nats_sss.parquet"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in NAMES if n.rpartition("-")[0] in SOURCES or n.startswith(tuple(SOURCES))])
def test_held_out_figures_are_reproduced(name: str, shared_data: Path) -> None:
    table_name, file = next(v for k, v in SOURCES.items() if name.startswith(k))
    table, benchmark = benchmarks.load(table_name, shared_data / file), shipped(name)
    column = benchmark.columns[0]
    rows = None if table.space.enumerable else table.architectures
    truth = table.table(column.dataset, column.metric)
    judged = evaluation.holdout_mask(table.space, architectures=rows) & np.isfinite(truth)
    held = benchmark.validity["held_out"]
    assert judged.sum() == held["rows"]
    predicted = benchmark.query(table.architectures[judged], column.dataset, column.metric)
    assert evaluation.kendall_tau(truth[judged], predicted) == pytest.approx(held["all"]["tau"], abs=1e-3)
    assert np.abs(truth[judged] - predicted).mean() == pytest.approx(held["all"]["mae"], abs=1e-3)
    anchors = column.model.anchors_  # training rows: none of them, nor a copy, among the judged
    both = np.concatenate([table.space.canonical(anchors), table.space.canonical(table.architectures[judged])])
    labels = table.space.distinct(both)[1]
    assert not set(labels[: len(anchors)]) & set(labels[len(anchors) :])


def test_json_is_what_was_written() -> None:
    for name in NAMES:
        content = json.loads((FOLDER / name / "benchmark.json").read_text(encoding="utf-8"))
        assert content["name"] == name
