"""What a page shows of one-shot searches: training, the cell epoch by epoch, the supernet's ranking, what was found."""

from __future__ import annotations

__all__ = [
    "OneShots",
    "Run",
    "best_cells",
    "means",
    "operations",
    "ranking",
    "read",
    "recognises",
    "results",
    "section",
    "training",
]

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tauzero.evaluation._report import _charts, _files
from tauzero.evaluation._report._cells import drawings, short_name
from tauzero.evaluation._report._parts import (
    Chart,
    Column,
    Context,
    Control,
    Drawings,
    Figure,
    Provenance,
    Table,
    number,
)
from tauzero.evaluation.metrics import kendall_tau
from tauzero.spaces import OPERATIONS, STRUCTURE, BenchmarkFormatError, Genotypes, SearchSpace, get

if TYPE_CHECKING:
    import pandas as pd

_SETTINGS, _RESULT, _HISTORY, _RANKING = "settings.json", "result.json", "history.parquet", "ranking.parquet"
_WRITTEN = {"preset", "method", "space", "seed", "epochs"}
_CURVES = {
    "train_accuracy": "accuracy of the training batches, %",
    "train_loss": "loss of the weights' steps",
    "architecture_loss": "loss of the architecture's steps",
}
_DRAWN = 9

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """One finished search: `result` as it was written, `history` by epoch, `ranking` of random architectures."""

    name: str
    result: dict[str, Any]
    history: pd.DataFrame
    ranking: pd.DataFrame
    made: dict[str, Any]

    @property
    def method(self) -> str:
        """Its method."""
        return str(self.result["method"])

    @property
    def ranked(self) -> Genotypes:
        """The random architectures, ``int8[n, L]``."""
        return np.array(self.ranking["genotype"].tolist(), dtype=np.int8)


