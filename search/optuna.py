"""Optuna and tauzero (importing this file needs Optuna): each one's searches for the users of the other.

`AlgorithmSampler` proposes genotypes in an Optuna study by any search algorithm of tauzero, for objectives that call
`suggest_genotype`. `OptunaAlgorithm` is the reverse: any Optuna sampler as a search algorithm.
"""

from __future__ import annotations

__all__ = ["AlgorithmSampler", "OptunaAlgorithm", "genotype_of", "suggest_genotype"]

import copy
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.search._registry import create
from tauzero.search.base import Algorithm, identity
from tauzero.spaces import Genotypes, MissingExtraError, SearchSpace, Seed, get, unknown_name

try:
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
    from optuna.samplers import BaseSampler, RandomSampler, TPESampler
    from optuna.study import Study, StudyDirection
    from optuna.trial import FrozenTrial, TrialState
except ImportError as error:
    raise MissingExtraError(
        'tauzero.search.optuna needs Optuna, which is not installed: `pip install "tauzero[optuna]"`.'
    ) from error

_PATIENCE = 10_000  # proposals in a row whose value is known, after which a search counts as stalled
_TRIES = 100  # proposals of an Optuna sampler that are no members of the space, before a random member

Floats = npt.NDArray[np.float64]
#: A finished trial: its row, its value if it has one, and whether somebody fixed it (`enqueue_trial`).
_Finished = tuple[Genotypes, Floats | None, bool]


def _parameter(prefix: str, column: int) -> str:
    return f"{prefix}_{column}"


def suggest_genotype(trial: Any, space: SearchSpace | str, prefix: str = "gene") -> Genotypes:
    """Suggest one categorical parameter per genotype column and return the row, ``int8[L]``.

    Works with every sampler. `AlgorithmSampler` always gives members of the space; with others, in spaces with
    constraints, a row may be none: the trial is pruned then.

    Parameters
    ----------
    trial
        The trial of the objective.
    space
        A search space or its name.
    prefix
        Parameters are named ``gene_0``, ``gene_1``, … by it.

    Raises
    ------
    optuna.TrialPruned
        If the row is no member of the space.
    """
    known = get(space)
    genes = [
        trial.suggest_categorical(_parameter(prefix, k), list(range(choices)))
        for k, choices in enumerate(known.cardinalities)
    ]
    row = np.array(genes, dtype=np.int8)
    if not known.is_valid(row[None])[0]:
        raise optuna.TrialPruned(f"{row.tolist()} is no architecture of {known.name}.")
    return row


def genotype_of(trial: Any, space: SearchSpace | str, prefix: str = "gene") -> Genotypes | None:
    """Row of a trial whose objective called `suggest_genotype`, ``int8[L]``; None if it has none, or no member."""
    known = get(space)
    genes = [trial.params.get(_parameter(prefix, k)) for k in range(known.length)]
    whole = all(isinstance(gene, int) and 0 <= gene < c for gene, c in zip(genes, known.cardinalities, strict=True))
    row = np.array(genes, dtype=np.int8) if whole else None
    return row if row is not None and known.is_valid(row[None])[0] else None


