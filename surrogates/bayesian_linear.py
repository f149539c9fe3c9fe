"""Bayesian linear regression on graph features."""

from __future__ import annotations

__all__ = ["BayesianLinear"]

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from tauzero.encoders import EncoderLike
from tauzero.spaces import Genotypes, SearchSpace
from tauzero.surrogates._feature_surrogate import FeatureSurrogate
from tauzero.surrogates._validation import check_integer
from tauzero.surrogates.base import Floats, State

_CHUNK = 8_192  # architectures predicted at a time
_INTERCEPT_PRECISION = 0.1  # of its prior: targets are standardised, so the intercept is below 1
_TOLERANCE = 1e-3  # of the logarithms of the precisions, when to stop
# Gamma hyperpriors in place of the flat ones of Bishop's eqs. 3.92 and 3.95 (as Tipping, JMLR 2001, eqs. 16, 18):
# few rows could else be explained by no noise at all, or by no feature at all.
_SHAPE, _NOISE_SHAPE, _NOISE_VARIANCE = 1.0, 1.0, 0.1


class _Posterior(NamedTuple):
    """Normal distribution of the coefficients, and what the re-estimation of precisions needs of it."""

    mean: Floats  # [d]
    root: Floats  # [d, r]: covariance = diag(prior variance) - root @ root.T
    determined: Floats  # [d]: how far the data determine each coefficient, 0 to 1 (their sum is Bishop's γ)


