"""Local search (White, Nolen and Savani, "Exploring the loss landscape in NAS", UAI 2021)."""

from __future__ import annotations

__all__ = ["LocalSearch"]

from collections.abc import Hashable
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from tauzero.search.base import Algorithm
from tauzero.spaces import Genotypes, SearchSpace, Seed, unknown_name

AtOptimum = Literal["restart", "continue"]

#: Rounds of random draws for architectures that were not asked for yet.
_ROUNDS = 20


class LocalSearch(Algorithm):
    """Hill climbing over `SearchSpace.neighbors`: move to a better neighbour, start anew at a local optimum.

    The paper's algorithm 1 in its published implementation (naszilla's ``local_search``): each climb begins at the best
    of `initial` random architectures. Architectures are asked for once; a neighbour whose value is known counts with
    that value. Known are architectures of the same number (`SearchSpace.index`), or of the same canonical row in spaces
    too large to be numbered.

    When more is asked for than the neighbourhood holds, random architectures fill up; they count among the `initial`
    ones of the next climb. The search ends when every architecture of the space has been asked for.

    Parameters
    ----------
    space, seed
        As for `Algorithm`.
    initial
        Random architectures of which the best begins a climb, ≥ 1; 10 in naszilla, 1 in the paper's algorithm 1.
    full_neighborhood
        True: evaluate all neighbours, then move to the best (the paper's algorithm 1). False: move as soon as one is
        better (naszilla's default).
    at_optimum
        ``"restart"`` with new random architectures, or ``"continue"`` from the best architecture that the climb has
        not been at yet (naszilla's ``stop_at_minimum=False``).
    """

    name = "local_search"

    def __init__(
        self,
        space: SearchSpace | str,
        seed: Seed,
        *,
        initial: int = 10,
        full_neighborhood: bool = False,
        at_optimum: AtOptimum = "restart",
    ) -> None:
        super().__init__(space, seed)
        if isinstance(initial, bool) or not isinstance(initial, int | np.integer) or initial < 1:
            raise ValueError(f"The 'initial' parameter of LocalSearch must be an integer ≥ 1. Got {initial!r}.")
        if at_optimum not in get_args(AtOptimum):
            raise unknown_name("choice of LocalSearch at an optimum", at_optimum, get_args(AtOptimum))
        self.initial = int(initial)
        self.full_neighborhood = bool(full_neighborhood)
        self.at_optimum = at_optimum
        self._asked: set[Hashable] = set()
        self._known: dict[Hashable, tuple[float, Genotypes]] = {}
        self._starts: list[tuple[float, Hashable]] = []  # told random architectures since the last climb began
        self._random: set[Hashable] = set()  # asked as random architectures and not told yet
        self._current: Hashable | None = None  # None: between two climbs
        self._around: list[tuple[Hashable, Genotypes]] = []  # neighbours of the current one, in random order
        self._expanded: set[Hashable] = set()

    def _keys(self, rows: Genotypes) -> list[Hashable]:
        """What architectures are known by."""
        if self.space.enumerable:
            return list(self.space.index(rows).tolist())
        return [row.tobytes() for row in self.space.canonical(rows)]

    # -- asking -------------------------------------------------------------------------------

    def _propose(self, n: int) -> Genotypes:
        rows: list[Genotypes] = []
        for key, row in self._around:
            if len(rows) == n:
                break
            if key not in self._asked:
                self._asked.add(key)
                rows.append(row)
        if len(rows) < n:
            rows += self._draw(n - len(rows))
        return np.array(rows, dtype=np.int8).reshape(-1, self.space.length)

    def _draw(self, count: int) -> list[Genotypes]:
        """Random architectures that have not been asked for; fewer at the end of the space."""
        found: list[Genotypes] = []
        for _ in range(_ROUNDS):
            candidates = self.space.sample(count - len(found), self._rng)
            for key, row in zip(self._keys(candidates), candidates, strict=True):
                if key not in self._asked:
                    self._asked.add(key)
                    self._random.add(key)
                    found.append(row)
            if len(found) == count:
                return found
        if self.space.enumerable:
            free = np.ones(self.space.size, dtype=np.bool_)
            free[np.array(list(self._asked), dtype=np.int64)] = False
            left = self._rng.permutation(np.flatnonzero(free))[: count - len(found)]
            self._asked.update(left.tolist())
            self._random.update(left.tolist())
            found += list(self.space.enumerate()[left])
        return found

    # -- being told ---------------------------------------------------------------------------

    def _learn_from(self, genotypes: Genotypes, values: npt.NDArray[np.float64]) -> bool:
        keys = self._keys(genotypes)
        self._random.update(key for key in keys if key not in self._asked)  # each may begin a climb
        self._asked.update(keys)
        self._observe(genotypes, values)
        return True

    def _observe(self, genotypes: Genotypes, values: npt.NDArray[np.float64]) -> None:
        for key, row, value in zip(self._keys(genotypes), genotypes, values.tolist(), strict=True):
            self._known[key] = (value, row)
            if key in self._random:
                self._random.remove(key)
                self._starts.append((value, key))
        while self._advance():
            pass

    def _advance(self) -> bool:
        """Take one step if what is known suffices for it."""
        if self._current is None:
            if len(self._starts) < self.initial:
                return False
            begin = max(self._starts, key=lambda start: start[0])[1]
            self._starts = []
            return self._expand(begin)
        here = self._known[self._current][0]
        told = [key for key, _ in self._around if key in self._known]
        complete = len(told) == len(self._around)
        if self.at_optimum == "continue":  # or else every step down would lead straight back up
            told = [key for key in told if key not in self._expanded]
        values = [(self._known[key][0], key) for key in told]
        best, where = max(values, key=lambda neighbor: neighbor[0], default=(-np.inf, None))
        if where is not None and best > here and (complete or not self.full_neighborhood):
            return self._expand(where)
        if not complete:
            return False
        if self.at_optimum == "continue":
            rest = [(value, key) for key, (value, _) in self._known.items() if key not in self._expanded]
            if rest:
                return self._expand(max(rest, key=lambda one: one[0])[1])
        self._current, self._around = None, []
        return True

    def _expand(self, key: Hashable) -> bool:
        """Make an architecture the current one."""
        neighbors = self.space.neighbors(self._known[key][1])
        order = self._rng.permutation(len(neighbors))
        self._current = key
        self._expanded.add(key)
        around = dict(zip(self._keys(neighbors[order]), neighbors[order], strict=True)) if len(order) else {}
        self._around = list(around.items())
        return True
