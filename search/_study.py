"""Studies: algorithms against one another over many trials at equal true queries, in a folder that outlives a kill."""

from __future__ import annotations

__all__ = ["StudyResult", "study"]

import importlib.metadata
import math
import os
import platform
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tauzero.search._study_design import OBJECTIVES, Design, Judge
from tauzero.search._study_folder import FORMAT, FRAMES, VERSION, Pair, StudyFolder
from tauzero.search._study_plan import choose, params_of, tasks_of
from tauzero.search._study_result import StudyResult
from tauzero.search._study_sources import check_surrogate, read_scores, transfer_sources
from tauzero.search._study_trial import Outcome, Outcomes, Trials, TrialWork
from tauzero.search.objectives import TableObjective
from tauzero.spaces import Progress, unknown_name
from tauzero.spaces._engines import Engine, check_engine, local_count, open_engine

if TYPE_CHECKING:
    from tauzero.benchmarks import Benchmark

#: Workers that a Ray cluster is taken to have when tasks are cut.
_RAY_WORKERS = 16
_VERSIONS = ("numpy", "scipy", "scikit-learn", "pandas", "torch", "lightgbm")


def study(
    benchmark: Benchmark | str,
    algorithms: str | Sequence[str] = "all",
    objectives: str | Sequence[str] = "table",
    *,
    out: str | os.PathLike[str],
    trials: int = 100,
    budget: int | None = None,
    seconds: float | None = None,
    dataset: str | None = None,
    metric: str | None = None,
    signal: Literal["mean"] | int = "mean",
    epoch: int | None = None,
    batch_size: int = 1,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    train: int | None = None,
    surrogate: str | Any = "gaussian_process",
    surrogate_params: Mapping[str, Any] | None = None,
    kind: str = "mean",
    predicted_budget: int = 1_000,
    proxies: str | Sequence[str] = (),
    proxy_table: Any = None,
    proxy_options: Mapping[str, Any] | None = None,
    engine: Literal["local", "ray"] = "local",
    workers: int | None = None,
    address: str | None = None,
    progress: Progress | None = None,
    checkpoint_every: float = 10.0,
    command: str | None = None,
) -> StudyResult:
    """Compare algorithms over many trials, by look-up, on predictions and on scores, at equal true queries.

    Trial k of every algorithm has the seed k. The same call goes on where an earlier one was interrupted, be it by
    ``kill -9``; more trials, algorithms or objectives extend a finished study. The result does not depend on engine
    and `workers`, except for ``wall_s``.

    Parameters
    ----------
    benchmark
        A table of a whole space, or its name.
    algorithms
        Names, or ``"all"``: those that fit the objectives; ``facts["left_out"]`` says why others do not.
    objectives
        ``"table"``: the algorithm looks up `budget` architectures. ``"surrogate"``: `train` random ones are looked up
        and train a surrogate, the algorithm makes `predicted_budget` free evaluations of it, and the rest of the
        budget looks up what it found with the best predictions; without a rest the best prediction is chosen.
        ``"proxy"``: the same with scores of untrained networks and without training rows.
    out
        Folder of the study, made if need be.
    trials
        Seeds 0, 1, …; ≥ 1.
    budget, seconds
        True queries, and seconds of training, that each trial may spend, as in `tauzero.search.run`.
    dataset, metric, epoch
        As in `TableObjective`. Regrets are taken in the same metric after full training, as a mean over runs.
    signal
        ``"mean"``: searches see the mean over runs; or the number of the one run that they see.
    batch_size
        Architectures asked for at a time.
    params
        Parameters of algorithms, by their names.
    train
        Training rows of each surrogate, ≥ 2; they are true queries. By default half of `budget`.
    surrogate, surrogate_params
        Name of a surrogate, or an unfitted estimator. It is fitted once for each trial and shared by the algorithms.
    kind
        What is maximised of its predictions, see `SurrogateObjective`.
    predicted_budget
        Free evaluations of a search on predictions or scores.
    proxies
        Proxies that are scored when they are asked for (``"synflow"`` by default, see `ProxyObjective`), or, with
        `proxy_table`, the columns of the table. There the value is the mean rank in the space; a minus in front of
        a column says that lower is better.
    proxy_table
        Scores of the space's architectures, as the encoder ``proxy_scores`` takes them. ``proxy_evolution`` uses
        them too.
    proxy_options
        Further arguments of `ProxyObjective`, such as ``batch_size``; the device is the CPU unless given.
    engine, workers, address
        Where trials run: ``"local"`` processes, one per core by default, or a Ray cluster (extra ``tauzero[ray]``).
    progress
        Called with (done, total) trials over all algorithms and objectives.
    checkpoint_every
        Seconds between two writes of finished trials.
    command
        The command line, for reports.

    Raises
    ------
    ValueError
        If an argument does not fit, the folder holds another study, a named algorithm fits none of the objectives, or
        a pretrained part of a search was trained on the judging table.
    FolderInUseError
        If another process writes into the folder.
    MissingExtraError
        If the engine is ``"ray"`` and Ray is not installed.
    """
    from tauzero import benchmarks

    check_engine(engine, workers, address)
    table = benchmarks.load(benchmark) if isinstance(benchmark, str) else benchmark
    kinds = [objectives] if isinstance(objectives, str) else list(dict.fromkeys(objectives))
    for name in kinds:
        if name not in OBJECTIVES:
            raise unknown_name("objective of a study", name, OBJECTIVES)
    if not kinds or isinstance(trials, bool) or not isinstance(trials, int | np.integer) or trials < 1:
        raise ValueError(f"A study needs objectives and a number of trials ≥ 1. Got {kinds} and {trials!r}.")
    given = [proxies] if isinstance(proxies, str) else list(proxies)
    design = Design(
        benchmark=table,
        dataset={d.lower(): d for d in table.datasets}.get((dataset or "").lower(), dataset or table.datasets[0]),
        metric=_metric(table, dataset) if metric is None else metric,
        run=None if signal == "mean" else signal,
        epoch=epoch,
        budget=budget,
        seconds=seconds,
        batch_size=batch_size,
        train=_train(train, budget, kinds),
        predicted_budget=predicted_budget,
        surrogate=surrogate,
        surrogate_params=dict(surrogate_params or {}),
        kind=kind,
        proxies=tuple(given) or (("synflow",) if "proxy" in kinds and proxy_table is None else ()),
        proxy_options=dict(proxy_options or {}),
        params={name: dict(some) for name, some in (params or {}).items()},
    )
    design.check(kinds)
    goal = design.table()
    notes = list(goal.notes)
    design, more = _with_parts(design, kinds, proxy_table)
    notes += more
    pairs, excluded = choose(algorithms, kinds, design, goal)
    learned = transfer_sources(design, sorted({algorithm for _, algorithm in pairs})) if pairs else {}
    notes += [f"With transfer: {who} starts from weights trained on {', '.join(on)}." for who, on in learned.items()]
    judge = Judge(design, goal.metric)
    facts = {
        **_facts(design, goal, judge, kinds),
        "params": {name: params_of(name, design) for name in dict.fromkeys(a for _, a in pairs)},
        "seeds": "0 to the number of trials - 1, the same for every algorithm and objective",
        "plan": [{"objective": kind, "algorithm": name, "trials": int(trials)} for kind, name in pairs],
        "left_out": excluded,
        "notes": notes,
        "transfer": learned,
        "commands": [] if command is None else [command],
    }
    with StudyFolder(Path(out)) as folder:
        joined, done = folder.open(facts)
        asked = {pair: [t for t in range(int(trials)) if t not in done.get(pair, ())] for pair in pairs}
        total, finished = len(pairs) * int(trials), 0

        def tell(more: int) -> None:
            nonlocal finished
            finished += more
            if progress is not None:
                progress(finished, total)

        tell(total - sum(map(len, asked.values())))
        if any(asked.values()):
            count = _RAY_WORKERS if engine == "ray" and workers is None else local_count(workers)
            tasks = tasks_of(asked, count)
            number = workers if engine == "ray" else min(count, len(tasks))
            opened = open_engine(engine, TrialWork(design), workers=number, address=address)
            _run(opened, tasks, _Keeper(folder, done, checkpoint_every), tell)
        _finish(folder, joined, done, judge, design)
    return StudyResult.load(out)