class BayesianLinear(FeatureSurrogate):
    """Bayesian linear regression with a normal prior on each feature family (Bishop 2006, eqs. 3.49-3.59).

    The precision of every family's prior and of the noise maximise the evidence (eqs. 3.92 and 3.95 for each
    family, with weak Gamma hyperpriors), so that families that do not matter are shrunk away. All algebra is
    exact, by the eigenvalues of whichever is smaller, the matrix between rows or that between features: there
    may be many more features than rows. Rows left out are predicted in closed form.

    Parameters
    ----------
    space
        A search space or its name.
    encoders
        Further encoders whose features join the space's own, such as proxy scores.
    target
        Transform of the accuracies that is fitted (`tauzero.surrogates.TARGETS`).
    squares
        Add the square of every feature, as families of their own.
    iterations
        Re-estimations of the precisions, at most.
    random_state
        Kept for the common interface: nothing here is random.

    Attributes
    ----------
    precisions_
        Prior precision of each family's coefficients, ``float64[families]``.
    noise_variance_
        Variance of the transformed target of a network measured once.
    """

    name = "bayesian_linear"

    def __init__(
        self,
        space: SearchSpace | str,
        *,
        encoders: Sequence[EncoderLike] = (),
        target: str = "mixed",
        squares: bool = True,
        iterations: int = 100,
        random_state: int = 0,
    ) -> None:
        self.space = space
        self.encoders = encoders
        self.target = target
        self.squares = squares
        self.iterations = iterations
        self.random_state = random_state

    # -- fitting ------------------------------------------------------------------------------

    @property
    def _families(self) -> list[npt.NDArray[np.intp]]:
        """Columns of the design matrix of each family; the intercept, the last column, is in none."""
        groups = [np.asarray(g, dtype=np.intp) for g in self._features.groups]
        return groups + [g + len(self._features.names) for g in groups] if self.squares else groups

    def _design(self, x: npt.NDArray[np.float32]) -> Floats:
        """Features, their squares, and a column of ones, ``float64[n, d]``."""
        wide = np.clip(x.astype(np.float64), -8.0, 8.0)
        parts = [wide, wide**2 / 2] if self.squares else [wide]
        return np.concatenate([*parts, np.ones((len(x), 1))], axis=1)

    def _prior_variance(self, precisions: Floats, d: int) -> Floats:
        variance = np.full(d, 1.0 / _INTERCEPT_PRECISION)
        for family, precision in zip(self._families, precisions, strict=True):
            variance[family] = 1.0 / precision
        return variance

    def _fit(self, rows: Genotypes, target: Floats, weight: Floats) -> None:
        check_integer(self, "iterations", 1)
        phi = self._design(self._features(rows))
        n = len(phi)
        families = self._families
        # A priori all families together explain as much as the target varies.
        start = np.array([len(families) * len(f) for f in families], dtype=np.float64)
        self.precisions_, self.noise_variance_ = start.copy(), _NOISE_VARIANCE
        for _ in range(self.iterations):
            posterior = self._posterior(phi, target, weight)
            gamma = np.array([posterior.determined[f].sum() for f in families])
            squares = np.array([float(posterior.mean[f] @ posterior.mean[f]) for f in families])
            precisions = (gamma + 2 * _SHAPE) / (squares + 2 * _SHAPE / start)
            error = float(weight @ (target - phi @ posterior.mean) ** 2)
            spare = max(n - float(posterior.determined.sum()), 0.0)
            noise = (error + 2 * _NOISE_SHAPE * _NOISE_VARIANCE) / (spare + 2 * _NOISE_SHAPE)
            change = np.abs(np.log(np.r_[precisions / self.precisions_, noise / self.noise_variance_])).max()
            self.precisions_, self.noise_variance_ = precisions, noise
            if change < _TOLERANCE:
                break
        posterior = self._posterior(phi, target, weight)
        self._mean, self._root = posterior.mean, posterior.root
        self._leave_one_out(phi, target, weight)

    def _posterior(self, phi: Floats, target: Floats, weight: Floats) -> _Posterior:
        """Bishop's eqs. 3.53 and 3.54 with a precision for each coefficient and a weight for each row."""
        n, d = phi.shape
        prior = self._prior_variance(self.precisions_, d)
        # In coordinates where the prior is standard normal and the noise has variance 1.
        scale = np.sqrt(weight / self.noise_variance_)
        design = phi * np.sqrt(prior) * scale[:, None]
        goal = target * scale
        if n < d:
            values, left = eigh(design @ design.T)
            kept = values > 1e-10 * max(float(values[-1]), 1e-300)
            values, left = values[kept], left[:, kept]
            right = design.T @ left / np.sqrt(values)
        else:
            values, right = eigh(design.T @ design)
            kept = values > 1e-10 * max(float(values[-1]), 1e-300)
            values, right = values[kept], right[:, kept]
        shrunk = values / (1.0 + values)  # of Bishop's eq. 3.91
        mean = np.sqrt(prior) * (right @ ((right.T @ (design.T @ goal)) / (1.0 + values)))
        determined = (right**2) @ shrunk
        return _Posterior(mean, np.sqrt(prior)[:, None] * right * np.sqrt(shrunk), determined)

    def _variance(self, phi: Floats) -> Floats:
        """Second term of Bishop's eq. 3.59, ``float64[n]``."""
        prior = self._prior_variance(self.precisions_, phi.shape[1])
        return np.maximum((phi**2) @ prior - ((phi @ self._root) ** 2).sum(axis=1), 0.0)

    def _leave_one_out(self, phi: Floats, target: Floats, weight: Floats) -> None:
        """Predict each row from all the others, at the same precisions (Hastie et al. 2009, eq. 7.64)."""
        noise = self.noise_variance_ / weight
        leverage = np.minimum(self._variance(phi) / noise, 1.0 - 1e-9)
        self.unseen_[:] = target - (target - phi @ self._mean) / (1.0 - leverage)
        variance = noise / (1.0 - leverage)
        ratio = float(np.mean((target - self.unseen_) ** 2 / variance)) if len(target) > 4 else 1.0
        self._inflation = float(np.clip(np.sqrt(ratio), 0.5, 3.0))
        self.unseen_std_[:] = self._inflation * np.sqrt(variance)

    # -- prediction ---------------------------------------------------------------------------

    def _predict_features(self, x: npt.NDArray[np.float32], *, with_std: bool) -> tuple[Floats, Floats]:
        mean, std = np.empty(len(x)), np.zeros(len(x))
        for start in range(0, len(x), _CHUNK):
            part = slice(start, start + _CHUNK)
            phi = self._design(x[part])
            mean[part] = phi @ self._mean
            if with_std:
                std[part] = self._inflation * np.sqrt(self._variance(phi) + self.noise_variance_)
        return mean, std

    # -- files --------------------------------------------------------------------------------

    def _state(self) -> State:
        arrays = {"mean": self._mean, "root": self._root, "precisions": self.precisions_}
        return {"noise_variance": self.noise_variance_, "inflation": self._inflation}, arrays, {}

    def _restore(self, plain: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], texts: dict[str, str]) -> None:
        del texts
        self.noise_variance_, self._inflation = float(plain["noise_variance"]), float(plain["inflation"])
        self._mean, self._root, self.precisions_ = arrays["mean"], arrays["root"], arrays["precisions"]
        d = len(self._features.names) * (2 if self.squares else 1) + 1
        if self._mean.shape != (d,) or self._root.shape[:1] != (d,) or len(self.precisions_) != len(self._families):
            raise ValueError("its coefficients do not fit the features")
