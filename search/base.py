"""The contract of a search algorithm: it is asked for architectures and told their values."""

from __future__ import annotations

__all__ = ["Algorithm", "MultiFidelityAlgorithm", "check_fidelities", "identity"]

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterable
from hashlib import blake2b
from itertools import pairwise
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from tauzero.spaces import Genotypes, InvalidGenotypeError, SearchSpace, Seed, as_generator, get


def identity(space: SearchSpace, genotypes: Genotypes) -> npt.NDArray[np.int64]:
    """Number that stands for each architecture in the account of a search, ``int64[n]``, never negative.

    `SearchSpace.index` where the space can be enumerated. Elsewhere the first 63 bits of the BLAKE2b digest
    of the row's bytes: the same on every machine and in every version, and not of `canonical`, so that two ways
    of writing one network are two architectures. Two of a million rows collide with probability 5·10⁻⁸.
    """
    if space.enumerable:
        return space.index(genotypes)
    digests = [int.from_bytes(blake2b(row.tobytes(), digest_size=8).digest(), "big") >> 1 for row in genotypes]
    return np.array(digests, dtype=np.int64)


def check_fidelities(fidelities: Iterable[int], who: str) -> tuple[int, ...]:
    """Return numbers of epochs, ascending, all different and ≥ 1; `ValueError` otherwise."""
    given = list(fidelities)
    fine = all(isinstance(e, int | np.integer) and not isinstance(e, bool) and e >= 1 for e in given)
    if not given or not fine or any(a >= b for a, b in pairwise(given)):
        raise ValueError(
            f"The 'fidelities' parameter of {who} must be epochs in ascending order, each ≥ 1, such as (12, 200). "
            f"Got {given!r}."
        )
    return tuple(int(e) for e in given)