class AlgorithmSampler(BaseSampler):
    """Proposes genotypes by a search algorithm of tauzero, for objectives that call `suggest_genotype`.

    The algorithm is told what its trials return, with the sign turned where the study minimises:

    - **Repeats**: an architecture whose value the study knows is not tried again; the algorithm is answered from
      memory, as `tauzero.search.run` does. When it only repeats itself or the space is exhausted, the study is stopped.
    - **Failed and pruned trials**, and infinite values, count as the worst value so far: an algorithm that waits for
      the end of a generation must not wait for ever.
    - **Resumed studies**: give the sampler the same arguments. On its first proposal the algorithm is replayed from
      its seed and answered from the storage, so that a study that ran one trial at a time goes on exactly as if it had
      not been interrupted, enqueued trials included.
    - **Trials of others** (enqueued, added, of another process that shares the storage, or left over from the replay):
      completed ones are given to the algorithm by `tauzero.search.Algorithm.learn_from`; those that failed or were
      pruned are ignored. Workers that share a storage should have different seeds.
    - **Threads** (``n_jobs``) share the sampler, whose calls exclude each other; proposals are then made before the
      values of the trials that run are known.
    - **Several objectives** need an algorithm that is multi-objective (``"nsga2"``), and the reverse.

    Parameters that are no genes are sampled by `independent_sampler`. A sampler serves one study.

    Parameters
    ----------
    space
        A search space or its name.
    algorithm
        A name of `tauzero.search.names`, or an instance that was not used yet; not one that chooses training budgets.
    seed
        Of an algorithm given by name: a non-negative integer.
    prefix
        As in `suggest_genotype`.
    independent_sampler
        For all other parameters; by default uniform draws.
    **params
        Parameters of an algorithm given by name.
    """

    def __init__(
        self,
        space: SearchSpace | str,
        algorithm: str | Algorithm = "tauzero",
        seed: Seed = 0,
        *,
        prefix: str = "gene",
        independent_sampler: BaseSampler | None = None,
        **params: Any,
    ) -> None:
        self.space = get(space)
        self.prefix = prefix
        if isinstance(algorithm, str):
            algorithm = create(algorithm, self.space, seed, **params)
        elif params or algorithm.space is not self.space:
            raise ValueError(
                f"An instance as the 'algorithm' parameter of AlgorithmSampler must search {self.space.name} and "
                f"takes no further parameters. Got one for {algorithm.space.name} and {sorted(params)}."
            )
        if algorithm.fidelities is not None:
            raise ValueError(
                f"AlgorithmSampler gives no training budgets to trials, and {algorithm.name!r} chooses them: use an "
                "algorithm without fidelities."
            )
        self.algorithm = algorithm
        self._independent = RandomSampler(seed if isinstance(seed, int) else None)
        if independent_sampler is not None:
            self._independent = independent_sampler  # type: ignore[assignment]
        self._distributions: dict[str, BaseDistribution] = {
            _parameter(prefix, k): CategoricalDistribution(list(range(choices)))
            for k, choices in enumerate(self.space.cardinalities)
        }
        self._lock = threading.RLock()
        self._study: str | None = None
        self._signs: Floats = np.empty(0)
        self._fresh = True  # nothing was proposed yet
        self._seen: set[int] = set()  # numbers of the trials that were taken in
        self._waiting: dict[int, Genotypes] = {}  # proposals, by trial number
        self._returned: list[Genotypes] = []  # proposals that their trials did not use
        self._failed: list[Genotypes] = []  # failures before any value was known
        self._known: dict[int, Floats | None] = {}  # by `identity`: signed values, None of a failure
        self._worst: Floats | None = None  # of the values that the algorithm was told, column by column

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()

    # -- what Optuna calls --------------------------------------------------------------------

    def reseed_rng(self) -> None:
        """Only the sampler of the other parameters: threads share this one, and its algorithm repeats nothing."""
        self._independent.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """One categorical parameter per genotype column."""
        del study, trial
        return dict(self._distributions)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next genotype."""
        with self._lock:
            self._bind(study)
            row = self._next(study)
            if row is None:
                row = self._last(study)
            else:
                self._waiting[trial.number] = row
        return dict(zip(search_space, row.tolist(), strict=True))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Parameters that are no genes."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Tell the algorithm how the trial ended."""
        with self._lock:
            self._bind(study)
            self._seen.add(trial.number)
            proposed = self._waiting.pop(trial.number, None)
            row = genotype_of(trial, self.space, self.prefix)
            if proposed is not None and (row is None or (row != proposed).any()):
                self._returned.append(proposed)  # some or all genes were fixed, or none was asked for
                proposed = None
            if row is None:
                return
            score = self._score(state, values)
            if proposed is None:
                self._learn_from([(row, score)])
            else:
                self._remember(row, score)
                self._answer(row, score)

    # -- inside, under the lock ---------------------------------------------------------------

    def _bind(self, study: Study) -> None:
        if self._study == study.study_name:
            return
        if self._study is not None:
            raise ValueError(
                f"This AlgorithmSampler has learned from the study {self._study!r}: make another one for "
                f"{study.study_name!r}."
            )
        several = len(study.directions) > 1
        if several != self.algorithm.multi_objective:
            wanted = "several directions" if self.algorithm.multi_objective else "one direction"
            raise ValueError(
                f"The algorithm {self.algorithm.name!r} of AlgorithmSampler needs a study of {wanted}. Got "
                f"{len(study.directions)}. Multi-objective studies need an algorithm such as 'nsga2'."
            )
        self._study = study.study_name
        self._signs = np.array([1.0 if d == StudyDirection.MAXIMIZE else -1.0 for d in study.directions])

    def _score(self, state: TrialState, values: Sequence[float] | None) -> Floats | None:
        """Values of which more is better, ``float64[k]``; None of a trial that failed."""
        if state != TrialState.COMPLETE or values is None or not np.isfinite(values).all():
            return None
        return np.asarray(values, dtype=np.float64) * self._signs

    def _key(self, row: Genotypes) -> int:
        return int(identity(self.space, row[None])[0])

    def _remember(self, row: Genotypes, score: Floats | None) -> None:
        key = self._key(row)
        if score is not None or key not in self._known:
            self._known[key] = score

    def _shaped(self, scores: Floats) -> Floats:
        """``float64[n, k]`` as the algorithm takes it."""
        return scores if self.algorithm.multi_objective else scores[:, 0]

    def _answer(self, row: Genotypes, score: Floats | None) -> None:
        """Tell the algorithm of a row that it asked for."""
        if score is not None:
            self._worst = score if self._worst is None else np.minimum(self._worst, score)
        elif self._worst is None:
            self._failed.append(row)
            return
        else:
            score = self._worst
        self.algorithm.tell(row[None], self._shaped(score[None]))
        while self._failed:
            self._answer(self._failed.pop(), None)

    def _learn_from(self, trials: list[tuple[Genotypes, Floats | None]]) -> None:
        """Give the algorithm what it did not ask for, each architecture once; failures are left out."""
        fresh: dict[int, tuple[Genotypes, Floats]] = {}
        for row, score in trials:
            if score is not None and self._known.get(self._key(row)) is None:
                fresh.setdefault(self._key(row), (row, score))
        self._known.update((key, score) for key, (_, score) in fresh.items())
        if fresh:
            rows, scores = (np.stack(parts) for parts in zip(*fresh.values(), strict=True))
            if self.algorithm.learn_from(rows, self._shaped(scores)):
                low = scores.min(axis=0)
                self._worst = low if self._worst is None else np.minimum(self._worst, low)

    def _finished(self, study: Study) -> list[FrozenTrial]:
        """Finished trials that were not taken in yet."""
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        found = [t for t in study.get_trials(deepcopy=False, states=states) if t.number not in self._seen]
        self._seen.update(trial.number for trial in found)
        return found

    def _next(self, study: Study) -> Genotypes | None:
        """The next row to try; None if the algorithm has no more."""
        trials = self._finished(study)
        rows = [genotype_of(trial, self.space, self.prefix) for trial in trials]
        finished = [
            (row, self._score(trial.state, trial.values or None), "fixed_params" in trial.system_attrs)
            for row, trial in zip(rows, trials, strict=True)
            if row is not None
        ]
        if self._fresh:
            self._fresh = False
            finished = self._replay(finished)
        self._learn_from([(row, score) for row, score, _ in finished])
        return self._new()

    def _replay(self, finished: list[_Finished]) -> list[_Finished]:
        """Answer a new algorithm as long as it asks for what was finished; return what it did not ask for."""
        left = {self._key(row): (row, score, fixed) for row, score, fixed in finished}
        for row, score, fixed in finished:
            key = self._key(row)
            if fixed and key in left:
                self._learn_from([(row, score)])
                del left[key]
            while key in left:
                asked = self._new()
                if asked is None:
                    return list(left.values())
                found = left.pop(self._key(asked), None)
                if found is None:
                    self._returned.append(asked)
                    return list(left.values())
                self._remember(asked, found[1])
                self._answer(asked, found[1])
        return []

    def _new(self) -> Genotypes | None:
        """A row whose value is not known, or None; the algorithm is answered from memory until it comes."""
        for _ in range(_PATIENCE):
            rows = self._returned[:1] or list(self.algorithm.ask(1))
            self._returned = self._returned[1:]
            if not rows:
                return None
            key = self._key(rows[0])
            if key not in self._known:
                return rows[0]
            self._answer(rows[0], self._known[key])
        return None

    def _last(self, study: Study) -> Genotypes:
        """A random row for a trial that there is nothing left for; ends the study."""
        warnings.warn(
            f"The algorithm {self.algorithm.name!r} has no new architecture of {self.space.name} to propose: the study "
            "is stopped after a random one.",
            stacklevel=2,
        )
        with suppress(RuntimeError):  # raised where the study is driven by ask and tell
            study.stop()
        return self.space.sample(1, len(self._seen))[0]