@dataclass(frozen=True)
class OneShots:
    """One or several searches in one space, and how many more there are that are not finished."""

    path: Path
    space: str
    runs: list[Run]
    unfinished: int

    def by_method(self) -> dict[str, list[Run]]:
        """The runs of each method, in the order of their first."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.method, []).append(run)
        return found


def recognises(path: Path) -> bool:
    """Whether this is the folder of a one-shot search, or a folder of such folders."""
    return bool(_folders(path))


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    if _is_one(path):
        return [path]
    return [folder for folder in sorted(path.iterdir()) if folder.is_dir() and _is_one(folder)]


def _is_one(folder: Path) -> bool:
    return _files.json_head(folder / _SETTINGS).keys() >= _WRITTEN


def read(path: Path) -> OneShots:
    """Read finished searches; in a folder of several, those that are not finished are left out.

    Raises
    ------
    BenchmarkFormatError
        If none is finished, or a file is damaged.
    ValueError
        If they are searches of several spaces.
    """
    folders = _folders(path)
    finished = [folder for folder in folders if (folder / _RESULT).is_file()]
    if not finished:
        raise BenchmarkFormatError(
            f"'{path}' has no {_RESULT}: the search has not come to its end. Run the same `tauzero search --method …` "
            "again; it goes on."
        )
    runs: list[Run] = []
    for folder in finished:
        result = _files.read_json(folder / _RESULT)
        missing = {"method", "space", "seed", "best", "epochs"} - result.keys()
        if missing or not isinstance(result["best"], dict):
            raise BenchmarkFormatError(f"'{folder / _RESULT}' lacks {', '.join(sorted(missing or {'best'}))}.")
        name = f"{result['method']}, seed {result['seed']}"
        runs.append(
            Run(
                name if all(run.name != name for run in runs) else f"{name} ({folder.name})",
                result,
                _files.read_frame(folder / _HISTORY, ("epoch", "train_loss", "arch")),
                _files.read_frame(folder / _RANKING, ("genotype", "score")),
                _files.read_json(folder / "provenance.json") if (folder / "provenance.json").is_file() else {},
            )
        )
    spaces = sorted({str(run.result["space"]) for run in runs})
    if len(spaces) > 1:
        raise ValueError(f"'{path}' holds searches of several spaces ({', '.join(spaces)}): report on each alone.")
    return OneShots(path, spaces[0], runs, len(folders) - len(finished))


def section(found: OneShots) -> dict[str, Any]:
    """Title, facts, notes and provenance."""
    runs, methods = found.runs, list(found.by_method())
    first = runs[0]
    options = [run.result.get("options") or {} for run in runs]
    same = {name: value for name, value in options[0].items() if all(o.get(name) == value for o in options)}
    seconds = sum(float(run.result.get("train_seconds") or 0) for run in runs)
    facts = [
        ("space", found.space),
        ("searches", f"{len(runs)} of {len(methods)} methods" if len(methods) > 1 else str(len(runs))),
        ("images", _images(runs)),
        ("epochs", ", ".join(dict.fromkeys(str(run.result["epochs"]) for run in runs))),
        ("training", f"{seconds:,.0f} s" + (" in all" if len(runs) > 1 else "")),
    ]
    left_out = f"{found.unfinished} of {len(runs) + found.unfinished} searches are not finished and left out."
    commands = [_files.command(run.made.get("command")) for run in runs]
    what = methods[0] if len(methods) == 1 else f"{len(methods)} methods"
    return {
        "title": f"One-shot search: {what} on {found.space}",
        "facts": facts,
        "notes": [left_out] if found.unfinished else [],
        "provenance": Provenance(
            source=found.path.name or str(found.path),
            command=_files.commands(list(dict.fromkeys(c for c in commands if c))),
            seeds=", ".join(dict.fromkeys(str(run.result["seed"]) for run in runs)),
            versions=_files.texts(first.made.get("versions")),
            machine=_files.line(first.made.get("machine")),
            settings={name: value for name, value in same.items() if value is not None},
        ),
    }


# -- figures ----------------------------------------------------------------------------------


def training(found: OneShots, context: Context) -> Iterator[Figure]:
    """Accuracy and losses by epoch, of each method over its seeds."""
    views, shown = [], []
    for column, title in _CURVES.items():
        curves = [
            _over_seeds(method, [_column(run.history, column) for run in runs])
            for method, runs in found.by_method().items()
        ]
        curves = [curve for curve in curves if np.isfinite(curve.centre).any()]
        if curves:
            views.append(_charts.bands(curves, context.styles, x="epoch", y=title, step=False))
            shown.append(title)
    if not views:
        return
    yield Figure(
        "Training",
        Chart(
            f"{', '.join(shown)} by epoch.",
            tuple(views),
            (Control("Shown", tuple(shown)),) if len(shown) > 1 else (),
            _charts.legend_of(found.by_method(), context.styles),
        ),
        "What is averaged belongs to other architectures in each method: mixtures, or those that were drawn."
        + _band(found),
    )


def operations(found: OneShots, context: Context) -> Iterator[Figure]:
    """How many of each operation the cell has that would have been returned, epoch by epoch."""
    space = get(found.space)
    views, shown = [], []
    every: dict[str, None] = {}
    for method, runs in found.by_method().items():
        counts = [_counts(space, run.history["arch"].tolist()) for run in runs]
        if not all(len(table) for table in counts):
            continue  # a method that only decides when the training is over
        names = list(dict.fromkeys(name for table in counts for name in table))
        length = max(len(values) for table in counts for values in table.values())
        curves = [
            _over_seeds(short_name(name), [table.get(name, np.zeros(length)) for table in counts]) for name in names
        ]
        every.update(dict.fromkeys(short_name(name) for name in names))
        views.append(_charts.bands(curves, context.styles, x="epoch", y="operations in the cell", decimals=1))
        shown.append(method)
    if views:
        yield Figure(
            "The cell, epoch by epoch",
            Chart(
                f"Number of each operation in the cell that {', '.join(shown)} would have returned after each epoch.",
                tuple(views),
                (Control("Method", tuple(shown)),) if len(shown) > 1 else (),
                _charts.legend_of(every, context.styles),
            ),
            "DARTS and its kin are known to drift to skip connections." + _band(found),
        )


def ranking(found: OneShots, context: Context) -> Iterator[Figure]:
    """The supernet's scores of random architectures against what a table knows of them."""
    views, shown = [], []
    for run in found.runs:
        truth, what = _truth(found.space, run, context)
        score = _column(run.ranking, "score")
        fine = np.isfinite(score) & np.isfinite(truth)
        if fine.sum() < 2:
            continue
        tau = kendall_tau(truth[fine], score[fine])
        space = get(found.space)
        views.append(
            _charts.points_or_density(
                score[fine],
                truth[fine],
                "@0",
                x_title=f"score with the supernet's weights (τ = {number(float(tau), 3)})",
                y_title=what,
                labels=space.to_string(run.ranked[fine]),
            )
        )
        shown.append(run.name)
    if views:
        yield Figure(
            "Ranking by the supernet",
            Chart(
                f"Scores of random architectures by the supernets of {', '.join(shown)} against their accuracies.",
                tuple(views),
                (Control("Search", tuple(shown)),) if len(shown) > 1 else (),
            ),
            "Random architectures that the search did not choose; τ is Kendall's.",
        )


def results(found: OneShots, context: Context) -> Iterator[Figure]:
    """One row for each search."""
    del context
    datasets = _datasets(found.runs)
    columns = (
        Column("method", numeric=False), Column("seed"),
        Column("one-shot accuracy", note="%, with the supernet's weights"),
        *(Column(d, note="test, %, of the table") for d in datasets),
        *([Column("rank", note=f"of the table, {datasets[0]}")] if datasets else []),
        Column("supernet's τ"), Column("epochs"), Column("training, s"), Column("peak memory, MB"),
    )  # fmt: skip
    rows = []
    for run in found.runs:
        best = run.result["best"]
        tau = run.result.get("supernet_tau")
        rows.append(
            [
                run.method,
                run.result["seed"],
                _percent(best.get("value")),
                *(_percent(_test(run, d)) for d in datasets),
                *([best.get("rank")] if datasets else []),
                None if tau is None else (tau, f"{tau:.3f}".replace("-", "−")),
                run.result["epochs"],
                run.result.get("train_seconds"),
                run.result.get("peak_memory_mb"),
            ]
        )
    yield Figure("Searches in numbers", Table(columns, rows))


