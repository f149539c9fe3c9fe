"""SMAC: sequential model-based optimisation with a random forest (Hutter, Hoos and Leyton-Brown, LION 5, 2011)."""

from __future__ import annotations

__all__ = ["SMAC", "log_costs", "log_expected_improvement"]

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tauzero.search._model_based import ModelBased, check_count, check_real
from tauzero.spaces import Genotypes, SearchSpace, Seed

if TYPE_CHECKING:
    from tauzero.encoders import Encoder

_STEPS = 1_000  # of one local search, at most; acquisitions rise strictly, so that it ends by itself
_LEAST_VARIANCE = 1e-10
_PERCENTILE = 5

Floats = npt.NDArray[np.float64]


@lru_cache(maxsize=8)
def _encoder(space: SearchSpace, name: str) -> Encoder:
    from tauzero.encoders import create

    return create(name, space)


def log_expected_improvement(mean: Floats, variance: Floats, best: float) -> Floats:
    """Expected improvement of a cost whose logarithm is normal, below the best cost, ``float64[n]``.

    Hutter, Hoos, Leyton-Brown and Murphy (GECCO 2009, section 5.2): with v = (b − μ) / σ it is
    exp(b)·Φ(v) − exp(μ + σ² / 2)·Φ(v − σ).

    Parameters
    ----------
    mean, variance
        ``float64[n]``: μ and σ² > 0 of the logarithm of the cost.
    best
        b, the logarithm of the lowest cost.
    """
    from scipy.special import ndtr

    std = np.sqrt(variance)
    v = (best - mean) / std
    return np.asarray(np.exp(best) * ndtr(v) - np.exp(mean + variance / 2) * ndtr(v - std), dtype=np.float64)


def log_costs(values: Floats) -> Floats:
    """Logarithms of costs in (0, 1] that fall as the values rise, 0 for the worst, ``float64[n]``.

    SMAC3's scaling (Lindauer et al., JMLR 23, 2022, `RunHistoryLogScaledEncoder`): the zero of the cost lies as far
    beyond the best value as that is from the 5th percentile of the costs; here at least a thousandth of the range.
    """
    costs = -values
    low, high = costs.min(), costs.max()
    if low == high:
        return np.zeros(len(costs))
    zero = low - max(np.percentile(costs, _PERCENTILE) - low, 1e-3 * (high - low))
    return np.asarray(np.log((costs - zero) / (high - zero)), dtype=np.float64)


