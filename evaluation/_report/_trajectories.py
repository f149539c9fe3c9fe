"""What a page shows of searches: the best value so far, Pareto fronts, and what was found."""

from __future__ import annotations

__all__ = ["Searches", "best_cells", "incumbents", "pareto", "read", "recognises", "results", "section"]

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tauzero.evaluation._report import _charts, _files
from tauzero.evaluation._report._cells import drawings
from tauzero.evaluation._report._parts import (
    Chart,
    Column,
    Context,
    Control,
    Drawings,
    Figure,
    Provenance,
    Table,
    View,
    number,
)
from tauzero.search import Trajectory
from tauzero.spaces import get

_FORMAT = "tauzero.trajectory"
_HOUR = 3600.0


@dataclass(frozen=True)
class Searches:
    """One or several searches of one space; `runs` by a name of their own."""

    path: Path
    runs: dict[str, Trajectory]
    made: dict[str, dict[str, Any]]


def recognises(path: Path) -> bool:
    """Whether this is a trajectory, or a folder with nothing but trajectories among its Parquet files."""
    files = _in(path)
    return bool(files) and all(_files.parquet_metadata(f).get("format") == _FORMAT for f in files)


def _in(path: Path) -> list[Path]:
    return sorted(path.glob("*.parquet")) if path.is_dir() else [path]


def read(path: Path) -> Searches:
    """Read the trajectories; those without a query are left out.

    Raises
    ------
    ValueError
        If none has a query, or they are searches of different spaces.
    """
    runs, made = {}, {}
    for file in _in(path):
        run = Trajectory.load(file)
        if not len(run):
            continue
        name = run.algorithm or file.stem
        if name in runs:
            name = f"{name}, seed {run.seed}" if f"{name}, seed {run.seed}" not in runs else f"{name} ({file.stem})"
        runs[name] = run
        made[name] = json.loads(_files.parquet_metadata(file).get("tauzero.provenance", "{}"))
    if not runs:
        raise ValueError(f"'{path}' holds no search with a query: there is nothing to report.")
    spaces = {run.space for run in runs.values()}
    if len(spaces) > 1:
        raise ValueError(
            f"'{path}' holds searches of several spaces ({', '.join(sorted(spaces))}): report on each alone."
        )
    return Searches(path, runs, made)


def section(searches: Searches) -> dict[str, Any]:
    """Title, facts, notes and provenance."""
    runs = searches.runs
    one = next(iter(runs.values()))
    best = max(runs.values(), key=lambda run: run.best_value)
    facts = [
        ("space", one.space),
        ("objective", "; ".join(dict.fromkeys(run.objective for run in runs.values()))),
        ("searches", str(len(runs))),
        ("best value", number(best.best_value, 5)),
    ]
    commands = [_files.command(m.get("command")) for m in searches.made.values()]
    recorded = [text for text in commands if text]
    first: dict[str, Any] = next(iter(searches.made.values()))
    only = next(iter(runs)) if len(runs) == 1 else f"{len(runs)} searches"
    return {
        "title": f"Search: {only} on {one.space}",
        "facts": facts,
        "notes": list(dict.fromkeys(note for run in runs.values() for note in run.notes)),
        "provenance": Provenance(
            source=searches.path.name or str(searches.path),
            command=_files.commands(recorded),
            seeds=", ".join(dict.fromkeys(str(run.seed) for run in runs.values())),
            versions=_files.texts(first.get("versions")),
            machine=_files.line(first.get("machine")),
            settings={"algorithms": ", ".join(dict.fromkeys(run.algorithm for run in runs.values()))},
        ),
    }


def incumbents(searches: Searches, context: Context) -> Iterator[Figure]:
    """Best value after each query, over queries and over simulated time."""
    timed = all(np.isfinite(run.seconds).all() and run.seconds.any() for run in searches.runs.values())
    views = []
    for axis in ("queries", "time")[: 1 + timed]:
        curves = []
        for name, run in searches.runs.items():
            best = run.incumbents
            x = np.arange(1.0, len(run) + 1) if axis == "queries" else np.cumsum(run.seconds) / _HOUR
            curves.append(_charts.Band(name, x, best, best, best))
        view = _charts.bands(
            curves,
            context.styles,
            x="queries" if axis == "queries" else "simulated training, hours",
            y="best value so far",
        )
        data = [
            {**trace, "hovertemplate": "%{customdata[0]:.3f}"} if "hovertemplate" in trace else trace
            for trace in view.data
        ]
        values = np.concatenate([c.centre[np.isfinite(c.centre)] for c in curves])
        low, high = float(np.quantile(values, 0.05)), float(values.max())
        margin = 0.08 * (high - low) or 0.1
        yaxis = {**view.layout["yaxis"], "range": [low - margin, high + margin], "rangemode": "normal"}
        views.append(View(data, {**view.layout, "yaxis": yaxis}))
    names = list(searches.runs)
    yield Figure(
        "Best value so far",
        Chart(
            f"Best value after each query of {', '.join(names)}.",
            tuple(views),
            (Control("Over", ("queries", "simulated time")),) if timed else (),
            _charts.legend_of(names, context.styles),
        ),
        "At the longest training that the search used. A double click shows the values of the first queries, which "
        "may lie below.",
    )


