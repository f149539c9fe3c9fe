"""How many cells of so many vertices and edges there are, and uniform draws of them, column by column."""

from __future__ import annotations

__all__ = ["count_cells", "draw_columns"]

from functools import cache
from math import comb

import numpy as np
import numpy.typing as npt


def count_cells(vertices: int, edges: int) -> int:
    """Upper triangular 0-1 matrices with at most so many ones, all vertices of which lie on a path from first to last.

    All vertices do if each but the first is read from and each but the last reads. Exact, however many.
    """
    return _ways(vertices, 1, 1, edges)


@cache
def _ways(vertices: int, column: int, unread: int, left: int) -> int:
    """Ways to fill the columns from `column` on, if `unread` of the vertices before have no reader yet."""
    return sum(number * more for number, _, _, more in _choices(vertices, column, unread, left))


@cache
def _choices(vertices: int, column: int, unread: int, left: int) -> tuple[tuple[int, int, int, int], ...]:
    """Ways to fill one column: reading i vertices without readers and j others, (ways, i, j, ways of the rest)."""
    found = []
    last = column == vertices - 1
    for i in range(unread if last else 0, min(unread, left) + 1):
        for j in range(0 if i else 1, min(column - unread, left - i) + 1):
            more = 1 if last else _ways(vertices, column + 1, unread - i + 1, left - i - j)
            if more:
                found.append((comb(unread, i) * comb(column - unread, j), i, j, more))
    return tuple(found)


def draw_columns(vertices: int, edges: int, n: int, rng: np.random.Generator) -> list[npt.NDArray[np.bool_]]:
    """Draw n of the matrices that `count_cells` counts, uniformly.

    Returns
    -------
    For each vertex y from 1 on its column, ``bool[n, y]``: the vertices that it reads.
    """
    columns = []
    unread = np.ones((n, 1), dtype=np.bool_)
    left = np.full(n, edges)
    for y in range(1, vertices):
        picked_unread, picked_others = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        count = unread.sum(axis=1)
        state = count * (edges + 1) + left
        for key in np.unique(state).tolist():
            at = np.flatnonzero(state == key)
            choices = _choices(vertices, y, *divmod(key, edges + 1))
            weights = np.array([float(number * more) for number, _, _, more in choices])
            which = rng.choice(len(choices), size=len(at), p=weights / weights.sum())
            both = np.array([(i, j) for _, i, j, _ in choices])[which]
            picked_unread[at], picked_others[at] = both[:, 0], both[:, 1]
        # A random order with the vertices without readers first; the first i of these and the first j of the rest.
        place = np.argsort(np.argsort(rng.random((n, y)) + ~unread, axis=1), axis=1)
        behind = place - count[:, None]
        column = np.where(behind < 0, place < picked_unread[:, None], behind < picked_others[:, None])
        columns.append(column)
        left -= picked_unread + picked_others
        unread = np.concatenate([unread & ~column, np.ones((n, 1), dtype=np.bool_)], axis=1)
    return columns