class _Keeper:
    """Finished trials, written every few seconds."""

    def __init__(self, folder: StudyFolder, done: dict[Pair, set[int]], every: float) -> None:
        self._folder, self._done, self._every = folder, done, every
        self._held: list[Outcome] = []
        self._written = time.monotonic()

    def take(self, outcomes: Sequence[Outcome]) -> None:
        """Take in finished trials."""
        self._held += outcomes
        if time.monotonic() - self._written >= self._every:
            self.write()

    def write(self) -> None:
        """Put what is held into the folder."""
        held, self._held = self._held, []
        self._folder.append(held)
        for outcome in held:
            self._done.setdefault((outcome.objective, outcome.algorithm), set()).add(outcome.trial)
        self._written = time.monotonic()


def _run(opened: Engine[Trials, Outcomes], tasks: deque[Trials], keeper: _Keeper, tell: Callable[[int], None]) -> None:
    """Run what is missing; finished trials are kept, whatever ends this."""
    try:
        with opened as engine, closing(engine.run(tasks)) as results:
            for _, outcomes in results:
                tasks.extendleft(reversed(outcomes.rest))
                keeper.take(outcomes.done)
                tell(len(outcomes.done))
    finally:
        keeper.write()


def _finish(
    folder: StudyFolder, facts: dict[str, Any], done: dict[Pair, set[int]], judge: Judge, design: Design
) -> None:
    """Make the frames of all trials that there are, in the order of the plan."""
    from tauzero.search import _study_figures as figures

    planned = [(entry["objective"], entry["algorithm"]) for entry in facts["plan"]]
    planned.sort(key=lambda pair: OBJECTIVES.index(pair[0]))
    groups = {}
    for pair in planned:
        if done.get(pair):
            group = folder.merge(pair)
            groups[pair] = (group, figures.follow(group, design.space))
    frame = figures.trials(groups, judge, design.space)
    frames = {
        "trials": frame,
        "curves": figures.curves(groups, judge, design.budget),
        "tests": figures.tests(frame),
        "gains": figures.gains(frame),
    }
    assert tuple(frames) == FRAMES
    folder.finish(
        frames, [{"objective": o, "algorithm": a, "trials": len(g.facts)} for (o, a), (g, _) in groups.items()]
    )


