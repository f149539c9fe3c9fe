"""Charts of the report as plain values of plotly's schema; colours are tokens that the page's script fills in."""

from __future__ import annotations

__all__ = [
    "Band",
    "Line",
    "axis",
    "bands",
    "heat_map",
    "histogram",
    "legend_of",
    "lines",
    "points_or_density",
    "rounded",
    "tidy",
]

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.evaluation._report._parts import LegendEntry, Styles, View

Floats = npt.NDArray[np.float64]

#: From this many points on, a scatter plot is a cloud and a page heavy: a count per cell is drawn instead.
DENSE = 2_000
_BINS = 64
#: Most points of a curve: more cannot be told apart on a screen.
_POINTS = 200


def tidy(text: object) -> str:
    """Text for plotly, which reads a few HTML tags: it shall show them instead."""
    return html.escape(str(text), quote=False)


def rounded(values: npt.ArrayLike, digits: int = 5) -> list[Any]:
    """Numbers with so many significant digits, None for what is not finite; keeps pages small."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim > 1:
        return [rounded(row, digits) for row in array]
    return [float(f"{v:.{digits}g}") if np.isfinite(v) else None for v in array.tolist()]


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis with a title."""
    return {"title": {"text": tidy(title)}, **more}


@dataclass(frozen=True)
class Band:
    """A curve with a band: ``float64[n]`` each; NaN where there is nothing."""

    name: str
    x: Floats
    centre: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Line:
    """Points with error bars, ``float64[n]`` each."""

    name: str
    x: Floats
    y: Floats
    error: Floats | None = None


def legend_of(names: Iterable[str], styles: Styles, *, markers: bool = False) -> tuple[LegendEntry, ...]:
    """Entries for several names; none where there is only one."""
    entries = tuple(
        LegendEntry(name, name, styles.colour(name), styles.dash(name), styles.symbol(name) if markers else None)
        for name in dict.fromkeys(names)
    )
    return entries if len(entries) > 1 else ()


def bands(
    curves: Sequence[Band],
    styles: Styles,
    *,
    x: str,
    y: str,
    log: bool = False,
    decimals: int = 3,
    step: bool = True,
    x_scale: float = 1.0,
    log_x: bool = False,
) -> View:
    """Curves with bands; on a logarithmic axis zeros are drawn at the lower edge, which is marked "0".

    Parameters
    ----------
    curves
        What is drawn; thinned to what a screen can show.
    styles
        Colours by name.
    x, y
        Titles of the axes with units.
    log
        Whether y is logarithmic.
    decimals
        Decimals of y in hover texts.
    step
        Whether values hold until the next point.
    x_scale
        What x is divided by.
    log_x
        Whether x is logarithmic.
    """
    filled = any(not np.array_equal(c.low, c.high, equal_nan=True) for c in curves)
    positive = np.concatenate([c.centre[c.centre > 0] for c in curves]) if curves else np.empty(0)
    log = log and bool(len(positive))
    # Half a decade below the smallest value, so that a curve that reaches the optimum visibly drops.
    floor = float(positive.min()) / 3 if log else -np.inf
    data: list[dict[str, Any]] = []
    shape = "hv" if step else "linear"
    for curve in curves if filled else ():
        kept = _thinned(len(curve.x))
        at = rounded(curve.x[kept] / x_scale)
        low, high = (np.maximum(v[kept], floor) for v in (curve.low, curve.high))
        common = {"x": at, "mode": "lines", "legendgroup": curve.name, "showlegend": False}
        edge = {**common, "hoverinfo": "skip", "line": {"width": 0, "shape": shape}}
        data += [
            {**edge, "y": rounded(low)},
            {
                **edge,
                "y": rounded(high),
                "fill": "tonexty",
                "fillcolor": styles.colour(curve.name, 0.16 if len(curves) < 5 else 0.1),
            },
        ]
    for curve in curves:  # lines above all bands
        kept = _thinned(len(curve.x))
        known = np.stack([curve.centre[kept], curve.low[kept], curve.high[kept]], axis=1)
        data.append(
            {
                "x": rounded(curve.x[kept] / x_scale),
                "y": rounded(np.maximum(curve.centre[kept], floor)),
                "customdata": rounded(known),
                "mode": "lines",
                "name": tidy(curve.name),
                "legendgroup": curve.name,
                "showlegend": False,
                "line": {
                    "color": styles.colour(curve.name), "dash": styles.dash(curve.name), "width": 2, "shape": shape
                },
                "hovertemplate": f"%{{customdata[0]:.{decimals}f}}"
                + f" (%{{customdata[1]:.{decimals}f}} to %{{customdata[2]:.{decimals}f}})" * filled,
            }
        )  # fmt: skip
    vertical = axis(y, rangemode="tozero") if not log else axis(y, type="log", **_log_ticks(curves, floor))
    horizontal = axis(x, hoverformat=",.4~r", **({"type": "log"} if log_x else {}))
    return View(data, {"xaxis": horizontal, "yaxis": vertical, "hovermode": "x unified"})


