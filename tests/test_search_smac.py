"""SMAC: its acquisition and forest against slow statements, its queries, and the package where it is installed."""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tauzero import benchmarks, search, spaces
from tauzero.search import SMAC
from tauzero.search.smac import log_costs, log_expected_improvement

SPACE = spaces.get("nasbench201")
HAS_PACKAGE = importlib.util.find_spec("smac") is not None
needs_package = pytest.mark.skipif(not HAS_PACKAGE, reason="the package SMAC3 is not installed (extra smac)")


def value(rows: np.ndarray) -> np.ndarray:
    return (np.isin(rows, (2, 3)) * np.arange(1, 7)).sum(axis=1).astype(float)


def test_expected_improvement_of_log_normal_costs_by_draws() -> None:
    """Mean of max(best - cost, 0) over a million draws, 6 standard errors."""
    rng = np.random.default_rng(0)
    mean, variance, best = np.array([-1.0, 0.0, 0.5, -2.0]), np.array([0.3, 0.04, 1.0, 1e-8]), -0.3
    draws = np.maximum(np.exp(best) - np.exp(mean + np.sqrt(variance) * rng.normal(size=(1_000_000, 4))), 0)
    found = log_expected_improvement(mean, variance, best)
    error = draws.std(axis=0) / 1_000
    assert (np.abs(found - draws.mean(axis=0)) <= 6 * error + 1e-9).all()


def test_log_costs() -> None:
    values = np.random.default_rng(0).normal(80, 5, 200)
    costs = log_costs(values)
    np.testing.assert_array_equal(np.argsort(costs), np.argsort(-values))
    assert costs.max() == 0
    np.testing.assert_allclose(log_costs(3 * values - 1000), costs, rtol=1e-9)  # in any unit
    # The zero of the cost is as far beyond the best as the 95th percentile of the values is on this side.
    top, zero = values.max(), 2 * values.max() - np.percentile(values, 95)
    np.testing.assert_allclose(costs.min(), np.log((zero - top) / (zero - values.min())))
    np.testing.assert_array_equal(log_costs(np.full(4, 7.0)), np.zeros(4))
    assert np.isfinite(log_costs(np.array([1.0, 1.0, 1.0, 0.0]))).all()  # several share the best


def test_the_forest_predicts_by_the_law_of_total_variance() -> None:
    """Each tree's leaf as the bootstrapped values that fell into it: mean and variance by hand."""
    algorithm = SMAC(SPACE, 0, trees=4, min_samples_leaf=3)
    rows = algorithm.ask(40)
    algorithm.tell(rows, value(rows))
    y = log_costs(value(rows))
    forest = algorithm._fitted(y)
    asked = SPACE.sample(20, 1)
    mean, variance = algorithm._predict(forest, asked)
    fitted, wanted = algorithm._features(rows), algorithm._features(asked)
    for k in range(20):
        leaves = []
        for tree, drawn in zip(forest.estimators_, forest.estimators_samples_, strict=True):
            same = tree.tree_.apply(fitted[drawn]) == tree.tree_.apply(wanted[k : k + 1])
            leaves.append(y[drawn][same])
        means = [leaf.mean() for leaf in leaves]
        assert mean[k] == pytest.approx(np.mean(means), abs=1e-6)
        expected = np.mean([leaf.var() for leaf in leaves]) + np.var(means)
        assert variance[k] == pytest.approx(max(expected, 1e-10), abs=1e-6)


def test_local_search_ends_where_no_neighbour_is_better() -> None:
    algorithm = SMAC(SPACE, 0, local_searches=3)
    rows = algorithm.ask(30)
    algorithm.tell(rows, value(rows))
    y = log_costs(value(rows))
    forest, best = algorithm._fitted(y), float(y.min())
    seen = {row.tobytes() for row in algorithm._local_search(forest, best)}
    acquired = algorithm._acquire(forest, rows, best)
    for start in np.argsort(-acquired)[:3]:  # no ties among the best three, or this would not be repeatable
        here, height = rows[start], acquired[start]
        while True:
            around = SPACE.neighbors(here)
            assert {row.tobytes() for row in around} <= seen
            heights = algorithm._acquire(forest, around, best)
            if heights.max() <= height:
                break
            here, height = around[heights.argmax()], heights.max()


