"""The driver of a search: asks an algorithm, evaluates an objective, keeps the account of queries."""

from __future__ import annotations

__all__ = ["run"]

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.search._registry import create
from tauzero.search.base import Algorithm
from tauzero.search.objectives import Evaluation, Objective
from tauzero.search.trajectory import Trajectory
from tauzero.spaces import Genotypes, Progress, Seed

#: Consecutive proposals without one new architecture after which a search counts as stalled.
_PATIENCE = 10_000


def run(
    algorithm: str | Algorithm,
    objective: Objective,
    budget: int,
    seed: Seed | None = None,
    *,
    batch_size: int = 1,
    params: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 60.0,
) -> Trajectory:
    """Search for the architecture of the highest objective.

    Parameters
    ----------
    algorithm
        A name of `tauzero.search.names`, or an instance (which is advanced).
    objective
        What to maximise.
    budget
        True queries to pay for, ≥ 1. An architecture that was queried before (same
        `SearchSpace.index`) is answered from memory and does not count.
    seed
        Seed of an algorithm given by name; an instance has its own.
    batch_size
        Architectures asked for at a time, ≥ 1: more of them per evaluation, later feedback.
    params
        Parameters of an algorithm given by name.
    progress
        Called with (queries, budget) after every batch that held a query.
    checkpoint
        A file in which the queries are kept while the search runs: written every
        `checkpoint_every` seconds, on an error, on Ctrl-C and at the end. If it exists, its queries
        are answered from it for free and the search goes on where it stopped, with the same result
        as an uninterrupted one. Needs an algorithm given by name and an integer seed.
    checkpoint_every
        Seconds between two writes of the checkpoint.

    Returns
    -------
    Trajectory
        The queries in order; `Trajectory.stopped` says why it ended. It is shorter than the budget
        if the space is exhausted or the algorithm repeated itself 10,000 times in a row.
    """
    for name, number in (("budget", budget), ("batch_size", batch_size)):
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
            raise ValueError(f"The '{name}' argument of search.run must be an integer ≥ 1. Got {number!r}.")
    solver = _solver(algorithm, objective, seed, params)
    account = _Account(objective, solver, int(budget), seed)
    if checkpoint is not None:
        if not isinstance(seed, int | np.integer):
            raise ValueError("A search with a checkpoint must be given an algorithm's name and an integer seed.")
        account.recall(Path(checkpoint))
    stopped = ""
    written = time.monotonic()
    try:
        while not stopped:
            stopped = account.step(int(batch_size), progress)
            if checkpoint is not None and time.monotonic() - written > checkpoint_every:
                account.result("interrupted").save(checkpoint)
                written = time.monotonic()
    finally:
        # Also on Ctrl-C and on an objective that fails: what has been paid for is kept.
        if checkpoint is not None and account.paid:
            account.result(stopped or "interrupted").save(checkpoint)
    return account.result(stopped)


def _solver(
    algorithm: str | Algorithm, objective: Objective, seed: Seed | None, params: Mapping[str, Any] | None
) -> Algorithm:
    """The algorithm that searches: created from its name, or the instance as it is."""
    if isinstance(algorithm, Algorithm):
        if seed is not None or params:
            raise ValueError(
                "The 'seed' and 'params' arguments of search.run belong to an algorithm given by name. "
                f"Got them beside the instance {type(algorithm).__name__}: leave them out."
            )
        if algorithm.space is not objective.space:
            raise ValueError(
                f"The algorithm searches {algorithm.space.name}, the objective is defined on {objective.space.name}: "
                "create the algorithm with the objective's space."
            )
        return algorithm
    if seed is None:
        raise ValueError("The 'seed' argument of search.run must be given, such as seed=0: there is no default.")
    return create(algorithm, objective.space, seed, **(params or {}))


