"""The Gaussian process against finite differences, scikit-learn's, refitting without each row, and synthetic draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import OptimizeResult, approx_fprime
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern
from surrogate_helpers import accuracy, rows

from tauzero import spaces
from tauzero.surrogates import gaussian_process
from tauzero.surrogates._features import feature_map
from tauzero.surrogates.gaussian_process import GaussianProcess

Floats = npt.NDArray[np.float64]
each_space = pytest.mark.parametrize("space", spaces.names())


def noisy(space: str, n: int, seed: int = 0) -> tuple[spaces.Genotypes, Floats]:
    cells = rows(space, n, seed)
    return cells, accuracy(space, cells) + np.random.default_rng(seed).normal(0, 0.5, n)


def fitted_order(space: str, cells: spaces.Genotypes) -> npt.NDArray[np.intp]:
    """Order in which a model sees different rows."""
    return np.argsort(spaces.get(space).distinct(cells)[1])


def scaled(model: GaussianProcess, cells: spaces.Genotypes) -> Floats:
    """Features on which the kernel is a plain Matérn-3/2 of length 1, written down anew in float64."""
    x = feature_map(model.space_)(cells).astype(np.float64)
    for group, log_weight in zip(feature_map(model.space_).groups, model.parameters_[:-2], strict=True):
        x[:, group] *= np.sqrt(np.exp(log_weight) / len(group))
    return x


def reference(model: GaussianProcess, x: Floats, target: Floats, weight: Floats | float = 1.0) -> Any:
    """scikit-learn's Gaussian process with this model's kernel and noise, nothing optimised."""
    signal, noise = np.exp(model.parameters_[-2:])
    kernel = ConstantKernel(signal, "fixed") * Matern(1.0, "fixed", nu=1.5)
    return GaussianProcessRegressor(kernel, alpha=noise / weight + 1e-8, optimizer=None).fit(x, target)


@each_space
def test_gradient_against_finite_differences(space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, and at a random point; with rows of unequal weight."""
    objectives: list[Any] = []

    def spy(function: Any, start: Floats, **named: Any) -> OptimizeResult:
        objectives.append(function)
        return OptimizeResult(x=start)

    monkeypatch.setattr(gaussian_process, "minimize", spy)
    cells, y = noisy(space, 25)
    model = GaussianProcess(space).fit(np.concatenate([cells, cells[:9]]), np.concatenate([y, y[:9] + 1]))
    (objective,) = objectives
    start = model.parameters_
    for point in (start, start + np.random.default_rng(1).normal(0, 1, len(start))):
        value, gradient = objective(point)
        assert np.isfinite(value)
        numeric = approx_fprime(point, lambda p: objective(p)[0], 1e-6)
        np.testing.assert_allclose(gradient, numeric, rtol=2e-4, atol=2e-4)


@each_space
def test_optimiser_improves_the_objective(space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[float, float]] = []
    minimise = gaussian_process.minimize

    def spy(function: Any, start: Floats, **named: Any) -> Any:
        result = minimise(function, start, **named)
        found.append((function(start)[0], function(result.x)[0]))
        return result

    monkeypatch.setattr(gaussian_process, "minimize", spy)
    GaussianProcess(space).fit(*noisy(space, 40))
    ((before, after),) = found
    assert after < before - 1


@each_space
def test_predictions_against_scikit_learn(space: str) -> None:
    cells, y = noisy(space, 60)
    judged = rows(space, 50, seed=7)
    model = GaussianProcess(space, target="identity").fit(cells, y)
    order = fitted_order(space, cells)
    target = (y[order] - y.mean()) / y.std()
    other = reference(model, scaled(model, cells[order]), target)
    mean, std = other.predict(scaled(model, judged), return_std=True)
    noise = np.exp(model.parameters_[-1])
    # On the transformed scale: `predict` itself levels off beyond the range of the training targets.
    own_mean, own_std = model._predict(model.space_.canonical(judged), with_std=True)
    np.testing.assert_allclose(own_mean, mean, atol=1e-3)
    # Ours is the deviation of a measurement (noise included), widened by what the left-out rows say.
    np.testing.assert_allclose(own_std, model._inflation * np.sqrt(std**2 + noise), rtol=2e-3)


