"""Adjacency matrix of the cell graph with one-hot operations (White et al., NeurIPS 2020, section 3)."""

from __future__ import annotations

__all__ = ["Adjacency"]

from functools import cached_property

import numpy as np
import numpy.typing as npt

from tauzero.encoders.base import Encoder
from tauzero.spaces import Genotypes, operation_code


class Adjacency(Encoder):
    """Entries of the cell graph's adjacency matrix above the diagonal, and the operation of each inner vertex.

    Reads `SearchSpace.graphs`: ``V(V-1)/2`` edge counts, then one indicator per vertex and operation of the
    space (all zero on padding).
    """

    name = "adjacency"

    @cached_property
    def _num_vertices(self) -> int:
        return self.space.graphs(self.space.sample(1, 0)).max_nodes

    @cached_property
    def feature_names(self) -> list[str]:
        """``<u>-><v>`` for edges, ``v<v>=<operation>`` for operations."""
        v = self._num_vertices
        edges = [f"{x}->{y}" for y in range(1, v) for x in range(y)]
        return edges + [f"v{k}={o}" for k in range(1, v) for o in self.space.graph_operations]

    def _encode(self, rows: Genotypes) -> npt.NDArray[np.uint8]:
        graphs = self.space.graphs(rows)
        y, x = np.tril_indices(self._num_vertices, -1)
        codes = np.array([operation_code(o) for o in self.space.graph_operations])
        hot = (graphs.ops[:, 1:, None] == codes).reshape(len(rows), -1)
        return np.concatenate([graphs.adjacency[:, x, y], hot.astype(np.uint8)], axis=1)
