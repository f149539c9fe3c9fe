"""The graph network of the `gnn` surrogate: dense, batched, directed in both ways."""

from __future__ import annotations

__all__ = ["CellNetwork", "GraphTensors", "graph_tensors"]

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch_geometric.nn import DenseGINConv

from tauzero.spaces import CellGraphs

_VOCABULARY = 64  # room for operations that are appended to `tauzero.spaces.OPERATIONS` later
_STRUCTURE = 6


class GraphTensors(NamedTuple):
    """A batch of cells as the network reads it.

    ``adjacency`` uint8[n, V, V], ``ops`` int64[n, V], ``structure`` float32[n, V, 6], ``output`` int64[n] (the
    vertex of the cell's output), ``features`` float32[n, d] (graph features for the readout; d may be 0).
    """

    adjacency: Tensor
    ops: Tensor
    structure: Tensor
    output: Tensor
    features: Tensor

    def take(self, rows: Tensor | slice) -> GraphTensors:
        """Select rows."""
        return GraphTensors(*(t[rows] for t in self))


def graph_tensors(graphs: CellGraphs, features: npt.NDArray[np.float32]) -> GraphTensors:
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
    structure = np.stack(
        [
            np.log1p(graphs.adjacency.sum(axis=1)),
            np.log1p(graphs.adjacency.sum(axis=2)),
            np.maximum(below, -1) / v,
            np.maximum(above, -1) / v,
            into_output,
            np.broadcast_to(np.log1p(into_output.sum(axis=1))[:, None], (n, v)),
        ],
        axis=2,
        dtype=np.float32,
    )
    return GraphTensors(
        torch.from_numpy(np.ascontiguousarray(graphs.adjacency)),
        torch.from_numpy(graphs.ops.astype(np.int64)),
        torch.from_numpy(structure),
        torch.from_numpy(output),
        torch.from_numpy(np.ascontiguousarray(features)),
    )


class _Layer(nn.Module):
    """One round of graph isomorphism convolution along the edges and one against them, with a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.forwards = DenseGINConv(self._mlp(width), train_eps=True)
        self.backwards = DenseGINConv(self._mlp(width), train_eps=True)
        self.norm = nn.LayerNorm(width)

    @staticmethod
    def _mlp(width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, h: Tensor, along: Tensor, against: Tensor) -> Tensor:
        x = self.norm(h)
        updated: Tensor = h + self.forwards(x, along) + self.backwards(x, against)
        return updated


class CellNetwork(nn.Module):
    """Graph isomorphism network (Xu et al., ICLR 2019, eq. 4.1) over directed cells.

    Parameters
    ----------
    width
        Channels of a vertex.
    layers
        Rounds of message passing.
    num_features
        Graph features d that join at the readout; 0 for none.
    dropout
        In the readout.
    """

    def __init__(self, width: int, layers: int, num_features: int, dropout: float) -> None:
        super().__init__()
        self.operation = nn.Embedding(_VOCABULARY, width)
        self.structure = nn.Linear(_STRUCTURE, width)
        self.layers = nn.ModuleList(_Layer(width) for _ in range(layers))
        self.norm = nn.LayerNorm(3 * width)
        self.features = nn.Sequential(nn.Linear(num_features, 2 * width), nn.ReLU()) if num_features else None
        joined = 3 * width + (2 * width if num_features else 0)
        self.readout = nn.Sequential(
            nn.Linear(joined, 2 * width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * width, 1)
        )

    def forward(self, batch: GraphTensors) -> Tensor:
        """Predict the transformed target, float32[n]."""
        against = batch.adjacency.to(batch.structure.dtype)
        along = against.transpose(1, 2)
        h = self.operation(batch.ops) + self.structure(batch.structure)
        for layer in self.layers:
            h = layer(h, along, against)
        present = (batch.ops > 0).to(h.dtype).unsqueeze(-1)
        total = (h * present).sum(dim=1)
        at_output = h[torch.arange(len(h), device=h.device), batch.output]
        pooled = self.norm(torch.cat([at_output, total, total / present.sum(dim=1)], dim=1))
        if self.features is not None:
            pooled = torch.cat([pooled, self.features(batch.features)], dim=1)
        out: Tensor = self.readout(pooled).squeeze(-1)
        return out
