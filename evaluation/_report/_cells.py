"""Drawings of architectures as SVG: cells with operations on edges as four nodes, all others as layered graphs."""

from __future__ import annotations

__all__ = ["draw", "drawings", "short_name"]

import html
import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tauzero.evaluation._report._layout import layered
from tauzero.evaluation._report._parts import Drawing
from tauzero.spaces import OPERATIONS, STRUCTURE, CellGraphs, Genotypes, SearchSpace, get, names
from tauzero.spaces._edge_cells import EDGES, EdgeCellSpace

_BOX, _GAP_X, _GAP_Y, _MARGIN = 26, 30, 42, 8
#: What operations are called in drawings; others are taken from their names.
_SHORT = {
    "skip_connect": "skip",
    "cell_input_0": "cell k−2",
    "cell_input_1": "cell k−1",
    "sum": "+",
}


def draw(space: SearchSpace, row: npt.ArrayLike) -> list[tuple[str, str]]:
    """Draw an architecture.

    Parameters
    ----------
    space
        The space that gives the row a meaning.
    row
        ``int8[L]``.

    Returns
    -------
    list of (str, str)
        Name of each cell (empty where there is only one) and its SVG.
    """
    genotypes: Genotypes = space.check_range(np.asarray(row)[None])
    if isinstance(space, EdgeCellSpace) and space.length == len(EDGES):
        return [("", _edge_cell(space, genotypes))]
    cells = getattr(space, "cells", None)
    if callable(cells):
        found: Mapping[str, CellGraphs] = cells(genotypes)
        return [(name, _graph(graphs, name)) for name, graphs in found.items()]
    return [("", _graph(space.graphs(genotypes), ""))]


def short_name(operation: str) -> str:
    """Such as ``sep conv 3×3``."""
    if operation in _SHORT:
        return _SHORT[operation]
    text = re.sub(r"(\d)x(\d)", "\\1×\\2", operation.removeprefix("nor_").replace("_", " "))
    return text.replace("-bn-relu", "")


def _kind(operation: str) -> str:
    """CSS class by family of operations."""
    for word, kind in (("skip", "skip"), ("pool", "pool"), ("sep", "sep"), ("dil", "dil"), ("conv", "conv")):
        if word in operation:
            return kind
    return "end" if operation in STRUCTURE else "other"


def drawings(space: str, arch: str, title: str, lines: tuple[str, ...]) -> list[Drawing]:
    """One drawing for each cell of an architecture; none where the space or the string is not known."""
    if space not in names():
        return [Drawing("", title, lines, arch)]
    the_space = get(space)
    try:
        row = the_space.from_string([arch])[0]
    except ValueError:
        return [Drawing("", title, lines, arch)]
    parts = draw(the_space, row)
    return [
        Drawing(
            svg, f"{title}, {name} cell" if name else title, lines if not k else (), arch if k + 1 == len(parts) else ""
        )
        for k, (name, svg) in enumerate(parts)
    ]


# -- operations on edges ----------------------------------------------------------------------


def _edge_cell(space: EdgeCellSpace, genotypes: Genotypes) -> str:
    """Four nodes in a row; neighbours are joined by straight lines, others by arcs above and below."""
    width, height, middle = 440, 148, 92
    place = (24.0, 154.0, 286.0, 416.0)
    bend = {(0, 2): -72.0, (1, 3): 84.0, (0, 3): -148.0}  # height of the control point of each arc
    live = space.active_edges(genotypes)[0]
    parts, labels, spoken = [], [], []
    for (u, v), code, on in zip(EDGES, genotypes[0].tolist(), live.tolist(), strict=True):
        operation = space.operations[code]
        if operation == "none":
            continue
        lift = bend.get((u, v), 0.0)
        x, y = (place[u] + place[v]) / 2, middle + lift / 2  # the middle of a quadratic curve
        first, last = _start_and_end(place[u], place[v], lift, middle)
        parts.append(
            f'<path class="edge{"" if on else " dead"}" d="M{first[0]:.1f} {first[1]:.1f} '
            f'Q{x:.1f} {middle + lift:.1f} {last[0]:.1f} {last[1]:.1f}" marker-end="url(#arrow)"/>'
        )
        labels.append(_box(x, y, operation, dead=not on))
        spoken.append(f"{u} to {v}: {short_name(operation)}{'' if on else ' (without effect)'}")
    names = ("in", "1", "2", "out")
    nodes = [
        f'<g class="node"><circle cx="{x}" cy="{middle}" r="15"/>'
        f'<text x="{x}" y="{middle}" dy=".35em">{name}</text></g>'
        for x, name in zip(place, names, strict=True)
    ]
    return _svg(width, height, [*parts, *nodes, *labels], "; ".join(spoken) or "no operations")


