"""Batched cell graphs: what graph encoders and graph neural networks read."""

from __future__ import annotations

__all__ = ["CellGraphs"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class CellGraphs:
    """A batch of cells as directed acyclic graphs with operations on the vertices.

    Vertices are in topological order: every edge goes from a lower to a higher vertex, vertex 0 is
    the input, vertex ``num_nodes - 1`` the output; vertices from ``num_nodes`` on are padding.

    Attributes
    ----------
    adjacency
        ``uint8[n, V, V]``; ``[i, u, v] = 1`` for an edge u → v (entries above 1 count parallel edges).
    ops
        ``int8[n, V]``; codes of `tauzero.spaces.OPERATIONS`, 0 (``none``) on padding.
    num_nodes
        ``int8[n]``; vertices in use.
    """

    adjacency: npt.NDArray[np.uint8]
    ops: npt.NDArray[np.int8]
    num_nodes: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.ops)

    @property
    def max_nodes(self) -> int:
        """V, the number of vertices that the arrays have room for."""
        return int(self.ops.shape[1])

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """``bool[n, V]``: True on vertices in use, False on padding."""
        return np.arange(self.max_nodes) < self.num_nodes[:, None]

    def take(self, rows: npt.ArrayLike) -> CellGraphs:
        """Select rows (an index array, a boolean mask or a slice as array) into a new batch."""
        index = np.asarray(rows)
        return CellGraphs(self.adjacency[index], self.ops[index], self.num_nodes[index])

    def contract(self, *operations: int) -> CellGraphs:
        """Remove the vertices of some operations and connect what they connected.

        Parallel connections that arise are counted in `adjacency`; the vertices stay as isolated ones of
        operation 0, so positions do not change.
        """
        removed = np.isin(self.ops, operations)
        removed[:, 0] = removed[:, -1] = False
        adjacency = self.adjacency.copy()
        for v in range(1, self.max_nodes - 1):  # topological order: chains contract in one pass
            rows = np.flatnonzero(removed[:, v])
            if not len(rows):
                continue
            before, after = adjacency[rows, :, v], adjacency[rows, v, :]
            adjacency[rows] += before[:, :, None] * after[:, None, :]
            adjacency[rows, :, v] = 0
            adjacency[rows, v, :] = 0
        ops = np.where(removed, np.int8(0), self.ops).astype(np.int8)
        return CellGraphs(adjacency, ops, self.num_nodes)
