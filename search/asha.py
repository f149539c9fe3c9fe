"""Asynchronous successive halving (Li, Jamieson, Rostamizadeh, Gonina, Hardt, Recht and Talwalkar, MLSys 2020)."""

from __future__ import annotations

__all__ = ["ASHA"]

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable

import numpy as np
import numpy.typing as npt

from tauzero.search._brackets import promoted_share, rungs_of
from tauzero.search._model_based import check_real
from tauzero.search._novelty import draw_new, novelty_keys
from tauzero.search.base import MultiFidelityAlgorithm
from tauzero.spaces import Genotypes, SearchSpace, Seed

#: Sorts better values first, and the one asked first among equals: (-value, number of the request).
_Rank = tuple[float, int]


class _Rung:
    """What has been told at some number of epochs, best first, and which of it has not been promoted yet."""

    def __init__(self) -> None:
        self.told: list[_Rank] = []
        self.waiting: list[_Rank] = []
        self.rows: dict[int, Genotypes] = {}

    def add(self, rank: _Rank, row: Genotypes) -> None:
        insort(self.told, rank)
        insort(self.waiting, rank)
        self.rows[rank[1]] = row

    def promote(self, share: int) -> Genotypes | None:
        """Take the best of the first `share` that was not promoted yet; None if there is none."""
        # The best one waiting is among the first `share` if its place among all of them is.
        if not self.waiting or bisect_left(self.told, self.waiting[0]) >= share:
            return None
        return self.rows.pop(self.waiting.pop(0)[1])


class ASHA(MultiFidelityAlgorithm):
    """Promotes an architecture as soon as it is among the best share of its rung, and never waits (algorithm 2).

    For each request, from the second-highest rung down: if among the best 1/η of what has been told at a rung
    there is one that was not promoted yet, the best such is asked for at the next rung. If there is none, a random
    architecture is asked for at the lowest. Mistaken promotions happen while a rung is small; that is the price of
    never waiting for a rung to be full.

    Rungs are chosen among the fidelities by `eta` as in `hyperband`; η between two rungs is the ratio of their
    epochs (1 of 16.7 goes on from 12 to 200), the same on geometric ladders. All brackets but the first
    are left out, as in the paper's experiments (early-stopping rate s = 0). Asked for many at once without being told
    anything, it draws random architectures; fewer come back only when the space has no more. With one fidelity this
    is random search.

    Parameters
    ----------
    space, seed, fidelities
        As for `MultiFidelityAlgorithm`.
    eta
        η, > 1; 4 in most of the paper's experiments, 3 here as in `hyperband`.

    Attributes
    ----------
    rungs
        Epochs that are asked for, ascending.
    """

    name = "asha"

    def __init__(self, space: SearchSpace | str, seed: Seed, *, fidelities: Iterable[int], eta: float = 3.0) -> None:
        super().__init__(space, seed, fidelities=fidelities)
        self.eta = check_real(self, "eta", eta, 1 + 1e-6)
        self.rungs = rungs_of(self.fidelities, self.eta)
        self._told_at = {epochs: _Rung() for epochs in self.rungs}
        self._asked: set[Hashable] = set()
        self._exhausted = False
        self._number: dict[tuple[bytes, int], int] = {}  # of each open request, in the order of asking
        self._requests = 0

    def _propose_at(self, n: int) -> tuple[Genotypes, npt.NDArray[np.int64]]:
        rows: list[Genotypes] = []
        at: list[int] = []
        while len(rows) < n:
            job = self._job()
            if job is None:
                break
            row, epochs = job
            self._number[row.tobytes(), epochs] = self._requests
            self._requests += 1
            rows.append(row)
            at.append(epochs)
        stacked = np.array(rows, dtype=np.int8).reshape(len(rows), self.space.length)
        return stacked, np.array(at, dtype=np.int64)

    def _job(self) -> tuple[Genotypes, int] | None:
        """The paper's `get_job`: a promotion from as high as possible, or a new architecture."""
        for low, high in zip(self.rungs[-2::-1], self.rungs[:0:-1], strict=True):
            rung = self._told_at[low]
            row = rung.promote(promoted_share(len(rung.told), low, high))
            if row is not None:
                return row, high
        if self._exhausted:
            return None
        rows = draw_new(self.space, self._rng, 1, self._asked.__contains__, set())
        if not len(rows):
            self._exhausted = True
            return None
        self._asked.update(novelty_keys(self.space, rows))
        return rows[0], self.rungs[0]

    def _observe_at(self, genotypes: Genotypes, epochs: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> None:
        for row, epoch, value in zip(genotypes, epochs.tolist(), values.tolist(), strict=True):
            number = self._number.pop((row.tobytes(), epoch))
            self._told_at[epoch].add((-value, number), row)
