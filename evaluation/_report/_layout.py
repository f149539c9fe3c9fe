"""Where the vertices of a small directed acyclic graph go in a drawing that reads from left to right.

The steps are those of Sugiyama, Tagawa and Toda (IEEE Trans. Systems, Man and Cybernetics 11, 1981): layers, an order
in each layer with few crossings, coordinates. Cells have some twenty vertices, so that simple sweeps do.
"""

from __future__ import annotations

__all__ = ["Layout", "layered"]

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_SWEEPS = 12


@dataclass(frozen=True)
class Layout:
    """Layer and height of each vertex, and what each edge passes on its way.

    Attributes
    ----------
    layer
        Column of each vertex, from 0.
    y
        Height of each vertex, in units of `gap`.
    routes
        Edge → heights where it crosses the layers between its ends.
    layers
        Number of columns.
    """

    layer: list[int]
    y: list[float]
    routes: dict[tuple[int, int], list[float]]
    layers: int


def layered(n: int, edges: Sequence[tuple[int, int]]) -> Layout:
    """Lay out vertices 0 to n − 1, numbered such that every edge goes from a lower to a higher number.

    Parameters
    ----------
    n
        Number of vertices.
    edges
        Pairs of vertices.

    Raises
    ------
    ValueError
        If an edge does not go upwards.
    """
    if any(not 0 <= u < v < n for u, v in edges):
        raise ValueError(f"Edges must go from a lower to a higher vertex below {n}. Got {list(edges)}.")
    layer = [0] * n
    for u, v in sorted(edges):  # by source: its layer is final when it is read
        layer[v] = max(layer[v], layer[u] + 1)
    count = max(layer, default=0) + 1
    # An edge over several layers passes an invisible vertex in each of those between.
    chains: dict[tuple[int, int], list[int]] = {}
    where = list(layer)
    for u, v in edges:
        chain = [u]
        for between in range(layer[u] + 1, layer[v]):
            where.append(between)
            chain.append(len(where) - 1)
        chains[u, v] = [*chain, v]
    links = [pair for chain in chains.values() for pair in pairwise(chain)]
    order = _ordered([[v for v in range(len(where)) if where[v] == k] for k in range(count)], links)
    y = _heights(order, links, n)
    routes = {edge: [y[v] for v in chain[1:-1]] for edge, chain in chains.items()}
    return Layout(layer, y[:n], routes, count)


def _neighbours(links: Sequence[tuple[int, int]]) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    before: dict[int, list[int]] = {}
    after: dict[int, list[int]] = {}
    for u, v in links:
        before.setdefault(v, []).append(u)
        after.setdefault(u, []).append(v)
    return before, after


def _ordered(order: list[list[int]], links: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Sort each layer by the mean place of its neighbours, forwards and backwards; keep what crosses least."""
    before, after = _neighbours(links)
    best, fewest = [list(line) for line in order], _crossings(order, links)
    for sweep in range(_SWEEPS):
        forwards = sweep % 2 == 0
        near = before if forwards else after
        for k in range(1, len(order)) if forwards else range(len(order) - 2, -1, -1):
            fixed = {v: place for place, v in enumerate(order[k - 1 if forwards else k + 1])}
            own = {v: float(place) for place, v in enumerate(order[k])}
            for v in order[k]:
                if v in near:
                    own[v] = sum(fixed[u] for u in near[v]) / len(near[v])
            order[k] = sorted(order[k], key=own.__getitem__)
        crossings = _crossings(order, links)
        if crossings < fewest:
            best, fewest = [list(line) for line in order], crossings
    return best


def _crossings(order: Sequence[Sequence[int]], links: Sequence[tuple[int, int]]) -> int:
    """How many pairs of links between the same two layers cross."""
    place = {v: (k, i) for k, line in enumerate(order) for i, v in enumerate(line)}
    ends = [(place[u][0], place[u][1], place[v][1]) for u, v in links]
    return sum(
        a[0] == b[0] and (a[1] - b[1]) * (a[2] - b[2]) < 0 for i, a in enumerate(ends) for b in ends[:i]
    )  # fmt: skip


def _heights(order: Sequence[Sequence[int]], links: Sequence[tuple[int, int]], visible: int) -> list[float]:
    """Heights that draw vertices towards their neighbours without bringing those of a layer too near."""
    before, after = _neighbours(links)
    y = {v: i - (len(line) - 1) / 2 for line in order for i, v in enumerate(line)}
    for sweep in range(_SWEEPS):
        for line in order if sweep % 2 == 0 else reversed(order):
            wanted = []
            for v in line:
                near = [*before.get(v, ()), *after.get(v, ())]
                wanted.append(sum(y[u] for u in near) / len(near) if near else y[v])
            gaps = [1.0 if u < visible and v < visible else 0.7 for u, v in pairwise(line)]
            y.update(zip(line, _spread(wanted, gaps), strict=True))
    top = min(y.values(), default=0.0)
    return [y[v] - top for v in range(len(y))]


def _spread(wanted: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """Nearest positions (least squares) in this order with at least these gaps: pool adjacent violators."""
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    blocks: list[tuple[float, int]] = []  # mean of wanted − offset, and size
    for value in (w - o for w, o in zip(wanted, offsets, strict=True)):
        mean, size = value, 1
        while blocks and blocks[-1][0] > mean:
            other, many = blocks.pop()
            mean, size = (mean * size + other * many) / (size + many), size + many
        blocks.append((mean, size))
    flat = [mean for mean, size in blocks for _ in range(size)]
    return [f + o for f, o in zip(flat, offsets, strict=True)]
