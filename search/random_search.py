"""Random search: the baseline that every search has to beat."""

from __future__ import annotations

__all__ = ["RandomSearch"]

import numpy as np
import numpy.typing as npt

from tauzero.search.base import Algorithm
from tauzero.spaces import Genotypes, SearchSpace, Seed


class RandomSearch(Algorithm):
    """Uniform draws from the enumeration of the space, by default without replacement.

    Parameters
    ----------
    space, seed
        As for `Algorithm`.
    replace
        Draw with replacement, as the benchmarks' own scripts do. Without replacement the search ends
        when it has asked for every architecture of the space.
    """

    name = "random_search"

    def __init__(self, space: SearchSpace | str, seed: Seed, *, replace: bool = False) -> None:
        super().__init__(space, seed)
        self.replace = replace
        self._order: npt.NDArray[np.int64] | None = None
        self._next = 0

    def _propose(self, n: int) -> Genotypes:
        if self.replace:
            return self.space.sample(n, self._rng)
        return np.ascontiguousarray(self.space.enumerate()[self._draw(n)])

    def _draw(self, n: int) -> npt.NDArray[np.int64]:
        """Continue a Fisher-Yates shuffle of all indices: what is drawn does not depend on how it is batched."""
        if self._order is None:
            self._order = np.arange(self.space.size)
        order, start = self._order, self._next
        stop = min(start + n, self.space.size)
        for i in range(start, stop):
            j = int(self._rng.integers(i, self.space.size))
            order[i], order[j] = order[j], order[i]
        self._next = stop
        return order[start:stop]

    def _observe(self, genotypes: Genotypes, values: npt.NDArray[np.float64]) -> None:
        """Nothing to learn."""
