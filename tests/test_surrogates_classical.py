"""Forests, boosting, support vectors, Bayesian regression and the ensemble on paths against slow second ways."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import kendalltau
from sklearn import svm
from surrogate_helpers import accuracy, rows, small

from tauzero import spaces, surrogates
from tauzero.surrogates._features import feature_map
from tauzero.surrogates._forest import ForestSurrogate
from tauzero.surrogates.bayesian_linear import BayesianLinear
from tauzero.surrogates.lightgbm import LightGBM, _monotone, _through
from tauzero.surrogates.mlp import MLP
from tauzero.surrogates.quantile_boosting import QuantileBoosting, _interpolated
from tauzero.surrogates.svr import SVR

Floats = npt.NDArray[np.float64]
OWN = (
    "bayesian_linear",
    "mlp",
    "quantile_boosting",
    "random_forest",
    "svr",
    "wl_gaussian_process",
    "xgboost",
)


def noisy(space: str, n: int, seed: int = 0) -> tuple[spaces.Genotypes, Floats]:
    cells = rows(space, n, seed)
    return cells, accuracy(space, cells) + np.random.default_rng(seed).normal(0, 0.5, n)


def fitted_target(y: Floats) -> Floats:
    return (y - y.mean()) / y.std()


# -- all of them ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OWN)
def test_left_out_rows_and_saving(name: str, tmp_path: Path) -> None:
    """Left-out predictions are worse than those of rows that were fitted, but of use; a saved model is the same."""
    cells, y = noisy("nasbench201", 90)
    params: dict[str, Any] = {"epochs": 100, "width": 16} if name == "mlp" else {}
    model = small(name, "nasbench201", target="identity", **params).fit(cells, y)
    order = np.argsort(model.space_.index(cells))
    target = fitted_target(y)[order]
    known = np.isfinite(model.unseen_)
    assert known.mean() > 0.99
    np.testing.assert_array_equal(known, np.isfinite(model.unseen_std_))
    inside = np.mean((model._predict(model.space_.canonical(cells[order]), with_std=False)[0] - target) ** 2)
    outside = np.mean((model.unseen_ - target)[known] ** 2)
    assert inside < outside < 0.8
    judged = rows("nasbench201", 100, seed=8)
    mean, std, interval = model.predict(judged, return_std=True, return_interval=0.8)
    covered = (accuracy("nasbench201", judged) > interval[:, 0]) & (accuracy("nasbench201", judged) < interval[:, 1])
    assert covered.mean() > 0.6
    other = surrogates.load(model.save(tmp_path / "model"))
    for a, b in zip((mean, std), other.predict(judged, return_std=True), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("space", ["nasbench101", "nasbench201"])
def test_learns_from_forty_rows(name: str, space: str) -> None:
    cells = rows(space, 240, seed=2)
    y = accuracy(space, cells)
    params: dict[str, Any] = {"epochs": 60, "width": 32, "encoder": "features"} if name == "mlp" else {}
    mean = small(name, space, **params).fit(cells[:40], y[:40]).predict(cells[40:])
    assert kendalltau(y[40:], mean).statistic > 0.4


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("bayesian_linear", {"iterations": 0}, r"'iterations' parameter of BayesianLinear must be an integer of at"),
        ("lightgbm", {"objective": "rank"}, r"objective 'rank'\. .*Known: 'lambdarank', 'regression'"),
        ("mlp", {"encoder": "path"}, r"encoder 'path'\. Did you mean 'paths'"),
        ("mlp", {"loss": "mapes"}, r"loss 'mapes'\. Did you mean 'mape'"),
        ("mlp", {"members": 1}, r"'members' parameter of MLP must be an integer of at least 2"),
        ("mlp", {"learning_rate": 0}, r"'learning_rate' parameter of MLP must be a number from"),
        ("quantile_boosting", {"levels": (0.5,)}, r"'levels' parameter .* at least 2 numbers between 0 and 1"),
        ("quantile_boosting", {"levels": (0.5, 1.0)}, r"'levels' parameter .* at least 2 numbers between 0 and 1"),
        ("quantile_boosting", {"levels": (0.5, 0.4)}, r"'levels' parameter .* must increase"),
        ("random_forest", {"num_trees": 0}, r"'num_trees' parameter of RandomForest must be an integer of at least 1"),
        ("random_forest", {"max_features": 1.5}, r"'max_features' parameter of RandomForest must be a number"),
        ("svr", {"C": 0.0}, r"'C' parameter of SVR must be a number"),
        ("svr", {"epsilon": -1}, r"'epsilon' parameter of SVR must be a number"),
        ("wl_gaussian_process", {"rounds": -1}, r"'rounds' parameter of WLGaussianProcess must be an integer of at"),
        ("xgboost", {"num_leaves": 1}, r"'num_leaves' parameter of XGBoost must be an integer of at least 2"),
        ("xgboost", {"subsample": 0}, r"'subsample' parameter of XGBoost must be a number"),
    ],
)
def test_parameter_errors(name: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(name, "nasbench201", **params).fit(rows("nasbench201", 6), np.arange(6.0))


# -- forests ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["extra_trees", "random_forest"])
def test_node_table_against_scikit_learn(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    take = ForestSurrogate._take_trees

    def spy(self: ForestSurrogate, estimators: Any) -> None:
        kept.extend(estimators)
        take(self, estimators)

    monkeypatch.setattr(ForestSurrogate, "_take_trees", spy)
    model = small(name, "nasbench101", target="identity").fit(*noisy("nasbench101", 60))
    x = feature_map(model.space_)(rows("nasbench101", 50, seed=4))
    each = np.stack([tree.predict(x) for tree in kept])
    assert len(each) == model.num_trees
    mean, std = model._predict_features(x, with_std=True)
    np.testing.assert_allclose(mean, each.mean(axis=0), atol=1e-6)
    relative = each.std(axis=0) / model.typical_spread_
    np.testing.assert_allclose(std, model.noise_ * np.sqrt(0.5 + 0.5 * relative**2), atol=1e-5)


def test_out_of_bag_rows_were_not_seen() -> None:
    """With targets of pure noise, trees that saw a row know it and those that did not know nothing."""
    cells = rows("nasbench201", 120)
    y = np.random.default_rng(0).normal(50, 1, 120)
    model = small("random_forest", "nasbench201", target="identity", num_trees=60).fit(cells, y)
    order = np.argsort(model.space_.index(cells))
    inside = model._predict(model.space_.canonical(cells[order]), with_std=False)[0]
    assert np.corrcoef(inside, y[order])[0, 1] > 0.8
    assert np.corrcoef(model.unseen_, y[order])[0, 1] < 0.35


# -- boosting ---------------------------------------------------------------------------------


def test_cross_fitted_members_do_not_see_their_fold() -> None:
    """A changed target changes no prediction of its own row by the member that left it out."""
    cells, y = noisy("nasbench201", 60)
    for name in ("xgboost", "quantile_boosting", "lightgbm"):
        model = small(name, "nasbench201", target="identity", subsample=1.0).fit(cells, y)
        order = np.argsort(model.space_.index(cells))
        first = order[0]
        changed = y.copy()
        # Exchanged with its own mirror image, mean and deviation of all targets stay as they are.
        changed[first] = 2 * np.delete(y, first).mean() - y[first]
        again = small(name, "nasbench201", target="identity", subsample=1.0).fit(cells, changed)
        raw = [m.unseen_[0] * values.std() + values.mean() for m, values in ((model, y), (again, changed))]
        assert raw[0] == pytest.approx(raw[1], abs=0.05), name
        whole = [m.predict(cells[[first]])[0] for m in (model, again)]
        assert abs(whole[0] - whole[1]) > 4 * abs(raw[0] - raw[1])


def test_lambdarank_ranks_and_predicts_in_the_unit_of_the_target(tmp_path: Path) -> None:
    cells, y = noisy("nasbench201", 400)
    model = LightGBM("nasbench201", objective="lambdarank", num_trees=40, n_jobs=1).fit(cells[:150], y[:150])
    mean = model.predict(cells[150:])
    assert kendalltau(y[150:], mean).statistic > 0.6
    assert np.abs(mean - y[150:]).mean() < 0.6 * np.abs(y[150:] - y[150:].mean()).mean()
    other = surrogates.load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(other.predict(cells), model.predict(cells))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 20])
def test_lambdarank_on_few_and_equal_targets(n: int) -> None:
    cells = rows("nasbench201", n)
    for y in (80.0 + np.arange(n), np.full(n, 93.0)):
        model = LightGBM("nasbench201", objective="lambdarank", num_trees=10, n_jobs=1).fit(cells, y)
        mean, std = model.predict(rows("nasbench201", 20), return_std=True)
        assert np.isfinite(mean).all()
        assert np.isfinite(std).all()
        assert ((mean > y.min() - 10) & (mean < y.max() + 10)).all()


def test_score_scale_is_strictly_increasing() -> None:
    rng = np.random.default_rng(0)
    for n in (4, 5, 30, 500):
        for noise in (0.1, 10.0):  # also where scores and targets have nothing to do with each other
            scores = rng.normal(size=n)
            knots = _monotone(scores, scores + noise * rng.normal(size=n))
            assert (np.diff(_through(knots, np.linspace(-5, 5, 200))) > 0).all()
    np.testing.assert_allclose(_through(knots, knots[0]), knots[1])


def test_missing_xgboost_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *given: Any, **named: Any) -> Any:
        if name == "xgboost":
            raise ImportError(name)
        return real(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(spaces.MissingExtraError, match=r"pip install 'tauzero\[xgboost\]'"):
        small("xgboost", "nasbench201").fit(rows("nasbench201", 6), np.arange(6.0))


def test_xgboost_files_are_json_and_checked(tmp_path: Path) -> None:
    model = small("xgboost", "nasbench201").fit(*noisy("nasbench201", 30))
    folder = model.save(tmp_path / "model")
    texts = sorted(folder.glob("booster*.txt"))
    assert len(texts) == 5
    assert json.loads(texts[0].read_text())["learner"]["objective"]["name"] == "reg:squarederror"
    texts[0].write_text(texts[0].read_text()[:-200])
    with pytest.raises(surrogates.ModelFormatError, match="not what was saved"):
        surrogates.load(folder)


# -- quantiles --------------------------------------------------------------------------------


def test_quantiles_increase_and_cover() -> None:
    cells, y = noisy("nasbench201", 500)
    model = small("quantile_boosting", "nasbench201", num_trees=40, members=3).fit(cells[:200], y[:200])
    levels = [0.9, 0.05, 0.5, 0.25, 0.75, 0.99]
    quantiles = model.predict_quantiles(cells[200:], levels)
    assert quantiles.shape == (300, 6)
    assert (np.diff(quantiles[:, np.argsort(levels)], axis=1) >= 0).all()
    assert (quantiles[:, 5] > quantiles[:, 1]).all()
    shares = (y[200:, None] < quantiles).mean(axis=0)
    np.testing.assert_allclose(shares, levels, atol=0.16)
    with pytest.raises(ValueError, match=r"'levels' argument .* between 0 and 1\. Got \[0\.0\]"):
        model.predict_quantiles(cells, [0.0])
    assert model.predict_quantiles(cells[:0], [0.5]).shape == (0, 1)
    same = np.repeat(cells[:1], 3, axis=0)
    assert len(np.unique(model.predict_quantiles(same, [0.3]))) == 1


def test_interpolated_quantiles_of_a_normal_distribution_are_exact() -> None:
    known, wanted = np.array([-1.2, 0.0, 0.7]), np.array([-3.0, -1.2, -0.5, 0.1, 0.7, 2.0])
    np.testing.assert_allclose(_interpolated(5 + 2 * known[None], known, wanted), 5 + 2 * wanted[None])


def test_quantiles_of_members_are_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Constant:
        def __init__(self, value: float) -> None:
            self.value = value

        def predict(self, x: Any, num_threads: int) -> Floats:
            return np.full(len(x), self.value)

    crossing: Any = [Constant(3.0), Constant(1.0), Constant(2.0)]
    model = QuantileBoosting("nasbench201")
    assert model._member_quantiles(crossing, np.zeros((2, 1), np.float32)).tolist() == [[1.0, 2.0, 3.0]] * 2


# -- support vectors --------------------------------------------------------------------------


@pytest.mark.parametrize("space", ["nasbench101", "nasbench201"])
def test_support_vectors_against_scikit_learn(space: str) -> None:
    """scikit-learn's own kernel on the scaled features; fold models give the left-out predictions."""
    cells, y = noisy(space, 60)
    model = SVR(space, target="identity", C=5.0, gamma=0.3, epsilon=0.1).fit(cells, y)
    order = np.argsort(model.space_.index(cells))
    target = fitted_target(y)[order]
    features = feature_map(model.space_)
    scaled = model._scaled(features(cells[order])).astype(np.float64)
    judged = features(rows(space, 40, seed=5))
    other = svm.SVR(C=5.0, gamma=0.3, epsilon=0.1).fit(scaled, target)
    expected = other.predict(model._scaled(judged).astype(np.float64))
    np.testing.assert_allclose(model._predict_features(judged, with_std=False)[0], expected, atol=5e-3)
    from tauzero.surrogates._folds import fold_numbers

    out = fold_numbers(60, 5, 0) == 2
    other = svm.SVR(C=5.0, gamma=0.3, epsilon=0.1).fit(scaled[~out], target[~out])
    np.testing.assert_allclose(model.unseen_[out], other.predict(scaled[out]), atol=5e-3)


