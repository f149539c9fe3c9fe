"""What the synchronous multi-fidelity searches share: rungs on a ladder of budgets, and brackets of halvings."""

from __future__ import annotations

__all__ = ["BracketSearch", "bracket_sizes", "promoted_share", "rungs_of"]

from abc import abstractmethod
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tauzero.search._model_based import check_real
from tauzero.search._novelty import draw_new, novelty_keys
from tauzero.search.base import MultiFidelityAlgorithm
from tauzero.spaces import Genotypes, SearchSpace, Seed


def rungs_of(fidelities: Sequence[int], eta: float) -> tuple[int, ...]:
    """Epochs that serve as rungs, ascending: from the highest down, each the largest at most 1/eta of the one above.

    The geometric ladder R·eta⁻ˢ of Hyperband where the fidelities have it, what comes closest elsewhere: 2, 7, 22,
    66 and 200 of all epochs from 1 to 200 with eta = 3; 12 and 200 of 12 and 200.
    """
    chosen = [fidelities[-1]]
    for epochs in reversed(fidelities):
        if epochs * eta <= chosen[-1] * (1 + 1e-9):
            chosen.append(epochs)
    return tuple(reversed(chosen))


def promoted_share(count: int, low: int, high: int) -> int:
    """How many of `count` architectures trained for `low` epochs go on to `high`: ⌊count · low / high⌋."""
    return count * low // high


