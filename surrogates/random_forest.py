"""Random forest on graph features."""

from __future__ import annotations

__all__ = ["RandomForest"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed

from tauzero.encoders import EncoderLike
from tauzero.spaces import Genotypes, SearchSpace
from tauzero.surrogates._forest import ForestSurrogate
from tauzero.surrogates.base import Floats


class RandomForest(ForestSurrogate):
    """Random forest (Breiman, Machine Learning 2001), grown by scikit-learn.

    Every tree is grown on a bootstrap sample. The trees whose sample a training row is not in predict it
    without having seen it (out of bag): the error of these predictions scales the standard deviation, at no
    cost beside that of the forest.

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

    name = "random_forest"

    def __init__(
        self,
        space: SearchSpace | str,
        *,
        encoders: Sequence[EncoderLike] = (),
        target: str = "mixed",
        num_trees: int = 300,
        max_features: float = 0.33,
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
        from sklearn.tree import DecisionTreeRegressor

        self._check_parameters()
        features = self._features(rows)
        n = len(rows)
        # Samples are drawn here: a network that was measured often weighs more in a sample, but is not in every one
        # (as it would be with scikit-learn's forest, from 1.8 on), so that each row is left out by some trees.
        seeds = np.random.SeedSequence(self.random_state).spawn(self.num_trees)
        drawn = [np.bincount(np.random.default_rng(seed).integers(n, size=n), minlength=n) for seed in seeds]

        def grown(counts: npt.NDArray[np.int64], seed: np.random.SeedSequence) -> Any:
            tree = DecisionTreeRegressor(
                max_features=self.max_features,
                min_samples_leaf=self.min_samples_leaf,
                random_state=int(seed.generate_state(1)[0]),
            )
            return tree.fit(features, target, sample_weight=weight * counts)

        trees = Parallel(n_jobs=self.n_jobs, prefer="threads")(
            delayed(grown)(counts, seed) for counts, seed in zip(drawn, seeds, strict=True)
        )
        self._take_trees(trees)
        self._calibrate_spread(self._out_of_bag(trees, drawn, features), target)

    def _out_of_bag(
        self, trees: list[Any], drawn: list[npt.NDArray[np.int64]], features: npt.NDArray[np.float32]
    ) -> Floats:
        """Set `unseen_` to the mean over the trees that did not see a row; returns their spread, ``float64[n]``."""
        n = len(features)
        count, total, squares = np.zeros(n), np.zeros(n), np.zeros(n)
        for tree, counts in zip(trees, drawn, strict=True):
            outside = counts == 0
            if outside.any():
                predicted = tree.predict(features[outside])
                count[outside] += 1
                total[outside] += predicted
                squares[outside] += predicted**2
        enough = count >= (2 if n >= 4 else np.inf)  # one tree has no spread
        mean = total[enough] / count[enough]
        spread = np.full(n, np.nan)
        spread[enough] = np.sqrt(np.maximum(squares[enough] / count[enough] - mean**2, 0.0))
        self.unseen_[enough] = mean
        return spread