def test_support_vector_parameters_are_chosen_on_training_rows() -> None:
    cells, y = noisy("nasbench201", 60)
    chosen = SVR("nasbench201").fit(cells, y).chosen_
    assert chosen[0] in {1.0, 10.0, 100.0}
    noise = np.random.default_rng(3).normal(size=60)
    assert SVR("nasbench201").fit(cells, noise).chosen_[0] == 1.0  # nothing to learn: the stiffest
    assert SVR("nasbench201", C=2.0, gamma=0.5, epsilon=0.2).fit(cells, y).chosen_ == (2.0, 0.5, 0.2)
    thinned = SVR("nasbench201", max_rows=30, max_search=20).fit(cells, y)
    assert np.isfinite(thinned.unseen_).sum() == 30


# -- Bayesian linear regression ---------------------------------------------------------------


@pytest.mark.parametrize(("space", "n"), [("nasbench201", 25), ("nasbench101", 20), ("nasbench201", 300)])
@pytest.mark.parametrize("squares", [False, True])
def test_posterior_and_leave_one_out_against_plain_algebra(space: str, n: int, squares: bool) -> None:
    """Fewer rows than features and more, rows of unequal weight; Bishop's 3.53-3.59 written down as they stand."""
    cells, y = noisy(space, n)
    model = BayesianLinear(space, target="identity", squares=squares)
    model.fit(np.concatenate([cells, cells[:8]]), np.concatenate([y, y[:8]]))
    order = np.argsort(model.space_.index(cells))
    values = y[order]
    target = (values - values.mean()) / values.std()
    weight = np.where(order < 8, 2.0, 1.0)
    phi = model._design(feature_map(model.space_)(cells[order]))
    prior = np.full(phi.shape[1], 0.1)
    for family, precision in zip(model._families, model.precisions_, strict=True):
        prior[family] = precision
    beta = 1 / model.noise_variance_

    def refitted(inside: npt.NDArray[np.intp]) -> tuple[Floats, Floats]:
        part = phi[inside]
        covariance = np.linalg.inv(np.diag(prior) + beta * (part * weight[inside, None]).T @ part)
        return covariance @ (beta * part.T @ (weight[inside] * target[inside])), covariance

    mean, covariance = refitted(np.arange(n))
    judged = feature_map(model.space_)(rows(space, 30, seed=6))
    own_mean, own_std = model._predict_features(judged, with_std=True)
    design = model._design(judged)
    np.testing.assert_allclose(own_mean, design @ mean, atol=2e-5)  # features are float32
    variance = ((design @ covariance) * design).sum(axis=1) + model.noise_variance_
    np.testing.assert_allclose(own_std, model._inflation * np.sqrt(variance), rtol=1e-5)
    for row in range(0, n, max(1, n // 10)):
        mean, covariance = refitted(np.flatnonzero(np.arange(n) != row))
        assert model.unseen_[row] == pytest.approx(phi[row] @ mean, abs=2e-5)
        variance = phi[row] @ covariance @ phi[row] + model.noise_variance_ / weight[row]
        assert model.unseen_std_[row] == pytest.approx(model._inflation * np.sqrt(variance), rel=1e-5)


def test_precisions_maximise_the_posterior_of_the_evidence() -> None:
    """At the end of the re-estimation no precision can be changed for the better (Bishop, eq. 3.86)."""
    cells, y = noisy("nasbench201", 60)
    model = BayesianLinear("nasbench201", target="identity", iterations=3_000).fit(cells, y)
    order = np.argsort(model.space_.index(cells))
    target = fitted_target(y)[order]
    phi = model._design(feature_map(model.space_)(cells[order]))
    families = model._families
    start = np.array([len(families) * len(f) for f in families], dtype=np.float64)

    def objective(log_precisions: Floats, log_noise: float) -> float:
        variance = np.full(phi.shape[1], 10.0)
        for family, value in zip(families, log_precisions, strict=True):
            variance[family] = np.exp(-value)
        covariance = (phi * variance) @ phi.T + np.exp(log_noise) * np.eye(60)
        _, determinant = np.linalg.slogdet(covariance)
        evidence = -0.5 * (determinant + target @ np.linalg.solve(covariance, target))
        # Gamma priors with shape 1 on the precisions, in terms of their logarithms.
        prior = (log_precisions - np.exp(log_precisions) / start).sum()
        return float(evidence + prior - log_noise - 0.1 * np.exp(-log_noise))

    at = np.log(model.precisions_)
    noise = float(np.log(model.noise_variance_))
    best = objective(at, noise)
    for k in range(len(at)):
        for step in (-0.3, 0.3):
            moved = at.copy()
            moved[k] += step
            assert objective(moved, noise) < best + 1e-3
    for step in (-0.3, 0.3):
        assert objective(at, noise + step) < best + 1e-3


# -- the ensemble on paths --------------------------------------------------------------------


def test_batched_members_against_separate_networks() -> None:
    """Each slice of the batched ensemble is an ordinary network."""
    import torch
    from torch.nn import functional

    model = small("mlp", "nasbench201", depth=2).fit(*noisy("nasbench201", 30))
    x = torch.from_numpy(model._inputs(rows("nasbench201", 20, seed=2)))
    weights, biases = list(model._network.weights), list(model._network.biases)
    for member in range(3):
        h = x
        for k, (w, b) in enumerate(zip(weights, biases, strict=True)):
            h = functional.linear(h, w[member].T, b[member, 0])
            h = functional.relu(h) if k < 2 else h
        torch.testing.assert_close(model._network(x)[member], h[:, 0], atol=1e-5, rtol=1e-5)
    assert not torch.equal(weights[0][0], weights[0][1])


def test_mape_is_the_published_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """|(f - b) / (y - b) - 1| for errors is the absolute error of targets times what `train` is given."""
    from tauzero.surrogates import _mlp_model

    seen: list[tuple[Any, ...]] = []
    monkeypatch.setattr(_mlp_model, "train", lambda *given, **named: seen.append(given))
    cells, y = noisy("nasbench201", 30)
    MLP("nasbench201", target="identity").fit(cells, y)
    ((_, _, goal, importance, inside),) = seen
    t = goal.numpy().astype(np.float64)
    bound = -(t.max() + 1.0)  # the error of an architecture is minus its target
    predicted = np.random.default_rng(0).normal(size=30)
    loss = np.abs((-predicted - bound) / (-t - bound) - 1)
    ratio = importance.numpy() * np.abs(predicted - t) / loss
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
    assert sorted(np.concatenate([np.setdiff1d(np.arange(30), r) for r in inside])) == list(range(30))


def test_published_path_encoding_and_further_encoders() -> None:
    assert MLP("nasbench101")._paths.dimension == 40  # White et al., section 5: 40 of 364 paths
    assert small("mlp", "nasbench201")._inputs(rows("nasbench201", 4)).shape[1] == 85
    model = small("mlp", "nasbench201", encoders=["onehot"])
    model._join_encoders()
    joined = model._inputs(rows("nasbench201", 4)).shape[1]
    assert 85 + 20 <= joined <= 85 + 30
    features = small("mlp", "nasbench201", encoder="features").fit(*noisy("nasbench201", 30))
    assert features._inputs(rows("nasbench201", 4)).shape[1] == len(feature_map(features.space_).names)
