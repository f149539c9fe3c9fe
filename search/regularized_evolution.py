"""Regularised evolution (Real, Aggarwal, Huang and Le, AAAI 2019, algorithm 1)."""

from __future__ import annotations

__all__ = ["RegularizedEvolution"]

import numpy as np
import numpy.typing as npt

from tauzero.search.base import Algorithm
from tauzero.spaces import Genotypes, SearchSpace, Seed

#: Neighbourhoods kept in memory (about 1 kB each).
_REMEMBERED = 10_000


class RegularizedEvolution(Algorithm):
    """Ageing evolution: the best of a random sample of the population has a mutated child; the oldest dies.

    The first `population_size` architectures are drawn uniformly. Afterwards each proposal is one
    mutation (`SearchSpace.mutate`: one gene changed, all valid neighbours equally likely) of the best
    among `sample_size` members drawn with replacement, as in the paper's algorithm 1. Members leave
    in the order in which they were told, whatever their value.

    Parameters
    ----------
    space, seed
        As for `Algorithm`.
    population_size
        P, ≥ 1. The evolution of NAS-Bench-101's own notebook uses 50 (sample 10), that of NATS-Bench
        10 (sample 3), Real et al. 100 (sample 25) for budgets of 20,000 models.
    sample_size
        S, ≥ 1.
    """

    name = "regularized_evolution"

    def __init__(
        self, space: SearchSpace | str, seed: Seed, *, population_size: int = 50, sample_size: int = 10
    ) -> None:
        super().__init__(space, seed)
        for name, number in (("population_size", population_size), ("sample_size", sample_size)):
            if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
                raise ValueError(
                    f"The '{name}' parameter of RegularizedEvolution must be an integer ≥ 1. Got {number!r}."
                )
        self.population_size = int(population_size)
        self.sample_size = int(sample_size)
        # A ring: the slot that is written next holds the oldest member.
        self._members = np.empty((self.population_size, self.space.length), dtype=np.int8)
        self._values = np.empty(self.population_size)
        self._ranks = [0.0] * self.population_size  # the same values as numbers: a few are looked up much faster
        self._around: list[Genotypes | None] = [None] * self.population_size
        self._neighbors: dict[bytes, Genotypes] = {}
        self._told = 0
        self._asked = 0

    def _propose(self, n: int) -> Genotypes:
        alive = min(self._told, self.population_size)
        random = n if not alive else min(n, max(0, self.population_size - self._asked))
        self._asked += n
        if n == 1 and not random:
            return self._mutant(alive)
        rows = [self.space.sample(random, self._rng)] if random else []
        return np.concatenate(rows + [self._mutant(alive) for _ in range(n - random)])

    def _mutant(self, alive: int) -> Genotypes:
        """A mutant of the best of a sample, ``int8[1, L]``, an array of its own."""
        # One call for the tournament and the mutation: uniform integers by scaling are several times
        # cheaper than `Generator.integers`, which would take longer than the rest of a proposal. So few of them are
        # handled faster as numbers than as an array.
        draws = self._rng.random(self.sample_size + 1).tolist()
        mutation = draws.pop(0)
        around = self._neighborhood(max([int(draw * alive) for draw in draws], key=self._ranks.__getitem__))
        place = int(mutation * len(around))
        return around[place : place + 1].copy()

    def _neighborhood(self, slot: int) -> Genotypes:
        """All mutants of a member; remembered, since the same few parents are drawn again and again."""
        around = self._around[slot]
        if around is None:
            row = self._members[slot]
            key = row.tobytes()
            around = self._neighbors.get(key)
            if around is None:
                around = self.space.neighbors(row)
                if not len(around):  # such as the cell of NAS-Bench-101 that only passes its input on
                    around = self.space.sample(1, self._rng)
                if len(self._neighbors) >= _REMEMBERED:
                    self._neighbors.clear()
                self._neighbors[key] = around
            self._around[slot] = around
        return around

    def _learn_from(self, genotypes: Genotypes, values: npt.NDArray[np.float64]) -> bool:
        self._asked += len(genotypes)
        self._observe(genotypes, values)
        return True

    def _observe(self, genotypes: Genotypes, values: npt.NDArray[np.float64]) -> None:
        for row, value in zip(genotypes, values.tolist(), strict=True):
            self._settle(self._told % self.population_size, row, value)
            self._told += 1

    def _settle(self, slot: int, row: Genotypes, value: float) -> None:
        """A new member in place of the one in a slot."""
        self._members[slot] = row
        self._values[slot] = self._ranks[slot] = value
        self._around[slot] = None
