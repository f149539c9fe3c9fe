"""What a page shows of an evaluation: how well models rank, given how many architectures to learn from."""

from __future__ import annotations

__all__ = ["Evaluations", "by_size", "calibration", "measures", "predicted", "read", "recognises", "section"]

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tauzero.evaluation._report import _charts, _files
from tauzero.evaluation._report._parts import (
    Chart,
    Column,
    Context,
    Control,
    Figure,
    LegendEntry,
    Provenance,
    Table,
    View,
)
from tauzero.evaluation.metrics import kendall_tau
from tauzero.spaces import BenchmarkFormatError

if TYPE_CHECKING:
    import pandas as pd

_FILE, _PREDICTIONS = "evaluation.json", "predictions.parquet"
_NEEDED = {"rows", "benchmark", "protocol"}
#: Measure → what its axis is called, its decimals, and whether the noise ceiling is one of it.
_CURVES = {
    "tau": ("Kendall's τ", 3),
    "spearman": ("Spearman's ρ", 3),
    "tau_unseen": ("Kendall's τ without copies of training cells", 3),
    "p_at_1": ("precision at the best 1 %", 3),
    "n_at_10": ("true rank of the best of the predicted top 10", 1),
    "r2": ("R²", 3),
    "mae": ("mean absolute error, in the metric's unit", 3),
    "coverage_90": ("coverage of 90 % intervals", 3),
    "width_90": ("mean width of 90 % intervals, in the metric's unit", 3),
    "fit_s": ("seconds to fit", 2),
    "predict_s": ("seconds to predict", 2),
}
_NOMINAL = np.round(np.arange(0.05, 1.0, 0.05), 2)
_CEILING = "noise ceiling"


