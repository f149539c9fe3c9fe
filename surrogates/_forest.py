"""What forests share: trees as one table of nodes, prediction from it, and files."""

from __future__ import annotations

__all__ = ["ForestSurrogate"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.surrogates._feature_surrogate import FeatureSurrogate
from tauzero.surrogates._folds import scaled_deviation
from tauzero.surrogates._validation import check_integer, check_number
from tauzero.surrogates.base import Floats, State

_LEAF = -1


class ForestSurrogate(FeatureSurrogate):
    """A forest of regression trees, kept as plain arrays.

    A model is saved without pickle and predicts the same in any version of scikit-learn, which grows the
    trees. A subclass writes `_fit`, which calls `_take_trees` and `_calibrate_spread`.
    """

    num_trees: int
    max_features: float
    min_samples_leaf: int
    n_jobs: int

    def _check_parameters(self) -> None:
        check_integer(self, "num_trees", 1)
        check_integer(self, "min_samples_leaf", 1)
        check_integer(self, "n_jobs", 1)
        check_number(self, "max_features", 1e-3, 1.0)

    def _take_trees(self, estimators: Sequence[Any]) -> None:
        """Copy scikit-learn's trees into one table of nodes.

        Children are row numbers in it, leaves point at themselves.
        """
        trees = [e.tree_ for e in estimators]
        first = np.concatenate([[0], np.cumsum([t.node_count for t in trees])[:-1]])
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

    def _calibrate_spread(self, spread: Floats, target: Floats) -> None:
        """Scale the trees' disagreement to the error on rows left out.

        Parameters
        ----------
        spread
            ``float64[n]``: deviation between the trees that did not see a row (`unseen_` is their mean), NaN
            where there are none.
        target
            ``float64[n]``.
        """
        known = np.isfinite(spread)
        self.noise_, self.typical_spread_ = 1.0, 0.0
        if known.sum() < 4:
            return
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

    # -- files --------------------------------------------------------------------------------

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