class SMAC(ModelBased):
    """Random forest, expected improvement of the logarithm of the cost, local search, and every fifth query random.

    For each query a forest is fitted to everything told. Its prediction at a leaf is normal: means and variances of the
    trees' leaves join by the law of total variance (Hutter, Xu, Hoos and Leyton-Brown, Artificial Intelligence 206,
    2014, section 4.3.2). Local searches by best improvement over `SearchSpace.neighbors` (one gene exchanged) start
    at the told architectures of the highest acquisition; all that they look at, and random challengers, are sorted by
    acquisition, and the first that was not asked for is asked for (section 4.3 of the paper).

    This is our own implementation, on scikit-learn's forest, of the published method with SMAC3's settings for
    deterministic objectives, where each architecture is evaluated once and there is nothing to intensify. The package
    itself is `tauzero.search.smac3.SMAC3`.

    Parameters
    ----------
    space, seed
        As for `Algorithm`.
    initial
        Random architectures at the start. SMAC3 takes 10 for each parameter, at most a quarter of the budget.
    trees
        Trees of the forest (10).
    max_features
        Share of the features that a split considers, in (0, 1] (1 in SMAC3, 5/6 in its first versions).
    min_samples_leaf
        Values in a leaf, at least (1).
    challengers
        Random architectures whose acquisition is computed, ≥ 1 (10,000 in SMAC3, whose spaces are larger).
    local_searches
        Of each query, ≥ 1 (10).
    random_share
        Probability that a query is a random architecture, in [0, 1]: 0.2 in SMAC3; the paper has every second.
    encoder
        Name of the encoder whose features the forest splits (`tauzero.encoders.names`). One-hot features split one
        category from the others, as SMAC's forests do.
    """

    name = "smac"

    def __init__(
        self,
        space: SearchSpace | str,
        seed: Seed,
        *,
        initial: int = 10,
        trees: int = 10,
        max_features: float = 1.0,
        min_samples_leaf: int = 1,
        challengers: int = 1_000,
        local_searches: int = 10,
        random_share: float = 0.2,
        encoder: str = "onehot",
    ) -> None:
        super().__init__(space, seed, initial=initial, per_round=1)
        self.trees = check_count(self, "trees", trees)
        self.max_features = check_real(self, "max_features", max_features, 1e-3, 1)
        self.min_samples_leaf = check_count(self, "min_samples_leaf", min_samples_leaf)
        self.challengers = check_count(self, "challengers", challengers)
        self.local_searches = check_count(self, "local_searches", local_searches)
        self.random_share = check_real(self, "random_share", random_share, 0, 1)
        self.encoder = _encoder(self.space, encoder).name

    def _choose(self, n: int) -> Genotypes:
        random = self._rng.random(n) < self.random_share
        sorted_ = self._sorted_challengers() if not random.all() else self._rows[:0]
        chosen = np.empty((0, self.space.length), dtype=np.int8)
        for is_random in random:
            row = sorted_[:1]
            if is_random or not len(row):
                row = self._random(1, besides=chosen)
            else:
                sorted_ = sorted_[1:]
            chosen = np.concatenate([chosen, row])
        return chosen

    def _sorted_challengers(self) -> Genotypes:
        """Architectures that were not asked for, the highest acquisition first; equal ones in random order."""
        y = log_costs(self._values)
        forest = self._fitted(y)
        best = float(y.min())
        seen = self._local_search(forest, best)
        rows = self._unseen(np.concatenate([self._random(self.challengers), seen]))
        if not len(rows):
            return rows
        rows = rows[self._rng.permutation(len(rows))]
        return rows[np.argsort(-self._acquire(forest, rows, best), kind="stable")]

    def _local_search(self, forest: Any, best: float) -> Genotypes:
        """All architectures that the local searches look at, ``int8[m, L]``."""
        acquired = self._acquire(forest, self._rows, best)
        order = self._rng.permutation(len(acquired))
        starts = order[np.argsort(-acquired[order], kind="stable")[: self.local_searches]]
        climbers = list(zip(self._rows[starts], acquired[starts].tolist(), strict=True))
        looked_at = [self._rows[:0]]
        been: set[bytes] = set()
        for _ in range(_STEPS):
            # Two searches that meet go on as one.
            climbers = [(row, value) for row, value in climbers if row.tobytes() not in been]
            been.update(row.tobytes() for row, _ in climbers)
            around = [self.space.neighbors(row) for row, _ in climbers]
            if not sum(map(len, around)):
                break
            looked_at += around
            values = self._acquire(forest, np.concatenate(around), best)
            cuts = np.cumsum([len(rows) for rows in around])[:-1]
            climbers = [
                (rows[some.argmax()], float(some.max()))
                for (_, value), rows, some in zip(climbers, around, np.split(values, cuts), strict=True)
                if len(some) and some.max() > value
            ]
        return np.concatenate(looked_at)

    # -- the model ----------------------------------------------------------------------------

    def _features(self, rows: Genotypes) -> npt.NDArray[np.float32]:
        return np.asarray(_encoder(self.space, self.encoder).transform(rows), dtype=np.float32)

    def _fitted(self, y: Floats) -> Any:
        from sklearn.ensemble import RandomForestRegressor

        forest = RandomForestRegressor(
            self.trees,
            max_features=self.max_features,
            min_samples_leaf=self.min_samples_leaf,
            random_state=int(self._rng.integers(2**31)),
        )
        return forest.fit(self._features(self._rows), y)

    def _predict(self, forest: Any, rows: Genotypes) -> tuple[Floats, Floats]:
        """Mean and variance of the logarithm of the cost, ``float64[n]`` each."""
        features = self._features(rows)
        means, variances = np.empty((2, self.trees, len(rows)))
        for k, member in enumerate(forest.estimators_):
            tree = member.tree_
            leaves = tree.apply(features)
            # The impurity of a node is the variance of the values in it.
            means[k], variances[k] = tree.value[leaves, 0, 0], tree.impurity[leaves]
        total = variances.mean(axis=0) + means.var(axis=0)
        return means.mean(axis=0), np.maximum(total, _LEAST_VARIANCE)

    def _acquire(self, forest: Any, rows: Genotypes, best: float) -> Floats:
        mean, variance = self._predict(forest, rows)
        return log_expected_improvement(mean, variance, best)
