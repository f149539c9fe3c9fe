"""Hyperband (Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar, JMLR 2018) and successive halving."""

from __future__ import annotations

__all__ = ["Hyperband", "SuccessiveHalving"]

from collections.abc import Iterable

from tauzero.search._brackets import BracketSearch
from tauzero.spaces import Genotypes, SearchSpace, Seed


class Hyperband(BracketSearch):
    """Random architectures, of which the better ones are trained longer; several trade-offs in turn (algorithm 1).

    A bracket draws n architectures uniformly (none that was asked for before), trains them for r epochs,
    keeps the best, trains those for longer, and so on up to the highest fidelity. The first bracket begins at the
    lowest rung with the most architectures, the last trains a few at the highest fidelity only. On the ladder 1, 3, 9,
    27, 81 with eta = 3 the sizes are those of the paper:
    81-27-9-3-1, 34-11-3-1, 15-5-1, 8-2 and 5.

    Rungs are chosen among the fidelities by `eta`; on any ladder each rung keeps the share that makes all rungs of a
    bracket cost the same epochs (`brackets` shows the numbers). On 12 and 200 epochs: 17 architectures at 12 of which
    one goes on, then 2 at 200. With one fidelity this is random search.

    The search is synchronous: `ask` returns fewer than asked for, or nothing, until the values of a rung have been
    told. For many workers see `asha`.

    Parameters
    ----------
    space, seed, fidelities
        As for `MultiFidelityAlgorithm`.
    eta
        η, > 1; 3 or 4 in the paper.
    """

    name = "hyperband"

    def __init__(self, space: SearchSpace | str, seed: Seed, *, fidelities: Iterable[int], eta: float = 3.0) -> None:
        super().__init__(space, seed, fidelities=fidelities, eta=eta)

    def _new(self, epochs: int) -> Genotypes | None:
        return self._random_new(epochs)


class SuccessiveHalving(Hyperband):
    """Hyperband's first bracket over and over: the one with the most architectures and the earliest stops.

    Jamieson and Talwalkar (AISTATS 2016), with the number of architectures for which one is trained to the end.
    """

    name = "successive_halving"

    def __init__(self, space: SearchSpace | str, seed: Seed, *, fidelities: Iterable[int], eta: float = 3.0) -> None:
        super().__init__(space, seed, fidelities=fidelities, eta=eta)
        self.brackets = self.brackets[:1]
