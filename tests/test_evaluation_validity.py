"""Validity reports: each figure against a computation of its own, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from surrogate_helpers import accuracy

import tauzero as tz
from tauzero.benchmarks import Benchmark, Column, Table
from tauzero.evaluation import ValidityReport, validity
from tauzero.surrogates import SurrogateBenchmark, fit_benchmark

SPACE = tz.spaces.get("nasbench201")
HELD_OUT = "tauzero.evaluation.holdout_mask(space)"


@pytest.fixture(scope="module")
def table() -> Benchmark:
    cells = SPACE.canonical(SPACE.enumerate())
    # A weight of its own for each edge, so that few networks are equally good.
    truth = accuracy(SPACE, cells) + (cells == 2) @ np.array([0.3, 0.1, 0.7, 0.2, 0.5, 0.9])
    runs = truth[:, None] + np.random.default_rng(0).normal(0, 0.3, (len(cells), 2))
    columns = [Column("toy", "test_accuracy", 9, None, "percent", runs.mean(axis=1))]
    columns += [Column("toy", "test_accuracy", 9, k, "percent", runs[:, k].copy()) for k in range(2)]
    return Benchmark(Table("made-up", SPACE.name, tuple(columns), "CC0", {"files": []}))


@pytest.fixture(scope="module")
def surrogate(table: Benchmark) -> SurrogateBenchmark:
    train = tz.evaluation.protocol_split(SPACE, "heldout", 150, 0).train
    return fit_benchmark(table, train, model="gaussian_process", held_out=HELD_OUT)


@pytest.fixture(scope="module")
def report(surrogate: SurrogateBenchmark, table: Benchmark) -> ValidityReport:
    return validity(
        surrogate, table, judged=300, seeds=3, refit_rows=60, trials=2, budget=30, algorithms=["random_search"]
    )


def test_figures_are_of_the_unseen_rows(
    report: ValidityReport, surrogate: SurrogateBenchmark, table: Benchmark
) -> None:
    mask = tz.evaluation.holdout_mask(SPACE)
    truth, predicted = table.table()[mask], surrogate.table()[mask]
    np.testing.assert_array_equal(report.truth, truth)
    np.testing.assert_array_equal(report.predicted, predicted)
    held = report.facts["held_out"]
    assert held["rows"] == mask.sum()
    assert held["all"]["tau"] == pytest.approx(tz.evaluation.kendall_tau(truth, predicted))
    assert held["all"]["mae"] == pytest.approx(np.abs(truth - predicted).mean())
    assert held["all"]["sparse_tau"] == pytest.approx(tz.evaluation.kendall_tau(truth.round(1), predicted.round(1)))
    assert held["mean"]["r2"] == pytest.approx(held["all"]["r2"], abs=0.1)
    assert held["std"]["tau"] > 0
    for entry in report.facts["intervals"]:
        assert entry["coverage"] == pytest.approx(entry["level"], abs=0.15)


def test_noise_is_compared_with_real_runs(report: ValidityReport) -> None:
    noise = report.facts["noise"]
    assert noise["kind"] == "runs"
    assert noise["table_run_std"] == pytest.approx(0.3, rel=0.05)
    assert noise["run_std"] == pytest.approx(0.3, rel=0.2)
    assert noise["predictive_std"] > noise["run_std"] * 0.5


def test_regions_add_up(report: ValidityReport) -> None:
    regions, held = report.facts["regions"], report.facts["held_out"]
    assert sum(e["rows"] for e in regions) == held["rows"]
    mean = sum(e["rows"] * e["mae"] for e in regions) / held["rows"]
    assert mean == pytest.approx(held["all"]["mae"])
    low = [e["low"] for e in regions]
    assert low == sorted(low)
    parts = report.facts["familiarity"].values()
    assert sum(e["rows"] for e in parts) == held["rows"]


def test_a_region_that_was_left_out_is_predicted_worse(report: ValidityReport) -> None:
    found = report.facts["left_out"]
    assert found["model"] == "gaussian_process"
    assert len(found["regions"]) == 6
    for edge in (found["regions"][0], found["regions"][4]):  # the ends: from the middle alone
        assert edge["without"]["mae"] > edge["with"]["mae"]
        assert edge["without"]["train"] == edge["with"]["train"] == 60


def test_curves_are_true_regrets_of_what_looked_best(
    report: ValidityReport, surrogate: SurrogateBenchmark, table: Benchmark
) -> None:
    truth = table.table()
    for label, seen in (("table", truth), ("surrogate", surrogate.table())):
        curve = report.curves[f"random_search, {label}"]
        assert curve.shape == (2, 30)
        for seed in range(2):
            asked = tz.search.run("random_search", tz.search.ArrayObjective(SPACE, seen), 30, seed).index
            slow = [truth.max() - truth[asked[: k + 1][np.argmax(seen[asked[: k + 1]])]] for k in range(30)]
            np.testing.assert_allclose(curve[seed], slow)
    assert (np.diff(report.curves["random_search, table"]) <= 1e-12).all()
    found = report.facts["searches"]
    assert found["queries"] == [1, 5, 10, 20, 30]
    row = next(e for e in found["rows"] if e["sees"] == "surrogate")
    np.testing.assert_allclose(row["regret"][-1], report.curves["random_search, surrogate"][:, -1].mean())


def test_written_beside_the_benchmark(report: ValidityReport, surrogate: SurrogateBenchmark, tmp_path: Path) -> None:
    folder = surrogate.save(tmp_path / "b")
    names = [p.name for p in report.save(folder)]
    assert names == ["validity.json", "predicted.png", "searches.png"]
    found: Any = tz.benchmarks.load(f"surrogate:{folder}")
    assert found.validity == json.loads(json.dumps(report.to_dict()))
    assert found.info()["validity"]["held_out"]["rows"] == report.facts["held_out"]["rows"]


def test_rows_are_known_from_the_card_or_must_be_given(
    surrogate: SurrogateBenchmark, table: Benchmark, tmp_path: Path
) -> None:
    quick: dict[str, Any] = {"refit": None, "trials": 0}
    model = surrogate.columns[0].model
    metadata = dict(model.metadata_)
    try:
        model.metadata_ = {}
        with pytest.raises(ValueError, match="rows="):
            validity(surrogate, table, **quick)
        some = np.arange(200, 260)
        assert validity(surrogate, table, rows=some, **quick).facts["held_out"]["rows"] == 60
        with pytest.raises(ValueError, match="'rows'"):
            validity(surrogate, table, rows=[-1], **quick)
        # What `tauzero fit` writes: random rows of everywhere; copies of them are no unseen networks.
        model.metadata_ = {"benchmark": "made-up", "dataset": "toy", "metric": "test_accuracy", "train": 150, "seed": 7}
        found = validity(surrogate, table, **quick)
        train = tz.evaluation.protocol_split(SPACE, "all", 150, 7).train
        classes = tz.evaluation.coarsest_classes(SPACE)
        assert found.facts["held_out"]["rows"] == (~np.isin(classes, classes[train])).sum()
        assert found.curves == {}
        assert "left_out" not in found.facts
        assert [p.name for p in found.save(tmp_path)] == ["validity.json", "predicted.png"]
    finally:
        model.metadata_ = metadata


def test_refusals(surrogate: SurrogateBenchmark, table: Benchmark) -> None:
    with pytest.raises(ValueError, match="'benchmark'"):
        validity(table, table)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'against'"):
        validity(surrogate, surrogate)
    space = tz.spaces.get("natsbench_size")
    column = Column("toy", "test_accuracy", 9, None, "percent", np.zeros(space.size))
    other = Benchmark(Table("other", space.name, (column,), "CC0", {}))
    with pytest.raises(ValueError, match="nasbench201"):
        validity(surrogate, other)
    with pytest.raises(ValueError, match="toy"):
        validity(surrogate, table, "svhn")
    for name in ("judged", "seeds", "regions", "budget", "trials", "refit_rows"):
        with pytest.raises(ValueError, match=f"'{name}'"):
            validity(surrogate, table, **{name: -1})  # type: ignore[arg-type]


def test_a_table_of_a_space_that_cannot_be_enumerated() -> None:
    space = tz.spaces.get("darts")
    cells = space.sample(200, 0, unique=True)
    values = accuracy(space, cells)
    column = Column("cifar10", "validation_accuracy", 9, None, "percent", values)
    table = Benchmark(Table("cells", "darts", (column,), "CC0", {"files": []}, genotypes=cells))
    rows = np.flatnonzero(~tz.evaluation.holdout_mask(space, architectures=cells))
    made = fit_benchmark(table, rows, model="gaussian_process", held_out=HELD_OUT)
    found = validity(made, table, regions=2, refit_rows=50)
    assert found.facts["held_out"]["rows"] == 200 - len(rows)
    assert found.facts["noise"]["kind"] == "predictive"
    assert found.facts["noise"]["table_run_std"] is None
    assert found.curves == {}
