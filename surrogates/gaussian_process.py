"""Gaussian process over families of graph features, each with a relevance of its own."""

from __future__ import annotations

__all__ = ["GaussianProcess"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

from tauzero.encoders import EncoderLike
from tauzero.spaces import Genotypes, SearchSpace
from tauzero.surrogates._feature_surrogate import FeatureSurrogate
from tauzero.surrogates._leave_one_out import leave_one_out
from tauzero.surrogates._validation import check_integer
from tauzero.surrogates.base import Floats, State

_JITTER = 1e-8
_CHUNK = 2_048  # architectures predicted at a time
_VARIANCE_ROWS = 1_000  # rows that the standard deviation is computed from


class GaussianProcess(FeatureSurrogate):
    """Exact Gaussian process regression with a Matérn-3/2 kernel (Rasmussen and Williams 2006, eqs. 2.23-2.24, 4.17).

    The squared distance is a weighted sum over feature families (operation counts, shortest and longest
    paths, operation pairs, path counts, adjacency); the weights, the signal and the noise variance maximise
    the posterior of the marginal likelihood under log-normal priors, by L-BFGS with exact gradients. It learns
    from a few dozen cells what a tree ensemble needs hundreds for.

    Parameters
    ----------
    space
        A search space or its name.
    encoders
        Further encoders whose features join the space's own, such as proxy scores.
    target
        Transform of the accuracies that is fitted (`tauzero.surrogates.TARGETS`).
    max_rows
        Larger training sets are thinned to a random subset of this size (memory and time grow with its
        square and cube).
    max_optimise
        Rows, at most, on which the kernel's parameters are optimised.
    iterations
        Of the optimiser.
    random_state
        Seed of the two subsets.
    """

    name = "gaussian_process"

    def __init__(
        self,
        space: SearchSpace | str,
        *,
        encoders: Sequence[EncoderLike] = (),
        target: str = "mixed",
        max_rows: int = 6_000,
        max_optimise: int = 1_000,
        iterations: int = 60,
        random_state: int = 0,
    ) -> None:
        self.space = space
        self.encoders = encoders
        self.target = target
        self.max_rows = max_rows
        self.max_optimise = max_optimise
        self.iterations = iterations
        self.random_state = random_state

    def _fit(self, rows: Genotypes, target: Floats, weight: Floats) -> None:
        for parameter in ("max_rows", "max_optimise", "iterations"):
            check_integer(self, parameter, 1)
        rng = np.random.default_rng(self.random_state)
        chosen = np.arange(len(rows))
        if len(rows) > self.max_rows:
            chosen = np.sort(rng.choice(len(rows), self.max_rows, replace=False))
            rows, target, weight = rows[chosen], target[chosen], weight[chosen]
        x = self._features(rows).astype(np.float64)
        self._rows = rows
        self._noise_scale = 1.0 / weight
        subset = np.arange(len(rows))
        if len(rows) > self.max_optimise:
            subset = np.sort(rng.choice(len(rows), self.max_optimise, replace=False))
        self.parameters_ = self._optimise(x[subset], target[subset], self._noise_scale[subset])
        self._anchor = self._scaled(x)
        self.unseen_[chosen], self.unseen_std_[chosen] = self._factorise(target)

    # -- kernel -------------------------------------------------------------------------------

    @property
    def _groups(self) -> list[npt.NDArray[np.intp]]:
        return self._features.groups

    def _prior(self) -> tuple[Floats, Floats]:
        """Means and standard deviations of the logarithms of the weights, the signal and the noise variance."""
        count = len(self._groups)
        mean = np.r_[np.full(count, np.log(0.3 / count)), 0.5, np.log(0.05)]
        return mean, np.r_[np.full(count, 1.5), 1.0, 1.0]

    @staticmethod
    def _matern(squared: Floats) -> tuple[Floats, Floats]:
        """Matérn-3/2 correlation of squared distances, and its derivative by the squared distance."""
        r = np.sqrt(3.0 * squared)
        decay = np.exp(-r)
        return (1.0 + r) * decay, -1.5 * decay

    def _optimise(self, x: Floats, target: Floats, noise_scale: Floats) -> Floats:
        count = len(self._groups)
        mean, spread = self._prior()
        if len(target) < 2 or not np.any(target):
            return mean
        squared = np.stack([_squared_distances(x[:, g], x[:, g]) / len(g) for g in self._groups])
        diagonal = np.diag_indices(len(target))
        identity = np.eye(len(target))

        def objective(p: Floats) -> tuple[float, Floats]:
            weights, signal, noise = np.exp(p[:count]), np.exp(p[count]), np.exp(p[count + 1])
            correlation, slope = self._matern(np.tensordot(weights, squared, 1))
            covariance = signal * correlation
            covariance[diagonal] += noise * noise_scale + _JITTER
            factor = cho_factor(covariance, lower=True, check_finite=False)
            alpha = cho_solve(factor, target, check_finite=False)
            value = 0.5 * target @ alpha + np.log(np.diag(factor[0])).sum()
            # d value / d covariance (Rasmussen and Williams, eq. 5.9)
            outer = 0.5 * (cho_solve(factor, identity, check_finite=False) - np.outer(alpha, alpha))
            gradient = np.empty_like(p)
            gradient[:count] = weights * np.tensordot(squared, outer * slope * signal, 2)
            gradient[count] = signal * float((outer * correlation).sum())
            gradient[count + 1] = noise * float((np.diag(outer) * noise_scale).sum())
            z = (p - mean) / spread
            return float(value + 0.5 * z @ z), gradient + z / spread

        bounds = list(zip(mean - 6 * spread, mean + 6 * spread, strict=True))
        found = minimize(
            objective, mean, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": self.iterations}
        )
        return np.asarray(found.x, dtype=np.float64)

    def _scaled(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Features multiplied such that plain squared distances are the kernel's."""
        scale = np.zeros(x.shape[1])
        for group, log_weight in zip(self._groups, self.parameters_, strict=False):
            scale[group] = np.sqrt(np.exp(log_weight) / len(group))
        return x * scale.astype(x.dtype)

    def _factorise(self, target: Floats) -> tuple[Floats, Floats]:
        """Solve for the weights of the training rows; returns their leave-one-out means and deviations."""
        signal, noise = np.exp(self.parameters_[-2:])
        covariance = signal * self._matern(_squared_distances(self._anchor, self._anchor))[0]
        covariance[np.diag_indices(len(target))] += noise * self._noise_scale + _JITTER
        factor = cho_factor(covariance, lower=True, overwrite_a=True, check_finite=False)
        self._alpha = cho_solve(factor, target, check_finite=False)
        left_out, std, self._inflation = leave_one_out(factor[0], self._alpha, target)
        return left_out, std

    # -- prediction ---------------------------------------------------------------------------

    def _predict_features(self, x: npt.NDArray[np.float32], *, with_std: bool) -> tuple[Floats, Floats]:
        signal, noise = np.exp(self.parameters_[-2:])
        mean = np.empty(len(x))
        std = np.zeros(len(x))
        anchor = self._anchor.astype(np.float32)
        lower = self._variance_factor() if with_std else None
        for start in range(0, len(x), _CHUNK):
            part = slice(start, start + _CHUNK)
            correlation = self._matern32(_squared_distances(self._scaled(x[part]), anchor))
            mean[part] = signal * (correlation @ self._alpha.astype(np.float32)).astype(np.float64)
            if lower is not None:
                half = solve_triangular(lower, signal * correlation[:, : len(lower)].T, lower=True, check_finite=False)
                variance = signal - np.einsum("ij,ij->j", half, half)
                std[part] = self._inflation * np.sqrt(np.maximum(variance, 0.0) + noise)
        return mean, std

    @staticmethod
    def _matern32(squared: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        squared *= 3.0
        np.sqrt(squared, out=squared)
        decay = np.exp(-squared)
        squared += 1.0
        decay *= squared
        return decay

    def _variance_factor(self) -> Floats:
        """Cholesky factor over the first rows only: with more than `_VARIANCE_ROWS` the variance is an upper bound."""
        signal, noise = np.exp(self.parameters_[-2:])
        anchor = self._anchor[:_VARIANCE_ROWS]
        covariance = signal * self._matern(_squared_distances(anchor, anchor))[0]
        covariance[np.diag_indices(len(anchor))] += noise * self._noise_scale[:_VARIANCE_ROWS] + _JITTER
        return np.asarray(cho_factor(covariance, lower=True, check_finite=False)[0])

    # -- files --------------------------------------------------------------------------------

    def _state(self) -> State:
        arrays = {
            "rows": self._rows,
            "alpha": self._alpha,
            "noise_scale": self._noise_scale,
            "parameters": self.parameters_,
        }
        return {"inflation": self._inflation}, arrays, {}

    def _restore(self, plain: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], texts: dict[str, str]) -> None:
        del texts
        self._inflation = float(plain["inflation"])
        self._rows, self._alpha, self._noise_scale = arrays["rows"], arrays["alpha"], arrays["noise_scale"]
        self.parameters_ = arrays["parameters"]
        self._anchor = self._scaled(self._features(self._rows).astype(np.float64))


def _squared_distances(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[Any]:
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2.0 * (a @ b.T)
    return np.maximum(squared, 0.0, out=squared)
