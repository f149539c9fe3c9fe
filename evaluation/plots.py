"""Plots of rankings and searches as `matplotlib.figure.Figure` objects: no pyplot, no display, no global state.

Every function returns a figure; ``figure.savefig(path)`` or `save` writes it. Accuracies are in percent.
"""

from __future__ import annotations

__all__ = ["predicted_vs_true", "regret_curves", "save", "score_vs_accuracy", "tau_vs_train_size"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tauzero.benchmarks import atomic_path
from tauzero.evaluation.metrics import kendall_tau, spearman

#: Wong's palette (Nature Methods 8, 2011), which also readers with colour vision deficiency can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
#: From this many points on, a scatter plot is a black cloud: density is drawn instead.
_DENSE = 2_000
_SIZE = (6.0, 5.0)


def predicted_vs_true(
    y: npt.ArrayLike,
    prediction: npt.ArrayLike,
    *,
    title: str | None = None,
    unit: str = "accuracy (%)",
    zoom: float | None = 0.05,
    train: npt.ArrayLike | None = None,
) -> Figure:
    """Predicted against true values, with the diagonal and tau over all points in the title.

    Parameters
    ----------
    y, prediction
        ``float64[n]`` each, in the same unit.
    title
        What was predicted; tau and n are put behind it.
    unit
        Unit of both axes.
    zoom
        The axes leave out this share of the truly worst points: failed networks at the level of guessing
        would squeeze the rest into a corner. The plot says how many points lie outside; None shows all.
    train
        Positions of training points, drawn as crosses.
    """
    truth, guess = np.asarray(y, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    tau = kendall_tau(truth, guess)
    low, high = _limits(truth, guess, zoom)
    figure, axes = _figure(_SIZE)
    _points(figure, axes, guess, truth, (low, high, low, high))
    axes.plot(
        [low, high], [low, high], color="black", linewidth=1, linestyle="--", label="prediction = truth", zorder=3
    )
    if train is not None:
        rows = np.asarray(train)
        axes.scatter(
            guess[rows], truth[rows], marker="x", s=18, linewidths=0.9, color=_COLOURS[1], label="trained on", zorder=4
        )
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set_xlabel(f"predicted {unit}")
    axes.set_ylabel(f"true {unit}")
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    outside = int(((truth < low) | (truth > high) | (guess < low) | (guess > high)).sum())
    if outside:
        axes.text(
            0.98, 0.02, f"{outside:,} points outside", transform=axes.transAxes,
            ha="right", va="bottom", fontsize=8, color="0.3", zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
        )  # fmt: skip
    _title(axes, title, f"Kendall τ = {tau:.3f} over {len(truth):,} architectures")
    return figure


def score_vs_accuracy(
    scores: Mapping[str, npt.ArrayLike],
    accuracy: npt.ArrayLike,
    *,
    title: str | None = None,
    unit: str = "true accuracy (%)",
    zoom: float | None = 0.05,
) -> Figure:
    """Scores of untrained networks against accuracy, one panel per score.

    Parameters
    ----------
    scores
        Name → ``float64[n]``; rows whose score is NaN or infinite are left out and counted. A score
        most of whose values would fall on one spot of a linear axis is drawn by its ranks.
    accuracy
        ``float64[n]``.
    title, unit, zoom
        As in `predicted_vs_true`; the zoom is on the accuracies.
    """
    if not scores:
        raise ValueError("The 'scores' argument must hold at least one score. Got none.")
    truth = np.asarray(accuracy, dtype=np.float64)
    columns = min(3, len(scores))
    lines = -(-len(scores) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.8 * lines), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    for k, (name, given) in enumerate(scores.items()):
        axes = figure.add_subplot(lines, columns, k + 1)
        _plain(axes)
        score = np.asarray(given, dtype=np.float64)
        if score.shape != truth.shape:
            raise ValueError(f"The score {name!r} must have shape {truth.shape}, as the accuracies. Got {score.shape}.")
        kept = np.isfinite(score) & np.isfinite(truth)
        s, t = score[kept], truth[kept]
        x, described = _spread(s, name)
        axes.set_xlabel(described)
        if k % columns == 0:
            axes.set_ylabel(unit)
        if len(s) < 2:
            axes.set_title(f"{name}: no finite scores", fontsize=10)
            continue
        low, high = _limits(t, t, zoom)
        left, right = _pad(float(x.min()), float(x.max()))
        _points(figure, axes, x, t, (left, right, low, high))
        axes.set(xlim=(left, right), ylim=(low, high))
        left_out = f", {int((~kept).sum())} not finite" if not kept.all() else ""
        axes.set_title(f"τ = {kendall_tau(t, s):.3f}, ρ = {spearman(t, s):.3f} (n = {len(s):,}{left_out})", fontsize=10)
    if title:
        figure.suptitle(title, fontsize=12)
    return figure


def regret_curves(
    curves: Mapping[str, npt.ArrayLike],
    *,
    title: str | None = None,
    unit: str = "percentage points",
    n_train: int | None = None,
    band: tuple[float, float] = (0.25, 0.75),
    log: bool | None = None,
) -> Figure:
    """Regret after each true query: mean over seeds with a band between two quantiles.

    Parameters
    ----------
    curves
        Name → ``float64[seeds, queries]``, or ``[queries]`` for one run; regret ≥ 0.
    title
        What was searched.
    unit
        Unit of the regret.
    n_train
        Marks this many queries: where training a surrogate ends and checking its predictions begins.
    band
        Lower and upper quantile over seeds.
    log
        Logarithmic regret; by default where the means span more than a factor of 20. Zero regret, which has no
        logarithm, is drawn at the lower edge, marked "0".
    """
    if not curves:
        raise ValueError("The 'curves' argument must hold at least one curve. Got none.")
    tables = {name: np.atleast_2d(np.asarray(values, dtype=np.float64)) for name, values in curves.items()}
    for name, table in tables.items():
        if table.ndim != 2 or not table.size or not np.isfinite(table).all() or (table < -1e-9).any():
            raise ValueError(
                f"The curve {name!r} must be a matrix [seeds, queries] of finite regrets ≥ 0. Got shape {table.shape}."
            )
    means = np.concatenate([table.mean(axis=0) for table in tables.values()])
    positive = means[means > 0]
    if log is None:
        log = bool(len(positive)) and means.max() > 20 * positive.min()
    log = log and bool(len(positive))  # all at the optimum: nothing has a logarithm
    # Half a decade below the smallest mean, so that a curve that reaches the optimum visibly drops.
    floor = float(positive.min()) / 3 if log else 0.0
    figure, axes = _figure((7.0, 4.5))
    for k, (name, table) in enumerate(tables.items()):
        queries = np.arange(1, table.shape[1] + 1)
        colour = _COLOURS[k % len(_COLOURS)]
        low, high = np.quantile(table, band, axis=0)
        axes.plot(queries, np.maximum(table.mean(axis=0), floor), color=colour, linewidth=1.8, label=name, zorder=3)
        if len(table) > 1:
            axes.fill_between(
                queries, np.maximum(low, floor), np.maximum(high, floor), color=colour, alpha=0.18, linewidth=0
            )
    longest = max(table.shape[1] for table in tables.values())
    if n_train is not None:
        axes.axvline(n_train, color="0.5", linewidth=1, linestyle=":", zorder=1, label="surrogate trained")
    axes.set_xlim(1, max(longest, 2))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if log:
        axes.set_yscale("log")
        axes.set_ylim(bottom=floor)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: "0" if value <= floor else f"{value:g}"))
        if bool((means <= 0).any()):
            axes.set_yticks([floor, *(t for t in _decades(floor, float(means.max())) if t > 1.5 * floor)])
            axes.set_yticks([], minor=True)
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel("true queries (architectures trained)")
    axes.set_ylabel(f"regret ({unit})")
    axes.legend(framealpha=0.9, edgecolor="none", fontsize=9, loc="upper right")
    seeds = max(len(table) for table in tables.values())
    _title(
        axes, title, f"mean and {band[0]:.0%} to {band[1]:.0%} quantiles of {seeds} seeds" if seeds > 1 else "one run"
    )
    return figure


