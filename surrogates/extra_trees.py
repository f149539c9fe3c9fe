"""Extremely randomised trees on graph features."""

from __future__ import annotations

__all__ = ["ExtraTrees"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.encoders import EncoderLike
from tauzero.spaces import Genotypes, SearchSpace
from tauzero.surrogates._folds import fold_numbers
from tauzero.surrogates._forest import ForestSurrogate
from tauzero.surrogates.base import Floats

_FOLDS = 5


class ExtraTrees(ForestSurrogate):
    """Extremely randomised trees (Geurts et al., Machine Learning 2006), grown by scikit-learn.

    Trees that are grown to single rows agree too much to tell their error: the standard deviation is scaled
    to the error of smaller forests on folds that they have not seen.

    Parameters
    ----------
    space
        A search space or its name.
    encoders
        Further encoders whose features join the space's own, such as proxy scores.
    target
        Transform of the accuracies that is fitted (`tauzero.surrogates.TARGETS`).
    num_trees
        Trees in the forest.
    max_features
        Share of the features tried at each split.
    min_samples_leaf
        Rows in a leaf, at least.
    n_jobs
        Threads for fitting.
    random_state
        Seed.
    """

    name = "extra_trees"

    def __init__(
        self,
        space: SearchSpace | str,
        *,
        encoders: Sequence[EncoderLike] = (),
        target: str = "mixed",
        num_trees: int = 300,
        max_features: float = 0.5,
        min_samples_leaf: int = 1,
        n_jobs: int = 1,
        random_state: int = 0,
    ) -> None:
        self.space = space
        self.encoders = encoders
        self.target = target
        self.num_trees = num_trees
        self.max_features = max_features
        self.min_samples_leaf = min_samples_leaf
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _fit(self, rows: Genotypes, target: Floats, weight: Floats) -> None:
        from sklearn.ensemble import ExtraTreesRegressor

        self._check_parameters()
        features = self._features(rows)

        def grown(num_trees: int, inside: npt.NDArray[np.bool_]) -> Any:
            forest = ExtraTreesRegressor(
                num_trees,
                max_features=self.max_features,
                min_samples_leaf=self.min_samples_leaf,
                n_jobs=self.n_jobs,
                random_state=self.random_state,
            )
            return forest.fit(features[inside], target[inside], sample_weight=weight[inside])

        self._leave_out(grown, features, target)
        self._take_trees(grown(self.num_trees, np.ones(len(rows), dtype=np.bool_)).estimators_)

    def _leave_out(self, grown: Any, features: npt.NDArray[np.float32], target: Floats) -> None:
        """Predict left-out rows with smaller forests, and their error and spread (on at most 5,000 rows)."""
        n = len(target)
        spread = np.full(n, np.nan)
        folds = fold_numbers(n, _FOLDS, self.random_state)
        for fold in range(min(_FOLDS, n) if n >= 4 else 0):
            left_out = np.flatnonzero(folds == fold)[:1_000]
            forest = grown(max(10, self.num_trees // 3), folds != fold)
            each = np.stack([e.predict(features[left_out]) for e in forest.estimators_])
            self.unseen_[left_out] = each.mean(axis=0)
            spread[left_out] = each.std(axis=0)
        self._calibrate_spread(spread, target)
