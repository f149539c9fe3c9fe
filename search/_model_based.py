"""What the searches by a model share: the first random architectures, the rounds, and the candidates of a round."""

from __future__ import annotations

__all__ = [
    "ModelBased",
    "check_choice",
    "check_count",
    "check_real",
    "check_target",
    "expected_improvement",
    "transformed",
]

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.search._novelty import draw_new, new_rows, novelty_keys
from tauzero.search.base import Algorithm
from tauzero.spaces import Genotypes, InvalidGenotypeError, SearchSpace, Seed, unknown_name


def check_count(owner: object, name: str, value: Any, least: int = 1) -> int:
    """Return an integer parameter of an algorithm, or raise `ValueError` naming it."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(
            f"The '{name}' parameter of {type(owner).__name__} must be an integer ≥ {least}. Got {value!r}."
        )
    return int(value)


def check_real(owner: object, name: str, value: Any, least: float, most: float = np.inf) -> float:
    """Return a real parameter of an algorithm in [least, most], or raise `ValueError` naming it."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not np.isfinite(value) or not least <= value <= most:
        wanted = f"a number ≥ {least:g}" if np.isinf(most) else f"a number from {least:g} to {most:g}"
        raise ValueError(f"The '{name}' parameter of {type(owner).__name__} must be {wanted}. Got {value!r}.")
    return float(value)


def check_choice(what: str, value: str, known: Sequence[str]) -> str:
    """Return a name that is among the known ones, or raise `UnknownNameError`."""
    if value not in known:
        raise unknown_name(what, value, known)
    return value


def check_target(value: str) -> str:
    """Return the name of a transform of the values that a model fits (`tauzero.surrogates.TARGETS`)."""
    from tauzero.surrogates import TARGETS

    return check_choice("target transform", value, TARGETS)


def transformed(values: npt.NDArray[np.float64], target: str) -> npt.NDArray[np.float64]:
    """Values as a model fits them: an increasing map, mean 0 and variance 1, ``float64[n]``."""
    from tauzero.surrogates._target import TargetTransform

    return TargetTransform(target).fit_transform(values)


def expected_improvement(
    mean: npt.NDArray[np.float64], std: npt.NDArray[np.float64], best: float
) -> npt.NDArray[np.float64]:
    """Expected improvement of normal predictions over `best`, ``float64[n]`` (Jones et al., 1998, eq. 15).

    Where the deviation is 0 it is the improvement itself, or 0.
    """
    from scipy.special import ndtr

    gain = mean - best
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(std > 0, gain / std, 0.0)
        value = gain * ndtr(z) + std * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return np.asarray(np.where(std > 0, value, np.maximum(gain, 0.0)), dtype=np.float64)


