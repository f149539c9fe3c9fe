"""What a page shows of a proxy sweep: how proxies agree with one another and, given a table, with accuracy."""

from __future__ import annotations

__all__ = [
    "Sweep",
    "against_accuracy",
    "best_cells",
    "correlation",
    "distributions",
    "failures",
    "ranking",
    "read",
    "recognises",
    "section",
]

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tauzero.evaluation._report import _charts, _files
from tauzero.evaluation._report._cells import drawings
from tauzero.evaluation._report._parts import Chart, Column, Context, Control, Drawings, Figure, Provenance, Table
from tauzero.evaluation.metrics import kendall_tau, spearman
from tauzero.spaces import BenchmarkFormatError, get

if TYPE_CHECKING:
    import pandas as pd

_TABLE, _MANIFEST, _KEY = "scores.parquet", "sweep.json", "tauzero.score"
_NOT_SCORES = {"index", "arch", "reason"}
#: In larger matrices the numbers would not be readable.
_NUMBERED = 18
#: Kendall's tau of more rows changes nothing that can be seen and takes its time for each pair of proxies.
_COMPARED = 20_000
_DRAWN = 4
_UNDEFINED = "undefined: "  # how the reason of a score begins that was computed and has no value


@dataclass(frozen=True)
class Sweep:
    """Scores ``float64[n]`` by proxy, and what is known of how they were made."""

    path: Path
    frame: pd.DataFrame
    scores: dict[str, npt.NDArray[np.float64]]
    settings: dict[str, Any]
    made: dict[str, Any]

    def accuracy(self, context: Context) -> tuple[npt.NDArray[np.float64], str] | None:
        """True value of each row, ``float64[n]``, NaN where there is none, and what it is; None without a table."""
        table = context.benchmark
        if table is None:
            return None
        space = self.settings.get("space")
        if table.space.name != space:
            raise ValueError(
                f"The 'benchmark' argument must be a table of {space}, the space of the sweep '{self.path}'. "
                f"Got {table.name}, a table of {table.space.name}."
            )
        dataset = context.dataset or table.datasets[0]
        metric = context.metric or table.main_metric(dataset)
        rows = table.space.from_string([str(a) for a in self.frame["arch"]])
        values = np.asarray(table.query(rows, dataset=dataset, metric=metric), dtype=np.float64)
        unit = {"percent": "%"}.get(table.unit(dataset, metric), table.unit(dataset, metric))
        return values, f"{metric.replace('_', ' ')} on {dataset}{f', {unit}' if unit else ''}"


def recognises(path: Path) -> bool:
    """Whether this is the folder of a sweep, or its table of scores."""
    if path.is_dir():
        return (path / _MANIFEST).is_file() and isinstance(_files.json_head(path / _MANIFEST).get("settings"), dict)
    return path.suffix == ".parquet" and _KEY in _files.parquet_metadata(path)


def read(path: Path) -> Sweep:
    """Read the table of scores.

    Raises
    ------
    BenchmarkFormatError
        If the sweep has not come to its end, or a file is damaged.
    """
    file = path / _TABLE if path.is_dir() else path
    if not file.is_file():
        raise BenchmarkFormatError(
            f"'{path}' has no {_TABLE}: the sweep has not come to its end. "
            "Run the same `tauzero score` again; it goes on."
        )
    frame = _files.read_frame(file, ("arch",))
    metadata = _files.parquet_metadata(file)
    try:
        settings = json.loads(metadata[_KEY])
        beside = file.with_name("provenance.json")
        made = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    except (KeyError, ValueError) as error:
        raise BenchmarkFormatError(f"'{file}' does not say how its scores were made ({error}).") from error
    scores = {
        str(name): np.asarray(frame[name], dtype=np.float64)
        for name in frame.columns
        if name not in _NOT_SCORES and frame[name].dtype.kind in "fiu"
    }
    if not scores or not len(frame):
        raise BenchmarkFormatError(f"'{file}' holds no scores.")
    return Sweep(path, frame, scores, settings, made if isinstance(made, dict) else {})


def section(sweep: Sweep) -> dict[str, Any]:
    """Title, facts, notes and provenance."""
    given = sweep.settings
    missing = int(sum((~np.isfinite(v)).sum() for v in sweep.scores.values()))
    shape = given.get("dataset") if isinstance(given.get("dataset"), dict) else {}
    images = f"{given.get('batch_size')}, {given.get('batch')}"
    if shape:
        images += f", {shape.get('image_size')}×{shape.get('image_size')} pixels, {shape.get('num_classes')} classes"
    facts = [
        ("space", str(given.get("space"))),
        ("architectures", f"{len(sweep.frame):,}"),
        ("proxies", f"{len(sweep.scores)}"),
        ("images", images),
        ("scores without a value", f"{missing:,} of {len(sweep.frame) * len(sweep.scores):,}"),
    ]
    seconds = sweep.made.get("seconds")
    if isinstance(seconds, int | float) and sweep.made.get("found") == 0:
        each = f"{1000 * seconds / len(sweep.frame):,.0f} ms for each architecture"
        facts.append(("wall time", f"{seconds:,.1f} s, {each}"))
    left_out = {"genotypes", "seed", "tauzero", "torch", "dataset", "proxies"}
    return {
        "title": f"Proxies: {len(sweep.scores)} on {given.get('space')}",
        "facts": facts,
        "provenance": Provenance(
            source=sweep.path.name or str(sweep.path),
            command=_files.command(sweep.made.get("command")),
            seeds=_files.seeds(given.get("seed")),
            versions=_files.texts(sweep.made.get("versions"))
            or _files.texts({name: given.get(name) for name in ("tauzero", "torch")}),
            machine=_files.line(sweep.made.get("machine")),
            settings={k: v for k, v in given.items() if k not in left_out and v is not None},
        ),
    }


