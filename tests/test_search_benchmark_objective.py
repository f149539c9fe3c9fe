"""Searches over surrogate benchmarks, on spaces of any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from surrogate_helpers import accuracy, rows

import tauzero as tz
from tauzero.search import BenchmarkObjective, TableObjective
from tauzero.surrogates import PredictedColumn, SurrogateBenchmark


def made(space: str, metric: str = "test_accuracy") -> SurrogateBenchmark:
    cells = rows(space, 60)
    model = tz.surrogates.create("gaussian_process", space).fit(cells, accuracy(space, cells))
    return SurrogateBenchmark(
        [PredictedColumn("cifar10", metric, 50, "percent", model, cost=60.0)],
        "tiny",
        provenance={"trained_on": ["toy"]},
    )


@pytest.fixture(scope="module")
def darts() -> SurrogateBenchmark:
    return made("darts")


@pytest.fixture(scope="module")
def small() -> SurrogateBenchmark:
    return made("nasbench201")


def test_evaluates_what_the_benchmark_answers(darts: SurrogateBenchmark) -> None:
    objective = BenchmarkObjective(darts, "CIFAR10", seed=3)
    cells = darts.space.sample(20, 1)
    found = objective.evaluate(cells)
    np.testing.assert_array_equal(found.values, darts.query(cells, seed=3))
    np.testing.assert_array_equal(found.seconds, np.full(20, 60.0))
    assert objective.label == "predicted test_accuracy on cifar10, run 3"
    assert objective.full_epochs == 50
    assert "was not trained" in objective.notes[0]
    assert BenchmarkObjective(made("darts", "validation_accuracy")).metric == "validation_accuracy"


#: Those that choose training budgets: a surrogate benchmark answers for one.
BUDGETED = {"asha", "bohb", "dehb", "hyperband", "successive_halving"}


@pytest.mark.parametrize("name", sorted(set(tz.search.names()) - BUDGETED - {"nsga2"}))
def test_every_algorithm_searches_a_surrogate_of_darts(name: str, darts: SurrogateBenchmark) -> None:
    found = tz.search.run(name, BenchmarkObjective(darts), 12, 0)
    assert len(found) == 12
    np.testing.assert_allclose(found.values, darts.query(found.genotypes))


def test_algorithms_of_budgets_and_costs_say_what_they_need(darts: SurrogateBenchmark) -> None:
    objective = BenchmarkObjective(darts)
    for name in sorted(BUDGETED):
        with pytest.raises(ValueError, match="no training budgets"):
            tz.search.run(name, objective, 12, 0)
    found = tz.search.run("nsga2", tz.search.WithCosts(objective, "params"), 12, 0)
    assert found.costs["params"].min() > 0


def test_a_small_space_is_searched_as_a_table(small: SurrogateBenchmark) -> None:
    objective = TableObjective(small)
    assert objective.label == "predicted test_accuracy on cifar10"
    assert any("predicts" in note for note in objective.notes)
    found = tz.search.run("regularized_evolution", objective, 80, 0)
    assert found.best_value == small.table()[found.index].max()
    assert found.simulated_seconds == 80 * 60.0
    assert tz.search.run("regularized_evolution", BenchmarkObjective(small), 80, 0).best_value == found.best_value


def test_refusals(darts: SurrogateBenchmark) -> None:
    with pytest.raises(ValueError, match="cifar10"):
        BenchmarkObjective(darts, "svhn")
    with pytest.raises(ValueError, match="test_accuracy"):
        BenchmarkObjective(darts, metric="flops")
    with pytest.raises(ValueError, match="50"):
        BenchmarkObjective(darts, epoch=3)
    with pytest.raises(ValueError, match="BenchmarkObjective"):
        TableObjective(darts)
    space = tz.spaces.get("nasbench201")
    column = tz.benchmarks.Column("d", "test_accuracy", 1, None, "percent", np.zeros(space.size))
    table = tz.benchmarks.Benchmark(tz.benchmarks.Table("toy", "nasbench201", (column,), "CC0", {}))
    with pytest.raises(ValueError, match="TableObjective"):
        BenchmarkObjective(table)
    with pytest.raises(ValueError, match="no training budgets"):
        BenchmarkObjective(darts).evaluate(darts.space.sample(1, 0), [3])


def test_studies_and_evaluations_take_one(small: SurrogateBenchmark, darts: SurrogateBenchmark, tmp_path: Path) -> None:
    result = tz.search.study(
        small, ["random_search", "local_search"], out=tmp_path / "study", trials=2, budget=15, workers=1
    )
    assert result.facts["benchmark"] == "surrogate:tiny"
    assert len(result.summary()) == 2
    for benchmark in (small, darts):
        evaluated = tz.evaluation.evaluate(benchmark, None, "all", 40, "gaussian_process", 1, test=200)
        assert evaluated.benchmark == "surrogate:tiny"
        assert evaluated.rows[0]["tau"] > 0.5
    assert evaluated.noise_ceiling is not None


def test_a_study_refuses_transfer_from_what_the_surrogate_learned_from(
    small: SurrogateBenchmark, tmp_path: Path
) -> None:
    source = tz.surrogates.create("gnn", "nasbench201", features=False, members=1, width=8, layers=1, epochs=1)
    cells = rows("nasbench201", 30)
    source.fit(cells, accuracy("nasbench201", cells)).metadata_ = {"benchmark": "toy", "dataset": "cifar10"}
    source.save(tmp_path / "source")
    with pytest.raises(ValueError, match="toy/cifar10"):
        tz.search.study(
            small, ["tauzero"], out=tmp_path / "study", trials=1, budget=10, workers=1,
            params={"tauzero": {"transfer": str(tmp_path / "source")}},
        )  # fmt: skip
