"""Support vector regression on graph features."""

from __future__ import annotations

__all__ = ["SVR"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.encoders import EncoderLike
from tauzero.spaces import Genotypes, SearchSpace
from tauzero.surrogates._feature_surrogate import FeatureSurrogate
from tauzero.surrogates._folds import fold_numbers, left_out_spread, scaled_deviation
from tauzero.surrogates._validation import check_integer, check_number
from tauzero.surrogates.base import Floats, State

_FOLDS = 5
_CHUNK = 4_096  # architectures predicted at a time
#: What is tried where a parameter is None. Widths of the kernel are in units of the mean squared distance.
_GRID_C = (1.0, 10.0, 100.0)
_GRID_GAMMA = (0.06, 0.2, 0.6)
_GRID_EPSILON = (0.1,)


class SVR(FeatureSurrogate):
    """Support vector regression with an RBF kernel (Smola and Schölkopf, Statistics and Computing 2004).

    Every feature family has the same say in the distance, however many columns it has. The cost, the kernel's
    width and the insensitive zone are chosen by cross-validation on the training rows. Models of the same folds
    give the left-out predictions, and their disagreement tells where the standard deviation is larger.

    Parameters
    ----------
    space
        A search space or its name.
    encoders
        Further encoders whose features join the space's own, such as proxy scores.
    target
        Transform of the accuracies that is fitted (`tauzero.surrogates.TARGETS`).
    C
        Cost of an error beyond the zone; None chooses.
    gamma
        Width of the kernel exp(-gamma · d²), with d² in units of its mean between random architectures of the
        space; None chooses.
    epsilon
        Half the width of the zone without cost, in deviations of the transformed target.
    max_rows
        Larger training sets are thinned to a random subset of this size (time grows with its square and more).
    max_search
        Rows, at most, on which parameters are chosen.
    random_state
        Seed of folds and subsets.

    Attributes
    ----------
    chosen_
        The cost, width and zone that the model was fitted with.
    """

    name = "svr"

    def __init__(
        self,
        space: SearchSpace | str,
        *,
        encoders: Sequence[EncoderLike] = (),
        target: str = "mixed",
        C: float | None = None,
        gamma: float | None = None,
        epsilon: float | None = None,
        max_rows: int = 10_000,
        max_search: int = 600,
        random_state: int = 0,
    ) -> None:
        self.space = space
        self.encoders = encoders
        self.target = target
        self.C = C
        self.gamma = gamma
        self.epsilon = epsilon
        self.max_rows = max_rows
        self.max_search = max_search
        self.random_state = random_state

    # -- kernel -------------------------------------------------------------------------------

    def _scaled(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Columns divided such that each family has the same part in a distance, ``float32[n, d]``."""
        scale = np.ones(x.shape[1], dtype=np.float32)
        for group in self._features.groups:
            # Squared distances of standardised columns are 2 on average.
            scale[group] = 1.0 / np.sqrt(2.0 * len(group) * len(self._features.groups))
        return x * scale

    # -- fitting ------------------------------------------------------------------------------

    def _fit(self, rows: Genotypes, target: Floats, weight: Floats) -> None:
        for parameter, low in (("C", 1e-6), ("gamma", 1e-6), ("epsilon", 0.0)):
            if getattr(self, parameter) is not None:
                check_number(self, parameter, low, 1e6)
        check_integer(self, "max_rows", 1)
        check_integer(self, "max_search", 1)
        rng = np.random.default_rng(self.random_state)
        chosen = np.arange(len(rows))
        if len(rows) > self.max_rows:
            chosen = np.sort(rng.choice(len(rows), self.max_rows, replace=False))
            rows, target, weight = rows[chosen], target[chosen], weight[chosen]
        x = self._features(rows)
        n = len(rows)
        subset = np.arange(n)
        if n > self.max_search:
            subset = np.sort(rng.choice(n, self.max_search, replace=False))
        squared = _squared_distances(self._scaled(x), self._scaled(x))
        self.chosen_ = self._choose(squared[np.ix_(subset, subset)], target[subset], weight[subset])
        C, gamma, epsilon = self.chosen_
        kernel = np.exp(-gamma * squared)
        del squared
        # One column of dual coefficients for the model itself, and one for each that leaves a fold out.
        folds = fold_numbers(n, _FOLDS, self.random_state)
        models = [np.ones(n, dtype=np.bool_), *(folds != k for k in range(_FOLDS) if n >= 4 and (folds == k).any())]
        dual, self._intercept = np.zeros((n, len(models))), np.zeros(len(models))
        for k, inside in enumerate(models):
            dual[:, k], self._intercept[k] = _solve(kernel, target, weight, inside, C, epsilon)
            if k > 0:
                out = np.flatnonzero(~inside)
                self.unseen_[chosen[out]] = kernel[out] @ dual[:, k] + self._intercept[k]
        support = np.flatnonzero(dual.any(axis=1))
        support = support if len(support) else np.zeros(1, dtype=np.intp)  # equal targets need no row
        self._rows, self._dual = rows[support], dual[support]
        self._support = self._scaled(x[support])
        known = np.isfinite(self.unseen_[chosen])
        error = (self.unseen_[chosen][known] - target[known]) ** 2
        self.noise_ = float(np.sqrt(error.mean())) if known.any() else 1.0
        first = min(1, len(models) - 1)
        spread, self.typical_disagreement_ = left_out_spread(self._latent(x)[first:], ~np.array(models[first:]))
        deviation = scaled_deviation(spread, self.typical_disagreement_, self.noise_)
        self.unseen_std_[chosen[known]] = deviation[known]

    def _choose(self, squared: npt.NDArray[np.float32], target: Floats, weight: Floats) -> tuple[float, float, float]:
        """Cost, width and zone with the least left-out squared error."""
        costs = _GRID_C if self.C is None else (float(self.C),)
        widths = _GRID_GAMMA if self.gamma is None else (float(self.gamma),)
        zones = _GRID_EPSILON if self.epsilon is None else (float(self.epsilon),)
        n = len(target)
        middle = (costs[len(costs) // 2], widths[len(widths) // 2], zones[len(zones) // 2])
        if n < 8 or len(costs) * len(widths) * len(zones) == 1:
            return middle
        folds = fold_numbers(n, _FOLDS, self.random_state)
        best, chosen = np.inf, middle
        for gamma in widths:
            kernel = np.exp(-gamma * squared)
            for C in costs:
                for epsilon in zones:
                    left_out = np.empty(n)
                    for fold in range(_FOLDS):
                        out = folds == fold
                        dual, intercept = _solve(kernel, target, weight, ~out, C, epsilon)
                        left_out[out] = kernel[out] @ dual + intercept
                    error = float(np.average((left_out - target) ** 2, weights=weight))
                    if error < best:
                        best, chosen = error, (C, gamma, epsilon)
        return chosen

    # -- prediction ---------------------------------------------------------------------------

    def _latent(self, x: npt.NDArray[np.float32]) -> Floats:
        """f(x) = Σ βᵢ k(xᵢ, x) + b (Smola and Schölkopf, eq. 16) of every model, ``float64[models, n]``."""
        latent = np.empty((len(self._intercept), len(x)))
        dual = self._dual.astype(np.float32)
        for start in range(0, len(x), _CHUNK):
            part = slice(start, start + _CHUNK)
            kernel = _squared_distances(self._scaled(x[part]), self._support)
            kernel *= np.float32(-self.chosen_[1])
            np.exp(kernel, out=kernel)
            latent[:, part] = (kernel @ dual).T
        return latent + self._intercept[:, None]

    def _predict_features(self, x: npt.NDArray[np.float32], *, with_std: bool) -> tuple[Floats, Floats]:
        del with_std
        latent = self._latent(x)
        spread = latent[1:].std(axis=0) if len(latent) > 1 else np.zeros(len(x))
        return latent[0], scaled_deviation(spread, self.typical_disagreement_, self.noise_)

    # -- files --------------------------------------------------------------------------------

    def _state(self) -> State:
        plain = {"noise": self.noise_, "typical_disagreement": self.typical_disagreement_, "chosen": self.chosen_}
        return plain, {"rows": self._rows, "dual": self._dual, "intercept": self._intercept}, {}

    def _restore(self, plain: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], texts: dict[str, str]) -> None:
        del texts
        self.noise_ = float(plain["noise"])
        self.typical_disagreement_ = float(plain["typical_disagreement"])
        C, gamma, epsilon = plain["chosen"]
        self.chosen_ = (float(C), float(gamma), float(epsilon))
        self._rows, self._dual, self._intercept = arrays["rows"], arrays["dual"], arrays["intercept"]
        if self._dual.shape != (len(self._rows), len(self._intercept)) or not self._dual.size:
            raise ValueError("its coefficients do not fit its support vectors")
        self._support = self._scaled(self._features(self._rows))


def _solve(  # noqa: PLR0917
    kernel: npt.NDArray[np.float32],
    target: Floats,
    weight: Floats,
    inside: npt.NDArray[np.bool_],
    C: float,
    epsilon: float,
) -> tuple[Floats, float]:
    """Dual coefficients of all rows (0 outside), ``float64[n]``, and the intercept, by libsvm."""
    from sklearn.svm import SVR as LibSVR  # noqa: N811 - this module's own class has the name

    rows = np.flatnonzero(inside)
    dual = np.zeros(len(target))
    if np.ptp(target[rows]) <= 2 * epsilon:  # a constant lies in the zone of all: no row supports it
        return dual, float((target[rows].max() + target[rows].min()) / 2)
    model = LibSVR(kernel="precomputed", C=C, epsilon=epsilon, cache_size=500)
    model.random_state = 0  # not a parameter of regression, but NumPy's global generator is drawn from without it
    model.fit(kernel[np.ix_(rows, rows)], target[rows], sample_weight=weight[rows])
    dual[rows[model.support_]] = model.dual_coef_[0]
    return dual, float(model.intercept_[0])


def _squared_distances(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2.0 * (a @ b.T)
    return np.maximum(squared, 0.0, out=squared)