def bracket_sizes(rungs: Sequence[int], *, floor: bool = False) -> list[tuple[tuple[int, int], ...]]:
    """Brackets of one Hyperband iteration, the one with the most rungs first, as pairs (epochs, architectures).

    Algorithm 1 of Li et al. (JMLR 2018) with R/r in place of eta to the power s, so that it is defined on every ladder:
    the bracket whose first rung is r, with s + 1 rungs on a ladder of s_max + 1, starts with
    ⌈(s_max + 1)/(s + 1) · R/r⌉ architectures, and a rung of rᵢ epochs has ⌊n · r/rᵢ⌋ of them, at least one. On a
    geometric ladder these are the published numbers.

    Parameters
    ----------
    rungs
        Epochs, ascending.
    floor
        HpBandSter's (BOHB) and DEHB's numbers: ⌊(s_max + 1)/(s + 1)⌋ · R/r, rounded down.
    """
    total, most = len(rungs), rungs[-1]
    brackets = []
    for first in range(total):
        left, low = total - first, rungs[first]
        start = (total // left) * most // low if floor else -(-total * most // (left * low))
        brackets.append(tuple((epochs, max(1, promoted_share(start, low, epochs))) for epochs in rungs[first:]))
    return brackets


class BracketSearch(MultiFidelityAlgorithm):
    """Successive halvings one after the other; a subclass says where new architectures come from.

    A rung is asked for as its architectures are made, and the next rung (or bracket) starts when all of them
    have been told: until then `ask` returns what is left of the rung, perhaps nothing. What is proposed therefore does
    not depend on how many are asked for at a time or in which order they are told, as long as nothing is learned
    inside a rung. After the last bracket the first starts again.

    A rung promotes its best, the first asked among equals. An architecture that was told at the next
    epochs before (which happens when the space is almost used up) goes on with its known value instead of being
    asked for again. Where the space has no more architectures a rung is smaller than planned, and a bracket without
    any is left out; the search is over when a whole iteration would be empty.

    Parameters
    ----------
    space, seed, fidelities
        As for `MultiFidelityAlgorithm`.
    eta
        Ratio of the budgets of neighbouring rungs, > 1: `rungs_of` chooses the rungs among the fidelities by it.

    Attributes
    ----------
    rungs
        Epochs that are asked for, ascending.
    brackets
        ``[((epochs, architectures), …), …]``: the brackets of one iteration in their order.
    """

    #: Whether brackets have HpBandSter's numbers (`bracket_sizes`).
    _floor = False

    def __init__(self, space: SearchSpace | str, seed: Seed, *, fidelities: Iterable[int], eta: float) -> None:
        super().__init__(space, seed, fidelities=fidelities)
        self.eta = check_real(self, "eta", eta, 1 + 1e-6)
        self.rungs = rungs_of(self.fidelities, self.eta)
        self.brackets = bracket_sizes(self.rungs, floor=self._floor)
        # Values of what was told, NaN of what waits; by key, for each number of epochs.
        self._asked_at: dict[int, dict[Hashable, float]] = {epochs: {} for epochs in self.rungs}
        self._iteration = 0
        self._bracket, self._rung = 0, 0  # which rung of which bracket is being filled
        self._members: list[Genotypes] = []  # architectures of this rung in the order in which they came
        self._scores: list[float] = []
        self._candidates: list[Genotypes] = []  # what the rung below promotes, best first
        self._place: dict[bytes, int] = {}  # asked in this rung and not told yet: row → position
        self._full = False  # no more architectures for this rung
        self._empty = 0  # brackets in a row that had no architectures

    # -- to be written by an algorithm --------------------------------------------------------

    @abstractmethod
    def _new(self, epochs: int) -> Genotypes | None:
        """An architecture ``int8[L]`` for a bracket's first rung that was not asked for at these epochs, or None."""

    def _member(self, epochs: int, position: int) -> Genotypes | None:
        """The architecture ``int8[L]`` for one position of the current rung; None if there are no more."""
        if self._rung == 0:
            return self._new(epochs)
        return self._candidates[position] if position < len(self._candidates) else None

    def _learn(self, rows: Genotypes, epochs: int, values: list[float]) -> None:
        """Take in values in the order in which they are told; by default nothing is learned but promotions."""

    # -- for those who write one --------------------------------------------------------------

    @property
    def _plan(self) -> tuple[int, int]:
        """Epochs and number of architectures of the current rung."""
        return self.brackets[self._bracket][self._rung]

    def _random_new(self, epochs: int) -> Genotypes | None:
        """A random architecture never asked for; if there is none, one not asked for at these epochs; else None."""
        everywhere = list(self._asked_at.values())
        rows = draw_new(self.space, self._rng, 1, lambda key: any(key in asked for asked in everywhere), set())
        if not len(rows):
            rows = draw_new(self.space, self._rng, 1, self._asked_at[epochs].__contains__, set())
        return np.asarray(rows[0], dtype=np.int8) if len(rows) else None

    # -- the driver ---------------------------------------------------------------------------

    def _propose_at(self, n: int) -> tuple[Genotypes, npt.NDArray[np.int64]]:
        rows: list[Genotypes] = []
        at: list[int] = []
        while len(rows) < n:
            epochs, size = self._plan
            if self._full or len(self._members) == size:
                if self._place or self._empty >= len(self.brackets):
                    break  # values are missing, or there is nothing left
                self._next_rung()
                continue
            row = self._member(epochs, len(self._members))
            if row is None:
                self._full = True
                continue
            key = novelty_keys(self.space, row[None])[0]
            known = self._asked_at[epochs]
            self._empty = 0
            if key in known:
                self._members.append(row)
                self._scores.append(known[key])
                continue
            known[key] = np.nan
            self._place[row.tobytes()] = len(self._members)
            self._members.append(row)
            self._scores.append(np.nan)
            rows.append(row)
            at.append(epochs)
        stacked = np.array(rows, dtype=np.int8).reshape(len(rows), self.space.length)
        return stacked, np.array(at, dtype=np.int64)

    def _next_rung(self) -> None:
        """Promote the best to the next rung of the bracket, or begin the next bracket."""
        if not self._members:
            self._empty += 1
        bracket = self.brackets[self._bracket]
        if self._members and self._rung + 1 < len(bracket):
            self._rung += 1
            order = np.argsort(-np.array(self._scores), kind="stable")
            self._candidates = [self._members[i] for i in order]
        else:
            self._rung, self._candidates = 0, []
            self._bracket += 1
            if self._bracket == len(self.brackets):
                self._bracket = 0
                self._iteration += 1
        self._members, self._scores, self._full = [], [], False

    def _observe_at(self, genotypes: Genotypes, epochs: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> None:
        if not len(genotypes):
            return
        told = values.tolist()
        current = int(epochs[0])  # only one rung is open at a time
        keys = novelty_keys(self.space, genotypes)
        for row, key, value in zip(genotypes, keys, told, strict=True):
            self._scores[self._place.pop(row.tobytes())] = value
            self._asked_at[current][key] = value
        self._learn(genotypes, current, told)