def test_asks_for_the_highest_acquisition_except_for_random_ones() -> None:
    greedy = SMAC(SPACE, 2, random_share=0.0, challengers=200)
    rows = greedy.ask(20)
    greedy.tell(rows, value(rows))
    for n in (1, 5):  # several at once: the next best
        one, two = greedy.copy(), greedy.copy()
        two._rng.random(n)  # the draws that decide about randomness
        np.testing.assert_array_equal(one.ask(n), two._sorted_challengers()[:n])
    random = SMAC(SPACE, 2, random_share=1.0)
    assert len(np.unique(np.concatenate([random.ask(5) for _ in range(10)]), axis=0)) == 50


@pytest.mark.parametrize("name", ["nasbench101", "darts"])
def test_spaces_with_constraints(name: str) -> None:
    space = spaces.get(name)
    algorithm = SMAC(space, 0, challengers=50, local_searches=2)
    asked = []
    for n in (12, 1, 3, 1):
        rows = algorithm.ask(n)
        space.validate(rows)
        algorithm.tell(rows, rows.sum(axis=1).astype(float))
        asked.append(rows)
    assert len(space.distinct(np.concatenate(asked))[0]) == 17


def test_better_than_random_search() -> None:
    goal = search.ArrayObjective(SPACE, value(SPACE.enumerate()))
    found, random = (
        [search.run(name, goal, 50, seed).best_value for seed in range(4)] for name in ("smac", "random_search")
    )
    assert np.mean(found) > np.mean(random) + 1


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"trees": 0}, "'trees' parameter of SMAC must be an integer ≥ 1"),
        ({"random_share": 2}, "'random_share' parameter of SMAC must be a number from 0 to 1"),
        ({"encoder": "onehott"}, "onehot"),
    ],
)
def test_parameters(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SMAC(SPACE, 0, **params)


# -- the package ------------------------------------------------------------------------------


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refusing(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".", maxsplit=1)[0] in {"smac", "ConfigSpace"}:
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refusing)
    monkeypatch.delitem(sys.modules, "tauzero.search.smac3", raising=False)
    with pytest.raises(spaces.MissingExtraError, match=r'pip install "tauzero\[smac\]"'):
        importlib.import_module("tauzero.search.smac3")


@needs_package
@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the package's own
def test_the_package_by_ask_and_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tauzero.search.smac3 import SMAC3

    monkeypatch.chdir(tmp_path)
    algorithm, twin = (SMAC3(SPACE, 3, initial=5, challengers=100, local_searches=1) for _ in range(2))
    for n in (5, 3, 1, 1):
        rows = algorithm.ask(n)
        np.testing.assert_array_equal(rows, twin.ask(n))
        SPACE.validate(rows)
        for one in (algorithm, twin):
            one.tell(rows[::-1], value(rows)[::-1])
    assert algorithm.num_pending == 0
    cell = SMAC3("nasbench101", 0, initial=2, challengers=50, local_searches=1)
    for _ in range(4):
        rows = cell.ask(1)
        cell.space.validate(rows)
        cell.tell(rows, [1.0])
    assert not list(tmp_path.iterdir())  # the package keeps its files elsewhere


@needs_package
@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_ours_and_the_package_find_the_same(nasbench201_store: Path) -> None:
    """25 queries on CIFAR-10 with the same settings: mean best values within 3 standard errors and 0.1 %."""
    from tauzero.search.smac3 import SMAC3

    goal = search.TableObjective(benchmarks.load("nasbench201", nasbench201_store), "cifar10")
    settings: dict[str, Any] = {"challengers": 200, "local_searches": 2}
    theirs = [search.run(SMAC3(SPACE, seed, retrain_after=1, **settings), goal, 25).best_value for seed in range(4)]
    ours = [search.run("smac", goal, 25, seed, params=settings).best_value for seed in range(40)]
    # The spread of four values is no estimate: both are taken to have that of the forty.
    assert abs(np.mean(ours) - np.mean(theirs)) < 3 * np.std(ours) * np.sqrt(1 / 4 + 1 / 40) + 0.1
