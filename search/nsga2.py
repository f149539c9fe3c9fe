"""NSGA-II: accuracy against costs (Deb, Pratap, Agarwal and Meyarivan, IEEE TEC 6, 2002)."""

from __future__ import annotations

__all__ = ["NSGA2"]

from collections.abc import Hashable

import numpy as np
import numpy.typing as npt

from tauzero.search._model_based import ModelBased, check_count, check_real
from tauzero.search._pareto import crowding_distances, front_numbers
from tauzero.spaces import Genotypes, SearchSpace, Seed

_TRIES = (1, 7, 42)  # children bred at a time until one was not asked for; then a random architecture takes its place

Floats = npt.NDArray[np.float64]


class NSGA2(ModelBased):
    """Elitist non-dominated sorting genetic algorithm: a population that spreads along the Pareto front.

    The first `population_size` architectures are random. Each child has two parents, each the winner of a binary
    tournament by the crowded comparison (section III.B: the lower front, or within one the less crowded), crosses them
    (`SearchSpace.crossover`) and is mutated (`SearchSpace.mutate`). When as many children as the population has members
    have been told, the best of both together are the next population (section III.C): front after front, of the last
    that does not fit the least crowded.

    Nothing is asked for twice: a child that was asked for before, or another way of writing such a network
    (`SearchSpace.index`, or the canonical form where there is none), is bred anew, and after 50 tries a random
    architecture takes its place. Where more is asked for than one generation, further children come from the same
    parents; before the first generation was told they are random.

    It is multi-objective: `tell` takes ``float64[n, k]``, every column to be maximised, and `tauzero.search.run` an
    objective with costs (`tauzero.search.WithCosts`).

    Parameters
    ----------
    space, seed
        As for `Algorithm`.
    population_size
        N, ≥ 2. The paper has 100 for 25,000 evaluations; 20 suits the few hundred queries of tables.
    crossover_probability
        Probability that a child mixes its parents, instead of starting as a copy of the first; 0.9 in the paper.
    mutations
        Mean number of mutations of a child, in [0, L]; their number is binomial, with probability `mutations` / L for
        each of the L columns. The paper's probability of 1 / L is the default, 1.
    """

    name = "nsga2"
    multi_objective = True

    def __init__(
        self,
        space: SearchSpace | str,
        seed: Seed,
        *,
        population_size: int = 20,
        crossover_probability: float = 0.9,
        mutations: float = 1.0,
    ) -> None:
        size = check_count(self, "population_size", population_size, 2)
        super().__init__(space, seed, initial=size, per_round=1)
        self.population_size = size
        self.crossover_probability = check_real(self, "crossover_probability", crossover_probability, 0, 1)
        self.mutations = check_real(self, "mutations", mutations, 0, self.space.length)
        # `_rows` and the rows of `_points` are the population, followed by the children that were told.
        self._points: Floats = np.empty((0, 0))
        self._fronts = np.empty(0, dtype=np.int64)  # of the population: none before the first generation
        self._distances: Floats = np.empty(0)

    @property
    def population(self) -> tuple[Genotypes, Floats]:
        """Genotypes ``int8[N, L]`` and objectives ``float64[N, k]`` of the population; empty before its first."""
        size = len(self._fronts)
        return self._rows[:size].copy(), self._points[:size].copy()

    def _observe(self, genotypes: Genotypes, values: Floats) -> None:
        for row, point in zip(genotypes, values, strict=True):  # a batch may hold the end of a generation
            self._rows = np.concatenate([self._rows, row[None]])
            self._points = np.concatenate([self._points.reshape(-1, len(point)), point[None]])
            if len(self._rows) - len(self._fronts) == self.population_size:
                self._select()
        self._values = np.zeros(len(self._rows))  # the base class only counts them

    def _select(self) -> None:
        """The next population: the best of parents and children by front and crowding."""
        fronts = front_numbers(self._points)
        # The fronts that survive whole, or in part, have the same crowding distances as among all.
        distances = crowding_distances(self._points, fronts)
        kept = np.lexsort((-distances, fronts))[: self.population_size]
        self._rows, self._points = np.ascontiguousarray(self._rows[kept]), self._points[kept]
        # The part of a front that survives is less crowded than it was: parents are compared as they are now.
        self._fronts, self._distances = fronts[kept], crowding_distances(self._points, fronts[kept])

    def _choose(self, n: int) -> Genotypes:
        children = [np.empty((0, self.space.length), dtype=np.int8)]
        taken: set[Hashable] = set()
        for _ in range(n if len(self._fronts) else 0):  # one after the other: the same in any batches
            for count in _TRIES:
                child = self._unseen(self._bred(count), set(taken))[:1]
                if len(child):
                    break
            else:
                child = self._random(1, besides=np.concatenate(children))
            taken.update(self._keys(child))
            children.append(child)
        return np.concatenate(children)

    def _bred(self, count: int) -> Genotypes:
        """Children of tournaments' winners, ``int8[count, L]``."""
        children, others = (self._rows[self._winners(count)] for _ in range(2))
        crossed = self._rng.random(count) < self.crossover_probability
        if crossed.any():
            children[crossed] = self.space.crossover(children[crossed], others[crossed], self._rng)
        length = self.space.length
        edits = self._rng.binomial(length, self.mutations / length, size=count)
        for step in range(edits.max()):
            children[edits > step] = self._mutate_once(children[edits > step])
        return children

    def _winners(self, count: int) -> npt.NDArray[np.intp]:
        """Positions of the winners of binary tournaments between different members, ``intp[count]``."""
        size = len(self._fronts)
        one = self._rng.integers(size, size=count)
        other = (one + self._rng.integers(1, size, size=count)) % size
        # Equals are as good as each other: the first drawn wins, and the draws are symmetric.
        lower = self._fronts[other] < self._fronts[one]
        looser = (self._fronts[other] == self._fronts[one]) & (self._distances[other] > self._distances[one])
        return np.where(lower | looser, other, one)