# -- arguments --------------------------------------------------------------------------------


def _metric(table: Benchmark, dataset: str | None) -> str | None:
    """None for tables with accuracies; the main metric of tasks that have none."""
    known = set(table.metrics(dataset))
    return None if known & {"validation_accuracy", table.default_metric} else table.main_metric(dataset)


def _train(train: int | None, budget: int | None, kinds: Sequence[str]) -> int:
    if train is None and budget is None and "surrogate" in kinds:
        raise ValueError(
            "The 'train' argument must be given where only 'seconds' limits a study: the number of random look-ups "
            "that train a surrogate."
        )
    if train is not None:
        return train
    return max(2, (budget or 4) // 2)


def _with_parts(design: Design, kinds: Sequence[str], proxy_table: Any) -> tuple[Design, list[str]]:
    """The design with the scores of a table; surrogate and proxies are tried before a folder is made."""
    notes: list[str] = []
    if proxy_table is not None:
        scores, columns, notes = read_scores(design.space, proxy_table, design.proxies)
        label = f"mean rank of {', '.join(columns)}" if len(columns) > 1 else f"rank of {columns[0]}"
        design = replace(design, scores=scores, score_label=label, proxies=tuple(columns))
    elif "proxy" in kinds:
        from tauzero.search.proxy_objective import ProxyObjective

        names_ = design.proxies[0] if len(design.proxies) == 1 else list(design.proxies)
        ProxyObjective(design.space, names_, **{"device": "cpu", **design.proxy_options})
    if "surrogate" in kinds:
        check_surrogate(design.surrogate)
        if design.kind not in ("mean", "ucb", "thompson"):
            raise unknown_name("kind of surrogate objective", design.kind, ("mean", "ucb", "thompson"))
        from tauzero.search._studies import fresh_surrogate

        fresh_surrogate(design.surrogate, design.space, design.surrogate_params, 0)
    if "proxy" in kinds and design.scores is not None:
        notes = [f"The objective 'proxy' is the {design.score_label}.", *notes]
    return design, notes


def _facts(design: Design, goal: TableObjective, judge: Judge, kinds: Sequence[str]) -> dict[str, Any]:
    """The part of ``study.json`` that says what is searched, with what."""
    versions = {}
    for name in _VERSIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    judged = goal.metric.replace("_", " ")
    return {
        "format": FORMAT,
        "version": VERSION,
        "what": "A folder of `tauzero study`: see docs/studies.md. Trial k has the seed k for every algorithm.",
        "space": design.space.name,
        "benchmark": design.benchmark.name,
        "dataset": design.dataset,
        "signal": goal.label,
        "regret_in": f"{judged}, mean over runs after full training, below the table's best",
        "optimum": judge.optimum,
        "test_optimum": judge.test_optimum if math.isfinite(judge.test_optimum) else None,
        "settings": design.settings(goal),
        "objectives": {kind: design.objective_settings(kind) for kind in kinds},
        "versions": {"python": platform.python_version(), **versions},
        "machine": {"system": platform.system(), "machine": platform.machine(), "cores": os.cpu_count()},
    }
