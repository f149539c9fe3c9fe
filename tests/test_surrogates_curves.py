"""Predictors over learning curves: closed forms, invariances, recovery of known curves, gaps, bad input, tables."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from surrogate_helpers import accuracy, rows

from tauzero import benchmarks, evaluation, surrogates
from tauzero.surrogates import learning_curves
from tauzero.surrogates._curves_extrapolation import FAMILIES, _fitted_ends

each_name = pytest.mark.parametrize("name", learning_curves.names())
NAN = np.nan
CURVES = np.array([[10.0, 20.0, 30.0], [40.0, 30.0, 35.0], [5.0, NAN, NAN], [NAN, 50.0, NAN], [NAN, NAN, NAN]])


def power_laws(n: int, epochs: np.ndarray, seed: int = 0, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Curves c - a x^(-α) in percent, ``[n, t]``, and their values after 200 epochs."""
    rng = np.random.default_rng(seed)
    top, drop, power = rng.uniform(85, 94, (n, 1)), rng.uniform(20, 60, (n, 1)), rng.uniform(0.3, 1.2, (n, 1))
    final = top - drop * 200.0**-power
    return top - drop * epochs**-power + rng.normal(0, noise, (n, len(epochs))), final[:, 0]


@cache
def fitted(name: str, **params: Any) -> learning_curves.CurvePredictor:
    """A predictor that has seen 40 power laws over three epochs, if it learns."""
    curves, final = power_laws(40, np.arange(1.0, 4.0))
    return learning_curves.create(name, **params).fit(curves, final)


# -- early stopping and sums ------------------------------------------------------------------


def test_early_stopping_is_the_last_value_seen() -> None:
    early = learning_curves.create("early_stopping")
    np.testing.assert_array_equal(early.predict(CURVES), [30, 35, 5, 50, NAN])
    np.testing.assert_array_equal(learning_curves.create("early_stopping", losses=True).predict(CURVES[:2]), [-30, -35])


def slow_sum(curve: np.ndarray, epochs: np.ndarray, last: int | None, decay: float) -> tuple[float, float]:
    """Ru et al. epoch by epoch: every epoch has the value of the next one that was measured; and the weights' sum."""
    seen = [(e, v) for e, v in zip(epochs.tolist(), curve.tolist(), strict=True) if np.isfinite(v)]
    end = seen[-1][0]
    total = weights = 0.0
    for t in range(1 if last is None else max(1, end - last + 1), end + 1):
        value = next(v for e, v in seen if e >= t)
        total += decay ** (end - t) * value
        weights += decay ** (end - t)
    return total, weights


@pytest.mark.parametrize("last", [None, 1, 4, 100])
@pytest.mark.parametrize("decay", [None, 0.9, 1.0])
@pytest.mark.parametrize("epochs", [[1, 2, 3], [4, 12, 36]])
def test_sums_follow_the_paper(last: int | None, decay: float | None, epochs: list[int]) -> None:
    at = np.array(epochs)
    for average in (False, True):
        predictor = learning_curves.create("sum_of_curve", last=last, decay=decay, average=average)
        predicted = predictor.predict(CURVES, at)
        for curve, value in zip(CURVES[:4], predicted[:4], strict=True):
            total, weights = slow_sum(curve, at, last, decay or 1.0)
            assert value == pytest.approx(total / weights if average else total)
        assert np.isnan(predicted[4])


def test_sum_of_losses_is_minus_the_sum_of_training_losses() -> None:
    losses = np.array([[2.0, 1.0, 0.5], [3.0, 2.0, 1.5]])
    np.testing.assert_allclose(
        learning_curves.create("sum_of_curve", losses=True, average=False).predict(losses), [-3.5, -6.5]
    )
    last = learning_curves.create("sum_of_curve", losses=True, last=1).predict(losses)
    np.testing.assert_allclose(last, learning_curves.create("early_stopping", losses=True).predict(losses))


values = hnp.arrays(np.float64, (6, 4), elements=st.floats(0, 100, width=32))


