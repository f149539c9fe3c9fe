"""Rounds of message passing for several networks at once; see `_gnn_model.py` for the shapes."""

from __future__ import annotations

__all__ = ["AttentionLayer", "ConvolutionLayer", "GraphContext", "Linear", "normalised"]

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Linear(nn.Module):
    """One affine map for each member: ``[m, …, inputs]`` → ``[members, …, outputs]``, m being 1 or `members`.

    Initialised as `torch.nn.Linear` is, every member from a generator of its own.
    """

    def __init__(self, inputs: int, outputs: int, generators: list[torch.Generator]) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(max(inputs, 1))
        self.weight = nn.Parameter(uniform((inputs, outputs), bound, generators))
        self.bias = nn.Parameter(uniform((1, outputs), bound, generators))

    def forward(self, x: Tensor) -> Tensor:
        """Map the last dimension."""
        members, inputs, outputs = self.weight.shape
        shape = x.shape[1:-1]
        flat = x.reshape(x.shape[0], -1, inputs)
        if len(flat) != members:
            flat = flat.expand(members, -1, -1)
        return torch.baddbmm(self.bias, flat, self.weight).view(members, *shape, outputs)


def uniform(shape: tuple[int, ...], bound: float, generators: list[torch.Generator]) -> Tensor:
    """Draw ``[members, *shape]`` from U(-bound, bound), each member from its own generator."""
    return torch.stack([(2 * torch.rand(shape, generator=g) - 1) * bound for g in generators])


def normalised(x: Tensor) -> Tensor:
    """Layer normalisation without scale and shift: the affine map that follows has them."""
    return functional.layer_norm(x, x.shape[-1:])


class GraphContext(NamedTuple):
    """What the layers read beside the states of vertices.

    ``along`` float32[m, b, V, V]: ``[…, w, u]`` = 1 for an edge u → w, so that ``along @ h`` sums over
    predecessors; ``relations`` uint8[m, b, V, V] as in `GraphTensors`.
    """

    along: Tensor
    relations: Tensor


class ConvolutionLayer(nn.Module):
    """A residual round of graph convolution, along and against the edges.

    The two directions are aggregated apart and read by one perceptron (Rossi et al., LoG 2023, eq. 2).

    ``gin``: (1 + ε) h_v + Σ h_u, ε learned for each direction (Xu et al., ICLR 2019, eq. 4.1).
    ``gcn``: Σ h_u / √(d_u d_v) over neighbours and v itself, d counting neighbours on that side and itself (Kipf
    and Welling, ICLR 2017, eq. 2; of an edge u → v, d_u counts what leaves u and d_v what enters v).
    """

    def __init__(self, kind: str, width: int, generators: list[torch.Generator]) -> None:
        super().__init__()
        self.kind = kind
        if kind == "gin":
            self.epsilon = nn.Parameter(torch.zeros(len(generators), 2))
        self.hidden = Linear(2 * width, width, generators)
        self.out = Linear(width, width, generators)

    def aggregate(self, x: Tensor, along: Tensor) -> Tensor:
        """Sums over predecessors and over successors side by side, ``[members, b, V, 2 width]``."""
        members, b, v, width = x.shape
        itself = torch.eye(v, dtype=x.dtype, device=x.device)
        if self.kind == "gin":
            own = (1.0 + self.epsilon)[:, None, None, :, None] * itself[:, None, :]
            both = torch.stack([along, along.transpose(-1, -2)], dim=-2) + own
        else:
            looped = along + itself
            entering, leaving = looped.sum(dim=-1), looped.sum(dim=-2)
            scaled = looped * (entering[..., :, None] * leaving[..., None, :]).rsqrt()
            both = torch.stack([scaled, scaled.transpose(-1, -2)], dim=-2)
        # Rows (vertex, direction): one product gives both directions where the next map wants them.
        both = both.expand(members, b, v, 2, v).reshape(members * b, 2 * v, v)
        return torch.bmm(both, x.reshape(members * b, v, width)).view(members, b, v, 2 * width)

    def forward(self, h: Tensor, context: GraphContext) -> Tensor:
        """States ``[members, b, V, width]`` → new states."""
        return h + self.out(self.hidden(self.aggregate(normalised(h), context.along)).relu_())


class AttentionLayer(nn.Module):
    """A residual round of masked attention over neighbours (Veličković et al., ICLR 2018, eqs. 1-6).

    Half of the heads look at predecessors and half at successors (and every vertex at itself); one perceptron
    reads them all.
    """

    def __init__(self, width: int, generators: list[torch.Generator]) -> None:
        super().__init__()
        self.heads = _heads(width)
        each = width // self.heads
        self.map = Linear(width, 2 * width, generators)
        bound = 1.0 / math.sqrt(each)
        self.centre = nn.Parameter(uniform((1, 1, 2 * self.heads, each), bound, generators))
        self.neighbour = nn.Parameter(uniform((1, 1, 2 * self.heads, each), bound, generators))
        self.hidden = Linear(2 * width, width, generators)
        self.out = Linear(width, width, generators)

    def aggregate(self, x: Tensor, along: Tensor) -> Tensor:
        """Attended neighbours of all heads, ``[members, b, V, 2 width]``."""
        members, b, v, width = x.shape
        mapped = self.map(x).view(members, b, v, 2 * self.heads, width // self.heads)
        centre = (mapped * self.centre).sum(dim=-1).transpose(-1, -2)  # [members, b, heads, V]
        neighbour = (mapped * self.neighbour).sum(dim=-1).transpose(-1, -2)
        score = functional.leaky_relu(centre[..., :, None] + neighbour[..., None, :], 0.2)
        looped = along + torch.eye(v, dtype=x.dtype, device=x.device)
        shut = torch.stack([looped, looped.transpose(-1, -2)], dim=2) == 0
        shut = shut.repeat_interleave(self.heads, dim=2)
        weight = score.masked_fill(shut, -torch.inf).softmax(dim=-1)
        return (weight @ mapped.transpose(2, 3)).transpose(2, 3).reshape(members, b, v, 2 * width)

    def forward(self, h: Tensor, context: GraphContext) -> Tensor:
        """States ``[members, b, V, width]`` → new states."""
        return h + self.out(self.hidden(self.aggregate(normalised(h), context.along)).relu_())


def _heads(width: int) -> int:
    """The most heads, up to four, that divide the width."""
    return next(k for k in (4, 3, 2, 1) if width % k == 0)
