"""The frames of a study: final regrets, curves, paired tests, and what predictions gain over look-up."""

from __future__ import annotations

__all__ = ["Followed", "curves", "follow", "gains", "holm", "paired", "spread", "tests", "trials"]

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tauzero.search._study_design import Judge
from tauzero.search._study_folder import Group, Pair
from tauzero.search.trajectory import Trajectory
from tauzero.spaces import SearchSpace

Floats = npt.NDArray[np.float64]

_QUANTILES = {"q10": 0.1, "q25": 0.25, "median": 0.5, "q75": 0.75, "q90": 0.9}
_MOST_POINTS, _GRID = 300, 200
_CURVES = ["objective", "algorithm", "axis", "x", "trials", "mean", "std", *_QUANTILES, "test_mean", "test_std"]
_TESTS = [
    "objective", "algorithm_a", "algorithm_b", "trials", "mean_difference", "p_value", "p_adjusted", "wins", "ties",
    "losses",
]  # fmt: skip
_GAINS = ["algorithm", "objective", "trials", "mean_gain", "std", "p_value", "p_adjusted"]
_STRINGS = {"objective", "algorithm", "algorithm_a", "algorithm_b", "axis", "stopped", "arch"}
_COUNTS = {"trial", "trials", "queries", "true_queries", "repeats", "index", "wins", "ties", "losses"}


@dataclass(frozen=True)
class Followed:
    """One trial after each of its true queries.

    Attributes
    ----------
    chosen
        ``int64[q]``: position in the space of what one would choose after each query.
    clock
        ``float64[q]``: simulated seconds spent after each query.
    choice
        Position of the final choice, -1 after a trial without queries.
    """

    chosen: npt.NDArray[np.int64]
    clock: Floats
    choice: int


def follow(group: Group, space: SearchSpace) -> list[Followed]:
    """Every trial of a group."""
    found = []
    for k, fact in enumerate(group.facts):
        part = slice(group.bounds[k], group.bounds[k + 1])
        way = Trajectory(
            space.name, group.genotypes[part], group.index[part], group.value[part], group.seconds[part],
            epochs=group.epochs[part],
        )  # fmt: skip
        chosen = way.index[way.chosen]
        if fact["choice"] >= 0 and len(chosen):
            chosen[-1] = fact["choice"]
        found.append(Followed(chosen, np.cumsum(way.seconds), int(chosen[-1]) if len(chosen) else -1))
    return found