def _thinned(n: int) -> npt.NDArray[np.int64]:
    """Positions to draw: all, or evenly spread ones with the first and the last."""
    return np.unique(np.linspace(0, n - 1, min(n, _POINTS)).round().astype(np.int64))


def _log_ticks(curves: Sequence[Band], floor: float) -> dict[str, Any]:
    """Decades with 2 and 5 between them if they are few, and "0" at the lower edge if a curve gets there."""
    top = max(float(np.nanmax(c.high)) for c in curves)
    exponents = range(int(np.floor(np.log10(floor))), int(np.ceil(np.log10(max(top, floor)))) + 1)
    inner = (1,) if len(exponents) > 4 else (1, 2, 5) if len(exponents) > 2 else (1, 1.5, 2, 3, 5, 7)
    ticks = [m * 10.0**e for e in exponents for m in inner if floor * 1.5 < m * 10.0**e <= top * 1.3]
    texts = [f"{t:g}" for t in ticks]
    if any((c.centre <= floor).any() for c in curves):
        ticks, texts = [floor, *ticks], ["0", *texts]
    return {
        "tickvals": ticks,
        "ticktext": texts,
        "range": [float(np.log10(floor)), float(np.log10(max(top, floor) * 1.3))],
    }


def lines(series: Sequence[Line], styles: Styles, *, x: str, y: str, log_x: bool = False, decimals: int = 3) -> View:
    """Points joined by lines, with error bars."""
    data = []
    for one in series:
        order = np.argsort(one.x, kind="stable")
        trace: dict[str, Any] = {
            "x": rounded(one.x[order]),
            "y": rounded(one.y[order]),
            "mode": "lines+markers",
            "name": tidy(one.name),
            "legendgroup": one.name,
            "showlegend": False,
            "line": {"color": styles.colour(one.name), "dash": styles.dash(one.name), "width": 2},
            "marker": {"color": styles.colour(one.name), "symbol": styles.symbol(one.name), "size": 8},
            "hovertemplate": f"%{{y:.{decimals}f}}",
        }
        if one.error is not None:
            trace["error_y"] = {
                "array": rounded(one.error[order]), "color": styles.colour(one.name), "thickness": 1.2, "width": 4
            }  # fmt: skip
            trace["customdata"] = rounded(one.error[order])
            trace["hovertemplate"] += f" ± %{{customdata:.{decimals}f}}"
        data.append(trace)
    ticks = sorted({float(v) for one in series for v in one.x.tolist()})
    horizontal = axis(x, tickvals=ticks, ticktext=[f"{t:,.0f}" for t in ticks])
    if log_x:
        horizontal["type"] = "log"
    return View(data, {"xaxis": horizontal, "yaxis": axis(y), "hovermode": "x unified"})


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    values: npt.ArrayLike,
    *,
    texts: Sequence[Sequence[str]],
    hover: Sequence[Sequence[str]],
    limit: float,
    bar: str,
) -> View:
    """A matrix on a diverging scale from −`limit` to `limit`, with a text in each cell."""
    trace = {
        "type": "heatmap",
        "x": [tidy(c) for c in columns],
        "y": [tidy(r) for r in rows],
        "z": rounded(values),
        "zmin": -limit,
        "zmax": limit,
        "colorscale": [[0, "@low"], [0.5, "@middle"], [1, "@high"]],
        "text": [[tidy(t) for t in line] for line in texts],
        "texttemplate": "%{text}",
        "textfont": {"color": "@text"},
        "customdata": [[tidy(t).replace("\n", "<br>") for t in line] for line in hover],
        "hovertemplate": "%{customdata}<extra></extra>",
        "hoverongaps": False,
        "xgap": 1,
        "ygap": 1,
        "colorbar": {"title": {"text": tidy(bar), "side": "right"}, "thickness": 12, "outlinewidth": 0, "len": 0.9},
    }
    layout = {
        "xaxis": {"type": "category", "side": "bottom", "tickangle": -40, "showgrid": False, "automargin": True},
        "yaxis": {"type": "category", "autorange": "reversed", "showgrid": False, "automargin": True},
        "hovermode": "closest",
    }
    return View([trace], layout)


