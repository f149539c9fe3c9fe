"""Evolution without ageing: the worst dies (tournament selection, or (μ+1) with uniform parents)."""

from __future__ import annotations

__all__ = ["Evolution"]

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from tauzero.search.regularized_evolution import RegularizedEvolution
from tauzero.spaces import Genotypes, SearchSpace, Seed, unknown_name

Dies = Literal["worst", "worst_of_sample"]

#: Children drawn in place of one that was asked for before, until a random architecture takes its place.
_RETRIES = 50


class Evolution(RegularizedEvolution):
    """Non-ageing evolution: parents as in regularised evolution, but the worst member makes room for a child.

    The steady-state evolution that Real et al. (AAAI 2019, "non-ageing evolution") compare ageing with. With
    ``sample_size=1`` parents are uniform and it is the (μ+1) evolution strategy without recombination.

    A member that is as good as the child dies before it, so that plateaus are crossed. A row that is alive does not
    enter a second time: where nobody ages, copies of one row would fill the population. For the same reason a child
    that was asked for before is drawn anew; when 50 draws in a row bring nothing new, the population has converged and
    a random architecture stands in.

    Parameters
    ----------
    space, seed
        As for `Algorithm`.
    population_size
        μ, ≥ 1; 30 is naszilla's (White et al., whose ``regularize=False`` is this algorithm).
    sample_size
        Members that compete to be the parent, drawn with replacement, ≥ 1; 10 is naszilla's.
    dies
        ``"worst"``: the worst of population and child (naszilla; (μ+1)). ``"worst_of_sample"``: the worst of
        `sample_size` members drawn anew, whatever the child's value, as in the tournaments of Real et al.
        (ICML 2017), which draw two.
    """

    name = "evolution"

    def __init__(
        self,
        space: SearchSpace | str,
        seed: Seed,
        *,
        population_size: int = 30,
        sample_size: int = 10,
        dies: Dies = "worst",
    ) -> None:
        super().__init__(space, seed, population_size=population_size, sample_size=sample_size)
        if dies not in get_args(Dies):
            raise unknown_name("way to die in Evolution (the 'dies' parameter)", dies, get_args(Dies))
        self.dies = dies
        self._born = np.zeros(self.population_size, dtype=np.int64)
        self._births = 0
        self._living: set[bytes] = set()
        self._seen: set[bytes] = set()

    def _propose(self, n: int) -> Genotypes:
        rows = super()._propose(n)
        for k in range(n):
            retries = 0
            while rows[k].tobytes() in self._seen and retries < _RETRIES:
                rows[k] = super()._propose(1)[0]
                self._asked -= 1  # what is drawn anew counts once
                retries += 1
            if retries == _RETRIES:
                rows[k] = self.space.sample(1, self._rng)[0]
            self._seen.add(rows[k].tobytes())
        return rows

    def _learn_from(self, genotypes: Genotypes, values: npt.NDArray[np.float64]) -> bool:
        self._seen.update(row.tobytes() for row in genotypes)
        return super()._learn_from(genotypes, values)

    def _observe(self, genotypes: Genotypes, values: npt.NDArray[np.float64]) -> None:
        for row, value in zip(genotypes, values, strict=True):
            key = row.tobytes()
            if key in self._living:
                continue
            if self._told < self.population_size:
                slot = self._told
                self._told += 1
            else:
                slot = self._victim()
                if self.dies == "worst" and value < self._values[slot]:
                    continue
                self._living.remove(self._members[slot].tobytes())
            self._living.add(key)
            self._settle(slot, row, float(value))
            self._born[slot] = self._births
            self._births += 1

    def _victim(self) -> int:
        """The worst member of those in danger; the oldest of equals."""
        if self.dies == "worst":
            among = np.arange(self.population_size)
        else:
            among = self._rng.integers(self.population_size, size=self.sample_size)
        return int(among[np.lexsort((self._born[among], self._values[among]))[0]])
