"""DEHB (Awad, Mallik and Hutter, IJCAI 2021): differential evolution inside Hyperband's brackets."""

from __future__ import annotations

__all__ = ["DEHB"]

from collections.abc import Iterable

import numpy as np

from tauzero.search._brackets import BracketSearch
from tauzero.search._model_based import check_real
from tauzero.search._novelty import novelty_keys
from tauzero.search._unit_cube import Floats, UnitCube, rand_1_bin
from tauzero.spaces import Genotypes, SearchSpace, Seed

#: Trials made at a time until one is a member of the space that was not asked for at these epochs.
_TRIES = 32
#: Members of the population where there is one fidelity only, as in `DifferentialEvolution`.
_ALONE = 20


class DEHB(BracketSearch):
    """One subpopulation for each fidelity, evolved by rand/1/bin; parents of mutants come from the fidelity below.

    The subpopulation of a fidelity has as many members as the largest rung at it, points of the unit
    cube as in `differential_evolution`, drawn uniformly and without a value at first. A rung's requests take the
    members of its subpopulation in turn as targets; what is told replaces its target at once if it is at
    least as good. Which architecture is asked for:

    - in the very first rung: uniform ones;
    - in the higher rungs of the first iteration's brackets: the best of the subpopulation below, as in successive
      halving, leaving out what was asked for at these epochs before;
    - everywhere else a trial: mutant r₁ + F·(r₂ - r₃) from three of the best nᵢ of the subpopulation *below* (nᵢ: the
      size of the rung; in the first rung of a bracket, of the target's own subpopulation), other than the
      target, crossed with the target with probability CR for each column. Where there are fewer than three such,
      mutants of three members of all subpopulations together fill up.

    Trials that are no members of the space, or were asked for at these epochs, are made again from other
    parents; after 32 attempts a random architecture takes their place. Brackets are those of the authors' code
    (`bracket_sizes`), which starts the next bracket where workers would wait; here `ask` returns fewer instead.
    With one fidelity it is differential evolution with a population of 20.

    Parameters
    ----------
    space, seed, fidelities, eta
        As for `Hyperband`.
    mutation_factor
        F, in (0, 2]; 0.5 as published.
    crossover_probability
        CR, in [0, 1]; 0.5 as published.
    """

    name = "dehb"
    _floor = True

    def __init__(
        self,
        space: SearchSpace | str,
        seed: Seed,
        *,
        fidelities: Iterable[int],
        eta: float = 3.0,
        mutation_factor: float = 0.5,
        crossover_probability: float = 0.5,
    ) -> None:
        super().__init__(space, seed, fidelities=fidelities, eta=eta)
        self.mutation_factor = check_real(self, "mutation_factor", mutation_factor, 1e-9, 2)
        self.crossover_probability = check_real(self, "crossover_probability", crossover_probability, 0, 1)
        if len(self.rungs) == 1:
            self.brackets = [((self.rungs[0], _ALONE),)]
        self._cube = UnitCube(self.space)
        sizes = {epochs: max(dict(bracket).get(epochs, 0) for bracket in self.brackets) for epochs in self.rungs}
        self._points = {
            epochs: self._cube.points(self.space.sample(size, self._rng), self._rng) for epochs, size in sizes.items()
        }
        self._values = {epochs: np.full(size, -np.inf) for epochs, size in sizes.items()}
        self._target = dict.fromkeys(self.rungs, 0)  # whose turn it is
        self._open: dict[bytes, tuple[Floats, int]] = {}  # by row: its point and target

    def _new(self, epochs: int) -> Genotypes | None:
        """The architecture of a first rung; `_member` asks here too, as rungs differ little."""
        return self._member(epochs, 0)

    def _member(self, epochs: int, position: int) -> Genotypes | None:
        del position
        target = self._target[epochs]
        point: Floats | None = None
        first = self._iteration == 0
        if first and self._rung:
            point = self._promoted(epochs)
        if point is None and not (first and self._bracket == self._rung == 0):
            point = self._trial(epochs, target)
        if point is None:
            random = self._random_new(epochs)
            if random is None:
                return None
            point = self._cube.points(random[None], self._rng)[0]
        row = self._cube.rows(point[None])[0]
        self._open[row.tobytes()] = point, target
        self._target[epochs] = (target + 1) % len(self._points[epochs])
        return row

    @property
    def _below(self) -> int:
        """Epochs of the rung below the current one in its bracket; of the rung itself if it is the first."""
        return self.brackets[self._bracket][max(self._rung - 1, 0)][0]

    def _promoted(self, epochs: int) -> Floats | None:
        """The best point of the subpopulation below that was not asked for at these epochs, or None."""
        values = self._values[self._below]
        order = np.argsort(-values, kind="stable")[: int(np.isfinite(values).sum())]
        points = self._points[self._below][order]
        for point, key in zip(points, novelty_keys(self.space, self._cube.rows(points)), strict=True):
            if key not in self._asked_at[epochs]:
                return np.asarray(point, dtype=np.float64)
        return None

    def _trial(self, epochs: int, target: int) -> Floats | None:
        """A trial point whose architecture is a member of the space and new at these epochs, or None."""
        own = self._points[epochs][target]
        parents = self._parents(own)
        # Three different ones for each attempt: the first three of a random order.
        order = self._rng.random((_TRIES, len(parents))).argsort(axis=1)[:, :3]
        first, second, third = np.moveaxis(parents[order], 1, 0)
        trials = rand_1_bin(
            first,
            second,
            third,
            own,
            mutation_factor=self.mutation_factor,
            crossover_probability=self.crossover_probability,
            rng=self._rng,
        )
        rows = self._cube.rows(trials)
        members = np.flatnonzero(self.space.is_valid(rows))
        for k, key in zip(members, novelty_keys(self.space, rows[members]), strict=True):
            if key not in self._asked_at[epochs]:
                return np.asarray(trials[k], dtype=np.float64)
        return None

    def _parents(self, own: Floats) -> Floats:
        """At least three points that a mutant of a target may be made from, ``float64[k, L]``."""
        _, size = self._plan
        best = np.argsort(-self._values[self._below], kind="stable")[:size]
        pool = self._points[self._below][best]
        pool = pool[(pool != own).any(axis=1)]
        missing = 3 - len(pool)
        if missing <= 0:
            return pool
        everyone = np.concatenate(list(self._points.values()))
        everyone = everyone[(everyone != own).any(axis=1)]
        order = self._rng.random((missing, len(everyone))).argsort(axis=1)[:, :3]
        first, second, third = np.moveaxis(everyone[order], 1, 0)
        mutants = rand_1_bin(
            first,
            second,
            third,
            own,
            mutation_factor=self.mutation_factor,
            crossover_probability=1.0,
            rng=self._rng,
        )
        return np.concatenate([pool, mutants])

    def _learn(self, rows: Genotypes, epochs: int, values: list[float]) -> None:
        for row, value in zip(rows, values, strict=True):
            point, target = self._open.pop(row.tobytes())
            if value >= self._values[epochs][target]:
                self._points[epochs][target], self._values[epochs][target] = point, value
