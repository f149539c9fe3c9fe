"""What a page shows of a study: which algorithm finds what, how soon, and whether that is more than chance."""

from __future__ import annotations

__all__ = ["HOUR", "Study", "array", "read", "recognises", "regret", "section", "test_accuracy", "unique"]

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tauzero.evaluation._report import _charts, _files
from tauzero.evaluation._report._parts import (
    Chart,
    Context,
    Control,
    Figure,
    Provenance,
    View,
    number,
)
from tauzero.spaces import BenchmarkFormatError

if TYPE_CHECKING:
    import pandas as pd

_FORMAT = "tauzero.study"
#: What the band of a curve is: name, column of the line, columns of its edges or of its deviation.
_BANDS = {
    "median, quartiles": ("median", ("q25", "q75")),
    "median, 10 to 90 %": ("median", ("q10", "q90")),
    "mean ± standard deviation": ("mean", ("std",)),
}
#: Lines without their band, which many algorithms would hide one another with.
_ALONE = {"median alone": "median, quartiles", "mean alone": "mean ± standard deviation"}
HOUR = 3600.0
#: What the axes of curves are called, and what their x is divided by.
_X = {"queries": ("true queries (architectures trained)", 1.0), "seconds": ("simulated training, hours", HOUR)}
_OVER = {"queries": "queries", "seconds": "simulated time"}


@dataclass(frozen=True)
class Study:
    """The files of a study's folder; frames that are not there are empty."""

    path: Path
    facts: dict[str, Any]
    trials: pd.DataFrame
    curves: pd.DataFrame
    tests: pd.DataFrame
    gains: pd.DataFrame
    configuration: dict[str, Any] = field(default_factory=dict)

    @property
    def objectives(self) -> list[str]:
        """In the order of the trials."""
        return unique(self.trials, "objective")

    @property
    def algorithms(self) -> list[str]:
        """In the order of the trials."""
        return unique(self.trials, "algorithm")


def recognises(path: Path) -> bool:
    """Whether this is the folder of a study, or its ``study.json``."""
    file = path / "study.json" if path.is_dir() else path
    return file.name == "study.json" and _files.json_head(file).get("format") == _FORMAT


def read(path: Path) -> Study:
    """Read the folder.

    Raises
    ------
    BenchmarkFormatError
        If a file is damaged, or trials or curves lack what every study has.
    """
    folder = path if path.is_dir() else path.parent
    facts = _files.read_json(folder / "study.json")
    if facts.get("version") != 1:
        raise BenchmarkFormatError(
            f"'{folder / 'study.json'}' is a study of version {facts.get('version')!r}; this tauzero reads version 1: "
            "update tauzero, or run the study again."
        )
    frames = {
        name: _files.read_frame(folder / f"{name}.parquet", wanted, optional=name in {"tests", "gains"})
        for name, wanted in {
            "trials": ("objective", "algorithm", "trial", "regret"),
            "curves": ("objective", "algorithm", "axis", "x", "mean", "std"),
            "tests": ("objective", "algorithm_a", "algorithm_b", "mean_difference"),
            "gains": ("algorithm", "objective", "mean_gain"),
        }.items()
    }
    configuration: dict[str, Any] = {k: facts[k] for k in ("benchmark", "space", "dataset") if k in facts}
    for name in ("settings", "configuration"):
        configuration |= facts[name] if isinstance(facts.get(name), dict) else {}
    return Study(folder, facts, **frames, configuration=configuration)


def section(study: Study) -> dict[str, Any]:
    """Title, facts, notes and provenance."""
    given = study.configuration
    where = [str(v) for v in (given.get("benchmark"), given.get("dataset")) if v]
    trials = study.trials.groupby(["objective", "algorithm"], sort=False)["trial"].nunique()
    facts = [
        ("benchmark", ", ".join(where) or "not recorded"),
        ("algorithms", str(len(study.algorithms))),
        ("objectives", ", ".join(study.objectives)),
        ("trials each", _range(trials.min(), trials.max())),
    ]
    column = next((c for c in ("true_queries", "queries") if c in study.trials), None)
    if column and len(study.trials):
        facts.append(("true queries", _range(study.trials[column].min(), study.trials[column].max())))
    optimum = _optimum(study.facts.get("optimum"))
    if optimum:
        facts.append(("best of the table", optimum))
    if study.facts.get("regret_in"):
        facts.append(("regret in", str(study.facts["regret_in"])))
    notes = study.facts.get("notes") or []
    notes = [str(n) for n in notes] if isinstance(notes, list) else [str(notes)]
    for entry in study.facts.get("left_out") or []:
        if isinstance(entry, dict):
            notes.append(
                f"Left out: {' '.join(f'{entry[k]}' for k in ('algorithm', 'objective', 'reason') if k in entry)}"
            )
    return {
        "title": f"Study: {' on '.join(reversed(where)) or study.path.name}",
        "facts": facts,
        "notes": notes,
        "provenance": Provenance(
            source=study.path.name or str(study.path),
            command=_files.commands(study.facts.get("commands", study.facts.get("command"))),
            seeds=_files.seeds(study.facts.get("seeds", given.get("seeds", given.get("seed")))),
            versions=_files.texts(study.facts.get("versions")),
            machine=_files.line(study.facts.get("machine")),
            settings={k: v for k, v in given.items() if isinstance(v, str | int | float)},
        ),
    }


# -- figures ----------------------------------------------------------------------------------