class _Account:
    """Book-keeping of one search; arrays are allocated once, so that a step costs microseconds."""

    def __init__(self, objective: Objective, solver: Algorithm, budget: int, seed: Seed | None) -> None:
        self.objective, self.solver, self.space, self.budget = objective, solver, objective.space, budget
        self.seed = int(seed) if isinstance(seed, int | np.integer) else None
        self.size = getattr(self.space, "size", None)
        # One entry per batch, appended at once: an interrupt never leaves half an entry.
        self.batches: list[tuple[Genotypes, list[int], list[float], list[float]]] = []
        self.paid = 0
        self.known: dict[int, float] = {}
        self.position_of: dict[bytes, int] = {}
        self.recalled: dict[int, tuple[float, float]] = {}
        self.repeats = 0
        self.idle = 0
        self.started = time.perf_counter()

    def recall(self, path: Path) -> None:
        """Take the evaluations of an interrupted search; they must be those of the same search."""
        if not path.exists():
            return
        before = Trajectory.load(path)
        mine = (self.space.name, self.solver.name, self.objective.label, self.seed)
        theirs = (before.space, before.algorithm, before.objective, before.seed)
        if mine != theirs:
            raise ValueError(
                f"The checkpoint {path} belongs to another search: (space, algorithm, objective, seed) is {theirs}, "
                f"asked for is {mine}. Delete it or choose another file."
            )
        if self.objective.instant and len(before):
            now = self.objective.evaluate_indexed(before.genotypes, before.index).values
            if not np.allclose(now, before.values, rtol=1e-6, atol=1e-9):
                raise ValueError(
                    f"The checkpoint {path} was made with other values of the objective '{self.objective.label}' "
                    "(another table or surrogate). Delete it or choose another file."
                )
        values, seconds = before.values.tolist(), before.seconds.tolist()
        self.recalled = dict(zip(before.index.tolist(), zip(values, seconds, strict=True), strict=True))

    def step(self, batch_size: int, progress: Progress | None) -> str:
        """Ask, evaluate what is new, tell; return why the search ends, or an empty string."""
        rows = self.solver.ask(min(batch_size, self.budget - self.paid))
        if not len(rows):
            return "exhausted"
        positions = self._positions(rows)
        known = self.known
        fresh: list[int] = []
        for k, position in enumerate(positions):
            if position not in known:
                known[position] = np.nan  # so that a second copy in this batch is not paid for
                fresh.append(k)
        self.repeats += len(positions) - len(fresh)
        if fresh:
            self.idle = 0
            whole = len(fresh) == len(positions)
            self._pay(rows if whole else rows[fresh], positions if whole else [positions[k] for k in fresh])
        else:
            self.idle += len(positions)
        self.solver.tell(rows, np.array([known[position] for position in positions]))
        if fresh and progress is not None:
            progress(self.paid, self.budget)
        if self.paid >= self.budget:
            return "budget"
        if self.size is not None and self.paid >= self.size:
            return "exhausted"
        return "stalled" if self.idle >= _PATIENCE else ""

    def _positions(self, rows: Genotypes) -> list[int]:
        """`SearchSpace.index` of each row; a row that came before is not looked at again."""
        keys = [row.tobytes() for row in rows]
        try:
            return [self.position_of[key] for key in keys]
        except KeyError:
            positions: list[int] = self.space.index(rows).tolist()
            self.position_of.update(zip(keys, positions, strict=True))
            return positions

    def _pay(self, rows: Genotypes, positions: list[int]) -> None:
        index = np.array(positions, dtype=np.int64)
        open_ = [k for k, position in enumerate(positions) if position not in self.recalled]
        if len(open_) == len(positions):
            result = self._evaluate(rows, index)
            values, seconds = result.values.tolist(), result.seconds.tolist()
        else:
            if open_:
                result = self._evaluate(rows[open_], index[open_])
                pairs = zip(result.values.tolist(), result.seconds.tolist(), strict=True)
                self.recalled.update(zip(index[open_].tolist(), pairs, strict=True))
            values = [self.recalled[position][0] for position in positions]
            seconds = [self.recalled[position][1] for position in positions]
        self.known.update(zip(positions, values, strict=True))
        self.batches.append((rows, positions, values, seconds))
        self.paid += len(positions)

    def _evaluate(self, rows: Genotypes, index: npt.NDArray[np.int64]) -> Evaluation:
        result = self.objective.evaluate_indexed(rows, index)
        if result.values.shape != (len(rows),) or not np.isfinite(result.values).all():
            raise ValueError(
                f"The objective '{self.objective.label}' must give one finite value per architecture. "
                f"Got {result.values!r} for {self.space.to_string(rows)}."
            )
        return result

    def result(self, stopped: str) -> Trajectory:
        empty = np.empty((0, self.space.length), np.int8)
        return Trajectory(
            space=self.space.name,
            genotypes=np.concatenate([empty, *(rows for rows, _, _, _ in self.batches)]),
            index=np.array([i for _, index, _, _ in self.batches for i in index], dtype=np.int64),
            values=np.array([v for _, _, values, _ in self.batches for v in values], dtype=np.float64),
            seconds=np.array([s for _, _, _, seconds in self.batches for s in seconds], dtype=np.float64),
            algorithm=self.solver.name,
            objective=self.objective.label,
            seed=self.seed,
            budget=self.budget,
            stopped=stopped,
            repeats=self.repeats,
            notes=self.objective.notes,
            wall_seconds=time.perf_counter() - self.started,
        )