def histogram(values: Floats, colour: str, *, x: str, bins: int = 40) -> View:
    """Counts of finite values in equal bins."""
    counts, edges = np.histogram(values, bins=min(bins, max(1, len(np.unique(values)))))
    ends = np.stack([edges[:-1], edges[1:]], axis=1)
    trace = {
        "type": "bar",
        "x": rounded(ends.mean(axis=1), 7),
        "y": counts.tolist(),
        "width": rounded(edges[1:] - edges[:-1]),
        "customdata": rounded(ends),
        "marker": {"color": colour, "line": {"width": 0}},
        "showlegend": False,
        "hovertemplate": "%{y:,} architectures from %{customdata[0]:.4~g} to %{customdata[1]:.4~g}<extra></extra>",
    }
    return View([trace], {"xaxis": axis(x), "yaxis": axis("architectures"), "bargap": 0.02, "hovermode": "closest"})


def points_or_density(
    x: Floats,
    y: Floats,
    colour: str,
    *,
    x_title: str,
    y_title: str,
    labels: Sequence[str] = (),
    limits: tuple[float, float, float, float] | None = None,
    diagonal: bool = False,
) -> View:
    """Points where they can be told apart, else how many there are in each cell of a grid.

    Parameters
    ----------
    x, y
        ``float64[n]``, finite.
    colour
        Token of the points' colour.
    x_title, y_title
        Titles of the axes.
    labels
        A text for each point, shown beside its numbers.
    limits
        Left, right, lower and upper end of the axes; by default of the data.
    diagonal
        Whether to draw where both are equal.
    """
    left, right, low, high = limits or (*_padded(x), *_padded(y))
    inside = (x >= left) & (x <= right) & (y >= low) & (y <= high)
    data: list[dict[str, Any]] = []
    if inside.sum() > DENSE:
        counts, across, up = np.histogram2d(x[inside], y[inside], _BINS, [[left, right], [low, high]])
        data.append(
            {
                "type": "heatmap",
                "x": rounded((across[1:] + across[:-1]) / 2),
                "y": rounded((up[1:] + up[:-1]) / 2),
                "z": [[round(float(np.log10(c)), 3) if c else None for c in line] for line in counts.T],
                "text": [[f"{int(c):,}" if c else "" for c in line] for line in counts.T],
                "colorscale": [[0, "@sparse"], [0.5, "@between"], [1, "@crowded"]],
                "hoverongaps": False,
                "hovertemplate": "%{text} architectures near (%{x:.4~g}, %{y:.4~g})<extra></extra>",
                "colorbar": {**_decades(counts.max()), "title": {"text": "architectures", "side": "right"},
                             "thickness": 12, "outlinewidth": 0, "len": 0.9},
            }
        )  # fmt: skip
    else:
        trace: dict[str, Any] = {
            "x": rounded(x[inside]),
            "y": rounded(y[inside]),
            "mode": "markers",
            "showlegend": False,
            "marker": {"color": colour, "size": 6 if inside.sum() > 200 else 8, "opacity": 0.65},
            "hovertemplate": "(%{x:.4~g}, %{y:.4~g})<extra></extra>",
        }
        if labels:
            trace["customdata"] = [tidy(labels[k]) for k in np.flatnonzero(inside).tolist()]
            trace["hovertemplate"] = "%{customdata}<br>(%{x:.4~g}, %{y:.4~g})<extra></extra>"
        data.append(trace)
    if diagonal:
        ends = [max(left, low), min(right, high)]
        data.append(
            {
                "x": ends, "y": ends, "mode": "lines", "showlegend": False, "hoverinfo": "skip",
                "line": {"color": "@muted", "width": 1, "dash": "dash"},
            }
        )  # fmt: skip
    layout = {
        "xaxis": axis(x_title, range=[left, right]),
        "yaxis": axis(y_title, range=[low, high]),
        "hovermode": "closest",
    }
    return View(data, layout)


def _padded(values: Floats) -> tuple[float, float]:
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    margin = 0.03 * (high - low) or max(abs(high), 1.0) * 0.01
    return low - margin, high + margin


def _decades(most: float) -> dict[str, Any]:
    """Ticks of a scale that holds logarithms."""
    ticks = [t for t in (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000) if t <= most]
    return {"tickvals": [float(np.log10(t)) for t in ticks], "ticktext": [f"{t:,}" for t in ticks]}
