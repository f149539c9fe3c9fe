"""Every measure against a second, slow and obvious implementation, ties and degenerate input included."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, permutations
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tauzero import evaluation

MEASURES = {
    "kendall_tau": evaluation.kendall_tau,
    "spearman": evaluation.spearman,
    "pearson": evaluation.pearson,
    "r2": evaluation.r2,
    "mae": evaluation.mae,
    "precision_at_k": lambda y, p: evaluation.precision_at_k(y, p, 1),
    "n_at_k": lambda y, p: evaluation.n_at_k(y, p, 1),
}


def slow_tau(y: list[float], p: list[float]) -> float:
    """Kendall's tau-b by counting pairs."""
    score = untied_y = untied_p = 0
    for i, j in combinations(range(len(y)), 2):
        a, b = np.sign(y[i] - y[j]), np.sign(p[i] - p[j])
        score += a * b
        untied_y += a != 0
        untied_p += b != 0
    return score / sqrt(untied_y * untied_p) if untied_y and untied_p else 0.0


def slow_ranks(values: list[float]) -> list[float]:
    return [sum(w < v for w in values) + (sum(w == v for w in values) + 1) / 2 for v in values]


def slow_pearson(y: list[float], p: list[float]) -> float:
    """In exact rational arithmetic up to the last square root."""
    a, b = [Fraction(v) for v in y], [Fraction(v) for v in p]
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    cov = sum((u - mean_a) * (v - mean_b) for u, v in zip(a, b, strict=True))
    var_a, var_b = sum((u - mean_a) ** 2 for u in a), sum((v - mean_b) ** 2 for v in b)
    return float(cov) / sqrt(float(var_a * var_b)) if var_a and var_b else 0.0


def slow_precision(y: list[float], p: list[float], count: int) -> float:
    """Mean over all orders of the rows in which ties could be broken."""
    shares = []
    for order in permutations(range(len(y))):
        best_y = sorted(order, key=lambda i: -y[i])[:count]
        for other in permutations(range(len(y))):
            best_p = sorted(other, key=lambda i: -p[i])[:count]
            shares.append(len(set(best_y) & set(best_p)) / count)
    return float(np.mean(shares))


def slow_n_at_k(y: list[float], p: list[float], count: int) -> int:
    chosen = sorted(range(len(y)), key=lambda i: (-p[i], y[i]))[:count]
    best = max(y[i] for i in chosen)
    return 1 + sum(v > best for v in y)


#: Few different values, so that most examples have ties.
coarse = st.integers(-3, 3).map(float)
pairs = st.integers(2, 30).flatmap(
    lambda n: st.tuples(st.lists(coarse, min_size=n, max_size=n), st.lists(coarse, min_size=n, max_size=n))
)
short_pairs = st.integers(1, 4).flatmap(
    lambda n: st.tuples(st.lists(coarse, min_size=n, max_size=n), st.lists(coarse, min_size=n, max_size=n))
)


@given(pairs)
def test_kendall_tau_counts_pairs(pair: tuple[list[float], list[float]]) -> None:
    assert evaluation.kendall_tau(*pair) == pytest.approx(slow_tau(*pair), abs=1e-12)


@given(pairs)
def test_spearman_is_pearson_of_ranks(pair: tuple[list[float], list[float]]) -> None:
    y, p = pair
    assert evaluation.spearman(y, p) == pytest.approx(slow_pearson(slow_ranks(y), slow_ranks(p)), abs=1e-12)


@given(pairs)
def test_pearson(pair: tuple[list[float], list[float]]) -> None:
    assert evaluation.pearson(*pair) == pytest.approx(slow_pearson(*pair), abs=1e-12)


@given(pairs)
def test_r2_and_mae(pair: tuple[list[float], list[float]]) -> None:
    y, p = ([Fraction(v) for v in values] for values in pair)
    mean = sum(y) / len(y)
    residual, total = sum((a - b) ** 2 for a, b in zip(y, p, strict=True)), sum((a - mean) ** 2 for a in y)
    expected = (1 - residual / total) if total else Fraction(residual == 0)
    assert evaluation.r2(*pair) == pytest.approx(float(expected), abs=1e-12)
    errors = sum(abs(a - b) for a, b in zip(y, p, strict=True))
    assert evaluation.mae(*pair) == pytest.approx(float(errors / len(y)), abs=1e-12)


@given(short_pairs, st.data())
def test_precision_is_the_mean_over_ways_of_breaking_ties(
    pair: tuple[list[float], list[float]], data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, len(pair[0])))
    assert evaluation.precision_at_k(*pair, count) == pytest.approx(slow_precision(*pair, count), abs=1e-12)


@given(pairs, st.data())
def test_n_at_k(pair: tuple[list[float], list[float]], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(pair[0])))
    assert evaluation.n_at_k(*pair, count) == slow_n_at_k(*pair, count)


@given(hnp.arrays(float, 12, elements=coarse), st.permutations(range(12)))
def test_the_order_of_rows_does_not_matter(y: np.ndarray, order: list[int]) -> None:
    p = np.round(np.sin(y) + np.arange(12) % 3)
    for name in ("kendall_tau", "spearman", "precision_at_k", "n_at_k"):
        assert MEASURES[name](y, p) == pytest.approx(MEASURES[name](y[order], p[order]), abs=1e-12), name


