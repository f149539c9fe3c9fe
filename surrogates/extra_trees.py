"""Extremely randomised trees on graph features."""

from __future__ import annotations

__all__ = ["ExtraTrees"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.encoders import EncoderLike
from tauzero.spaces import Genotypes, SearchSpace
from tauzero.surrogates._feature_surrogate import FeatureSurrogate
from tauzero.surrogates._folds import fold_numbers, scaled_deviation
from tauzero.surrogates._validation import check_integer, check_number
from tauzero.surrogates.base import Floats, State

_LEAF = -1
_FOLDS = 5


class ExtraTrees(FeatureSurrogate):
    """Extremely randomised trees (Geurts et al., Machine Learning 2006), grown by scikit-learn.

    The trees are kept as plain arrays, so that a model is saved without pickle and predicts the same in
    any version of scikit-learn. Trees that are grown to single rows agree too much to tell their error: the
    standard deviation is scaled to the error of smaller forests on folds that they have not seen.

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

        check_integer(self, "num_trees", 1)
        check_integer(self, "min_samples_leaf", 1)
        check_integer(self, "n_jobs", 1)
        check_number(self, "max_features", 1e-3, 1.0)
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
        forest = grown(self.num_trees, np.ones(len(rows), dtype=np.bool_))
        trees = [e.tree_ for e in forest.estimators_]
        sizes = [t.node_count for t in trees]
        first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        # One table of nodes for all trees; children are row numbers in it, leaves point at themselves.
        left, right, feature, threshold, value = ([] for _ in range(5))
        for tree, offset in zip(trees, first.tolist(), strict=True):
            leaf = tree.children_left == _LEAF
            itself = np.arange(tree.node_count) + offset
            left.append(np.where(leaf, itself, tree.children_left + offset))
            right.append(np.where(leaf, itself, tree.children_right + offset))
            feature.append(np.where(leaf, 0, tree.feature))
            threshold.append(np.where(leaf, 0.0, tree.threshold))
            value.append(tree.value[:, 0, 0])
        self._roots = first.astype(np.int32)
        self._depth = max(t.max_depth for t in trees)
        self._children = np.stack([np.concatenate(left), np.concatenate(right)], axis=1).astype(np.int32)
        self._feature = np.concatenate(feature).astype(np.int16)
        self._threshold = np.concatenate(threshold).astype(np.float64)
        self._value = np.concatenate(value).astype(np.float32)

    def _leave_out(self, grown: Any, features: npt.NDArray[np.float32], target: Floats) -> None:
        """Predict left-out rows with smaller forests, and their error and spread (on at most 5,000 rows)."""
        n = len(target)
        self.noise_, self.typical_spread_ = 1.0, 0.0
        if n < 4:
            return
        folds = fold_numbers(n, _FOLDS, self.random_state)
        spread = np.full(n, np.nan)
        for fold in range(min(_FOLDS, n)):
            left_out = np.flatnonzero(folds == fold)[:1_000]
            forest = grown(max(10, self.num_trees // 3), folds != fold)
            each = np.stack([e.predict(features[left_out]) for e in forest.estimators_])
            self.unseen_[left_out] = each.mean(axis=0)
            spread[left_out] = each.std(axis=0)
        known = np.isfinite(spread)
        self.noise_ = float(np.sqrt(np.mean((self.unseen_[known] - target[known]) ** 2)))
        self.typical_spread_ = float(spread[known].mean())
        self.unseen_std_[known] = scaled_deviation(spread[known], self.typical_spread_, self.noise_)

    def _predict_features(self, x: npt.NDArray[np.float32], *, with_std: bool) -> tuple[Floats, Floats]:
        del with_std
        place = np.arange(len(x))
        total, squares = np.zeros(len(x)), np.zeros(len(x))
        for root in self._roots:  # all architectures go down one tree together
            node = np.full(len(x), root, dtype=np.int32)
            for _ in range(self._depth):
                goes_right = x[place, self._feature[node]] > self._threshold[node]
                following = self._children[node, goes_right.astype(np.int8)]
                if (following == node).all():
                    break
                node = following
            leaf = self._value[node].astype(np.float64)
            total += leaf
            squares += leaf**2
        mean = total / len(self._roots)
        spread = np.sqrt(np.maximum(squares / len(self._roots) - mean**2, 0.0))
        return mean, scaled_deviation(spread, self.typical_spread_, self.noise_)

    def _state(self) -> State:
        arrays: dict[str, npt.NDArray[Any]] = {
            "roots": self._roots,
            "children": self._children,
            "feature": self._feature,
            "threshold": self._threshold,
            "value": self._value,
        }
        plain = {"depth": int(self._depth), "noise": self.noise_, "typical_spread": self.typical_spread_}
        return plain, arrays, {}

    def _restore(self, plain: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], texts: dict[str, str]) -> None:
        del texts
        self._depth = int(plain["depth"])
        self.noise_, self.typical_spread_ = float(plain["noise"]), float(plain["typical_spread"])
        self._roots, self._children = arrays["roots"], arrays["children"]
        self._feature, self._threshold, self._value = arrays["feature"], arrays["threshold"], arrays["value"]
        nodes, columns = len(self._value), len(self._features.names)
        fits = self._children.shape == (nodes, 2) and len(self._feature) == len(self._threshold) == nodes
        limits = ((self._roots, nodes), (self._children, nodes), (self._feature, columns))
        if not fits or any(not a.size or a.min() < 0 or a.max() >= high for a, high in limits):
            raise ValueError("the nodes of its trees do not fit together")