@dataclass(frozen=True)
class Evaluations:
    """One evaluation, or several by name (such as one for each data set), and predictions of one seed."""

    path: Path
    results: dict[str, dict[str, Any]]
    predictions: pd.DataFrame | None
    made: dict[str, Any]

    def series(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of each line of a chart: by model, and by evaluation if there are several."""
        found: dict[str, list[dict[str, Any]]] = {}
        models = {row["model"] for result in self.results.values() for row in result["rows"]}
        for label, result in self.results.items():
            for row in result["rows"]:
                parts = [label] if len(self.results) > 1 else []
                if len(models) > 1 or not parts:
                    parts.append(str(row["model"]))
                found.setdefault(", ".join(parts), []).append(row)
        return found


def recognises(path: Path) -> bool:
    """Whether this is a folder with an evaluation, or a JSON file of one or several."""
    return bool(_results(_files.json_head(path / _FILE if path.is_dir() else path)))


def _results(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Evaluations by name; empty if the content is none."""
    if _is_one(content):
        return {"": dict(content)}
    inner = {str(k): v for k, v in content.items() if isinstance(v, Mapping) and _is_one(v)}
    return {k: dict(v) for k, v in inner.items()}


def _is_one(content: Mapping[str, Any]) -> bool:
    rows = content.get("rows")
    return (
        content.keys() >= _NEEDED
        and isinstance(rows, list)
        and bool(rows)
        and all(isinstance(row, Mapping) and {"model", "train", "tau"} <= row.keys() for row in rows)
    )


def read(path: Path) -> Evaluations:
    """Read the JSON, and the predictions beside it.

    Raises
    ------
    BenchmarkFormatError
        If a file is damaged.
    """
    content = _files.read_json(path / _FILE if path.is_dir() else path)
    results = _results(content)
    if not results:
        raise BenchmarkFormatError(f"'{path}' holds no evaluation.")
    predictions = None
    if path.is_dir() and (path / _PREDICTIONS).is_file():
        wanted = ("model", "train", "truth", "prediction", "std", "trained", "unseen")
        predictions = _files.read_frame(path / _PREDICTIONS, wanted)
    return Evaluations(path, results, predictions, content)


def section(evaluations: Evaluations) -> dict[str, Any]:
    """Title, facts, notes and provenance."""
    results = list(evaluations.results.values())
    first, made = results[0], evaluations.made
    datasets = ", ".join(dict.fromkeys(str(r.get("dataset")) for r in results))
    seeds = sorted({m["seed"] for r in results for m in r.get("per_seed", []) if isinstance(m.get("seed"), int)})
    facts = [
        ("benchmark", str(first["benchmark"])),
        ("data set" if len(results) == 1 else "data sets", datasets),
        ("metric", ", ".join(dict.fromkeys(str(r.get("metric")).replace("_", " ") for r in results))),
        ("protocol", f"{first['protocol']}: {first.get('protocol_text', '')}".rstrip(": ")),
        ("seeds", str(len(seeds)) if seeds else "not recorded"),
    ]
    for label, result in evaluations.results.items():
        ceiling = result.get("noise_ceiling")
        if ceiling is not None and len(results) == 1:
            facts.append(("noise ceiling", f"τ {ceiling:.4f} between two training runs"))
        elif ceiling is not None:
            facts.append((f"noise ceiling, {label}", f"τ {ceiling:.4f}"))
    proxies = first.get("proxies")
    if isinstance(proxies, Mapping):
        facts.append(("proxies as features", ", ".join(str(c) for c in proxies.get("columns") or ())))
    rows = results[0]["rows"]
    return {
        "title": f"Evaluation: {first['benchmark']}, {datasets}"
        if len(datasets) < 40
        else f"Evaluation: {first['benchmark']}",
        "facts": facts,
        "notes": [str(text) for text in first.get("splits", [])[:1]],
        "provenance": Provenance(
            source=evaluations.path.name or str(evaluations.path),
            command=_files.command(made.get("command")),
            seeds=_files.seeds(seeds),
            versions=_files.texts(made.get("versions")),
            machine=_files.line(made.get("machine")),
            settings={
                "protocol": str(first["protocol"]),
                "train": ", ".join(dict.fromkeys(str(row["train"]) for row in rows)),
                "models": ", ".join(dict.fromkeys(str(row["model"]) for row in rows)),
            },
        ),
    }


# -- figures ----------------------------------------------------------------------------------


def by_size(evaluations: Evaluations, context: Context) -> Iterator[Figure]:
    """Each measure against the size of the training set."""
    series = evaluations.series()
    ceilings = {
        label: float(r["noise_ceiling"])
        for label, r in evaluations.results.items()
        if r.get("noise_ceiling") is not None
    }
    views, options = [], []
    for measure, (title, decimals) in _CURVES.items():
        found = []
        for name, rows in series.items():
            known = [row for row in rows if row.get(measure) is not None]
            if known:
                x, y, error = (
                    np.array([row.get(key) or 0.0 for row in known], dtype=np.float64)
                    for key in ("train", measure, f"{measure}_std")
                )
                found.append(_charts.Line(name, x, y, error))
        if not found:
            continue
        sizes = np.concatenate([line.x for line in found])
        wide = sizes.max() > 3 * sizes.min()
        view = _charts.lines(
            found, context.styles, x="architectures trained on", y=title, log_x=bool(wide), decimals=decimals
        )
        data = [*view.data]
        if measure in {"tau", "tau_unseen"}:
            data += [_level(f"{_CEILING}{f', {k}' if k else ''}", v, sizes, _CEILING) for k, v in ceilings.items()]
        if measure == "coverage_90":
            data.append(_level("what was promised", 0.9, sizes, _CEILING))
        views.append(View(data, view.layout))
        options.append(title)
    legend = [*_charts.legend_of(series, context.styles, markers=True)]
    if ceilings:
        if not legend:
            legend = [LegendEntry(n, n, context.styles.colour(n), "solid", context.styles.symbol(n)) for n in series]
        legend.append(LegendEntry("noise ceiling: τ between two training runs", _CEILING, "@muted", "dash"))
    yield Figure(
        "Ranking by size of the training set",
        Chart(
            f"Kendall's tau and other measures against the number of training architectures, for {', '.join(series)}.",
            tuple(views),
            (Control("Measure", tuple(options)),),
            tuple(legend),
        ),
        "Mean ± standard deviation over seeds (random training sets).",
    )


def _level(name: str, value: float, sizes: Any, group: str) -> dict[str, Any]:
    """A dashed line across the chart; its points are those of the models, so that a hover finds it everywhere."""
    x = sorted(set(sizes.tolist()))
    return {
        "x": x, "y": [value] * len(x), "mode": "lines", "name": _charts.tidy(name), "legendgroup": group,
        "showlegend": False, "line": {"color": "@muted", "dash": "dash", "width": 1.5}, "hovertemplate": "%{y:.3f}",
    }  # fmt: skip


def _by_model(evaluations: Evaluations) -> tuple[list[str], list[int], dict[tuple[str, int], pd.DataFrame]]:
    """Models, sizes, and predictions by both; only models that have all sizes."""
    if evaluations.predictions is None or not len(evaluations.predictions):
        return [], [], {}
    parts = {
        (str(model), int(size)): part
        for (model, size), part in evaluations.predictions.groupby(["model", "train"], sort=False, observed=True)
    }
    sizes = sorted({size for _, size in parts})
    models = [m for m in dict.fromkeys(model for model, _ in parts) if all((m, size) in parts for size in sizes)]
    return models, sizes, parts


def predicted(evaluations: Evaluations, context: Context) -> Iterator[Figure]:
    """Predicted against true values of one seed."""
    models, sizes, parts = _by_model(evaluations)
    if not models:
        return
    metric = str(next(iter(evaluations.results.values())).get("metric", "value")).replace("_", " ")
    unit = ", %" if metric.endswith("accuracy") else ""
    views = []
    for model in models:
        for size in sizes:
            part = parts[model, size]
            truth, guess = (np.asarray(part[c], dtype=np.float64) for c in ("truth", "prediction"))
            trained = np.asarray(part["trained"], dtype=bool)
            low = min(float(np.quantile(truth, 0.05)), float(truth.max()))
            high = float(max(truth.max(), np.quantile(guess, 0.999)))
            margin = 0.03 * (high - low) or 0.1
            limits = (low - margin, high + margin, low - margin, high + margin)
            view = _charts.points_or_density(
                guess, truth, context.styles.colour(model), x_title=f"predicted {metric}{unit}",
                y_title=f"true {metric}{unit}", limits=limits, diagonal=True,
            )  # fmt: skip
            crosses = {
                "x": _charts.rounded(guess[trained]), "y": _charts.rounded(truth[trained]), "mode": "markers",
                "marker": {"symbol": "x-thin", "size": 6, "line": {"width": 1.3, "color": "@1"}, "color": "@1"},
                "name": "trained on", "legendgroup": "trained on", "showlegend": False,
                "hovertemplate": "trained on: (%{x:.4~g}, %{y:.4~g})<extra></extra>",
            }  # fmt: skip
            outside = int(((truth < limits[0]) | (guess < limits[0]) | (guess > limits[1])).sum())
            note = f"τ = {kendall_tau(truth, guess):.3f} over {len(truth):,}" + (
                f", {outside:,} outside" if outside else ""
            )
            layout = {**view.layout, "annotations": [_note(note)]}
            data = [*view.data, *([crosses] if trained.any() else [])]
            views.append(View(data, layout))
    controls = (Control("Model", tuple(models)), Control("Trained on", tuple(f"{s:,}" for s in sizes)))
    legend = (LegendEntry("trained on", "trained on", "@1", None, "x"),)
    yield Figure(
        "Predicted against true",
        Chart(f"Predicted against true {metric} of {', '.join(models)}.", tuple(views), controls, legend, height=480),
        f"Of seed {', '.join(str(s) for s in _seeds(evaluations))}. Dashed: prediction = truth. The truly worst 5 % "
        "may lie outside.",
    )


def _seeds(evaluations: Evaluations) -> list[int]:
    frame = evaluations.predictions
    return sorted({int(s) for s in frame["seed"]}) if frame is not None and "seed" in frame else []


def _note(text: str) -> dict[str, Any]:
    return {
        "xref": "paper", "yref": "paper", "x": 0.015, "y": 0.985, "xanchor": "left", "yanchor": "top",
        "showarrow": False, "text": text, "font": {"color": "@text"}, "bgcolor": "@paper/0.8",
    }  # fmt: skip


def calibration(evaluations: Evaluations, context: Context) -> Iterator[Figure]:
    """Share of true values inside central intervals of a normal distribution with the predicted deviation."""
    from scipy.stats import norm

    models, sizes, parts = _by_model(evaluations)
    half_widths = norm.ppf((1 + _NOMINAL) / 2)
    views, drawn = [], []
    for size in sizes:
        series = []
        for model in models:
            part = parts[model, size]
            std = np.asarray(part["std"], dtype=np.float64)
            fine = np.asarray(part["unseen"], dtype=bool) & np.isfinite(std) & (std > 0)
            if fine.sum() < 20:
                continue
            error = np.abs(np.asarray(part["truth"] - part["prediction"], dtype=np.float64)[fine]) / std[fine]
            observed = np.array([(error <= width).mean() for width in half_widths])
            series.append(_charts.Line(model, 100 * _NOMINAL, 100 * observed))
        if not series:
            continue
        view = _charts.lines(
            series, context.styles, x="promised, % of values inside", y="found, % of values inside", decimals=1
        )
        diagonal = {
            "x": [0, 100], "y": [0, 100], "mode": "lines", "hoverinfo": "skip", "showlegend": False,
            "line": {"color": "@muted", "dash": "dash", "width": 1},
        }  # fmt: skip
        ticks = {"tickvals": [0, 20, 40, 60, 80, 100], "range": [0, 100]}
        axes = {name: {"title": view.layout[name]["title"], **ticks} for name in ("xaxis", "yaxis")}
        data = [{**t, "marker": {**t["marker"], "size": 5}} for t in view.data]
        views.append(View([*data, diagonal], {**view.layout, **axes}))
        drawn.append(f"{size:,}")
    if views:
        yield Figure(
            "Calibration of uncertainty",
            Chart(
                f"Share of true values inside the intervals that {', '.join(models)} promise.",
                tuple(views),
                (Control("Trained on", tuple(drawn)),) if len(drawn) > 1 else (),
                _charts.legend_of(models, context.styles, markers=True),
            ),
            "Intervals around the prediction from the predicted standard deviation, taken as normal; rows without a "
            "copy in the training set. Below the dashed line a model is too sure of itself.",
        )


def measures(evaluations: Evaluations, context: Context) -> Iterator[Figure]:
    """Every measure in numbers."""
    del context
    several = len(evaluations.results) > 1
    have = [
        m for m in _CURVES if any(row.get(m) is not None for r in evaluations.results.values() for row in r["rows"])
    ]  # fmt: skip
    columns = [Column("evaluation", numeric=False)] if several else []
    columns += [Column("model", numeric=False), Column("train"), *(Column(m, note=_CURVES[m][0]) for m in have)]
    rows = []
    for label, result in evaluations.results.items():
        for row in result["rows"]:
            cells: list[Any] = [label] if several else []
            cells += [str(row["model"]), row["train"]]
            for measure in have:
                value, std = row.get(measure), row.get(f"{measure}_std")
                decimals = _CURVES[measure][1]
                spread = "" if std is None else f" ± {std:.{decimals}f}"
                cells.append(None if value is None else (value, f"{value:.{decimals}f}{spread}"))
            rows.append(cells)
    yield Figure(
        "All measures",
        Table(tuple(columns), rows),
        "Mean ± standard deviation over seeds; headings explain themselves on hover.",
    )
