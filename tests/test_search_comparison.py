"""The comparison of search on predictions with look-up: equal queries, no peeking, any number of workers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

from tauzero import spaces
from tauzero.benchmarks import Benchmark, Column, Table
from tauzero.search import compare_prediction_with_lookup

SPACE = spaces.get("nasbench201")
ROWS = SPACE.enumerate()
LINEAR = ROWS @ np.array([1.0, 2.0, 3.0, 5.0, 0.5, 0.25])


def toy_benchmark(driver: np.ndarray = LINEAR, judge: np.ndarray | None = None) -> Benchmark:
    judge = 100 - driver if judge is None else judge
    columns = (
        Column("toy", "validation_accuracy", 9, None, "percent", driver),
        Column("toy", "test_accuracy", 9, None, "percent", judge),
    )
    return Benchmark(Table("toy", "nasbench201", columns, "CC0-1.0", {}))


class Recorder(RegressorMixin, BaseEstimator):
    """A linear model that notes what it was trained on."""

    fits: list[tuple[np.ndarray, np.ndarray]] = []  # noqa: RUF012 - shared by the clones

    def fit(self, genotypes: np.ndarray, y: np.ndarray) -> Recorder:
        Recorder.fits.append((SPACE.index(genotypes), y))
        self.model_ = LinearRegression().fit(genotypes, y)
        return self

    def predict(self, genotypes: np.ndarray) -> np.ndarray:
        return self.model_.predict(genotypes)


def test_both_ways_have_the_same_number_of_queries() -> None:
    result = compare_prediction_with_lookup(
        toy_benchmark(), n_train=30, budget=12, surrogate=LinearRegression(), seeds=4
    )
    assert result.lookup_regret.shape == result.prediction_regret.shape == (4, 42)
    for regret in (result.lookup_regret, result.prediction_regret):
        assert (regret >= 0).all()
        assert (np.diff(regret, axis=1) <= 0).all()
    assert result.optimum == LINEAR.max()
    assert result.seeds == (0, 1, 2, 3)


def test_a_surrogate_that_is_right_finds_the_optimum_at_once() -> None:
    result = compare_prediction_with_lookup(
        toy_benchmark(), n_train=30, budget=3, surrogate=LinearRegression(), seeds=3, one_per_class=False
    )
    assert (result.prediction_regret[:, 30] == 0).all()
    assert (result.prediction_chosen == LINEAR.argmax()).all()
    assert (result.lookup_regret[:, -1] > 0).any()


def test_training_is_random_paid_for_and_driven_by_validation_accuracy_only() -> None:
    Recorder.fits.clear()
    result = compare_prediction_with_lookup(toy_benchmark(), n_train=25, budget=5, surrogate=Recorder(), seeds=[11])
    ((index, y),) = Recorder.fits
    assert len(set(index.tolist())) == 25
    np.testing.assert_allclose(y, LINEAR[index])
    np.testing.assert_allclose(result.prediction_regret[0, :25], LINEAR.max() - np.maximum.accumulate(y))
    assert result.metric == "validation_accuracy"
    # The judge is the opposite of the driver: who peeked would look better than this.
    np.testing.assert_allclose(result.prediction_report, 100 - LINEAR[result.prediction_chosen])
    np.testing.assert_allclose(result.lookup_report, 100 - LINEAR[result.lookup_chosen])
    np.testing.assert_allclose(LINEAR.max() - LINEAR[result.lookup_chosen], result.lookup_regret[:, -1])
    assert result.report_optimum == (100 - LINEAR).max()


def test_a_table_without_test_accuracy_says_that_it_reports_what_it_searched() -> None:
    table = Benchmark(
        Table("toy", "nasbench201", (Column("toy", "validation_accuracy", 9, None, "percent", LINEAR),), "CC0-1.0", {})
    )
    result = compare_prediction_with_lookup(table, n_train=20, budget=5, surrogate=LinearRegression(), seeds=1)
    assert result.report_metric == result.metric == "validation_accuracy"
    assert "optimistic" in result.notes[0]
    np.testing.assert_array_equal(result.prediction_report, LINEAR[result.prediction_chosen])
    with pytest.raises(spaces.UnknownNameError, match="no test accuracy"):
        compare_prediction_with_lookup(
            table, n_train=20, budget=5, surrogate=LinearRegression(), seeds=1, report_metric="test_accuracy"
        )


def test_rounds_train_again_on_everything_known() -> None:
    Recorder.fits.clear()
    result = compare_prediction_with_lookup(
        toy_benchmark(), n_train=20, budget=7, rounds=3, surrogate=Recorder(), seeds=[0]
    )
    assert [len(index) for index, _ in Recorder.fits] == [20, 23, 25]
    for (before, _), (after, _) in zip(Recorder.fits[:-1], Recorder.fits[1:], strict=True):
        np.testing.assert_array_equal(after[: len(before)], before)
        assert len(set(after.tolist())) == len(after)
    assert result.prediction_regret.shape == (1, 27)
    Recorder.fits.clear()
    compare_prediction_with_lookup(toy_benchmark(), n_train=20, budget=2, rounds=9, surrogate=Recorder(), seeds=[0])
    assert len(Recorder.fits) == 2  # no round without a query


def test_copies_of_one_network_are_looked_up_last() -> None:
    """The prediction depends on the class only, so the ranking is full of copies."""
    classes = SPACE.classes()
    driver = (np.bincount(classes)[classes] / 5).astype(float)

    class ByClass(Recorder):
        def predict(self, genotypes: np.ndarray) -> np.ndarray:
            return driver[SPACE.index(genotypes)]

    def looked_up(one_per_class: bool) -> np.ndarray:
        Recorder.fits.clear()
        compare_prediction_with_lookup(
            toy_benchmark(driver), n_train=20, budget=40, rounds=2, surrogate=ByClass(), seeds=[0],
            one_per_class=one_per_class,
        )  # fmt: skip
        return Recorder.fits[-1][0]

    spread, copies = looked_up(True), looked_up(False)
    np.testing.assert_array_equal(spread[:20], copies[:20])
    trained = set(classes[spread[:20]].tolist())
    assert len(set(classes[spread[20:]].tolist()) - trained) == 20  # a new network each
    assert len(set(classes[copies[20:]].tolist())) <= 3  # the three largest classes, equal in size, over and over


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same() -> None:
    def curves(n_jobs: int) -> dict[str, np.ndarray]:
        return compare_prediction_with_lookup(
            toy_benchmark(), n_train=20, budget=10, surrogate=RandomForestRegressor(5), seeds=3, n_jobs=n_jobs
        ).curves

    for a, b in zip(curves(1).values(), curves(2).values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_result_as_json() -> None:
    calls: list[tuple[int, int]] = []
    result = compare_prediction_with_lookup(
        toy_benchmark(), "TOY", n_train=20, budget=10, surrogate=LinearRegression(), seeds=2,
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert calls == [(1, 2), (2, 2)]
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["dataset"] == "toy"
    assert plain["queries"] == 30
    np.testing.assert_allclose(plain["lookup"]["regret"]["mean"], result.lookup_regret.mean(axis=0))
    np.testing.assert_allclose(plain["prediction"]["regret"]["std"], result.prediction_regret.std(axis=0, ddof=1))
    np.testing.assert_allclose(
        plain["prediction"]["regret"]["quantiles"]["0.25"], np.quantile(result.prediction_regret, 0.25, axis=0)
    )
    assert plain["prediction"]["report"] == pytest.approx(result.prediction_report.mean())
    assert len(result.curves) == 2
    with pytest.raises(AttributeError):
        result.budget = 3


def test_small_populations_and_other_algorithms_can_be_compared() -> None:
    result = compare_prediction_with_lookup(
        toy_benchmark(), n_train=20, budget=10, surrogate=LinearRegression(), seeds=2,
        algorithm_params={"population_size": 5, "sample_size": 3},
    )  # fmt: skip
    other = compare_prediction_with_lookup(
        toy_benchmark(), n_train=20, budget=10, surrogate=LinearRegression(), seeds=2, algorithm="random_search"
    )
    assert (result.lookup_regret != other.lookup_regret).any()
    np.testing.assert_array_equal(result.prediction_regret, other.prediction_regret)


@pytest.mark.parametrize("name", ["n_train", "budget", "rounds"])
def test_bad_counts(name: str) -> None:
    for bad in (0, 1.5, True):
        with pytest.raises(ValueError, match=f"'{name}' argument must be an integer ≥ 1"):
            compare_prediction_with_lookup(toy_benchmark(), surrogate=LinearRegression(), **{name: bad})


def test_more_queries_than_architectures() -> None:
    with pytest.raises(ValueError, match="exceed the 15,625 architectures"):
        compare_prediction_with_lookup(toy_benchmark(), n_train=15_000, budget=700, surrogate=LinearRegression())
