"""Variational graph autoencoder over cells. Importing this imports torch."""

from __future__ import annotations

__all__ = ["CellAutoencoder"]

import torch
from torch import Tensor, nn
from torch.nn import functional

from tauzero.encoders._pretraining_network import (
    CellBatch,
    CellEncoder,
    Pretraining,
    edge_logits,
    operation_head,
    pooled,
)

_WIDTH, _LAYERS = 64, 3
_BETA = 0.005  # weight of the divergence (arch2vec, section 4)


class CellAutoencoder(Pretraining):
    """A latent vector for each vertex, from which its operation and its edges are reconstructed.

    Parameters
    ----------
    dimension
        Size of a latent vector; the embedding of a cell is their mean over its vertices.
    """

    heads = ("operations", "form", "offset", "spread")

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.encoder = CellEncoder(_WIDTH, _LAYERS)
        self.mean = nn.Linear(_WIDTH, dimension)
        self.spread = nn.Linear(_WIDTH, dimension)
        self.operations = nn.Sequential(nn.Linear(dimension, _WIDTH), nn.ReLU(), operation_head(_WIDTH))
        self.form = nn.Parameter(torch.randn(dimension, dimension) / dimension**0.5)
        self.offset = nn.Parameter(torch.zeros(()))

    def loss(self, batch: CellBatch, targets: Tensor, generator: torch.Generator) -> Tensor:
        """Negative evidence lower bound with the divergence weighted down (arch2vec, eq. 6)."""
        del targets
        h = self.encoder(batch)
        mean, log_variance = self.mean(h), self.spread(h).clamp(-10.0, 10.0)
        noise = torch.empty_like(mean).normal_(generator=generator)
        z = mean + (0.5 * log_variance).exp() * noise
        present = batch.present
        operation = functional.cross_entropy(self.operations(z)[present], batch.ops[present])
        pairs = batch.pairs()
        edge = functional.binary_cross_entropy_with_logits(
            (edge_logits(z, self.form) + self.offset)[pairs], (batch.adjacency[pairs] > 0).to(z.dtype)
        )
        divergence = 0.5 * (mean**2 + log_variance.exp() - log_variance - 1.0).sum(dim=-1)[present].mean()
        return operation + edge + _BETA * divergence

    def embed(self, batch: CellBatch) -> Tensor:
        """Mean of the vertices' latent means."""
        return pooled(self.mean(self.encoder(batch)), batch)
