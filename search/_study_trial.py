"""Trials of a study: one search with one seed, over look-ups, predictions or scores, at equal true queries."""

from __future__ import annotations

__all__ = ["Outcome", "Outcomes", "TrialWork", "Trials"]

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.search._registry import find
from tauzero.search._run import run
from tauzero.search._studies import by_prediction, fresh_surrogate
from tauzero.search._study_design import Design
from tauzero.search.objectives import ArrayObjective, Objective
from tauzero.search.proxy_evolution import ProxyEvolution, ProxyScore
from tauzero.search.proxy_objective import ProxyObjective
from tauzero.search.surrogate_objective import SurrogateObjective
from tauzero.search.trajectory import Trajectory
from tauzero.spaces import Genotypes
from tauzero.spaces._engines import Work

#: Seconds after which a worker returns what it has; the other trials of its task become tasks of their own.
_BOX = 3.0
#: Options of `ProxyObjective` that scoring itself does not know.
_OF_OBJECTIVE = ("reference", "rule", "undefined")


@dataclass(frozen=True)
class Trials:
    """Trials of one objective; those of a surrogate share the model of each trial among the algorithms."""

    objective: str
    algorithms: tuple[str, ...]
    numbers: tuple[int, ...]
    tries: int = field(default=0, compare=False)

    def after_a_loss(self) -> list[Trials]:
        """Halves, until one trial remains."""
        if len(self.numbers) == 1:
            return [replace(self, tries=self.tries + 1)]
        half = len(self.numbers) // 2
        return [replace(self, numbers=part) for part in (self.numbers[:half], self.numbers[half:])]

    def without(self, done: int, seconds: float) -> list[Trials]:
        """What is left after `done` trials took so many seconds, in parts that take about `_BOX`."""
        left = self.numbers[done:]
        size = max(1, int(_BOX * done / max(seconds, 1e-9)))
        return [replace(self, numbers=left[k : k + size]) for k in range(0, len(left), size)]


@dataclass(frozen=True)
class Outcome:
    """One trial.

    Attributes
    ----------
    genotypes, index, value, seconds, epochs
        The true queries in order, as in `Trajectory`.
    trained
        How many of them, the first ones, trained a surrogate.
    queries
        Evaluations that the algorithm made: true queries, or predictions.
    repeats
        How often it asked again.
    stopped
        Why the true queries ended, as in `Trajectory`.
    choice
        Position in the space of what was chosen without being looked up; -1: the best that was looked up.
    wall
        Seconds on the worker, the surrogate's fit included.
    """

    objective: str
    algorithm: str
    trial: int
    genotypes: Genotypes
    index: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]
    epochs: npt.NDArray[np.int64]
    trained: int
    queries: int
    repeats: int
    stopped: str
    choice: int
    wall: float


@dataclass(frozen=True)
class Outcomes:
    """Finished trials of a task, and the tasks that remain of it."""

    done: list[Outcome]
    rest: list[Trials]


class TrialWork(Work[Trials, Outcomes]):
    """Runs trials of a study; the table and the objectives are made once in each process."""

    def __init__(self, design: Design) -> None:
        self._design = design
        self._key = secrets.token_hex(8)

    def __repr__(self) -> str:
        return f"a study on {self._design.benchmark.name}"

    def begin(self) -> None:
        """Make what the trials share."""
        self._bench()

    @contextmanager
    def here(self) -> Iterator[None]:
        """One thread as in worker processes, so that their number does not show in the last digit."""
        import scipy.linalg  # noqa: F401 - has threads of its own, which are limited below
        from threadpoolctl import threadpool_limits

        try:
            with threadpool_limits(limits=1):
                yield
        finally:
            _BENCHES.clear()

    def do(self, task: Trials) -> Outcomes:
        """Run trials until they are done or `_BOX` has passed."""
        bench, done = self._bench(), []
        start = time.perf_counter()
        for count, trial in enumerate(task.numbers, 1):
            done += bench.trial(task.objective, task.algorithms, trial)
            passed = time.perf_counter() - start
            if passed > _BOX and count < len(task.numbers):
                return Outcomes(done, task.without(count, passed))
        return Outcomes(done, [])

    def given_up(self, task: Trials) -> Outcomes:
        """End the study: no figure may lack the trials that failed."""
        raise RuntimeError(
            f"The process that ran trial {task.numbers[0]} of {', '.join(task.algorithms)} (objective "
            f"{task.objective!r}) ended abruptly twice, as it does when memory runs out: use fewer workers, or leave "
            "the algorithm out."
        )

    def _bench(self) -> Bench:
        if self._key not in _BENCHES:
            _BENCHES.clear()
            _BENCHES[self._key] = Bench(self._design)
        return _BENCHES[self._key]


#: What a process has made of the design of the study that it works for.
_BENCHES: dict[str, Bench] = {}