def means(found: OneShots, context: Context) -> Iterator[Figure]:
    """One row for each method that ran with several seeds."""
    del context
    several = {method: runs for method, runs in found.by_method().items() if len(runs) > 1}
    if not several:
        return
    datasets = _datasets(found.runs)
    columns = (
        Column("method", numeric=False), Column("seeds"), Column("one-shot accuracy", note="%"),
        *(Column(d, note="test, %, of the table") for d in datasets), Column("supernet's τ"),
    )  # fmt: skip
    rows = [
        [
            method,
            len(runs),
            _mean([run.result["best"].get("value") for run in runs]),
            *(_mean([_test(run, d) for run in runs]) for d in datasets),
            _mean([run.result.get("supernet_tau") for run in runs], 3),
        ]
        for method, runs in several.items()
    ]
    yield Figure("Methods over seeds", Table(columns, rows), "Mean ± standard deviation over seeds.")


def best_cells(found: OneShots, context: Context) -> Iterator[Figure]:
    """What the searches returned."""
    del context
    items = []
    # The first search of each method, then the second of each, while there is room.
    turns = zip_longest(*found.by_method().values())
    for run in [run for turn in turns for run in turn if run is not None][:_DRAWN]:
        best = run.result["best"]
        known = [f"{d}: {number(_test(run, d))} % test" for d in _datasets([run])]
        lines = (f"{number(best.get('value'))} % with the supernet's weights", *known)
        items += drawings(found.space, str(best.get("arch")), run.name, lines)
    yield Figure("Cells found", Drawings(tuple(items)))


# -- pieces -----------------------------------------------------------------------------------


def _column(frame: pd.DataFrame, name: str) -> Floats:
    """A column as numbers, NaN where there is none."""
    if name not in frame:
        return np.full(len(frame), np.nan)
    return np.array([np.nan if v is None else float(v) for v in frame[name].tolist()], dtype=np.float64)


def _over_seeds(name: str, rows: Sequence[Floats]) -> _charts.Band:
    """Mean and range over runs, of unequal lengths too."""
    length = max(len(row) for row in rows)
    table = np.stack([np.pad(row, (0, length - len(row)), constant_values=np.nan) for row in rows])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # epochs without a value stay NaN
        centre, low, high = np.nanmean(table, axis=0), np.nanmin(table, axis=0), np.nanmax(table, axis=0)
    return _charts.Band(name, np.arange(1.0, length + 1), centre, low, high)


def _band(found: OneShots) -> str:
    several = any(len(runs) > 1 for runs in found.by_method().values())
    return " Mean and range over seeds." if several else ""


def _counts(space: SearchSpace, archs: Sequence[str | None]) -> dict[str, Floats]:
    """Operation → how many of it each architecture has, ``float64[n]``; empty where one is not known."""
    if not archs or any(arch is None for arch in archs):
        return {}
    graphs = space.graphs(space.from_string([str(arch) for arch in archs]))
    there = np.arange(graphs.ops.shape[1]) < np.asarray(graphs.num_nodes)[:, None]
    found = {}
    for code, name in enumerate(OPERATIONS):
        counts = ((graphs.ops == code) & there).sum(axis=1)
        if name not in STRUCTURE and counts.any():
            found[name] = counts.astype(np.float64)
    return found


def _truth(space: str, run: Run, context: Context) -> tuple[Floats, str]:
    """Accuracies of the ranked architectures and what they are; NaN without a table."""
    table = context.benchmark
    if table is None or table.space.name != space or not len(run.ranking):
        return _column(run.ranking, "test_accuracy"), "test accuracy in the table, %"
    dataset = context.dataset or table.datasets[0]
    metric = context.metric or table.main_metric(dataset)
    values = np.asarray(table.query(run.ranked, dataset=dataset, metric=metric), dtype=np.float64)
    return values, f"{metric.replace('_', ' ')} on {dataset}"


def _images(runs: Sequence[Run]) -> str:
    """What the images were; searches often differ in the seed alone that they were drawn with."""
    every = list(dict.fromkeys(str(run.result.get("data")) for run in runs))
    if len(every) > 1:
        every = list(dict.fromkeys(re.sub(r"seed \d+", "the search's seed", text) for text in every))
    return "; ".join(every)


def _datasets(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(str(d) for run in runs for d in (run.result["best"].get("datasets") or {})))


def _test(run: Run, dataset: str) -> float | None:
    facts = (run.result["best"].get("datasets") or {}).get(dataset) or {}
    value = facts.get("test_accuracy")
    return None if value is None else float(value)


def _percent(value: Any) -> Any:
    return None if value is None else (value, f"{value:.2f}")


def _mean(values: Sequence[Any], decimals: int = 2) -> Any:
    known = np.array([v for v in values if v is not None], dtype=np.float64)
    if not len(known):
        return None
    spread = f" ± {known.std(ddof=1):.{decimals}f}" if len(known) > 1 else ""
    return float(known.mean()), f"{known.mean():.{decimals}f}{spread}".replace("-", "−")