def regret(study: Study, context: Context) -> Iterator[Figure]:
    """Regret curves of each objective, over queries and over simulated seconds."""
    for objective in study.objectives:
        rows = study.curves[study.curves["objective"] == objective]
        axes = [a for a in ("queries", "seconds") if (rows["axis"] == a).any()]
        kinds = {k: c for k, c in _BANDS.items() if {c[0], *c[1]} <= set(rows.columns)}
        if not axes or not kinds:
            continue
        options = (*kinds, *(alone for alone, whole in _ALONE.items() if whole in kinds))
        views = [view for a in axes for view in _regret_views(rows[rows["axis"] == a], a, options, context)]
        controls = (
            Control("Over", tuple(_OVER[a] for a in axes)),
            Control("Line and band", options),
            Control("Scale", ("logarithmic", "linear")),
        )
        shown = list(dict.fromkeys(rows["algorithm"]))
        yield Figure(
            f"Regret, objective {objective}",
            Chart(
                f"Regret of {', '.join(shown)} with the objective {objective}; lower is better.",
                tuple(views),
                controls,
                _charts.legend_of(shown, context.styles),
                height=460,
            ),
            "Optimum minus the accuracy of the best architecture so far; lower is better. The band is over trials.",
        )


def _regret_views(rows: pd.DataFrame, axis: str, options: Sequence[str], context: Context) -> Iterator[View]:
    """A logarithmic and a linear view for each option; they share their traces."""
    title, scale = _X[axis]
    made: dict[str, View] = {}
    for option in options:
        if option in _ALONE:
            whole = made[_ALONE[option]]
            view = View([trace for trace in whole.data if "hovertemplate" in trace], whole.layout)
        else:
            curves = [_curve(str(name), part, *_BANDS[option]) for name, part in rows.groupby("algorithm", sort=False)]
            view = _charts.bands(
                curves,
                context.styles,
                x=title,
                y="regret, percentage points",
                log=True,
                x_scale=scale,
                log_x=_geometric(rows),
            )
        made[option] = view
        yield view
        linear = _charts.axis("regret, percentage points", rangemode="tozero")
        yield View(view.data, {**view.layout, "yaxis": linear})


def _geometric(rows: pd.DataFrame) -> bool:
    """Whether x grows by one factor: a grid that was made for a logarithmic axis."""
    x = np.unique(array(rows, "x"))
    return len(x) > 3 and bool((x > 0).all()) and bool(np.ptp(np.diff(np.log(x))) < 1e-3)


def _curve(name: str, rows: pd.DataFrame, centre: str, edges: tuple[str, ...]) -> _charts.Band:
    at = rows.sort_values("x")
    middle = array(at, centre)
    if len(edges) == 1:
        low, high = middle - array(at, edges[0]), middle + array(at, edges[0])
    else:
        low, high = array(at, edges[0]), array(at, edges[1])
    return _charts.Band(name, array(at, "x"), middle, np.maximum(low, 0), high)


def test_accuracy(study: Study, context: Context) -> Iterator[Figure]:
    """Test accuracy of what validation chose, along the search."""
    if not {"test_mean", "test_std"} <= set(study.curves.columns):
        return
    for objective in study.objectives:
        rows = study.curves[(study.curves["objective"] == objective) & study.curves["test_mean"].notna()]
        axes = [a for a in _X if (rows["axis"] == a).any()]
        if not axes:
            continue
        bands = ("mean ± standard deviation", "mean alone")
        views = [
            _test_view(rows[rows["axis"] == a], a, context, filled=band == bands[0]) for a in axes for band in bands
        ]  # fmt: skip
        shown = list(dict.fromkeys(rows["algorithm"]))
        yield Figure(
            f"Test accuracy, objective {objective}",
            Chart(
                f"Test accuracy of what {', '.join(shown)} chose, with the objective {objective}; higher is better.",
                tuple(views),
                (Control("Over", tuple(_OVER[a] for a in axes)), Control("Line and band", bands)),
                _charts.legend_of(shown, context.styles),
            ),
            "Of the architecture that the search would choose then, by the values that it saw; over trials.",
        )


def _test_view(rows: pd.DataFrame, axis: str, context: Context, *, filled: bool) -> View:
    curves = []
    for name, part in rows.groupby("algorithm", sort=False):
        at = part.sort_values("x")
        mean, std = array(at, "test_mean"), filled * np.nan_to_num(array(at, "test_std"))
        curves.append(_charts.Band(str(name), array(at, "x"), mean, mean - std, mean + std))
    title, scale = _X[axis]
    view = _charts.bands(
        curves, context.styles, x=title, y="test accuracy, %", decimals=2, x_scale=scale, log_x=_geometric(rows)
    )
    # The first random architectures would squeeze the rest into the upper edge.
    low = float(np.quantile(np.concatenate([c.centre for c in curves]), 0.08))
    high = max(float(c.high[len(c.high) // 4 :].max()) for c in curves)
    margin = 0.08 * (high - low) or 0.1
    yaxis = {**view.layout["yaxis"], "range": [low - margin, high + margin], "rangemode": "normal"}
    return View(view.data, {**view.layout, "yaxis": yaxis})


# -- small things -----------------------------------------------------------------------------


def unique(frame: pd.DataFrame, column: str) -> list[str]:
    """Names of a column in order, each once; none where it is not there."""
    return [str(v) for v in dict.fromkeys(frame[column])] if column in frame else []


def array(frame: pd.DataFrame, column: str) -> Any:
    """A column as ``float64[n]``."""
    return np.asarray(frame[column], dtype=np.float64)


def _range(low: Any, high: Any) -> str:
    return f"{int(low):,}" if low == high else f"{int(low):,} to {int(high):,}"


def _optimum(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {number(v)}" for k, v in value.items() if isinstance(v, int | float))
    return f"{value:.3f} %" if isinstance(value, int | float) else ""
