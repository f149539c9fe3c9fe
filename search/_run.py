"""The driver of a search: asks an algorithm, evaluates an objective, keeps the account of queries."""

from __future__ import annotations

__all__ = ["run"]

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tauzero.search._account import Account
from tauzero.search._registry import create, find
from tauzero.search.base import Algorithm, MultiFidelityAlgorithm
from tauzero.search.objectives import Objective
from tauzero.search.trajectory import Trajectory
from tauzero.spaces import Progress, Seed


def run(
    algorithm: str | Algorithm,
    objective: Objective,
    budget: int | None = None,
    seed: Seed | None = None,
    *,
    seconds: float | None = None,
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
        A name of `tauzero.search.names`, or an instance (which is advanced). One by name that chooses training
        budgets gets those of the objective (`Objective.fidelities`) unless `params` has ``"fidelities"``.
    objective
        What to maximise.
    budget
        True queries to pay for, ≥ 1; None: no limit on their number. An architecture that was queried before (same
        `identity`, at the same epochs) is answered from memory and does not count.
    seed
        Seed of an algorithm given by name; an instance has its own.
    seconds
        Simulated seconds (the costs of the queries, `Evaluation.seconds`) that may be spent, > 0; None: no limit.
        Queries are paid for in the order in which they were asked. The first that would bring the sum above
        `seconds` ends the search: it is not counted, and it and those after it are not told to the algorithm. This is
        the rule of NAS-Bench-201's scripts (AutoDL-Projects, R_EA.py, RANDOM.py), except that those charge repeats.
    batch_size
        Architectures asked for at a time, ≥ 1: more of them per evaluation, later feedback.
    params
        Parameters of an algorithm given by name.
    progress
        Called after every batch that held a query: with (queries, budget), or with (seconds spent, seconds), rounded
        up, if only those are limited.
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

    Raises
    ------
    ValueError
        If neither `budget` nor `seconds` is given or one does not fit; the algorithm needs training budgets or
        costs that the objective does not have; the objective gives a value or cost that is not finite; or `seconds`
        is limited and the cost of a query is unknown, or (without `budget`) all of them are free.
    """
    if budget is not None or seconds is None:
        _positive_integer("budget", budget, " (or 'seconds' be given)" if budget is None else "")
    _positive_integer("batch_size", batch_size)
    if seconds is not None and (isinstance(seconds, bool) or not math.isfinite(seconds) or seconds <= 0):
        raise ValueError(f"The 'seconds' argument of search.run must be a number > 0. Got {seconds!r}.")
    solver = _solver(algorithm, objective, seed, params)
    account = Account(objective, solver, budget, seconds, seed)
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


def _positive_integer(name: str, number: object, otherwise: str = "") -> None:
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
        raise ValueError(f"The '{name}' argument of search.run must be an integer ≥ 1{otherwise}. Got {number!r}.")


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
        solver = algorithm
    else:
        if seed is None:
            raise ValueError("The 'seed' argument of search.run must be given, such as seed=0: there is no default.")
        chosen = dict(params or {})
        if issubclass(find(algorithm), MultiFidelityAlgorithm) and objective.fidelities:
            chosen.setdefault("fidelities", objective.fidelities)
        elif issubclass(find(algorithm), MultiFidelityAlgorithm):
            raise ValueError(
                f"The algorithm {algorithm!r} chooses how many epochs to train for, and the objective "
                f"'{objective.label}' has no training budgets: search with another algorithm, or by look-up in a table "
                "that has several (`TableObjective.fidelities`)."
            )
        if find(algorithm).weighs_costs and objective.cost_names:
            chosen.setdefault("multi_objective", True)
        solver = create(algorithm, objective.space, seed, **chosen)
    unknown = sorted(set(solver.fidelities or ()) - set(objective.fidelities))
    if unknown:
        raise ValueError(
            f"The algorithm {solver.name!r} asks for {unknown} epochs, and the objective '{objective.label}' has "
            f"{list(objective.fidelities) or 'no training budgets'}."
        )
    if solver.multi_objective and not objective.cost_names:
        raise ValueError(
            f"The algorithm {solver.name!r} weighs values against costs, and the objective '{objective.label}' has "
            "none: wrap it, as in WithCosts(objective, ['params', 'flops']); on the command line, --costs params,flops."
        )
    return solver