@each_space
def test_leave_one_out_against_refitting(space: str) -> None:
    cells, y = noisy(space, 30)
    model = GaussianProcess(space, target="identity")
    model.fit(np.concatenate([cells, cells[:8]]), np.concatenate([y, y[:8]]))  # eight rows count twice
    order = fitted_order(space, cells)
    target = (y[order] - y.mean()) / y.std()
    weight = np.where(order < 8, 2.0, 1.0)
    x = scaled(model, cells[order])
    refitted, ratios = [], []
    for left_out in range(30):
        others = np.arange(30) != left_out
        regressor = reference(model, x[others], target[others], weight[others])
        mean, std = regressor.predict(x[left_out : left_out + 1], return_std=True)
        refitted.append(mean[0])
        noise = np.exp(model.parameters_[-1]) / weight[left_out]
        ratios.append((target[left_out] - mean[0]) ** 2 / (std[0] ** 2 + noise))
    np.testing.assert_allclose(model.unseen_, refitted, atol=1e-5)
    assert model._inflation == pytest.approx(np.clip(np.sqrt(np.mean(ratios)), 0.5, 3.0), rel=1e-4)


def test_deviation_is_calibrated_on_draws_from_its_own_kernel() -> None:
    """Targets drawn from a Gaussian process: about 68 and 95 % of the others lie within 1 and 2 deviations."""
    space = spaces.get("nasbench201")
    cells = rows(space, 500, seed=3)
    x = feature_map(space)(cells).astype(np.float64)
    distance = np.zeros((500, 500))
    for group in feature_map(space).groups[:3]:
        part = x[:, group]
        distance += 0.1 * ((part[:, None] - part[None]) ** 2).mean(axis=2)
    r = np.sqrt(3 * distance)
    covariance = (1 + r) * np.exp(-r) + 0.05 * np.eye(500)
    within: list[npt.NDArray[np.bool_]] = []
    for seed in range(4):
        y = np.linalg.cholesky(covariance) @ np.random.default_rng(seed).standard_normal(500)
        model = GaussianProcess(space, target="identity").fit(cells[:120], y[:120])
        mean, std = model.predict(cells[120:], return_std=True)
        error = np.abs(mean - y[120:])
        within.append(np.stack([error <= std, error <= 2 * std]))
    one, two = np.concatenate(within, axis=1).mean(axis=1)
    assert 0.58 < one < 0.80
    assert 0.90 < two < 0.99


def test_deviation_grows_away_from_the_training_set() -> None:
    space = spaces.get("nasbench201")
    cells, y = noisy("nasbench201", 80)
    model = GaussianProcess(space).fit(cells, y)
    latent = model._predict(space.canonical(np.concatenate([cells, rows(space, 200, seed=9)])), with_std=True)[1]
    assert latent[:80].mean() < latent[80:].mean()


def test_large_training_sets_are_thinned() -> None:
    cells, y = noisy("nasbench201", 120)
    model = GaussianProcess("nasbench201", max_rows=50, max_optimise=20).fit(cells, y)
    assert len(model.unseen_) == model.n_train_
    assert np.isfinite(model.unseen_).sum() == 50  # the rest was never looked at
    assert np.isfinite(model.predict(cells)).all()
    again = GaussianProcess("nasbench201", max_rows=50, max_optimise=20).fit(cells, y)
    np.testing.assert_array_equal(again.predict(cells), model.predict(cells))


def test_deviation_over_the_first_rows_is_an_upper_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    cells, y = noisy("nasbench201", 100)
    judged = rows("nasbench201", 60, seed=5)
    model = GaussianProcess("nasbench201").fit(cells, y)
    mean, std = model._predict(judged, with_std=True)
    monkeypatch.setattr(gaussian_process, "_VARIANCE_ROWS", 40)
    same, wider = model._predict(judged, with_std=True)
    np.testing.assert_array_equal(same, mean)
    assert (wider >= std - 1e-6).all()
    assert (wider > std).any()