def _frame(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a frame whose columns have the same types whether or not there are rows."""
    kinds = {
        name: "object" if name in _STRINGS else "int64" if name in _COUNTS else "float64"
        for name in columns
    }  # fmt: skip
    return pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=kinds[name]) for name in columns})


# -- final regrets ----------------------------------------------------------------------------


def trials(groups: Mapping[Pair, tuple[Group, list[Followed]]], judge: Judge, space: SearchSpace) -> pd.DataFrame:
    """One row for each trial."""
    rows = []
    for (objective, algorithm), (group, ways) in groups.items():
        choices = np.array([way.choice for way in ways], dtype=np.int64)
        there = choices >= 0
        archs = iter(space.to_string(space.enumerate()[choices[there]]))
        for k, (fact, way) in enumerate(zip(group.facts, ways, strict=True)):
            first, last = int(group.bounds[k]), int(group.bounds[k + 1])
            at, some = way.choice, way.choice >= 0
            looked_up = np.flatnonzero(group.index[first:last] == at)
            rows.append(
                {
                    "objective": objective,
                    "algorithm": algorithm,
                    "trial": fact["trial"],
                    "queries": fact["queries"],
                    "true_queries": last - first,
                    "repeats": fact["repeats"],
                    "simulated_s": float(group.seconds[first:last].sum()),
                    "wall_s": fact["wall"],
                    "stopped": fact["stopped"],
                    "index": at,
                    "arch": next(archs) if some else "",
                    "value": float(group.value[first + looked_up[-1]]) if len(looked_up) else np.nan,
                    "validation_accuracy": judge.validation[at] if some else np.nan,
                    "test_accuracy": judge.test[at] if some else np.nan,
                    "regret": judge.optimum - judge.truth[at] if some else np.nan,
                    "test_regret": judge.test_optimum - judge.test[at] if some else np.nan,
                }
            )
    columns = list(rows[0]) if rows else []
    return _frame(columns, rows)


# -- curves -----------------------------------------------------------------------------------


def curves(groups: Mapping[Pair, tuple[Group, list[Followed]]], judge: Judge, budget: int | None) -> pd.DataFrame:
    """Regret against true queries, and against simulated seconds on one grid for all."""
    rows: list[dict[str, Any]] = []
    grid = _seconds([way for _, ways in groups.values() for way in ways])
    for (objective, algorithm), (_, ways) in groups.items():
        some = [way for way in ways if len(way.chosen)]
        if not some:
            continue
        head = {"objective": objective, "algorithm": algorithm}
        last = budget or max(len(way.chosen) for way in some)
        points = np.arange(1, last + 1)
        if last > _MOST_POINTS:
            points = np.unique(np.round(np.linspace(1, last, _MOST_POINTS)).astype(np.int64))
        at = np.stack([way.chosen[np.minimum(points, len(way.chosen)) - 1] for way in some])
        rows += _points(head | {"axis": "queries"}, points, at, judge)
        if not all(np.isfinite(way.clock).all() and way.clock[-1] > 0 for way in some):
            continue
        begun, ended = max(way.clock[0] for way in some), max(way.clock[-1] for way in some)
        # From where every trial has made a choice to where the last one has ended, which is a point of its own.
        inside = np.append(grid[(grid >= begun) & (grid < ended)], ended)
        at = np.stack([way.chosen[np.searchsorted(way.clock, inside, side="right") - 1] for way in some])
        rows += _points(head | {"axis": "seconds"}, inside, at, judge)
    return _frame(_CURVES, rows)


def _seconds(ways: Sequence[Followed]) -> Floats:
    clocks = [way.clock for way in ways if len(way.clock) and np.isfinite(way.clock).all() and way.clock[-1] > 0]
    if not clocks:
        return np.empty(0)
    first, last = min(clock[0] for clock in clocks), max(clock[-1] for clock in clocks)
    if first <= 0:
        first = min(float(clock[clock > 0][0]) for clock in clocks)
    return np.geomspace(first, last, _GRID)


def _points(
    head: Mapping[str, Any], points: npt.NDArray[Any], at: npt.NDArray[np.int64], judge: Judge
) -> list[dict[str, Any]]:
    """Statistics over trials at each point; `at` is ``int64[trials, points]``."""
    regret, test = judge.optimum - judge.truth[at], judge.test[at]
    columns = {
        "x": points.astype(np.float64),
        "mean": regret.mean(axis=0),
        "std": spread(regret),
        **dict(zip(_QUANTILES, np.quantile(regret, list(_QUANTILES.values()), axis=0), strict=True)),
        "test_mean": test.mean(axis=0),
        "test_std": spread(test),
    }
    return [
        {**head, "trials": len(at), **{name: float(column[k]) for name, column in columns.items()}}
        for k in range(len(points))
    ]


def spread(values: Floats) -> Floats:
    """Standard deviation over the first axis (n - 1 in the denominator), 0 for a single value."""
    if len(values) < 2:
        return np.zeros(values.shape[1:])
    return np.asarray(values.std(axis=0, ddof=1))


# -- tests ------------------------------------------------------------------------------------


def paired(difference: Floats) -> float:
    """Two-sided p-value of Wilcoxon's signed rank test that paired differences lie around 0; 1 if all are 0."""
    from scipy.stats import wilcoxon

    if not len(difference) or not difference.any():
        return 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of small samples with ties, where the normal approximation is rough
        return float(wilcoxon(difference).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for their number: Holm, "A simple sequentially rejective multiple test procedure", 1979."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1.0)
    return [float(value) for value in adjusted]


def _by_trial(frame: pd.DataFrame) -> dict[Pair, dict[int, float]]:
    """Final regrets of each pair by the number of the trial, in the order of the frame; undefined ones left out."""
    found: dict[Pair, dict[int, float]] = {}
    for objective, algorithm, trial, regret in zip(
        frame["objective"], frame["algorithm"], frame["trial"].tolist(), frame["regret"].tolist(), strict=True
    ):
        of_pair = found.setdefault((str(objective), str(algorithm)), {})
        if np.isfinite(regret):
            of_pair[trial] = regret
    return found


def _differences(a: Mapping[int, float], b: Mapping[int, float]) -> Floats:
    """Regret of a minus that of b for the trials that both have; the last bits of a subtraction are no difference."""
    found = np.array([a[trial] - b[trial] for trial in sorted(a.keys() & b.keys())], dtype=np.float64)
    return np.round(found, 9)


def tests(frame: pd.DataFrame) -> pd.DataFrame:
    """Every pair of algorithms of one objective, compared over the trials that both have."""
    regrets = _by_trial(frame)
    rows = []
    for (objective, a), (other, b) in combinations(regrets, 2):
        if objective != other:
            continue
        difference = _differences(regrets[objective, a], regrets[objective, b])
        if len(difference):
            rows.append(
                {
                    "objective": objective,
                    "algorithm_a": a,
                    "algorithm_b": b,
                    "trials": len(difference),
                    "mean_difference": float(difference.mean()),
                    "p_value": paired(difference),
                    "wins": int((difference < 0).sum()),
                    "ties": int((difference == 0).sum()),
                    "losses": int((difference > 0).sum()),
                }
            )
    return _adjusted(_TESTS, rows)


def gains(frame: pd.DataFrame) -> pd.DataFrame:
    """What each algorithm gains by searching on predictions or scores: look-up's regret minus theirs."""
    regrets = _by_trial(frame)
    rows = []
    for (objective, algorithm), regret in regrets.items():
        if objective != "table" and ("table", algorithm) in regrets:
            gain = _differences(regrets["table", algorithm], regret)
            if len(gain):
                rows.append(
                    {
                        "algorithm": algorithm,
                        "objective": objective,
                        "trials": len(gain),
                        "mean_gain": float(gain.mean()),
                        "std": float(spread(gain)),
                        "p_value": paired(gain),
                    }
                )
    return _adjusted(_GAINS, rows)


def _adjusted(columns: Sequence[str], rows: list[dict[str, Any]]) -> pd.DataFrame:
    for row, p in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["p_adjusted"] = p
    return _frame(columns, rows)
