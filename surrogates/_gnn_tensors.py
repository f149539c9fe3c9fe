"""Cells as the graph networks read them: dense, batched tensors."""

from __future__ import annotations

__all__ = ["RELATIONS", "STRUCTURE", "GraphTensors", "graph_tensors"]

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tauzero.spaces import CellGraphs

#: Columns of `GraphTensors.structure`.
STRUCTURE = 6
_DEPTH = 8.0  # unit of depths; not the number of vertices, so that spaces of different size share it
_FAR = 6  # longer shortest paths count as this long
#: Values of `GraphTensors.relations`: apart, itself, 1 … 6 steps below, 1 … 6 steps above.
RELATIONS = 2 + 2 * _FAR


class GraphTensors(NamedTuple):
    """A batch of cells.

    ``adjacency`` uint8[n, V, V], ``ops`` int64[n, V], ``structure`` float32[n, V, 6], ``output`` int64[n] (the
    vertex of the cell's output), ``features`` float32[n, d] (graph features for the readout; d may be 0),
    ``relations`` uint8[n, V, V] (how two vertices lie to each other; [n, 0, 0] where no network asks).
    """

    adjacency: Tensor
    ops: Tensor
    structure: Tensor
    output: Tensor
    features: Tensor
    relations: Tensor

    def take(self, rows: Tensor | slice) -> GraphTensors:
        """Select rows; a matrix of rows ``int64[members, b]`` gives every member a batch of its own."""
        return GraphTensors(*(t[rows] for t in self))

    def to(self, device: torch.device) -> GraphTensors:
        """Move to a device."""
        return GraphTensors(*(t.to(device) for t in self))


def graph_tensors(graphs: CellGraphs, features: npt.NDArray[np.float32], *, relations: bool = False) -> GraphTensors:
    """Convert cell graphs and add what message passing finds hard to count: degrees and depths of vertices."""
    edges = graphs.adjacency > 0
    n, v = graphs.ops.shape
    output = graphs.num_nodes.astype(np.int64) - 1
    far = np.int8(-v)
    below = np.full((n, v), far, dtype=np.int8)  # longest way from the input
    below[:, 0] = 0
    for u in range(1, v):
        below[:, u] = np.where(edges[:, :u, u], below[:, :u] + 1, far).max(axis=1)
    above = np.full((n, v), far, dtype=np.int8)  # longest way to the output
    above[np.arange(n), output] = 0
    for u in range(v - 2, -1, -1):
        longest = np.where(edges[:, u, u + 1 :], above[:, u + 1 :] + 1, far).max(axis=1)
        above[:, u] = np.maximum(above[:, u], longest)
    into_output = graphs.adjacency[np.arange(n), :, output]
    structure = np.empty((n, v, STRUCTURE), dtype=np.float32)
    structure[..., 0] = np.log1p(graphs.adjacency.sum(axis=1, dtype=np.float32))
    structure[..., 1] = np.log1p(graphs.adjacency.sum(axis=2, dtype=np.float32))
    structure[..., 2] = np.maximum(below, -1) / _DEPTH
    structure[..., 3] = np.maximum(above, -1) / _DEPTH
    structure[..., 4] = into_output
    structure[..., 5] = np.log1p(into_output.sum(axis=1, dtype=np.float32))[:, None]
    return GraphTensors(
        torch.from_numpy(np.ascontiguousarray(graphs.adjacency)),
        torch.from_numpy(graphs.ops.astype(np.int64)),
        torch.from_numpy(structure),
        torch.from_numpy(output),
        torch.from_numpy(np.ascontiguousarray(features)),
        torch.from_numpy(_relations(edges) if relations else np.zeros((n, 0, 0), dtype=np.uint8)),
    )


def _relations(edges: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """``[i, u, w]``: 0 no path between u and w, 1 u is w, 1 + d a shortest path u → w of d steps, 7 + d one w → u."""
    steps = edges.astype(np.float32)
    v = edges.shape[1]
    found = np.zeros(edges.shape, dtype=np.uint8)
    reach = steps.copy()
    for distance in range(1, max(v, 2)):
        new = (reach > 0) & (found == 0)
        if not new.any():
            break
        found[new] = min(distance, _FAR)
        reach = (reach > 0).astype(np.float32) @ steps
    above = found.transpose(0, 2, 1)
    relation = np.where(found > 0, 1 + found, np.where(above > 0, 1 + _FAR + above, 0)).astype(np.uint8)
    relation[:, np.arange(v), np.arange(v)] = 1
    return relation