@given(values, st.floats(-50, 50, width=32), st.floats(0.5, 3, width=32))
@settings(max_examples=40, deadline=None)
def test_averages_move_with_the_curve(curves: np.ndarray, shift: float, scale: float) -> None:
    for params in ({}, {"last": 2}, {"decay": 0.5}):
        predictor = learning_curves.create("sum_of_curve", **params)
        expected = shift + scale * predictor.predict(curves)
        np.testing.assert_allclose(predictor.predict(shift + scale * curves), expected, atol=1e-6)
        mean = predictor.predict(curves)
        assert (mean >= curves.min(axis=1) - 1e-9).all()
        assert (mean <= curves.max(axis=1) + 1e-9).all()


# -- extrapolation ----------------------------------------------------------------------------

X = np.arange(1, 31)


@pytest.mark.parametrize(
    ("family", "curve"),
    [
        ("pow3", lambda x: 93.0 - 40.0 * x**-0.7),
        ("exp3", lambda x: 92.0 - 60.0 * np.exp(-0.05 * x)),
        ("ilog2", lambda x: 95.0 - 30.0 / np.log(x + 1.0)),
        ("log_power", lambda x: 94.0 / (1.0 + (x / 3.0) ** -1.1)),
    ],
)
def test_known_curves_are_recovered(family: str, curve: Any) -> None:
    """From 30 epochs to the 200th; alone, and with the other families beside it."""
    for families in ((family,), FAMILIES):
        predictor = learning_curves.create("extrapolation", families=families, noise=0.1)
        mean, std = predictor.predict(curve(X.astype(float))[None], return_std=True)
        assert mean[0] == pytest.approx(curve(200.0), abs=0.4)  # at 30 epochs 2 to 12 % are still missing
        assert 0.1 <= std[0] < 1.0


def test_known_losses_are_recovered() -> None:
    losses = 0.3 + 2.0 * X[None] ** -0.7
    mean = learning_curves.create("extrapolation", losses=True, noise=0.002).predict(losses)
    assert mean[0] == pytest.approx(-(0.3 + 2.0 * 200**-0.7), abs=0.02)
    assert learning_curves.create("extrapolation", losses=True).predict(losses - 0.3)[0] < 0  # no loss is negative


def test_extrapolation_ranks_better_than_the_last_value() -> None:
    curves, final = power_laws(400, np.arange(1.0, 31.0), noise=0.7)
    tau = {
        name: evaluation.kendall_tau(final, learning_curves.create(name).predict(curves))
        for name in ("extrapolation", "early_stopping", "sum_of_curve")
    }
    assert tau["extrapolation"] > max(tau["early_stopping"], tau["sum_of_curve"]) + 0.05


def test_least_squares_against_a_general_optimiser() -> None:
    """The closed form with its borders is the optimum under slope ≥ 0 and asymptote ≤ ceiling."""
    rng = np.random.default_rng(0)
    shapes = np.stack([-(np.arange(1.0, 6.0) ** -p) for p in (0.3, 1.0, 2.5)])
    curves = rng.uniform(20, 100, (12, 5))
    curves[::3, 2] = NAN
    curves[1] = np.linspace(90, 10, 5)  # falls
    ends, error = _fitted_ends(curves, shapes, np.full(3, -0.01), np.ones(3, dtype=bool), 100.0)
    for i, curve in enumerate(curves):
        known = np.isfinite(curve)
        for k, shape in enumerate(shapes):

            def loss(p: np.ndarray, y: np.ndarray = curve[known], x: np.ndarray = shape[known]) -> float:
                return float(np.sum((p[0] + p[1] * x - y) ** 2))

            found = minimize(loss, [50.0, 10.0], bounds=[(None, 100.0), (0.0, None)], method="L-BFGS-B", tol=1e-14)
            assert error[i, k] == pytest.approx(found.fun, rel=1e-4, abs=1e-4)
            assert ends[i, k] == pytest.approx(found.x[0] - 0.01 * found.x[1], abs=0.05)


def test_extrapolations_stay_below_the_ceiling_and_do_not_fall() -> None:
    curves = np.array([[10.0, 40.0, 70.0, 95.0], [90.0, 80.0, 70.0, 60.0], [50.0, 50.0, 50.0, 50.0]])
    mean = learning_curves.create("extrapolation").predict(curves)
    assert (mean <= 100.0).all()
    assert mean[1] == pytest.approx(75.0, abs=0.5)  # the best curve that does not fall is flat
    assert mean[2] == pytest.approx(50.0, abs=0.5)
    assert learning_curves.create("extrapolation", ceiling=None).predict(curves)[0] > 100.0


