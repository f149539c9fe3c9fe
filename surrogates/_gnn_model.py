"""The networks of the `gnn` surrogate: dense and batched over cells and over the members of an ensemble."""

from __future__ import annotations

__all__ = ["ARCHITECTURES", "CellNetworks", "GraphTensors", "graph_tensors"]

import torch
from torch import Tensor, nn

from tauzero.spaces import OPERATIONS
from tauzero.surrogates._gnn_directed import FlowLayer, TransformerLayer
from tauzero.surrogates._gnn_layers import AttentionLayer, ConvolutionLayer, GraphContext, Linear, normalised
from tauzero.surrogates._gnn_tensors import STRUCTURE, GraphTensors, graph_tensors

_VOCABULARY = 64  # room for operations that are appended to `tauzero.spaces.OPERATIONS` later

#: Names of the architectures.
ARCHITECTURES = ("gin", "gcn", "gat", "flow", "transformer")


def _layer(architecture: str, width: int, generators: list[torch.Generator]) -> nn.Module:
    if architecture == "gat":
        return AttentionLayer(width, generators)
    if architecture == "flow":
        return FlowLayer(width, generators)
    if architecture == "transformer":
        return TransformerLayer(width, generators)
    return ConvolutionLayer(architecture, width, generators)


class CellNetworks(nn.Module):
    """Several graph networks of one shape, computed together.

    Every parameter has a leading dimension of `members`; a product for all of them costs a library call once,
    and calls are what small cells and small batches spend their time on.

    Parameters
    ----------
    architecture
        One of `ARCHITECTURES`.
    width
        Channels of a vertex.
    layers
        Rounds of message passing.
    num_features
        Graph features d that join at the readout; 0 for none.
    outputs
        Numbers predicted; the first is the target.
    dropout
        In the readout, while training.
    seeds
        One for each member's initialisation.
    """

    def __init__(
        self,
        *,
        architecture: str,
        width: int,
        layers: int,
        num_features: int,
        outputs: int,
        dropout: float,
        seeds: list[int],
    ) -> None:
        super().__init__()
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.architecture, self.dropout = architecture, dropout
        self.embedding = nn.Parameter(
            torch.stack([torch.randn(STRUCTURE + _VOCABULARY, width, generator=g) for g in generators])
        )
        with torch.no_grad():
            self.embedding[:, :STRUCTURE] *= STRUCTURE**-0.5
        self.layers = nn.ModuleList(_layer(architecture, width, generators) for _ in range(layers))
        self.features = Linear(num_features, 2 * width, generators) if num_features else None
        self.hidden = Linear(3 * width + (2 * width if num_features else 0), 2 * width, generators)
        self.head = Linear(2 * width, outputs, generators)

    @property
    def needs_relations(self) -> bool:
        """Whether batches must have `GraphTensors.relations`."""
        return self.architecture == "transformer"

    def forward(self, batch: GraphTensors, generator: torch.Generator | None = None) -> Tensor:
        """Predict ``float32[members, b, outputs]``.

        Parameters
        ----------
        batch
            One batch of b cells for all members, or with a leading dimension one for each.
        generator
            Where dropout draws from; None while predicting.
        """
        if batch.ops.dim() == 2:
            batch = GraphTensors(*(t.unsqueeze(0) for t in batch))
        h = self.embed(batch)
        context = GraphContext(batch.adjacency.to(h.dtype).transpose(-1, -2), batch.relations)
        for layer in self.layers:
            h = layer(h, context)
        members, b, _, width = h.shape
        present = (batch.ops > 0).to(h.dtype).unsqueeze(-1)
        total = (h * present).sum(dim=2)
        place = batch.output.view(-1, b, 1, 1).expand(members, b, 1, width)
        at_output = h.gather(2, place).squeeze(2)
        pooled = normalised(torch.cat([at_output, total, total / present.sum(dim=2)], dim=-1))
        if self.features is not None:
            pooled = torch.cat([pooled, self.features(batch.features).relu_()], dim=-1)
        hidden = self.hidden(pooled).relu_()
        if generator is not None and self.dropout > 0:
            keep = torch.empty_like(hidden).bernoulli_(1.0 - self.dropout, generator=generator)
            hidden = hidden * (keep / (1.0 - self.dropout))
        return self.head(hidden)

    def embed(self, batch: GraphTensors) -> Tensor:
        """First states of vertices: operation and structure, ``[members, b, V, width]``."""
        m, b, v = batch.ops.shape
        known = STRUCTURE + len(OPERATIONS)
        given = batch.structure.new_zeros(m, b * v, known)
        given[..., :STRUCTURE] = batch.structure.reshape(m, b * v, STRUCTURE)
        given.scatter_(2, batch.ops.view(m, b * v, 1) + STRUCTURE, 1.0)
        members = len(self.embedding)
        return torch.bmm(given.expand(members, -1, -1), self.embedding[:, :known]).view(members, b, v, -1)

    def start_from(self, source: CellNetworks, *, head: bool) -> None:
        """Copy the weights of networks of the same architecture, width and layers.

        Member k starts from the source's member k, from the beginning again if it has fewer. The last map is copied
        for the first output, and only if `head`.
        """
        given = dict(source.named_parameters())
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                last = name.startswith("head.")
                if name not in given or (last and not head):
                    continue
                value = given[name][torch.arange(len(parameter)) % len(given[name])]
                # Features may join the readout on one side only: the rows of the pooled states come first in both.
                common = [slice(min(a, b)) for a, b in zip(parameter.shape, value.shape, strict=True)]
                if last:
                    common[-1] = slice(1)
                parameter[tuple(common)] = value[tuple(common)]
