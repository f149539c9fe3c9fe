"""Masked graph modelling and flow regression over cells. Importing this imports torch."""

from __future__ import annotations

__all__ = ["MaskedCells"]

import torch
from torch import Tensor, nn
from torch.nn import functional

from tauzero.encoders._pretraining_network import (
    MASKED,
    CellBatch,
    CellEncoder,
    Pretraining,
    edge_logits,
    mlp,
    operation_head,
    pooled,
)

_WIDTH, _LAYERS = 64, 3
_MASKED_WEIGHT = 0.25  # of the masked tasks beside the flow's, which brings more to accuracy predictors
_HIDDEN = 0.2  # share of the operations, and of the pairs of vertices, that are hidden


class MaskedCells(Pretraining):
    """Reconstructs what is hidden of a cell, and regresses its simulated flow.

    Parameters
    ----------
    dimension
        Size of a cell's embedding, from which the flow is regressed.
    targets
        Length of flow vectors.
    """

    heads = ("operations", "form", "offset", "flow")

    def __init__(self, dimension: int, targets: int) -> None:
        super().__init__()
        self.encoder = CellEncoder(_WIDTH, _LAYERS)
        self.readout = nn.Linear(3 * _WIDTH, dimension)
        self.operations = operation_head(_WIDTH)
        self.form = nn.Parameter(torch.randn(_WIDTH, _WIDTH) / _WIDTH**0.5)
        self.offset = nn.Parameter(torch.zeros(()))
        self.flow = mlp(dimension, 2 * _WIDTH, targets)

    def loss(self, batch: CellBatch, targets: Tensor, generator: torch.Generator) -> Tensor:
        """Weighted cross entropy of hidden operations and edges, plus squared error of the flow of the whole cell."""
        place = torch.rand(batch.ops.shape, generator=generator, device=batch.ops.device)
        hide = (place < _HIDDEN) & batch.present
        pair = torch.rand(batch.adjacency.shape, generator=generator, device=batch.ops.device)
        pairs = (pair < _HIDDEN) & batch.pairs()
        shown = batch._replace(
            adjacency=batch.adjacency * ~pairs,
            ops=torch.where(hide, MASKED, batch.ops),
            hidden=(pairs | pairs.transpose(1, 2)).to(batch.adjacency.dtype),
        )
        h = self.encoder(shown)
        # Sums over what is hidden, divided by at least one: a batch may have hidden nothing.
        operation = functional.cross_entropy(self.operations(h)[hide], batch.ops[hide], reduction="sum")
        edge = functional.binary_cross_entropy_with_logits(
            (edge_logits(h, self.form) + self.offset)[pairs], (batch.adjacency[pairs] > 0).to(h.dtype), reduction="sum"
        )
        masked = operation / hide.sum().clamp_min(1) + edge / pairs.sum().clamp_min(1)
        return _MASKED_WEIGHT * masked + functional.mse_loss(self.flow(self.embed(batch)), targets)

    def embed(self, batch: CellBatch) -> Tensor:
        """Map of the mean over vertices and of the states of input and output."""
        h = self.encoder(batch)
        output = h[torch.arange(len(h), device=h.device), batch.output]
        return self.readout(torch.cat([pooled(h, batch), h[:, 0], output], dim=-1))