# -- figures ----------------------------------------------------------------------------------


def correlation(sweep: Sweep, context: Context) -> Iterator[Figure]:
    """How far proxies order architectures alike, and as accuracy does."""
    columns = dict(sweep.scores)
    truth = sweep.accuracy(context)
    if truth is not None:
        columns = {"accuracy": truth[0], **columns}
    names = list(columns)
    if len(names) < 2:
        return
    views = []
    for label, measure in (("Spearman's ρ", spearman), ("Kendall's τ", kendall_tau)):
        values, counts = np.eye(len(names)), np.zeros((len(names), len(names)), dtype=int)
        for i, a in enumerate(names):
            for j, b in enumerate(names[: i + 1]):
                values[i, j], counts[i, j] = _agreement(columns[a], columns[b], measure, same=i == j)
                values[j, i], counts[j, i] = values[i, j], counts[i, j]
        texts = [
            [f"{v:.2f}".replace("-", "−") if np.isfinite(v) and len(names) <= _NUMBERED else "" for v in line]
            for line in values
        ]
        hover = [
            [
                f"{a}, {b}\n{label} {values[i, j]:.3f} over {counts[i, j]:,} architectures".replace("-", "−")
                for j, b in enumerate(names)
            ]
            for i, a in enumerate(names)
        ]
        views.append(_charts.heat_map(names, names, values, texts=texts, hover=hover, limit=1.0, bar=label))
    size = 40 if len(names) <= _NUMBERED else 22
    note = f" The first row is with {truth[1]}." if truth is not None else ""
    yield Figure(
        "Rank correlation of proxies",
        Chart(
            f"Rank correlation between {', '.join(names)}.",
            tuple(views),
            (Control("Measure", ("Spearman's ρ", "Kendall's τ")),),
            height=max(320, 120 + size * len(names)),
            min_width=min(900, 170 + int(size * 1.25) * len(names)),
        ),
        "Over the architectures for which both scores have a value. Negative correlation with accuracy: low scores are "
        "good." + note,
    )


def _agreement(a: Any, b: Any, measure: Any, *, same: bool = False) -> tuple[float, int]:
    """Measure and number of rows; NaN where fewer than two rows have both values."""
    fine = np.flatnonzero(np.isfinite(a) & np.isfinite(b))
    if len(fine) < 2:
        return np.nan, len(fine)
    if same:
        return 1.0, len(fine)
    if len(fine) > _COMPARED:
        fine = np.random.default_rng(0).choice(fine, _COMPARED, replace=False)
    return float(measure(a[fine], b[fine])), len(fine)


def against_accuracy(sweep: Sweep, context: Context) -> Iterator[Figure]:
    """Each proxy against accuracy."""
    found = sweep.accuracy(context)
    if found is None:
        return
    truth, what = found
    views, shown = [], []
    for name, score in sweep.scores.items():
        fine = np.isfinite(score) & np.isfinite(truth)
        if fine.sum() < 2:
            continue
        x, label = _scaled(score[fine], name)
        # Networks at the level of guessing would squeeze all others into a strip.
        low = float(np.quantile(truth[fine], 0.05))
        high = float(truth[fine].max())
        margin = 0.05 * (high - low) or 1.0
        span = float(x.max() - x.min()) or 1.0
        limits = (float(x.min()) - 0.03 * span, float(x.max()) + 0.03 * span, low - margin, high + margin)
        views.append(
            _charts.points_or_density(
                x,
                truth[fine],
                "@0",
                x_title=label,
                y_title=what,
                labels=[str(a) for a in sweep.frame["arch"].to_numpy()[fine]] if len(x) <= _charts.DENSE else (),
                limits=limits,
            )
        )
        shown.append(name)
    if shown:
        yield Figure(
            "Scores against accuracy",
            Chart(f"Scores of {', '.join(shown)} against {what}.", tuple(views), (Control("Proxy", tuple(shown)),)),
            "The 5 % of architectures with the lowest accuracy may lie outside; zoom out by a double click.",
        )


