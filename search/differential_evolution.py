"""Differential evolution (Storn and Price, 1997) over genotypes, as DE-NAS and DEHB do it."""

from __future__ import annotations

__all__ = ["DifferentialEvolution"]

import numpy as np

from tauzero.search._unit_cube import Floats, UnitCube, rand_1_bin
from tauzero.search.base import Algorithm
from tauzero.spaces import Genotypes, SearchSpace, Seed

#: Trials made at a time until one is a member of the space other than its target.
_TRIES = 32


class DifferentialEvolution(Algorithm):
    """rand/1/bin in the unit cube, of which each column's axis is cut into equal bins, one for each value.

    Awad, Mallik and Hutter, "Differential evolution for neural architecture search", NAS workshop at ICLR 2020; the
    same step is the core of DEHB (IJCAI 2021). Members stay points of [0, 1]ᴸ; only what is evaluated is discrete:

    - mutant = r₁ + F·(r₂ − r₃) from three different members other than the target,
    - each coordinate of the trial is the mutant's with probability CR, one of them surely, else the target's,
    - coordinates outside [0, 1] are drawn anew,
    - the trial replaces its target if it is at least as good, when all of the generation have been told.

    A trial that is no member of the space (NAS-Bench-101's limit of edges, a DARTS node with one input twice), or that
    was asked for before, is made again from other members; after 32 attempts, as when the population has converged, a
    uniform architecture takes its place. Asked for more than one generation at once, it makes further trials from the
    same generation.

    Parameters
    ----------
    space, seed
        As for `Algorithm`.
    population_size
        N, ≥ 4; 20 in the published experiments.
    mutation_factor
        F, in (0, 2]; 0.5 as published.
    crossover_probability
        CR, in [0, 1]; 0.5 as published.
    """

    name = "differential_evolution"

    def __init__(
        self,
        space: SearchSpace | str,
        seed: Seed,
        *,
        population_size: int = 20,
        mutation_factor: float = 0.5,
        crossover_probability: float = 0.5,
    ) -> None:
        super().__init__(space, seed)
        who = "parameter of DifferentialEvolution must be"
        size = population_size
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 4:
            raise ValueError(f"The 'population_size' {who} an integer ≥ 4. Got {population_size!r}.")
        if not 0 < mutation_factor <= 2:
            raise ValueError(f"The 'mutation_factor' {who} in (0, 2]. Got {mutation_factor!r}.")
        if not 0 <= crossover_probability <= 1:
            raise ValueError(f"The 'crossover_probability' {who} in [0, 1]. Got {crossover_probability!r}.")
        self.population_size = int(population_size)
        self.mutation_factor = float(mutation_factor)
        self.crossover_probability = float(crossover_probability)
        self._cube = UnitCube(self.space)
        self._points: Floats = np.empty((0, self.space.length))
        self._values: Floats = np.empty(0)
        self._next_points, self._next_values = self._points, self._values  # winners of the generation that is told
        self._target = 0  # of the next trial
        self._told = 0  # trials of this generation
        self._seen: set[bytes] = set()
        self._open: dict[bytes, list[tuple[Floats, int]]] = {}  # by row: its point and target, -1 for no target

    def _discrete(self, points: Floats) -> Genotypes:
        """Bins that points fall into, ``int8[n, L]``."""
        return self._cube.rows(points)

    def _inside(self, rows: Genotypes) -> Floats:
        """Points drawn uniformly from the bins of rows, ``float64[n, L]``."""
        return self._cube.points(rows, self._rng)

    def _propose(self, n: int) -> Genotypes:
        grown = len(self._points) == self.population_size
        if grown:
            targets = [(self._target + k) % self.population_size for k in range(n)]
            self._target = (self._target + n) % self.population_size
            points = np.stack([self._trial(target) for target in targets])
        else:
            targets = [-1] * n
            points = self._inside(self.space.sample(n, self._rng))
            self._seen.update(row.tobytes() for row in self._discrete(points))
        rows = np.ascontiguousarray(self._discrete(points))
        for row, point, target in zip(rows, points, targets, strict=True):
            self._open.setdefault(row.tobytes(), []).append((point, target))
        return rows

    def _trial(self, target: int) -> Floats:
        """A point whose architecture is a member of the space and was not asked for yet."""
        own = self._points[target]
        # Three different members other than the target: the first three of a random order of the rest.
        order = self._rng.random((_TRIES, self.population_size - 1)).argsort(axis=1)[:, :3]
        first, second, third = np.moveaxis(self._points[order + (order >= target)], 1, 0)
        trials = rand_1_bin(
            first,
            second,
            third,
            own,
            mutation_factor=self.mutation_factor,
            crossover_probability=self.crossover_probability,
            rng=self._rng,
        )
        rows = self._discrete(trials)
        for k in np.flatnonzero(self.space.is_valid(rows)):
            key = rows[k].tobytes()
            if key not in self._seen:
                self._seen.add(key)
                return np.asarray(trials[k], dtype=np.float64)
        return self._inside(self.space.sample(1, self._rng))[0]

    def _learn_from(self, genotypes: Genotypes, values: Floats) -> bool:
        for row, point in zip(genotypes, self._inside(genotypes), strict=True):
            self._seen.add(row.tobytes())
            # In front of a request for the same row, which goes on waiting.
            self._open.setdefault(row.tobytes(), []).insert(0, (point, -1))
        self._observe(genotypes, values)
        return True

    def _observe(self, genotypes: Genotypes, values: Floats) -> None:
        for row, value in zip(genotypes, values.tolist(), strict=True):
            key = row.tobytes()
            waiting = self._open[key]
            point, target = waiting.pop(0)
            if not waiting:
                del self._open[key]
            if len(self._points) < self.population_size:
                self._points = np.concatenate([self._points, point[None]])
                self._values = np.append(self._values, value)
                self._next_points, self._next_values = self._points.copy(), self._values.copy()
                continue
            if target < 0:  # asked for before the first generation was complete: it challenges the worst
                target = int(self._next_values.argmin())
            if value >= self._next_values[target]:
                self._next_points[target], self._next_values[target] = point, value
            self._told += 1
            if self._told >= self.population_size:
                self._told = 0
                self._points, self._values = self._next_points.copy(), self._next_values.copy()