class OptunaAlgorithm(Algorithm):
    """Any Optuna sampler as a search algorithm, one parameter for each genotype column.

    It is not in the registry, as it exists only where Optuna is installed: give an instance to `tauzero.search.run`. A
    proposal that is no member of the space is a pruned trial, and the next is asked for; after 100 of them a random
    member is tried. Samplers may repeat themselves. One objective only.

    Parameters
    ----------
    space, seed
        As for `Algorithm`.
    sampler
        An Optuna sampler, of which each search has a copy, or a function that makes one from an integer seed, such as
        the class; by default Optuna's TPE. An instance should have a seed, or the search is not repeatable.
    parameters
        ``"categorical"``; or ``"integer"``, which gives the numbers of operations an order that they do not have, for
        samplers that know no categories (CMA-ES).
    """

    name = "optuna"

    def __init__(
        self,
        space: SearchSpace | str,
        seed: Seed,
        *,
        sampler: BaseSampler | Callable[[int], BaseSampler] | None = None,
        parameters: str = "categorical",
    ) -> None:
        super().__init__(space, seed)
        if parameters not in {"categorical", "integer"}:
            raise unknown_name("kind of parameters of OptunaAlgorithm", parameters, ("categorical", "integer"))
        number = int(self._rng.integers(2**31))
        if sampler is None:
            sampler = TPESampler(seed=number)
        elif isinstance(sampler, BaseSampler):
            sampler = copy.deepcopy(sampler)
        else:
            sampler = sampler(seed=number) if isinstance(sampler, type) else sampler(number)
        self.parameters = parameters
        self._distributions: dict[str, BaseDistribution] = {
            _parameter("gene", k): (
                CategoricalDistribution(list(range(c))) if parameters == "categorical" else IntDistribution(0, c - 1)
            )
            for k, c in enumerate(self.space.cardinalities)
        }
        self._trials: dict[bytes, list[int]] = {}  # by row: numbers of the trials that wait
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # a search is not announced
        try:
            self._study = optuna.create_study(direction="maximize", sampler=sampler)
        finally:
            optuna.logging.set_verbosity(verbosity)

    def _propose(self, n: int) -> Genotypes:
        return np.array([self._next() for _ in range(n)], dtype=np.int8).reshape(-1, self.space.length)

    def _next(self) -> Genotypes:
        for left in range(_TRIES, -1, -1):
            if not left:
                genes = self.space.sample(1, self._rng)[0].tolist()
                self._study.enqueue_trial(dict(zip(self._distributions, genes, strict=True)))
            trial = self._study.ask(self._distributions)
            row = np.array([trial.params[name] for name in self._distributions], dtype=np.int8)
            if self.space.is_valid(row[None])[0]:
                break
            self._study.tell(trial, state=TrialState.PRUNED)
        self._trials.setdefault(row.tobytes(), []).append(trial.number)
        return row

    def _observe(self, genotypes: Genotypes, values: Floats) -> None:
        for row, value in zip(genotypes, values.tolist(), strict=True):
            waiting = self._trials[row.tobytes()]
            self._study.tell(waiting.pop(0), value)
            if not waiting:
                del self._trials[row.tobytes()]

    def _learn_from(self, genotypes: Genotypes, values: Floats) -> bool:
        for row, value in zip(genotypes, values.tolist(), strict=True):
            params = dict(zip(self._distributions, row.tolist(), strict=True))
            self._study.add_trial(optuna.create_trial(params=params, distributions=self._distributions, value=value))
        return True