def _scaled(score: Any, name: str) -> tuple[Any, str]:
    """Values, or their logarithms where most values would fall on one spot, or ranks where there is none."""
    from scipy.stats import rankdata

    lower, upper = np.quantile(score, [0.25, 0.75])
    if upper - lower > 0.02 * (score.max() - score.min()) or len(np.unique(score)) < 3:
        return score, name
    if (score > 0).all():
        return np.log10(score), f"{name} (logarithm to base 10)"
    return np.asarray(rankdata(score), dtype=np.float64), f"{name} (rank, 1 = lowest)"


def distributions(sweep: Sweep, context: Context) -> Iterator[Figure]:
    """How the scores of each proxy are spread."""
    del context
    views, shown = [], []
    for name, score in sweep.scores.items():
        fine = score[np.isfinite(score)]
        if not len(fine):
            continue
        x, label = _scaled(fine, name)
        views.append(_charts.histogram(x, "@0/0.75", x=label))
        shown.append(name)
    if shown:
        yield Figure(
            "Distributions of scores",
            Chart(
                f"Histograms of {', '.join(shown)}.", tuple(views), (Control("Proxy", tuple(shown)),), height=320
            ),
        )  # fmt: skip


def ranking(sweep: Sweep, context: Context) -> Iterator[Figure]:
    """One row for each proxy."""
    found = sweep.accuracy(context)
    columns = [
        Column("proxy", numeric=False), Column("with a value"), Column("lowest"), Column("median"), Column("highest"),
        Column("different", note="different values"),
    ]  # fmt: skip
    if found is not None:
        columns += [Column("Kendall's τ", note=f"with {found[1]}"), Column("Spearman's ρ", note=f"with {found[1]}")]
    rows = []
    for name, score in sweep.scores.items():
        fine = score[np.isfinite(score)]
        row: list[Any] = [name, len(fine)]
        row += [float(v) for v in (fine.min(), np.median(fine), fine.max())] if len(fine) else [None] * 3
        row.append(len(np.unique(fine)))
        if found is not None:
            for measure in (kendall_tau, spearman):
                value = _agreement(found[0], score, measure)[0]
                row.append((value, f"{value:.3f}".replace("-", "−")) if np.isfinite(value) else None)
        rows.append(row)
    caption = "" if found is None else f"Correlations are with {found[1]}."
    yield Figure("Proxies in numbers", Table(tuple(columns), rows), caption)


def best_cells(sweep: Sweep, context: Context) -> Iterator[Figure]:
    """The architectures of the best accuracy, or else of the highest mean rank."""
    from scipy.stats import rankdata

    found = sweep.accuracy(context)
    if found is not None:
        judge, why = found[0], f"by {found[1]}"
    else:
        table = np.stack([np.where(np.isfinite(v), v, -np.inf) for v in sweep.scores.values()], axis=1)
        judge, why = (
            rankdata(table, axis=0).mean(axis=1) / len(table),
            "by their mean rank over all proxies, high being good",
        )
    order = [int(k) for k in np.argsort(-np.nan_to_num(judge, nan=-np.inf), kind="stable")]
    archs = sweep.frame["arch"].astype(str).tolist()
    distinct = list(dict.fromkeys(_identities(sweep, archs, order)))[:_DRAWN]
    items = []
    for place, k in enumerate(distinct, 1):
        value = f"{judge[k]:.2f}" if found is not None else f"mean rank {100 * judge[k]:.0f} of 100"
        items += drawings(str(sweep.settings.get("space")), archs[k], f"Number {place}", (value,))
    yield Figure(
        "Best cells of the sweep",
        Drawings(tuple(items)),
        f"The best {len(distinct)} different networks {why}.",
    )


def _identities(sweep: Sweep, archs: list[str], order: list[int]) -> Iterator[int]:
    """The first of equal networks for each row, of the first rows in `order`."""
    some = order[: 20 * _DRAWN]
    space = get(str(sweep.settings.get("space")))
    canonical = space.canonical(space.from_string([archs[k] for k in some]))
    first: dict[bytes, int] = {}
    for k, row in zip(some, canonical, strict=True):
        yield first.setdefault(row.tobytes(), k)


def failures(sweep: Sweep, context: Context) -> Iterator[Figure]:
    """Why scores are missing."""
    del context
    if "reason" not in sweep.frame:
        return
    rows: dict[str, list[int]] = {}
    for k, reason in enumerate(sweep.frame["reason"].tolist()):
        if isinstance(reason, str) and reason:
            rows.setdefault(reason, []).append(k)
    if not rows:
        return
    archs = sweep.frame["arch"].astype(str).tolist()
    lines = [
        [
            "no value" if reason.startswith(_UNDEFINED) else "error",
            reason.removeprefix(_UNDEFINED),
            len(at),
            archs[at[0]],
        ]
        for reason, at in sorted(rows.items(), key=lambda item: -len(item[1]))
    ]
    columns = (
        Column("kind", numeric=False), Column("proxies or reason", numeric=False), Column("architectures"),
        Column("such as", numeric=False, code=True),
    )  # fmt: skip
    yield Figure("Scores without a value", Table(columns, lines), "No value: computed, but not a finite number.")