def test_one_value_goes_on_and_says_nothing_about_the_deviation() -> None:
    mean, std = learning_curves.create("extrapolation").predict(CURVES, return_std=True)
    np.testing.assert_array_equal(mean[2:], [5.0, 50.0, NAN])
    assert np.isnan(std[2:]).all()
    assert (std[:2] > 0).all()


def test_more_epochs_make_extrapolation_more_certain() -> None:
    curves, final = power_laws(200, np.arange(1.0, 101.0), noise=0.3)
    predictor = learning_curves.create("extrapolation", noise=0.3)
    error, deviation = [], []
    for count in (5, 20, 100):
        mean, std = predictor.predict(curves[:, :count], return_std=True)
        error.append(np.sqrt(np.mean((mean - final) ** 2)))
        deviation.append(std.mean())
    assert error[0] > error[1] > error[2]
    assert deviation[0] > deviation[1] > deviation[2]


# -- support vectors --------------------------------------------------------------------------


def test_lc_svr_learns_what_the_last_value_hides() -> None:
    """The final value depends on the slope; the last value alone does not rank it."""
    rng = np.random.default_rng(0)
    start, slope = rng.uniform(40, 50, 300), rng.uniform(0, 10, 300)
    curves = start[:, None] + slope[:, None] * np.array([0.0, 1.0]) - slope[:, None]
    final = 60 + 3 * slope
    model = learning_curves.create("lc_svr").fit(curves[:100], final[:100])
    mean, std = model.predict(curves[100:], return_std=True)
    assert evaluation.kendall_tau(final[100:], mean) > 0.95
    assert evaluation.kendall_tau(final[100:], curves[100:, -1]) < 0.2
    assert np.sqrt(np.mean((mean - final[100:]) ** 2)) < 3 * std.mean()


def test_lc_svr_reads_the_architecture_if_told_to() -> None:
    cells = rows("nasbench201", 200)
    final = accuracy("nasbench201", cells)
    curves = np.random.default_rng(0).uniform(50, 60, (200, 2))  # says nothing
    blind = learning_curves.create("lc_svr").fit(curves[:80], final[:80])
    model = learning_curves.create("lc_svr", space="nasbench201")
    model.fit(curves[:80], final[:80], genotypes=cells[:80])
    assert evaluation.kendall_tau(final[80:], model.predict(curves[80:], genotypes=cells[80:])) > 0.7
    assert evaluation.kendall_tau(final[80:], blind.predict(curves[80:])) < 0.3
    with pytest.raises(ValueError, match=r"reads architectures of nasbench201: pass the 'genotypes' argument"):
        model.predict(curves)
    with pytest.raises(ValueError, match=r"'genotypes' argument is read with a 'space' only"):
        blind.predict(curves, genotypes=cells)
    with pytest.raises(ValueError, match=r"'genotypes' argument must have one row per curve, 200\. Got 7"):
        model.predict(curves, genotypes=cells[:7])