def _start_and_end(left: float, right: float, lift: float, middle: float) -> tuple[tuple[float, float], ...]:
    """Where an arc leaves and meets the circles of its nodes (radius 15, and room for the arrow's tip)."""
    run, rise = (right - left) / 2, lift
    length = float(np.hypot(run, rise))
    return (
        (left + 15 * run / length, middle + 15 * rise / length),
        (right - 18 * run / length, middle + 18 * rise / length),
    )


# -- operations on vertices -------------------------------------------------------------------


def _graph(graphs: CellGraphs, name: str) -> str:
    """One cell whose operations stand on the vertices; vertices without an edge are left out."""
    adjacency = graphs.adjacency[0].astype(bool)
    operations = [OPERATIONS[code] for code in graphs.ops[0].tolist()]
    if "cell_input_0" in operations:  # the cell's two inputs stand for the vertex that feeds them
        adjacency[0] = False
    kept = np.flatnonzero(adjacency.any(axis=0) | adjacency.any(axis=1))
    if not len(kept):
        kept = np.array([0])
    number = {int(v): k for k, v in enumerate(kept)}
    edges = [(number[int(u)], number[int(v)]) for u, v in np.argwhere(adjacency)]
    ops = [operations[v] for v in kept]
    plan = layered(len(ops), edges)
    widths = [0.0] * plan.layers
    for operation, layer in zip(ops, plan.layer, strict=True):
        widths[layer] = max(widths[layer], _width(operation))
    starts = [_MARGIN + sum(widths[:k]) + _GAP_X * k for k in range(plan.layers)]
    centre = [start + width / 2 for start, width in zip(starts, widths, strict=True)]
    lowest = max([*plan.y, *(y for route in plan.routes.values() for y in route)])

    def across(y: float) -> float:
        return _MARGIN + _BOX / 2 + y * _GAP_Y

    paths = []
    for (u, v), route in plan.routes.items():
        x, y = centre[plan.layer[u]] + _width(ops[u]) / 2, across(plan.y[u])
        path = [f"M{x:.1f} {y:.1f}"]
        for k, height in enumerate(route, plan.layer[u] + 1):
            path += [_curve(x, y, starts[k], across(height)), f"H{starts[k] + widths[k]:.1f}"]
            x, y = starts[k] + widths[k], across(height)
        path.append(_curve(x, y, centre[plan.layer[v]] - _width(ops[v]) / 2 - 3, across(plan.y[v])))
        paths.append(f'<path class="edge" d="{"".join(path)}" marker-end="url(#arrow)"/>')
    boxes = [
        _box(centre[layer], across(y), operation) for operation, layer, y in zip(ops, plan.layer, plan.y, strict=True)
    ]
    inner = [short_name(o) for o in ops if o not in STRUCTURE]
    spoken = f"{name} cell: {', '.join(inner) or 'no operations'}; {len(edges)} connections".strip()
    return _svg(starts[-1] + widths[-1] + _MARGIN, across(lowest) + _BOX / 2 + _MARGIN, [*paths, *boxes], spoken)


def _curve(x: float, y: float, to_x: float, to_y: float) -> str:
    bend = (x + to_x) / 2
    return f"C{bend:.1f} {y:.1f} {bend:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"


# -- pieces -----------------------------------------------------------------------------------


def _width(operation: str) -> float:
    """Width of a box: the text's, estimated, since no font is at hand."""
    return max(_BOX, 7.0 * len(short_name(operation)) + 16)


def _box(x: float, y: float, operation: str, *, dead: bool = False) -> str:
    width = _width(operation)
    return (
        f'<g class="op op-{_kind(operation)}{" dead" if dead else ""}">'
        f'<rect x="{x - width / 2:.1f}" y="{y - _BOX / 2:.1f}" width="{width:.1f}" height="{_BOX}" rx="{_BOX / 2:g}"/>'
        f'<text x="{x:.1f}" y="{y:.1f}" dy=".35em">{html.escape(short_name(operation))}</text></g>'
    )


def _svg(width: float, height: float, parts: Sequence[str], spoken: str) -> str:
    return (
        f'<svg class="cell" role="img" aria-label="{html.escape(spoken)}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}">{"".join(parts)}</svg>'
    )