def tau_vs_train_size(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float] | None]],
    *,
    noise_ceiling: float | None = None,
    title: str | None = None,
    measure: str = "Kendall τ",
    ceiling_label: str = "tau between two training runs",
) -> Figure:
    """Rank correlation against training set size, with the table's noise ceiling.

    Parameters
    ----------
    curves
        Model → (sizes, means, standard deviations or None), as `EvaluationResult.curves` gives them.
    noise_ceiling
        Drawn as a dashed line.
    title, measure
        What was judged, and by what.
    ceiling_label
        What the ceiling is.
    """
    if not curves:
        raise ValueError("The 'curves' argument must hold at least one model. Got none.")
    figure, axes = _figure((6.5, 4.5))
    sizes = sorted({float(n) for xs, _, _ in curves.values() for n in xs})
    for k, (name, (xs, means, stds)) in enumerate(curves.items()):
        axes.errorbar(
            xs, means, yerr=stds, label=name, color=_COLOURS[k % len(_COLOURS)], marker=_MARKERS[k % len(_MARKERS)],
            markersize=5, linewidth=1.6, capsize=3,
        )  # fmt: skip
    if noise_ceiling is not None:
        axes.axhline(noise_ceiling, color="0.35", linestyle="--", linewidth=1.2, zorder=1)
        axes.annotate(
            f"{ceiling_label}: {noise_ceiling:.3f}", (0.01, noise_ceiling), xycoords=("axes fraction", "data"),
            xytext=(0, 3), textcoords="offset points", fontsize=8, color="0.35",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{int(n):,}" for n in sizes])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("architectures trained on")
    axes.set_ylabel(measure)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    axes.margins(y=0.12)
    _title(axes, title, "")
    return figure


def save(figure: Figure, path: str | Path, *, dpi: int = 150) -> Path:
    """Write a figure (format by suffix: .png, .svg, .pdf); all of it or nothing."""
    target = Path(path)
    with atomic_path(target) as partial:
        figure.savefig(partial, dpi=dpi, format=target.suffix.lstrip(".") or "png")
    return target


def _figure(size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _plain(axes)
    return figure, axes


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)


def _title(axes: Axes, title: str | None, detail: str) -> None:
    axes.set_title("\n".join(part for part in (title, detail) if part), fontsize=11)


def _points(
    figure: Figure,
    axes: Axes,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    extent: tuple[float, float, float, float],
) -> None:
    """Points where they can be told apart, else how many there are per hexagon."""
    if len(x) < _DENSE:
        axes.scatter(x, y, s=14, color=_COLOURS[0], alpha=0.55 if len(x) > 200 else 0.8, linewidths=0)
        return
    left, right, low, high = extent
    inside = (x >= left) & (x <= right) & (y >= low) & (y <= high)
    drawn = axes.hexbin(
        x[inside], y[inside], gridsize=70, extent=extent, mincnt=1, cmap="viridis", norm=LogNorm(vmin=1), linewidths=0
    )
    figure.colorbar(drawn, ax=axes, label="architectures", shrink=0.85)


def _limits(truth: npt.NDArray[np.float64], guess: npt.NDArray[np.float64], zoom: float | None) -> tuple[float, float]:
    """Common limits of both axes: from the quantile of the true values up, and all of what lies above."""
    if zoom is not None and not 0 <= zoom < 1:
        raise ValueError(f"The 'zoom' argument must be a share in [0, 1), or None. Got {zoom!r}.")
    low = float(np.quantile(truth, zoom)) if zoom else float(min(truth.min(), guess.min()))
    high = float(max(truth.max(), np.quantile(guess, 0.999)))
    return _pad(min(low, high), high)


def _spread(score: npt.NDArray[np.float64], name: str) -> tuple[npt.NDArray[np.float64], str]:
    """Positions and axis label of a score: its values, or its ranks if half of them span next to nothing."""
    from scipy.stats import rankdata

    lower, upper = np.quantile(score, [0.25, 0.75]) if len(score) else (0.0, 0.0)
    if len(score) < 2 or upper - lower > 0.02 * (score.max() - score.min()):
        return score, name
    return np.asarray(rankdata(score), dtype=np.float64), f"{name} (rank, 1 = lowest)"


def _pad(low: float, high: float) -> tuple[float, float]:
    margin = 0.03 * (high - low) or max(abs(high), 1.0) * 0.01
    return low - margin, high + margin


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within a range."""
    exponents: Any = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    return [m * 10.0**e for e in exponents for m in (1, 2, 5) if low <= m * 10.0**e <= high]