def test_lc_svr_chooses_on_its_training_rows_with_copies_in_one_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = np.repeat(rows("nasbench201", 20), 2, axis=0)
    curves, final = power_laws(40, np.arange(1.0, 5.0))
    curves[:, 0] = np.arange(40)  # marks the rows
    calls: list[set[int]] = []

    class Spy:
        def fit(self, x: np.ndarray, y: np.ndarray) -> Spy:
            self.rows = {int(np.argmin(np.abs(marks - v))) for v in x[:, 0]}
            return self

        def predict(self, x: np.ndarray) -> np.ndarray:
            left_out = {int(np.argmin(np.abs(marks - v))) for v in x[:, 0]}
            calls.append(left_out)
            assert not self.rows & left_out
            assert not {r // 2 for r in self.rows} & {r // 2 for r in left_out}
            return np.zeros(len(x))

    model = learning_curves.create("lc_svr", space="nasbench201")
    marks = (np.arange(40) - 19.5) / np.arange(40).std() / np.sqrt(9)
    monkeypatch.setattr(type(model), "_regression", lambda self, *_: Spy())
    model.fit(curves, final, genotypes=cells)
    assert set().union(*calls) == set(range(40))


@pytest.mark.parametrize("n", [1, 2, 9, 12])
def test_lc_svr_on_small_and_equal_training_sets(n: int) -> None:
    curves, final = power_laws(n, np.arange(1.0, 4.0))
    for y in (final, np.full(n, 93.0)):
        mean, std = learning_curves.create("lc_svr").fit(curves, y).predict(curves, return_std=True)
        assert np.isfinite(mean).all()
        assert (std >= 0).all()
        assert ((mean >= y.min() - 5) & (mean <= y.max() + 5)).all()


def test_lc_svr_seeds() -> None:
    curves, final = power_laws(60, np.arange(1.0, 6.0), noise=2.0)
    first, again = (learning_curves.create("lc_svr", random_state=3).fit(curves, final) for _ in range(2))
    np.testing.assert_array_equal(first.predict(curves), again.predict(curves))
    assert first.noise_ != learning_curves.create("lc_svr", random_state=4).fit(curves, final).noise_


# -- what holds for all -----------------------------------------------------------------------


@each_name
def test_contract(name: str) -> None:
    curves, final = power_laws(30, np.arange(1.0, 4.0), seed=1)
    before = curves.copy()
    curves.flags.writeable = False
    model = fitted(name)
    assert isinstance(model, surrogates.CurvePredictor)
    mean = model.predict(curves)
    assert mean.shape == (30,)
    assert mean.dtype == np.float64
    np.testing.assert_array_equal(curves, before)
    assert evaluation.kendall_tau(final, mean) > 0.1
    order = np.random.default_rng(0).permutation(30)
    np.testing.assert_allclose(model.predict(curves[order]), mean[order], rtol=1e-10)
    parts = np.concatenate([model.predict(curves[k : k + 7]) for k in range(0, 30, 7)])
    np.testing.assert_allclose(parts, mean, rtol=1e-10)
    assert model.predict(curves[:0]).shape == (0,)
    np.testing.assert_array_equal(np.isnan(model.predict(CURVES)), [False] * 4 + [True])
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    if model.needs_fit:
        with pytest.raises(NotFittedError, match="not fitted yet"):
            copy.predict(curves)
    else:
        np.testing.assert_array_equal(copy.predict(curves), mean)
    if model.has_std:
        again, std = model.predict(curves, return_std=True)
        np.testing.assert_array_equal(again, mean)
        assert (std > 0).all()
    else:
        with pytest.raises(ValueError, match=r"'return_std' argument must be False: \w+ is a score"):
            model.predict(curves, return_std=True)


@each_name
def test_losses_are_accuracies_turned_round(name: str) -> None:
    """Minus a loss is as good as an accuracy, for all that has no percentages in it."""
    curves, final = power_laws(40, np.arange(1.0, 4.0))
    params: dict[str, Any] = {"families": ("pow3",), "ceiling": None} if name == "extrapolation" else {}
    up = learning_curves.create(name, **params).fit(curves, final)
    down = learning_curves.create(name, losses=True, **params).fit(-curves, final)
    np.testing.assert_allclose(down.predict(-curves), up.predict(curves), rtol=1e-9)


@each_name
@pytest.mark.parametrize(
    ("curves", "epochs", "message"),
    [
        ([1.0, 2.0], None, r"'curves' argument must have one row per architecture .* Got shape \(2,\)"),
        (np.zeros((2, 0)), None, r"'curves' argument .* Got shape \(2, 0\)"),
        ([["90", "91"]], None, "'curves' argument must hold numbers"),
        ([[1.0], [2.0, 3.0]], None, "'curves' argument must hold numbers"),
        ([[1.0, np.inf, 2.0]], None, r"'curves' argument must be finite.* Got inf in row 0, column 1"),
        ([[1.0, 2.0, 3.0]], [1, 2], r"'epochs' argument must hold one positive integer for each of the 3 columns"),
        ([[1.0, 2.0, 3.0]], [1, 2.5, 3], "'epochs' argument must hold one positive integer"),
        ([[1.0, 2.0, 3.0]], [0, 1, 2], "'epochs' argument must hold one positive integer"),
        ([[1.0, 2.0, 3.0]], [1, 3, 3], r"'epochs' argument must be ascending\. Got \[1, 3, 3\]"),
        ([[1.0, 2.0, 3.0]], ["a", "b", "c"], "'epochs' argument must hold numbers"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_bad_curves(name: str, curves: Any, epochs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fitted(name).predict(curves, epochs)
    with pytest.raises(ValueError, match=message):
        learning_curves.create(name).fit(curves, np.zeros(len(curves)), epochs)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, r"LcSVR learns from final values: pass the 'y' argument\. Got None"),
        (np.zeros(3), r"'y' argument must have one value per curve, \(2,\)\. Got shape \(3,\)"),
        ([1.0, NAN], r"'y' argument must be finite\. Got nan in row 1"),
        (["a", "b"], "'y' argument must hold numbers"),
    ],
)
def test_bad_targets(y: Any, message: str) -> None:
    model = learning_curves.create("lc_svr")
    with pytest.raises(ValueError, match=message):
        model.fit(CURVES[:2], y)
    with pytest.raises(NotFittedError):
        model.predict(CURVES)


def test_rows_that_teach_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must have a value in every training row.* Got row 4 is NaN throughout"):
        learning_curves.create("lc_svr").fit(CURVES, np.arange(5.0))
    with pytest.raises(ValueError, match=r"at least one row\. Got no row"):
        learning_curves.create("lc_svr").fit(CURVES[:0], [])
    with pytest.raises(ValueError, match=r"'epochs' argument must be those of the training curves, \[1, 2, 3\]"):
        fitted("lc_svr").predict(CURVES, [1, 2, 4])


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        *[(name, {"losses": "yes"}, "'losses' parameter must be True or False") for name in learning_curves.names()],
        ("sum_of_curve", {"last": 0}, r"'last' parameter of SumOfCurve must be an integer of at least 1\. Got 0"),
        ("sum_of_curve", {"decay": 1.5}, r"'decay' parameter of SumOfCurve must be a number from .* Got 1\.5"),
        ("extrapolation", {"final": 2}, r"'final' parameter .* must not be before the last epoch of the curves, 3"),
        ("extrapolation", {"noise": 0.0}, "'noise' parameter of Extrapolation must be a number"),
        ("extrapolation", {"ceiling": "high"}, "'ceiling' parameter of Extrapolation must be a number"),
        ("extrapolation", {"families": "pow3"}, "'families' parameter of Extrapolation must be some of"),
        ("extrapolation", {"families": ("pow4",)}, r"learning curve 'pow4'\. Did you mean 'pow3'\?"),
        ("lc_svr", {"nu": 0.0}, "'nu' parameter of LcSVR must be a number"),
        ("lc_svr", {"folds": 1}, "'folds' parameter of LcSVR must be an integer of at least 2"),
        ("lc_svr", {"random_state": -1}, "'random_state' parameter of LcSVR must be an integer of at least 0"),
        ("lc_svr", {"target": "ranks"}, r"target transform 'ranks'\. Did you mean 'rank'\?"),
        ("lc_svr", {"space": "nasbench21"}, r"search space 'nasbench21'\. Did you mean"),
    ],
)
def test_parameter_errors(name: str, params: dict[str, Any], message: str) -> None:
    curves, final = power_laws(40, np.arange(1.0, 4.0))
    cells = rows("nasbench201", 40) if "space" in params else None
    model = learning_curves.create(name, **params)
    with pytest.raises(ValueError, match=message):
        model.fit(curves, final, genotypes=cells).predict(curves)


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match=r"curve predictor 'early_stoping'\. Did you mean 'early_stopping'\?"):
        learning_curves.create("early_stoping")
    with pytest.raises(ValueError, match=r"'early_stopping' has no parameter 'gamma'\. Known: losses"):
        learning_curves.create("early_stopping", gamma=1)