class Algorithm(ABC):
    """Proposes architectures (`ask`) and learns from their values (`tell`); higher values are better.

    An algorithm knows neither the objective nor files: whoever drives it evaluates what it asks for.
    Its whole state, the random generator included, lives in the instance: `copy` forks a search and
    the instance pickles. Everything that was asked for may be told in any order and in parts;
    nothing else may be told.

    An algorithm that chooses how long each architecture is trained is a `MultiFidelityAlgorithm`. One that
    weighs accuracy against costs sets the class attribute `multi_objective` to True: `_observe` then gets
    values as a matrix ``float64[n, k]``, k ≥ 2 and the same in every call, of which every column is to be
    maximised: the accuracy first, then the costs with their signs turned.

    Parameters
    ----------
    space
        A search space or its name.
    seed
        A non-negative integer, `SeedSequence` or `Generator`.

    Attributes
    ----------
    fidelities
        Epochs, ascending, that a multi-fidelity algorithm asks for; None for all others.
    """

    name: ClassVar[str]
    multi_objective: bool = False
    #: Whether `multi_objective` is a parameter that suits an objective with costs as well as one without.
    weighs_costs: ClassVar[bool] = False
    #: How many architectures it likes to be asked for at a time; what the command line does unless told otherwise.
    together: ClassVar[int] = 1
    fidelities: tuple[int, ...] | None = None

    def __init__(self, space: SearchSpace | str, seed: Seed) -> None:
        self.space = get(space)
        self._rng = as_generator(seed)
        # Requests that wait for their values, by row: how many (single-fidelity), or their epochs as they were asked.
        self._pending: dict[bytes, int] = {}
        self._pending_at: dict[bytes, tuple[int, ...]] = {}
        self._ever_asked = False
        self._num_objectives: int | None = None

    # -- to be written by an algorithm --------------------------------------------------------

    @abstractmethod
    def _propose(self, n: int) -> Genotypes:
        """Return up to n members of the space, ``int8[m, L]``; fewer only when nothing is left to propose."""

    @abstractmethod
    def _observe(self, genotypes: Genotypes, values: npt.NDArray[np.float64]) -> None:
        """Take in evaluated architectures; both arguments have been checked and may be kept."""

    def _learn_from(self, genotypes: Genotypes, values: npt.NDArray[np.float64]) -> bool:
        """Take in architectures that were not asked for, both arguments checked; return whether it makes use of them.

        An algorithm that does writes this method; what it remembers as asked has to include them.
        """
        del genotypes, values
        return False

    # -- for those who write one --------------------------------------------------------------

    def _mutate_once(self, genotypes: Genotypes) -> Genotypes:
        """One mutation of each row (`SearchSpace.mutate`), ``int8[n, L]``.

        Instead of a row without neighbours a random architecture comes back (there is one in NAS-Bench-101, whose
        only vertices are input and output), so that no search ends in a dead end.
        """
        try:
            return self.space.mutate(genotypes, self._rng)
        except InvalidGenotypeError:
            stuck = np.array([not len(self.space.neighbors(row)) for row in genotypes])
            if not stuck.any():
                raise
        children = self.space.sample(len(genotypes), self._rng)
        if not stuck.all():
            children[~stuck] = self.space.mutate(genotypes[~stuck], self._rng)
        return children

    # -- for those who drive it ---------------------------------------------------------------

    def ask(self, n: int = 1) -> Genotypes:
        """Return the next architectures to evaluate, ``int8[m, L]`` with m ≤ n.

        A multi-fidelity algorithm remembers the epochs that it wants them trained for; `ask_at` says them.

        Parameters
        ----------
        n
            How many, ≥ 1. Fewer rows come back only from an algorithm that has no more to propose
            (a search without repetition at the end of its space); none at all means that it is done.
        """
        return self.ask_at(n)[0]

    def ask_at(self, n: int = 1) -> tuple[Genotypes, npt.NDArray[np.int64] | None]:
        """Return the next architectures and the epochs to train each for.

        Parameters
        ----------
        n
            As in `ask`.

        Returns
        -------
        genotypes
            ``int8[m, L]`` with m ≤ n.
        epochs
            ``int64[m]``, each one of `fidelities`; None from a single-fidelity algorithm.
        """
        # The type of nearly every call comes first, as `isinstance` takes longer than the rest of the check.
        if (type(n) is not int and (isinstance(n, bool) or not isinstance(n, int | np.integer))) or n < 1:
            raise ValueError(f"The 'n' argument of {type(self).__name__}.ask must be an integer ≥ 1. Got {n!r}.")
        genotypes = self._propose(int(n))
        self._ever_asked = True
        pending = self._pending
        for row in genotypes:
            key = row.tobytes()
            pending[key] = pending.get(key, 0) + 1
        return genotypes, None

    def tell(self, genotypes: npt.ArrayLike, values: npt.ArrayLike, epochs: npt.ArrayLike | None = None) -> None:
        """Report values of architectures that were asked for.

        Parameters
        ----------
        genotypes
            ``int8[n, L]``: rows that `ask` returned and that have not been told yet.
        values
            ``float64[n]``, finite; higher is better. For a multi-objective algorithm ``float64[n, k]``.
        epochs
            ``int64[n]``: which request is answered, where a multi-fidelity algorithm asked for one row at
            several epochs. None answers the requests of each row in the order in which they were asked. A
            single-fidelity algorithm takes None only.

        Raises
        ------
        RuntimeError
            If nothing has been asked for yet, or a row was not asked for (at these epochs, or told already).
        ValueError
            If lengths differ or a value is NaN or infinite. In every case nothing has been told.
        """
        rows, scores = self._checked(genotypes, values)
        if epochs is not None:
            raise ValueError(
                f"{type(self).__name__} is a single-fidelity algorithm: leave the 'epochs' argument of tell out. "
                f"Got {epochs!r}."
            )
        # A bad call must change nothing: several rows are taken out of a copy.
        pending = self._pending.copy() if len(rows) > 1 else self._pending
        for row in rows:
            key = row.tobytes()
            open_ = pending.pop(key, 0)
            if not open_:
                raise self._never_asked(row)
            if open_ > 1:
                pending[key] = open_ - 1
        self._pending = pending
        if self.multi_objective:
            self._num_objectives = scores.shape[1]
        self._observe(rows, scores)

    def _answer(self, genotypes: Genotypes, values: npt.NDArray[np.float64]) -> None:
        """`tell` for a driver that has just asked a single-fidelity algorithm, and kept the rows to itself.

        Most proposals of a converged search are repeats that cost nothing but the driver's time: nothing is checked.
        Values are finite and have the shape that `tell` wants.
        """
        pending = self._pending
        for row in genotypes:
            key = row.tobytes()
            open_ = pending.pop(key)
            if open_ > 1:
                pending[key] = open_ - 1
        if self.multi_objective:
            self._num_objectives = values.shape[1]
        self._observe(genotypes, values)

    def learn_from(self, genotypes: npt.ArrayLike, values: npt.ArrayLike) -> bool:
        """Report values of architectures that were not asked for: of an earlier search, or of somebody else's.

        They are no answers: a row that waits for its value goes on waiting. Algorithms that learn from any evaluated
        architecture then do as if they had asked for these; they count among the first random ones too. Others change
        nothing, as `REINFORCE`, whose gradient is that of its own draws, and random search.

        Parameters
        ----------
        genotypes
            ``int8[n, L]``, members of the space, each once and none that was told before.
        values
            As for `tell`.

        Returns
        -------
        bool
            Whether the algorithm makes use of them.

        Raises
        ------
        ValueError
            As from `tell`, and if a row is no member of the space; nothing has been learned then.
        """
        rows, scores = self._checked(genotypes, values, f"{type(self).__name__}.learn_from")
        self.space.validate(rows)
        if not len(rows):
            return False
        used = self._learn_from(rows, scores)
        if used and self.multi_objective:
            self._num_objectives = scores.shape[1]
        return used

    def copy(self) -> Self:
        """Return an independent copy of the whole state: both then propose the same, given the same values."""
        return copy.deepcopy(self)

    @property
    def num_pending(self) -> int:
        """How many requests were made and not answered yet."""
        return sum(self._pending.values()) + sum(map(len, self._pending_at.values()))

    # -- inside -------------------------------------------------------------------------------

    def _checked(
        self, genotypes: npt.ArrayLike, values: npt.ArrayLike, who: str | None = None
    ) -> tuple[Genotypes, npt.NDArray[np.float64]]:
        """Arguments of `tell`, or of the method `who`, as arrays of the algorithm's own."""
        if who is None:
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
        if self.multi_objective:
            k = self._num_objectives
            if (
                scores.ndim != 2
                or len(scores) != len(rows)
                or scores.shape[1] < 2
                or scores.shape[1] != (k or scores.shape[1])
            ):
                raise ValueError(
                    f"The 'values' argument of {who} must hold all objectives of each genotype, "
                    f"shape ({len(rows)}, {k or 'k ≥ 2'}). Got shape {scores.shape}."
                )
        elif scores.shape != (len(rows),):
            raise ValueError(
                f"The 'values' argument of {who} must hold one number per genotype, shape ({len(rows)},). "
                f"Got shape {scores.shape}."
            )
        finite = np.isfinite(scores)
        if not finite.all():
            bad = int(np.argmin(finite.reshape(len(scores), -1).all(axis=1)))
            shown = scores[bad].tolist() if self.multi_objective else scores[bad]
            raise ValueError(
                f"The 'values' argument of {who} must be finite. Got {shown} for row {bad} "
                f"({rows[bad].tolist()}): give a failed evaluation the worst value of the scale, such as 0 %."
            )
        if rows.dtype != np.int8:
            rows = self.space.check_range(rows)
        return rows, scores

    def _never_asked(self, row: Genotypes, at: str = "") -> RuntimeError:
        return RuntimeError(
            f"{type(self).__name__}.tell got an architecture that `ask` has not returned, or that was told already"
            f"{at}: {row.tolist()}. Tell every asked row once."
        )


