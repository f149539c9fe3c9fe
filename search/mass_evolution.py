"""Evolution of whole generations at once, for objectives that cost microseconds and spaces that no table covers."""

from __future__ import annotations

__all__ = ["MassEvolution"]

import numpy as np
import numpy.typing as npt

from tauzero.search._pareto import crowding_distances, nondominated
from tauzero.search.base import Algorithm
from tauzero.spaces import Genotypes, SearchSpace, Seed

#: Rounds of children that bring nothing new until random architectures take their place, and of these until a space
#: that cannot be enumerated counts as exhausted.
_ROUNDS = 8


class MassEvolution(Algorithm):
    """(μ + λ) evolution, vectorised, that asks for every network once.

    λ is the number of architectures asked for at a time: a generation. Parents win binary tournaments among the
    survivors; a child has one parent, or its columns come from two (uniform crossover), and then a geometric number of
    its columns change. Some of every generation are random. Children are brought into canonical form, and networks
    that were asked for before are drawn anew, so that no prediction is made twice. The best μ of parents and
    children survive.

    Weighing costs, survivors are chosen as in NSGA-II (Deb et al., IEEE Transactions on Evolutionary Computation 6,
    2002): by fronts of non-dominated points, and in the last of them by crowding distance.

    Parameters
    ----------
    space, seed
        As for `Algorithm`.
    population_size
        μ, ≥ 2. The first μ architectures are random.
    crossover
        Share of children with two parents, 0 to 1.
    mutations
        Mean number of columns that change, ≥ 1.
    immigrants
        Share of random architectures in every generation, 0 to 1.
    multi_objective
        Whether costs are weighed; `tauzero.search.run` sets it where the objective has some.
    """

    name = "mass_evolution"
    together = 2_000
    weighs_costs = True

    def __init__(
        self,
        space: SearchSpace | str,
        seed: Seed,
        *,
        population_size: int = 500,
        crossover: float = 0.5,
        mutations: float = 1.5,
        immigrants: float = 0.05,
        multi_objective: bool = False,
    ) -> None:
        super().__init__(space, seed)
        if (
            isinstance(population_size, bool)
            or not isinstance(population_size, int | np.integer)
            or population_size < 2
        ):
            raise ValueError(
                f"The 'population_size' parameter of MassEvolution must be an integer ≥ 2. Got {population_size!r}."
            )
        for what, share in (("crossover", crossover), ("immigrants", immigrants)):
            if not 0 <= share <= 1:
                raise ValueError(f"The '{what}' parameter of MassEvolution must lie in 0 to 1. Got {share!r}.")
        if not 1 <= mutations < np.inf:
            raise ValueError(f"The 'mutations' parameter of MassEvolution must be a number ≥ 1. Got {mutations!r}.")
        self.population_size = int(population_size)
        self.crossover, self.mutations, self.immigrants = float(crossover), float(mutations), float(immigrants)
        self.multi_objective = bool(multi_objective)
        self._members = np.empty((0, self.space.length), dtype=np.int8)
        self._values = np.empty((0, 0))
        self._seen: set[bytes] = set()
        self._choices = np.asarray(self.space.cardinalities) - 1

    # -- proposals ----------------------------------------------------------------------------

    def _propose(self, n: int) -> Genotypes:
        found: list[Genotypes] = []
        missing, idle = n, 0
        while missing and idle < 2 * _ROUNDS:
            # More than are missing, since some come up twice.
            trial = self._children(missing + missing // 4 + 1, random=idle >= _ROUNDS)
            new = self._unseen(trial)[:missing]
            self._seen.update(row.tobytes() for row in new)
            idle = 0 if len(new) else idle + 1
            found.append(new)
            missing -= len(new)
        if missing and self.space.enumerable:
            everything, _ = self.space.distinct(self.space.enumerate())
            new = self._unseen(everything)[:missing]
            self._seen.update(row.tobytes() for row in new)
            found.append(new)
        return np.ascontiguousarray(np.concatenate(found))

    def _children(self, n: int, *, random: bool) -> Genotypes:
        if random or len(self._seen) < self.population_size or not len(self._members):
            return self.space.sample(n, self._rng)
        fresh = int(self._rng.binomial(n, self.immigrants))
        count = n - fresh
        # Survivors are sorted: of two entrants the one that stands first is better.
        first, second = (
            self._members[self._rng.integers(len(self._members), size=(count, 2)).min(1)] for _ in range(2)
        )
        mixed = self._rng.random((count, 1)) < self.crossover
        children = np.where(mixed & (self._rng.random(first.shape) < 0.5), second, first)
        more = self._rng.geometric(1 / self.mutations, size=count)
        order = self._rng.random(children.shape).argsort(axis=1).argsort(axis=1)
        shift = 1 + self._rng.integers(np.maximum(self._choices, 1), size=children.shape)
        changed = (children + shift) % (self._choices + 1)
        children = np.where(order < more[:, None], changed, children).astype(np.int8)
        children = children[self.space.is_valid(children)]
        return np.concatenate([children, self.space.sample(fresh, self._rng)])

    def _unseen(self, rows: Genotypes) -> Genotypes:
        """Different networks among rows that were not asked for before, in the order of the rows."""
        canonical = self.space.canonical(rows)
        new: dict[bytes, int] = {}
        for k, row in enumerate(canonical):
            key = row.tobytes()
            if key not in self._seen:
                new.setdefault(key, k)
        return canonical[list(new.values())]

    # -- survival -----------------------------------------------------------------------------

    def _observe(self, genotypes: Genotypes, values: npt.NDArray[np.float64]) -> None:
        scores = values.reshape(len(values), -1)
        if not len(self._members):
            self._values = np.empty((0, scores.shape[1]))
        rows, scores = np.concatenate([self._members, genotypes]), np.concatenate([self._values, scores])
        if scores.shape[1] == 1:
            kept = np.argsort(-scores[:, 0], kind="stable")[: self.population_size]
        else:
            kept = survivors(scores, self.population_size)
        self._members, self._values = rows[kept], scores[kept]


def survivors(points: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    """The best `count` of points ``float64[n, k]`` to be maximised, best first: by front, then by crowding distance."""
    left = np.arange(len(points))
    kept: list[npt.NDArray[np.int64]] = []
    room = min(count, len(points))
    while room:
        on_front = nondominated(points[left])
        front = left[on_front]
        front = front[np.argsort(-crowding_distances(points[front]), kind="stable")][:room]
        kept.append(front)
        room -= len(front)
        left = left[~on_front]
    return np.concatenate([np.empty(0, dtype=np.int64), *kept])
