"""Predictive distributions by boosted quantile regression on graph features."""

from __future__ import annotations

__all__ = ["QuantileBoosting"]

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from tauzero.encoders import EncoderLike
from tauzero.spaces import Genotypes, SearchSpace
from tauzero.surrogates._cross_fit import Features, LightGBMParameters
from tauzero.surrogates.base import Floats, State

if TYPE_CHECKING:
    from lightgbm import Booster

_DISTRIBUTION_CHUNK = 65_536
_LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
_LEAST_SPREAD = 0.02  # of the target's deviation: quantiles of few rows may coincide


class QuantileBoosting(LightGBMParameters):
    """A distribution for every architecture: boosted quantile regression (Koenker and Bassett 1978), cross-fitted.

    For each of a few levels trees minimise the pinball loss (eq. 3 of Meinshausen, JMLR 2006) by LightGBM. A
    row's quantiles are sorted, which never makes them worse (Chernozhukov et al., Econometrica 2010), and
    averaged over members; between and beyond the levels they are interpolated on the scale of normal scores.
    Their average is the mean; the width of the central two thirds is twice the standard deviation, scaled to
    the error on rows left out.

    Parameters
    ----------
    space
        A search space or its name.
    encoders
        Further encoders whose features join the space's own, such as proxy scores.
    target
        Transform of the accuracies that is fitted (`tauzero.surrogates.TARGETS`).
    levels
        Increasing levels in (0, 1), at least two; None: 0.1, 0.3, 0.5, 0.7 and 0.9.
    members
        Folds, and models for each level; 1 fits to everything. None: 5 below 20,000 rows, else 1.
    num_trees
        Boosting rounds; None chooses by the size of the training set.
    learning_rate
        Shrinkage; None chooses by the size of the training set.
    num_leaves, min_child_samples
        Size of trees and of leaves; None chooses by the size of the training set.
    feature_fraction, subsample
        Share of features per tree, and of rows per round.
    n_jobs
        Threads; None uses what OpenMP allows. The result does not depend on it.
    random_state
        Seed of folds and subsampling.
    """

    name = "quantile_boosting"

    def __init__(
        self,
        space: SearchSpace | str,
        *,
        encoders: Sequence[EncoderLike] = (),
        target: str = "mixed",
        levels: Sequence[float] | None = None,
        members: int | None = None,
        num_trees: int | None = None,
        learning_rate: float | None = None,
        num_leaves: int | None = None,
        min_child_samples: int | None = None,
        feature_fraction: float = 0.5,
        subsample: float = 0.8,
        n_jobs: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.space = space
        self.encoders = encoders
        self.target = target
        self.levels = levels
        self.members = members
        self.num_trees = num_trees
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.min_child_samples = min_child_samples
        self.feature_fraction = feature_fraction
        self.subsample = subsample
        self.n_jobs = n_jobs
        self.random_state = random_state

    # -- fitting ------------------------------------------------------------------------------

    @property
    def _levels(self) -> Sequence[float]:
        return _LEVELS if self.levels is None else self.levels

    def _fit(self, rows: Genotypes, target: Floats, weight: Floats) -> None:
        self._check_parameters()
        _check_levels(self._levels, "levels", "parameter", least=2)
        if any(b <= a for a, b in zip(self._levels, self._levels[1:], strict=False)):
            raise ValueError(f"The 'levels' parameter of QuantileBoosting must increase. Got {self.levels!r} instead.")
        self.inflation_ = 1.0
        self._left_out_quantiles = np.full((len(rows), len(self._levels)), np.nan)
        self._cross_fit(rows, target, weight)
        quantiles = self._left_out_quantiles
        del self._left_out_quantiles
        known = np.isfinite(self.unseen_)
        if known.sum() >= 4:
            ratio = (target[known] - self.unseen_[known]) / self._spread(quantiles[known])
            self.inflation_ = float(np.clip(np.sqrt(np.mean(ratio**2)), 0.5, 10.0))
        self.unseen_std_[known] = self.inflation_ * self._spread(quantiles[known])

    def _train_member(self, x: Features, target: Floats, weight: Floats, seed: int) -> list[Booster]:
        import lightgbm

        params, trees = self._parameters(len(x), seed)
        if self.learning_rate is None:  # the pinball loss pulls with the same force from any distance: larger steps
            params["learning_rate"] *= 2.5
        boosters = []
        for level in self._levels:
            own = params | {"objective": "quantile", "alpha": float(level)}
            data = lightgbm.Dataset(x, target, weight=weight, params=own, free_raw_data=False)
            boosters.append(lightgbm.train(own, data, num_boost_round=trees))
        return boosters

    def _leave_out(self, model: Any, x: Features, outside: npt.NDArray[np.bool_]) -> None:
        quantiles = self._member_quantiles(model, x[outside])
        self._left_out_quantiles[outside] = quantiles
        self.unseen_[outside] = quantiles.mean(axis=1)

    # -- prediction ---------------------------------------------------------------------------

    def _member_quantiles(self, model: list[Booster], x: Features) -> Floats:
        """Sorted quantiles of one member, ``float64[n, levels]``."""
        each = [np.asarray(b.predict(x, num_threads=self.n_jobs or 0), dtype=np.float64) for b in model]
        return np.sort(np.stack(each, axis=1), axis=1)

    def _member_latent(self, model: list[Booster], x: Features) -> Floats:
        return self._member_quantiles(model, x).mean(axis=1)

    def _quantiles(self, x: Features) -> Floats:
        """Quantiles of the transformed target averaged over members, ``float64[n, levels]``."""
        return np.mean([self._member_quantiles(model, x) for model in self._models], axis=0)

    def _spread(self, quantiles: Floats) -> Floats:
        """Half the width between the normal levels -1 and 1, ``float64[n]``."""
        ends = _interpolated(quantiles, norm.ppf(self._levels), np.array([-1.0, 1.0]))
        return np.maximum((ends[:, 1] - ends[:, 0]) / 2, _LEAST_SPREAD)

    def _predict_features(self, x: Features, *, with_std: bool) -> tuple[Floats, Floats]:
        del with_std
        quantiles = self._quantiles(x)
        return quantiles.mean(axis=1), self.inflation_ * self._spread(quantiles)

    def predict_quantiles(self, genotypes: npt.ArrayLike, levels: Sequence[float]) -> Floats:
        """Predict quantiles of the metric.

        Parameters
        ----------
        genotypes
            ``int8[n, L]``.
        levels
            Levels in (0, 1) in any order; those that were not fitted are interpolated.

        Returns
        -------
        ``float64[n, len(levels)]`` in the unit of the training targets: for each row they increase with the level.
        Widened (or narrowed) about their mean by the error on rows left out, as the standard deviation is.

        Raises
        ------
        ValueError
            If a level is not between 0 and 1.
        """
        self._check_fitted()
        _check_levels(levels, "levels", "argument", least=1)
        rows, inverse = self.space_.distinct(self.space_.validate(genotypes))
        latent = np.empty((len(rows), len(levels)))
        for start in range(0, len(rows), _DISTRIBUTION_CHUNK):
            part = slice(start, start + _DISTRIBUTION_CHUNK)
            fitted = self._quantiles(self._features(rows[part]))
            centre = fitted.mean(axis=1, keepdims=True)
            wanted = _interpolated(fitted, norm.ppf(self._levels), norm.ppf(np.asarray(levels, dtype=np.float64)))
            latent[part] = centre + self.inflation_ * (wanted - centre)
        return self.target_.inverse(latent.reshape(-1)).reshape(latent.shape)[inverse]

    # -- files --------------------------------------------------------------------------------

    def _state(self) -> State:
        texts = {
            f"booster{k}-{level}.txt": booster.model_to_string()
            for k, model in enumerate(self._models)
            for level, booster in enumerate(model)
        }
        return {"inflation": self.inflation_, "members": len(self._models)}, {}, texts

    def _restore(self, plain: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], texts: dict[str, str]) -> None:
        import lightgbm

        del arrays
        self.inflation_ = float(plain["inflation"])
        members = range(int(plain["members"]))
        try:
            self._models = [
                [lightgbm.Booster(model_str=texts[f"booster{k}-{level}.txt"]) for level in range(len(self._levels))]
                for k in members
            ]
        except lightgbm.basic.LightGBMError as error:
            raise ValueError(f"LightGBM cannot read its own text: {error}") from error
        if not self._models:
            raise ValueError("there is no boosted model in it")


def _check_levels(levels: object, name: str, kind: str, *, least: int) -> None:
    try:
        values = np.asarray(levels, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.ndim != 1 or len(values) < least or not ((values > 0) & (values < 1)).all():
        raise ValueError(
            f"The {name!r} {kind} of QuantileBoosting must be at least {least} numbers between 0 and 1. "
            f"Got {levels!r} instead."
        )


def _interpolated(quantiles: Floats, known: Floats, wanted: Floats) -> Floats:
    """Quantiles at other normal scores, ``float64[n, m]``: linear between neighbours and on beyond the outermost.

    Parameters
    ----------
    quantiles
        ``float64[n, k]``, increasing along rows.
    known, wanted
        Normal scores of the k levels (increasing) and of the m wanted ones.
    """
    left = np.clip(np.searchsorted(known, wanted, side="right") - 1, 0, len(known) - 2)
    share = (wanted - known[left]) / (known[left + 1] - known[left])
    return quantiles[:, left] + share * (quantiles[:, left + 1] - quantiles[:, left])
