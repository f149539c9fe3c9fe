"""Canonical rows of cells with operations on the edges, without enumerating the space."""

from __future__ import annotations

__all__ = ["Templates", "make_templates", "rewritten", "without_spare_nodes"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tauzero.spaces._canonical_order import Colors, mix, refine, tell_apart
from tauzero.spaces._edge_cells import EdgeCellSpace, graph_hash
from tauzero.spaces.base import Genotypes

_CHUNK = 4_096  # rows whose graphs are held at a time: some megabytes


@dataclass(frozen=True, slots=True, eq=False)
class Templates:
    """For each way in which the operations of a cell can be wired, the row that stands for it.

    Attributes
    ----------
    hashes
        ``uint64[t]``, sorted: of the graphs of operations, whatever the operations are.
    rows
        ``int8[t, E]``: with one and the same operation wherever there is one.
    places
        ``int64[t, E]``: edges in the canonical order of the operations on them; edges without one follow.
    """

    hashes: npt.NDArray[np.uint64]
    rows: Genotypes
    places: npt.NDArray[np.int64]


def make_templates(space: EdgeCellSpace) -> Templates:
    """Look at all patterns of nothing, skip connection and operation on the edges (59,049 for five nodes).

    The row with the fewest edges stands for its wiring; of several, the first in lexicographic order.
    """
    codes = [code for code in (space._none, space._skip) if code >= 0]
    codes += [code for code in range(len(space._shared_names)) if code not in codes][:1]
    powers = len(codes) ** np.arange(space.length - 1, -1, -1)
    rows = np.array(codes, dtype=np.int8)[np.arange(len(codes) ** space.length)[:, None] // powers % len(codes)]
    rows = rows[((rows == space._none) | space._active(rows)).all(axis=1)]
    rows = rows[np.argsort((rows != space._none).sum(axis=1), kind="stable")]
    hashes, places = _in_chunks(space, rows, labelled=False)
    known, first = np.unique(hashes, return_index=True)
    return Templates(known, rows[first], places[first])


def rewritten(space: EdgeCellSpace, pruned: Genotypes, known: Templates) -> Genotypes:
    """Write each pruned cell as the template of its wiring with its operations in canonical order, ``int8[n, E]``.

    Equal networks, as graphs of operations with skips contracted, become equal rows, and no others do.
    """
    hashes, order = _in_chunks(space, pruned, labelled=True)
    which = np.searchsorted(known.hashes, hashes)
    written = known.rows[which].copy()
    n = np.arange(len(pruned))[:, None]
    is_op = (written != space._none) & (written != space._skip)
    places = known.places[which]
    at = np.take_along_axis(is_op, places, axis=1)  # true for the first of them
    moved = np.take_along_axis(written, places, axis=1)
    moved[at] = np.take_along_axis(pruned, order, axis=1)[at]
    written[n, places] = moved
    return written


def _in_chunks(
    space: EdgeCellSpace, rows: Genotypes, *, labelled: bool
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Hash of the wiring of each pruned row, and its edges in the canonical order of the operations on them."""
    hashes = np.empty(len(rows), dtype=np.uint64)
    order = np.empty(rows.shape, dtype=np.int64)
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        hashes[part], order[part] = _ordered(space, rows[part], labelled=labelled)
    return hashes, order


def _ordered(
    space: EdgeCellSpace, rows: Genotypes, *, labelled: bool
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    reads, present = space._reads(rows)
    inner, edges = present[:, 1:-1], rows.shape[1]
    rounds = edges + 1
    color = refine(reads, mix(space._labels(inner.astype(np.int8))), rounds)
    # The wiring alone decides the order; among those that it cannot tell apart, what the operations are does.
    liked: Colors | None = mix(space._labels(np.where(inner, rows + 1, 0))) if labelled else None
    distinct = tell_apart(reads, color, present, rounds, liked)[:, 1:-1]
    keys = np.where(inner, distinct, np.arange(edges, dtype=np.uint64))
    return graph_hash(color, present), np.lexsort((keys, ~inner), axis=1).astype(np.int64)


# -- cells of many nodes ------------------------------------------------------------------------


def without_spare_nodes(space: EdgeCellSpace, pruned: Genotypes) -> Genotypes:
    """Contract nodes that only pass on, and number the others in an order that depends on the cell alone.

    For cells of more nodes than patterns can be looked at. A node is contracted with a neighbour if a skip connection
    is all that it reads, or all that reads it, and no two operations would then stand on one edge.
    """
    n, nodes = len(pruned), space._nodes
    matrix = np.full((n, nodes, nodes), space._none, dtype=np.int8)
    u, v = np.array(space._edges).T
    matrix[:, u, v] = pruned
    matrix = _numbered(matrix, space._none)
    changed = np.arange(n)
    while len(changed):
        some = matrix[changed]
        again = _contracted(some, space._none, space._skip)
        some[again] = _numbered(some[again], space._none)
        matrix[changed] = some
        changed = changed[again]
    return np.ascontiguousarray(matrix[:, u, v])


def _contracted(matrix: npt.NDArray[np.int8], none: int, skip: int) -> npt.NDArray[np.bool_]:
    """Contract, in place, one node of each cell that has one to contract; returns which cells had."""
    done = np.zeros(len(matrix), dtype=np.bool_)
    for backwards in (False, True):
        view = matrix.transpose(0, 2, 1) if backwards else matrix
        for node in range(1, matrix.shape[1] - 1):
            into = view[:, :, node] != none
            other = into.argmax(axis=1)
            rows = np.flatnonzero(~done & (into.sum(axis=1) == 1))
            rows = rows[view[rows, other[rows], node] == skip]
            mine, theirs = view[rows, node] != none, view[rows, other[rows]] != none
            rows = rows[~(mine & theirs).any(axis=1)]
            gained = view[rows, node]
            there = view[rows, other[rows]]
            view[rows, other[rows]] = np.where(gained != none, gained, there)
            view[rows, node] = none
            view[rows, :, node] = none
            done[rows] = True
    return done


def _numbered(matrix: npt.NDArray[np.int8], none: int) -> npt.NDArray[np.int8]:
    """Sort nodes by depth, then by colour; nodes without edges come behind the others."""
    n, nodes = matrix.shape[:2]
    edge = matrix != none
    reads = np.where(edge, mix(matrix.astype(np.uint64) + np.uint64(1)), np.uint64(0)).transpose(0, 2, 1)
    start = np.zeros((n, nodes), dtype=np.uint64)
    start[:, 0], start[:, -1] = 100, 101
    present = edge.any(axis=1) | edge.any(axis=2)
    color = tell_apart(np.ascontiguousarray(reads), mix(start), present, nodes)
    depth = np.zeros((n, nodes), dtype=np.int64)
    for v in range(1, nodes):
        depth[:, v] = np.where(edge[:, :, v], depth + 1, 0).max(axis=1)
    depth[~present] = nodes
    depth[:, 0], depth[:, -1] = -1, 2 * nodes
    order = np.lexsort((color, depth), axis=1)
    return np.take_along_axis(np.take_along_axis(matrix, order[:, :, None], 1), order[:, None, :], 2)