def pareto(searches: Searches, context: Context) -> Iterator[Figure]:
    """Value against each cost, with what no other query beats."""
    shared = [c for c in next(iter(searches.runs.values())).costs if all(c in r.costs for r in searches.runs.values())]
    if not shared:
        return
    views = []
    for cost in shared:
        data: list[dict[str, Any]] = []
        for name, run in searches.runs.items():
            texts = [_charts.tidy(f"query {k + 1}") for k in range(len(run))]
            some = np.unique(np.linspace(0, len(run) - 1, min(len(run), _charts.DENSE)).round().astype(np.int64))
            group = {"legendgroup": name, "showlegend": False, "name": _charts.tidy(name)}
            hover = "%{customdata}<br>value %{y:.3f}<br>" + _charts.tidy(cost) + " %{x:,.4~s}<extra></extra>"
            data.append(
                {
                    **group,
                    "mode": "markers",
                    "x": _charts.rounded(run.costs[cost][some]),
                    "y": _charts.rounded(run.values[some]),
                    "customdata": [texts[k] for k in some],
                    "hovertemplate": hover,
                    "marker": {"color": context.styles.colour(name, 0.35), "size": 6},
                }
            )
            front = run.pareto_front([cost])
            front = front[np.argsort(run.costs[cost][front], kind="stable")]
            data.append(
                {
                    **group,
                    "mode": "lines+markers",
                    "x": _charts.rounded(run.costs[cost][front]),
                    "y": _charts.rounded(run.values[front]),
                    "customdata": [texts[k] for k in front],
                    "hovertemplate": hover,
                    "line": {"color": context.styles.colour(name), "shape": "hv", "width": 2},
                    "marker": {
                        "color": context.styles.colour(name), "symbol": context.styles.symbol(name), "size": 9
                    },
                }
            )  # fmt: skip
        values = np.concatenate([run.values for run in searches.runs.values()])
        low, high = float(np.quantile(values, 0.05)), float(values.max())
        margin = 0.05 * (high - low) or 0.1
        layout = {
            "xaxis": _charts.axis(f"{cost} (lower is better)", tickformat="~s"),
            "yaxis": _charts.axis("value (higher is better)", range=[low - margin, high + margin]),
            "hovermode": "closest",
        }
        views.append(View(data, layout))
    names = list(searches.runs)
    yield Figure(
        "Value against cost",
        Chart(
            f"Value against {', '.join(shared)} of all queries; the Pareto front is joined by a line.",
            tuple(views),
            (Control("Cost", tuple(shared)),) if len(shared) > 1 else (),
            _charts.legend_of(names, context.styles, markers=True),
        ),
        "Large points joined by a line: no other query has both a higher value and a lower cost.",
    )


def results(searches: Searches, context: Context) -> Iterator[Figure]:
    """One row for each search."""
    del context
    columns = (
        Column("search", numeric=False), Column("seed"), Column("best value"), Column("found at query"),
        Column("queries"), Column("repeats", note="asked for again, free of charge"), Column("simulated, h"),
        Column("wall, s"), Column("stopped", numeric=False),
    )  # fmt: skip
    rows = [
        [
            name,
            run.seed,
            (run.best_value, f"{run.best_value:.3f}"),
            run.best_position + 1,
            run.queries,
            run.repeats,
            run.simulated_seconds / _HOUR,
            run.wall_seconds,
            run.stopped,
        ]
        for name, run in searches.runs.items()
    ]
    yield Figure("Searches in numbers", Table(columns, rows))


def best_cells(searches: Searches, context: Context) -> Iterator[Figure]:
    """The best architecture of each search."""
    del context
    items = []
    for name, run in list(searches.runs.items())[:8]:
        arch = get(run.space).to_string(run.best[None])[0]
        costs = [f"{cost} {number(float(column[run.best_position]))}" for cost, column in run.costs.items()]
        items += drawings(run.space, arch, name, (f"value {run.best_value:.3f}", *costs[:3]))
    yield Figure("Best cells found", Drawings(tuple(items)))