class ModelBased(Algorithm):
    """Searches in rounds: a model of all values told so far chooses the next few architectures.

    No architecture is asked for twice; two are the same if they have the same `SearchSpace.index`, or, in a
    space that cannot be enumerated, the same canonical form. A round's architectures are handed out one by one
    however many are asked for at a time, so that a search does not depend on how it is driven as long as what
    was asked is told before the next round.

    Parameters
    ----------
    space, seed
        As for `Algorithm`.
    initial
        Architectures drawn uniformly before the first model, ≥ 1; they are true queries like all others.
    per_round
        Architectures chosen by one model, ≥ 1. More are chosen if more are asked for at once.
    """

    def __init__(self, space: SearchSpace | str, seed: Seed, *, initial: int, per_round: int) -> None:
        super().__init__(space, seed)
        self.initial = check_count(self, "initial", initial)
        self.per_round = check_count(self, "per_round", per_round)
        self._rows = np.empty((0, self.space.length), dtype=np.int8)
        self._values = np.empty(0)
        self._asked: set[Hashable] = set()
        self._queue = np.empty((0, self.space.length), dtype=np.int8)

    # -- to be written by an algorithm --------------------------------------------------------

    @abstractmethod
    def _choose(self, n: int) -> Genotypes:
        """Choose n architectures by a model of `_rows` and `_values` (at least one), best first.

        Those that were asked for before, or come twice, are dropped, and random ones fill up.
        """

    # -- rounds -------------------------------------------------------------------------------

    def _propose(self, n: int) -> Genotypes:
        parts = [self._queue[:n]]
        self._queue = self._queue[n:]
        missing = n - len(parts[0])
        while missing:
            rows = self._next_round(missing)
            if not len(rows):
                break
            parts.append(rows[:missing])
            self._queue = rows[missing:]
            missing -= len(parts[-1])
        return np.concatenate(parts)

    def _next_round(self, wanted: int) -> Genotypes:
        """Choose at least one round of new architectures and remember them as asked; none if all were asked."""
        first = self.initial - len(self._asked)
        if first > 0 or not len(self._values):
            rows = self._random(max(min(first, wanted), 1) if first > 0 else wanted)
        else:
            count = max(self.per_round, wanted)
            rows = self._unseen(self._choose(count))[:count]
            if len(rows) < count:
                rows = np.concatenate([rows, self._random(count - len(rows), besides=rows)])
        self._asked.update(self._keys(rows))
        return np.ascontiguousarray(rows)

    def _observe(self, genotypes: Genotypes, values: npt.NDArray[np.float64]) -> None:
        self._rows = np.concatenate([self._rows, genotypes])
        self._values = np.concatenate([self._values, values])

    def _learn_from(self, genotypes: Genotypes, values: npt.NDArray[np.float64]) -> bool:
        keys = set(self._keys(genotypes))
        self._asked |= keys
        if len(self._queue):  # what the last model chose and was not handed out yet
            self._queue = self._queue[[key not in keys for key in self._keys(self._queue)]]
        self._observe(genotypes, values)
        return True

    # -- candidates ---------------------------------------------------------------------------

    def _keys(self, rows: Genotypes) -> list[Hashable]:
        """What tells architectures apart: the index, or the canonical row where there is none."""
        return novelty_keys(self.space, rows)

    def _unseen(self, rows: Genotypes, taken: set[Hashable] | None = None) -> Genotypes:
        """Rows that were not asked for and are not in `taken`, each once, in their order; `taken` grows by them."""
        return new_rows(self.space, rows, self._asked.__contains__, set() if taken is None else taken)

    def _random(self, n: int, besides: Genotypes | None = None) -> Genotypes:
        """Up to n random architectures that were not asked for; fewer only where the space has no more."""
        taken: set[Hashable] = set() if besides is None else set(self._keys(besides))
        return draw_new(self.space, self._rng, n, self._asked.__contains__, taken)

    def _best(self, n: int) -> Genotypes:
        """The n best of the evaluated architectures, best first."""
        return self._rows[np.argsort(-self._values, kind="stable")[:n]]

    def _mutants(self, parents: Genotypes, edits: float) -> Genotypes:
        """One mutant of each parent by 1 + Poisson(edits - 1) successive mutations, ``int8[n, L]``."""
        children = parents.copy()
        counts = 1 + (self._rng.poisson(edits - 1.0, len(parents)) if edits > 1 else np.zeros(len(parents), np.int64))
        for step in range(int(counts.max(initial=0))):
            chosen = np.flatnonzero(counts > step)
            try:
                children[chosen] = self.space.mutate(children[chosen], self._rng)
            except InvalidGenotypeError:  # a parent without neighbours gives way to random architectures
                for i in chosen:
                    around = self.space.neighbors(children[i])
                    if len(around):
                        children[i] = around[self._rng.integers(len(around))]
                    else:
                        children[i] = self.space.sample(1, self._rng)[0]
        return children

    def _offspring(self, parents: Genotypes, each: int, total: int, *, edits: float, passes: int = 1) -> Genotypes:
        """Up to `total` different mutants that were not asked for: `each` tries with one parent after the other."""
        taken: set[Hashable] = set()
        parts = [np.empty((0, self.space.length), dtype=np.int8)]
        for _ in range(passes):
            for parent in parents:
                missing = total - len(taken)
                if missing <= 0:
                    return np.concatenate(parts)
                tries = self._mutants(np.repeat(parent[None], each, axis=0), edits)
                parts.append(self._unseen(tries, taken)[:missing])
        return np.concatenate(parts)[:total]