# -- tables -----------------------------------------------------------------------------------


def test_curves_of_a_table(nasbench101_store: Path) -> None:
    table = benchmarks.load("nasbench101", nasbench101_store)
    known = np.flatnonzero(np.isfinite(table.table("cifar10", "validation_accuracy", 4)))
    assert len(known) == 30_001
    cells = table.space.enumerate()[known[::60]]
    curves = learning_curves.curves_from(table, cells, up_to=40)
    assert curves.values.shape == (len(cells), 3)
    np.testing.assert_array_equal(curves.epochs, [4, 12, 36])
    for k, epoch in enumerate((4, 12, 36)):
        values, seconds = table.query(cells, "cifar10", "validation_accuracy", epoch, return_cost=True)
        np.testing.assert_array_equal(curves.values[:, k], values)
        np.testing.assert_array_equal(curves.each_seconds[:, k], seconds)
    full = table.query(cells, "cifar10", "validation_accuracy", 108, return_cost=True)[1]
    np.testing.assert_allclose(curves.seconds, full * 52 / 108)  # trainings of their own add up
    one = learning_curves.curves_from(table, cells, up_to=40, one_run=True)
    np.testing.assert_allclose(one.seconds, full * 36 / 108)
    assert learning_curves.curves_from(table, cells[:0]).values.shape == (0, 4)
    with pytest.raises(ValueError, match=r"'up_to' argument leaves no epoch .* Got 3\. Known: 4, 12, 36, 108"):
        learning_curves.curves_from(table, cells, up_to=3)
    with pytest.raises(ValueError, match="It needs no training"):
        learning_curves.curves_from(table, cells, metric="parameters")
    with pytest.raises(ValueError, match="at least the first epoch, 4"):
        curves.until(3)