@pytest.mark.parametrize("name", ["kendall_tau", "spearman", "pearson"])
def test_correlations_of_extremes(name: str) -> None:
    measure = MEASURES[name]
    y = np.arange(10.0)
    assert measure(y, 3 * y + 1) == pytest.approx(1.0, abs=1e-12)
    assert measure(y, -y) == pytest.approx(-1.0, abs=1e-12)
    assert measure(y, np.full(10, 93.1)) == 0.0
    assert measure(np.full(10, 93.1), y) == 0.0
    assert measure(y * 1e300, y * 1e-300) == pytest.approx(1.0, abs=1e-12)


def test_r2_of_constants() -> None:
    assert evaluation.r2([5.0, 5.0], [5.0, 5.0]) == 1.0
    assert evaluation.r2([5.0, 5.0], [5.0, 6.0]) == 0.0
    assert evaluation.r2([0.1] * 3, [0.1] * 3) == 1.0
    assert evaluation.r2([1.0, 3.0], [2.0, 2.0]) == 0.0


def test_k_is_a_count_or_a_fraction() -> None:
    y = np.arange(200.0)
    p = y.copy()
    p[[199, 198]] = p[[198, 199]]
    assert evaluation.precision_at_k(y, p, 1) == 0.0
    assert evaluation.precision_at_k(y, p, 0.01) == 1.0  # two of 200
    assert evaluation.precision_at_k(y, p, 1.0) == 1.0
    assert evaluation.n_at_k(y, p, 1) == 2
    assert evaluation.n_at_k(y, p, 0.01) == 1
    assert evaluation.precision_at_k(y, np.zeros(200), 20) == pytest.approx(0.1)  # guessing
    assert evaluation.n_at_k(y, np.zeros(200), 10) == 191  # the order of the rows gives nothing away
    assert evaluation.precision_at_k(np.arange(10.0), np.arange(10.0), 0.001) == 1.0  # at least one
    for bad in (0, 201, 0.0, 1.5, True, "3", float("nan"), -1):
        with pytest.raises(ValueError, match="'k' argument must be"):
            evaluation.precision_at_k(y, p, bad)


def test_regret() -> None:
    assert evaluation.regret([90.0, 94.0, 92.0], 2) == 2.0
    assert evaluation.regret([90.0, 94.0], 1, optimum=94.5) == 0.5
    for bad in (3, -1, True, 1.0):
        with pytest.raises(ValueError, match="'chosen' argument must be a position"):
            evaluation.regret([90.0, 94.0, 92.0], bad)
    with pytest.raises(ValueError, match="'optimum' argument must be at least"):
        evaluation.regret([90.0, 94.0], 1, optimum=93.0)
    with pytest.raises(ValueError, match="'optimum' argument must be at least"):
        evaluation.regret([90.0, 94.0], 1, optimum=float("nan"))


@pytest.mark.parametrize("name", MEASURES)
def test_bad_input_is_named(name: str) -> None:
    measure = MEASURES[name]
    good = [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match=r"same length. Got 3 and 2"):
        measure(good, [1.0, 2.0])
    with pytest.raises(ValueError, match=r"'y' argument must be finite. Got nan at position 1"):
        measure([1.0, np.nan, 2.0], good)
    with pytest.raises(ValueError, match=r"'prediction' argument must be finite. Got inf at position 2"):
        measure(good, [1.0, 2.0, np.inf])
    with pytest.raises(ValueError, match=r"must hold at least . values. Got 0"):
        measure([], [])
    with pytest.raises(ValueError, match="one-dimensional"):
        measure([good], [good])
    with pytest.raises(ValueError, match="must hold numbers"):
        measure(good, ["a", "b", "c"])


@pytest.mark.parametrize("name", ["kendall_tau", "spearman", "pearson", "r2"])
def test_one_row_has_no_correlation(name: str) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        MEASURES[name]([1.0], [1.0])


@given(hnp.arrays(float, (8, 3), elements=st.sampled_from([0.0, 1.0, 2.0, 3.0, np.nan])))
def test_noise_ceiling_is_the_mean_over_pairs_of_runs(runs: np.ndarray) -> None:
    taus = []
    for a, b in ((0, 1), (0, 2), (1, 2)):
        rows = [i for i in range(8) if not (np.isnan(runs[i, a]) or np.isnan(runs[i, b]))]
        if len(rows) >= 2:
            taus.append(slow_tau(runs[rows, a].tolist(), runs[rows, b].tolist()))
    found = evaluation.noise_ceiling(runs)
    assert found == (pytest.approx(np.mean(taus), abs=1e-12) if taus else None)


def test_noise_ceiling_input() -> None:
    assert evaluation.noise_ceiling(np.ones((5, 1))) is None
    assert evaluation.noise_ceiling(np.arange(10.0).reshape(5, 2)) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="must be a matrix"):
        evaluation.noise_ceiling(np.ones(5))
    with pytest.raises(ValueError, match="must not be infinite"):
        evaluation.noise_ceiling([[1.0, np.inf]])


def test_noise_ceiling_of_the_real_table(nasbench201_store: object) -> None:
    from tauzero import benchmarks

    table = benchmarks.load("nasbench201", nasbench201_store)
    runs = [table.table("cifar10", "validation_accuracy", seed=run) for run in (0, 1)]
    assert evaluation.noise_ceiling(np.stack(runs, axis=1)) == pytest.approx(0.9105, abs=5e-5)