class Bench:
    """Objectives of a design and the trials on them."""

    def __init__(self, design: Design) -> None:
        self.design = design
        self.space = design.space
        self.table = design.table()
        self._proxy: Objective | None = None
        self._scorers: dict[tuple[str, ...], ProxyScore] = {}

    def trial(self, objective: str, algorithms: tuple[str, ...], trial: int) -> list[Outcome]:
        """One trial of each algorithm."""
        if objective == "table":
            return [self._look_up(name, trial) for name in algorithms]
        if objective == "proxy":
            nothing = np.empty(0, dtype=np.int64)
            return [self._predicted(name, trial, self.proxy, nothing) for name in algorithms]
        start = time.perf_counter()
        known, predictions = self._surrogate(trial)
        fit = time.perf_counter() - start
        found = [self._predicted(name, trial, predictions, known) for name in algorithms]
        return [replace(outcome, objective=objective, wall=outcome.wall + fit) for outcome in found]

    # -- the objectives -----------------------------------------------------------------------

    @property
    def proxy(self) -> Objective:
        """Scores, from a table or of networks that are scored when they are asked for."""
        if self._proxy is None:
            design = self.design
            self._proxy = (
                ProxyObjective(
                    self.space, design.proxies[0] if len(design.proxies) == 1 else list(design.proxies),
                    **{"device": "cpu", **design.proxy_options},
                )
                if design.scores is None
                else ArrayObjective(self.space, design.scores, label=design.score_label)
            )  # fmt: skip
        return self._proxy

    def _surrogate(self, trial: int) -> tuple[npt.NDArray[np.int64], SurrogateObjective]:
        """What a trial looks up at random, ``int64[train]``, and the model of it; the same for all algorithms."""
        design = self.design
        streams = np.random.SeedSequence(trial).spawn(2)
        known = np.random.default_rng(streams[0]).choice(self.space.size, design.train, replace=False)
        if design.seconds is not None:  # what is beyond the limit cannot be looked up
            known = known[: self._affordable(known, 0.0)]
        if len(known) < 2:
            raise ValueError(
                f"The 'seconds' argument must allow at least two training rows of the surrogate. Got {design.seconds}."
            )
        seed = int(streams[1].generate_state(1)[0] >> 1)
        model = fresh_surrogate(design.surrogate, self.space, design.surrogate_params, seed)
        model.fit(self.space.enumerate()[known], self.table.table[known])
        drawn = trial if design.kind == "thompson" else None
        objective = SurrogateObjective(model, design.kind, seed=drawn, space=self.space)
        objective.predictions()
        return known, objective

    def _params(self, name: str) -> Mapping[str, Any]:
        """Parameters of an algorithm; scores for those that evolve by them."""
        params = dict(self.design.params.get(name, {}))
        if issubclass(find(name), ProxyEvolution) and self.design.scores is not None:
            params.setdefault("score", self.design.scores)
        elif issubclass(find(name), ProxyEvolution):
            given = params.get("score", self.design.scorers)
            if isinstance(given, str) or (isinstance(given, list | tuple) and all(isinstance(p, str) for p in given)):
                names = (given,) if isinstance(given, str) else tuple(given)
                # One for all trials: what one of them scored costs the next nothing.
                options = {"device": "cpu", **self.design.proxy_options}
                options = {name: value for name, value in options.items() if name not in _OF_OBJECTIVE}
                params["score"] = self._scorers.setdefault(names, ProxyScore(self.space, names, **options))
        return params

    # -- the ways -----------------------------------------------------------------------------

    def _look_up(self, name: str, trial: int) -> Outcome:
        """The algorithm pays for each of its queries."""
        design = self.design
        found = self._run(name, self.table, design.budget, trial, seconds=design.seconds)
        return Outcome(
            "table", name, trial, found.genotypes, found.index, found.values, found.seconds, found.epochs,
            trained=0, queries=len(found), repeats=found.repeats, stopped=found.stopped, choice=-1,
            wall=found.wall_seconds,
        )  # fmt: skip

    def _predicted(self, name: str, trial: int, goal: Objective, known: npt.NDArray[np.int64]) -> Outcome:
        """The algorithm searches for free; what it ranked highest is looked up with the queries that are left."""
        start, design = time.perf_counter(), self.design
        found = self._run(name, goal, design.predicted_budget, trial)
        ranked = by_prediction(self.space, found.values, known, found.index)
        verified = ranked if design.budget is None else ranked[: design.budget - len(known)]
        stopped = "budget" if design.budget is not None and len(verified) == design.budget - len(known) else "exhausted"
        if design.seconds is not None:
            allowed = self._affordable(verified, float(self.table.costs[known].sum()))
            if allowed < len(verified):
                verified, stopped = verified[:allowed], "seconds"
        index = np.concatenate([known, verified])
        # Without a query to verify anything, the choice is what was predicted best.
        bold = len(known) > 0 and len(known) == design.budget and len(found) > 0
        best = found.index[int(found.values.argmax())] if bold else -1
        return Outcome(
            "proxy", name, trial, self.space.enumerate()[index], index, self.table.table[index],
            self.table.costs[index], np.full(len(index), self.table.full_epochs, dtype=np.int64),
            trained=len(known), queries=len(found), repeats=found.repeats, stopped=stopped, choice=int(best),
            wall=time.perf_counter() - start,
        )  # fmt: skip

    def _run(
        self, name: str, goal: Objective, budget: int | None, trial: int, *, seconds: float | None = None
    ) -> Trajectory:
        try:
            return run(
                name, goal, budget, trial, seconds=seconds, batch_size=self.design.batch_size, params=self._params(name)
            )
        except ValueError as error:
            raise ValueError(f"{error} (In trial {trial} of {name}, objective '{goal.label}'.)") from error

    def _affordable(self, index: npt.NDArray[np.int64], spent: float) -> int:
        """How many of the queries, in order, `seconds` allows; the rule of `tauzero.search.run`."""
        costs = self.table.costs[index]
        limit = self.design.seconds
        if limit is None:
            return len(index)
        if not np.isfinite(costs).all():
            raise ValueError(
                "The 'seconds' argument limits the training time, and the table does not know that of every "
                "architecture: give 'budget' instead."
            )
        within = spent + np.cumsum(costs) <= limit * (1 + 1e-12)
        return len(index) if within.all() else int(within.argmin())
