"""The contract of a search algorithm: it is asked for architectures and told their values."""

from __future__ import annotations

__all__ = ["Algorithm"]

import copy
from abc import ABC, abstractmethod
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from tauzero.spaces import Genotypes, SearchSpace, Seed, as_generator, get


class Algorithm(ABC):
    """Proposes architectures (`ask`) and learns from their values (`tell`); higher values are better.

    An algorithm knows neither the objective nor files: whoever drives it evaluates what it asks for.
    Its whole state, the random generator included, lives in the instance: `copy` forks a search and
    the instance pickles. Everything that was asked for may be told in any order and in parts;
    nothing else may be told.

    Parameters
    ----------
    space
        A search space or its name.
    seed
        A non-negative integer, `SeedSequence` or `Generator`.
    """

    name: ClassVar[str]

    def __init__(self, space: SearchSpace | str, seed: Seed) -> None:
        self.space = get(space)
        self._rng = as_generator(seed)
        self._pending: dict[bytes, int] = {}
        self._ever_asked = False

    # -- to be written by an algorithm --------------------------------------------------------

    @abstractmethod
    def _propose(self, n: int) -> Genotypes:
        """Return up to n members of the space, ``int8[m, L]``; fewer only when nothing is left to propose."""

    @abstractmethod
    def _observe(self, genotypes: Genotypes, values: npt.NDArray[np.float64]) -> None:
        """Take in evaluated architectures; both arguments have been checked and may be kept."""

    # -- for those who drive it ---------------------------------------------------------------

    def ask(self, n: int = 1) -> Genotypes:
        """Return the next architectures to evaluate, ``int8[m, L]`` with m ≤ n.

        Parameters
        ----------
        n
            How many, ≥ 1. Fewer rows come back only from an algorithm that has no more to propose
            (a search without repetition at the end of its space); none at all means that it is done.
        """
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
            raise ValueError(f"The 'n' argument of {type(self).__name__}.ask must be an integer ≥ 1. Got {n!r}.")
        genotypes = self._propose(int(n))
        self._ever_asked = True
        for row in genotypes:
            key = row.tobytes()
            self._pending[key] = self._pending.get(key, 0) + 1
        return genotypes

    def tell(self, genotypes: npt.ArrayLike, values: npt.ArrayLike) -> None:
        """Report values of architectures that were asked for.

        Parameters
        ----------
        genotypes
            ``int8[n, L]``: rows that `ask` returned and that have not been told yet.
        values
            ``float64[n]``, finite; higher is better.

        Raises
        ------
        RuntimeError
            If nothing has been asked for yet, or a row was not asked for (or told already).
        ValueError
            If lengths differ or a value is NaN or infinite. In every case nothing has been told.
        """
        who = f"{type(self).__name__}.tell"
        if not self._ever_asked:
            raise RuntimeError(f"{who} was called before any `ask`: call `ask`, evaluate its rows, then tell them.")
        rows = np.array(genotypes, ndmin=2)  # a copy: the algorithm keeps it
        scores = np.array(values, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.space.length:
            raise ValueError(
                f"The 'genotypes' argument of {who} must be a matrix [n, {self.space.length}]. "
                f"Got an array of shape {rows.shape}."
            )
        if scores.shape != (len(rows),):
            raise ValueError(
                f"The 'values' argument of {who} must hold one number per genotype, shape ({len(rows)},). "
                f"Got shape {scores.shape}."
            )
        if not np.isfinite(scores).all():
            bad = int(np.argmin(np.isfinite(scores)))
            raise ValueError(
                f"The 'values' argument of {who} must be finite. Got {scores[bad]} for row {bad} "
                f"({rows[bad].tolist()}): give a failed evaluation the worst value of the scale, such as 0 %."
            )
        if rows.dtype != np.int8:
            rows = self.space.check_range(rows)
        pending = self._pending.copy()
        for row in rows:
            key = row.tobytes()
            open_ = pending.pop(key, 0)
            if not open_:
                raise RuntimeError(
                    f"{who} got an architecture that `ask` has not returned, or that was told already: "
                    f"{row.tolist()}. Tell every asked row once."
                )
            if open_ > 1:
                pending[key] = open_ - 1
        self._pending = pending
        self._observe(rows, scores)

    def copy(self) -> Self:
        """Return an independent copy of the whole state: both then propose the same, given the same values."""
        return copy.deepcopy(self)

    @property
    def num_pending(self) -> int:
        """How many rows were asked for and not told yet."""
        return sum(self._pending.values())