class MultiFidelityAlgorithm(Algorithm):
    """An algorithm that also chooses how many epochs each architecture is trained for.

    It writes `_propose_at` and `_observe_at` instead of `_propose` and `_observe`; one architecture may be asked
    for at several epochs, each of which is a request and a query of its own.

    Parameters
    ----------
    space, seed
        As for `Algorithm`.
    fidelities
        Epochs that it may ask for, ascending. `tauzero.search.run` and the command line pass those of the
        objective (`Objective.fidelities`).
    """

    fidelities: tuple[int, ...]

    def __init__(self, space: SearchSpace | str, seed: Seed, *, fidelities: Iterable[int]) -> None:
        super().__init__(space, seed)
        self.fidelities = check_fidelities(fidelities, type(self).__name__)

    @abstractmethod
    def _propose_at(self, n: int) -> tuple[Genotypes, npt.NDArray[np.int64]]:
        """Return up to n members of the space and the epochs of each, ``int8[m, L]`` and ``int64[m]``.

        Fewer than n (at least one, unless the search is over) come back where the next step needs values that have
        not been told, such as the end of a rung; none at all while requests are open means: tell first.
        """

    @abstractmethod
    def _observe_at(self, genotypes: Genotypes, epochs: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> None:
        """Take in evaluated architectures; all arguments have been checked and may be kept."""

    def _propose(self, n: int) -> Genotypes:
        return self._propose_at(n)[0]

    def _observe(self, genotypes: Genotypes, values: npt.NDArray[np.float64]) -> None:
        del genotypes, values
        raise TypeError(f"{type(self).__name__} observes values at epochs: call tell, or _observe_at.")

    def ask_at(self, n: int = 1) -> tuple[Genotypes, npt.NDArray[np.int64]]:
        """Return the next architectures and the epochs to train each for; as `Algorithm.ask_at`."""
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
            raise ValueError(f"The 'n' argument of {type(self).__name__}.ask must be an integer ≥ 1. Got {n!r}.")
        genotypes, epochs = self._propose_at(int(n))
        self._ever_asked = True
        for row, epoch in zip(genotypes, epochs.tolist(), strict=True):
            key = row.tobytes()
            self._pending_at[key] = (*self._pending_at.get(key, ()), epoch)
        return genotypes, epochs

    def tell(self, genotypes: npt.ArrayLike, values: npt.ArrayLike, epochs: npt.ArrayLike | None = None) -> None:
        """Report values of architectures that were asked for; as `Algorithm.tell`."""
        rows, scores = self._checked(genotypes, values)
        given = None if epochs is None else np.asarray(epochs)
        if given is not None and (given.shape != (len(rows),) or given.dtype.kind not in "iu"):
            raise ValueError(
                f"The 'epochs' argument of {type(self).__name__}.tell must hold one integer per genotype, "
                f"shape ({len(rows)},). Got dtype {given.dtype} and shape {given.shape}."
            )
        pending = self._pending_at.copy()
        answered = np.empty(len(rows), dtype=np.int64)
        for k, row in enumerate(rows):
            key = row.tobytes()
            waiting = pending.pop(key, ())
            wanted = waiting[0] if given is None and waiting else 0 if given is None else int(given[k])
            if wanted not in waiting:
                raise self._never_asked(row, "" if given is None else f" at {wanted} epochs")
            place = waiting.index(wanted)
            if len(waiting) > 1:
                pending[key] = waiting[:place] + waiting[place + 1 :]
            answered[k] = wanted
        self._pending_at = pending
        if self.multi_objective:
            self._num_objectives = scores.shape[1]
        self._observe_at(rows, answered, scores)