def test_tau_against_cost_on_the_real_table(nasbench101_store: Path) -> None:
    """Known figures of the file: Spearman .48/.64/.89/.986 with the final test accuracy, so tau is below those."""
    table = benchmarks.load("nasbench101", nasbench101_store)
    known = np.flatnonzero(np.isfinite(table.table("cifar10", "validation_accuracy", 4)))[::20]
    cells = table.space.enumerate()[known]
    curves = learning_curves.curves_from(table, cells)
    y = table.query(cells, "cifar10", "test_accuracy")
    predictors = {"early": learning_curves.create("early_stopping"), "svr": learning_curves.create("lc_svr")}
    result = learning_curves.tau_by_cost(predictors, curves, y, np.arange(100))
    tau = {(row["predictor"], row["epochs"]): row["tau"] for row in result}
    fraction = {(row["predictor"], row["epochs"]): row["fraction"] for row in result}
    assert [tau["early", e] for e in (4, 12, 36, 108)] == pytest.approx([0.33, 0.46, 0.71, 0.90], abs=0.03)
    assert fraction["early", 36] == pytest.approx(36 / 108)
    assert fraction["svr", 36] == pytest.approx(52 / 108)
    assert tau["svr", 36] > tau["early", 36] - 0.03


def test_tau_by_cost_judges_other_rows_than_it_learns_from() -> None:
    curves, final = power_laws(60, np.arange(1.0, 6.0))
    made = learning_curves.LearningCurves(curves, np.arange(1, 6), np.ones((60, 5)).cumsum(axis=1), one_run=True)
    predictors = {"svr": learning_curves.create("lc_svr"), "early": learning_curves.create("early_stopping")}
    train = np.arange(30)
    known = np.where(np.arange(60) < 30, final, final.mean())
    first = learning_curves.tau_by_cost(predictors, made, final, train)
    assert [(r["predictor"], r["epochs"]) for r in first] == [(p, e) for e in range(1, 6) for p in ("svr", "early")]
    assert [r["fraction"] for r in first[::2]] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    expected = evaluation.kendall_tau(final[30:], curves[30:, 2])
    assert first[5]["tau"] == pytest.approx(expected)
    model = learning_curves.create("lc_svr").fit(curves[:30], known[:30])  # what it may know
    assert first[8]["tau"] == pytest.approx(evaluation.kendall_tau(final[30:], model.predict(curves[30:])))
    with pytest.raises(ValueError, match=r"'y' argument must have one value per curve, \(60,\)\. Got \(3,\)"):
        learning_curves.tau_by_cost(predictors, made, np.zeros(3))
