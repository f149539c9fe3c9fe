"""Rounds that follow the direction of a cell: gated flow, and attention between ancestors and descendants."""

from __future__ import annotations

__all__ = ["FlowLayer", "TransformerLayer"]

import torch
from torch import Tensor, nn

from tauzero.surrogates._gnn_layers import GraphContext, Linear, _heads, normalised, uniform
from tauzero.surrogates._gnn_tensors import RELATIONS


class FlowLayer(nn.Module):
    """Information flows through the cell from input to output, and back from output to input.

    Every vertex gates what reaches it by its operation (GATES, Ning et al., ECCV 2020, eq. 2: information times
    the sigmoid of the mapped operation), and, as a gated recurrent unit does, by what it is:

        m_v = Σ_{u → v} s_u,   z_v = σ(W_z [x_v, m_v]),   s_v = z_v ∘ tanh(W_c [x_v, m_v]) + (1 - z_v) ∘ m_v / d_v

    with x_v the state before the round and d_v the number of predecessors. Vertices are visited in topological
    order, all cells of a batch at once; the backward pass (Akhauri and Abdelfattah, ICML 2024, section 3.1) is the same
    along reversed edges with weights of its own. A new state reads both passes.
    """

    def __init__(self, width: int, generators: list[torch.Generator]) -> None:
        super().__init__()
        self.width = width
        # The two directions are two members each: one product per step for both.
        twice = [g for g in generators for _ in range(2)]
        self.own = Linear(width, 2 * width, twice)
        self.message = nn.Parameter(uniform((width, 2 * width), width**-0.5, twice))
        self.out = Linear(2 * width, width, generators)

    def forward(self, h: Tensor, context: GraphContext) -> Tensor:
        """States ``[members, b, V, width]`` → new states."""
        x = normalised(h)
        members, b, v, width = x.shape
        along = context.along.expand(members, b, v, v)
        # Backwards, the last vertex comes first and edges turn round.
        both = torch.stack([x, x.flip(2)], dim=1).view(2 * members, b, v, width)
        edges = torch.stack([along, along.transpose(-1, -2).flip(2, 3)], dim=1).view(2 * members * b, v, v)
        own = self.own(both)
        share = 1.0 / edges.sum(dim=-1).clamp(min=1.0).view(2 * members, b, v, 1)
        states = [self._step(own[:, :, 0], torch.zeros_like(both[:, :, 0]), share[:, :, 0])]
        for vertex in range(1, v):
            before = torch.stack(states, dim=2).view(2 * members * b, vertex, width)
            arriving = torch.bmm(edges[:, vertex : vertex + 1, :vertex], before).view(2 * members, b, width)
            states.append(self._step(own[:, :, vertex], arriving, share[:, :, vertex]))
        ahead, back = torch.stack(states, dim=2).view(members, 2, b, v, width).unbind(1)
        return h + self.out(torch.cat([ahead, back.flip(2)], dim=-1))

    def _step(self, own: Tensor, arriving: Tensor, share: Tensor) -> Tensor:
        gate, candidate = torch.baddbmm(own, arriving, self.message).chunk(2, dim=-1)
        return torch.lerp(arriving * share, candidate.tanh(), gate.sigmoid())


class TransformerLayer(nn.Module):
    """A transformer round over a directed acyclic graph.

    A vertex attends to its ancestors, its descendants and itself only (Luo et al., NeurIPS 2023, section 3.2);
    the length and direction of the shortest path between two vertices adds a learned number to their score
    (Graphormer: Ying et al., NeurIPS 2021, eq. 6).
    """

    def __init__(self, width: int, generators: list[torch.Generator]) -> None:
        super().__init__()
        self.heads = _heads(width)
        self.query = Linear(width, 3 * width, generators)
        self.bias = nn.Parameter(torch.zeros(len(generators), RELATIONS, self.heads))
        self.merge = Linear(width, width, generators)
        self.hidden = Linear(width, 2 * width, generators)
        self.out = Linear(2 * width, width, generators)

    def attend(self, x: Tensor, relations: Tensor) -> Tensor:
        """Attended values of all heads, ``[members, b, V, width]``."""
        members, b, v, width = x.shape
        each = width // self.heads
        query, key, value = self.query(x).view(members, b, v, 3, self.heads, each).permute(3, 0, 1, 4, 2, 5)
        related = relations.expand(members, b, v, v)
        one_hot = related.new_zeros((members, b * v * v, RELATIONS), dtype=x.dtype)
        one_hot.scatter_(2, related.reshape(members, -1, 1).long(), 1.0)
        # A product in place of a look-up: its gradient is a product too.
        bias = torch.bmm(one_hot, self.bias).view(members, b, v, v, self.heads).permute(0, 1, 4, 2, 3)
        score = query @ key.transpose(-1, -2) * each**-0.5 + bias
        weight = score.masked_fill((related == 0).unsqueeze(2), -torch.inf).softmax(dim=-1)
        return (weight @ value).transpose(2, 3).reshape(members, b, v, width)

    def forward(self, h: Tensor, context: GraphContext) -> Tensor:
        """States ``[members, b, V, width]`` → new states."""
        h = h + self.merge(self.attend(normalised(h), context.relations))
        return h + self.out(self.hidden(normalised(h)).relu_())
