"""What stands on the edges of a supernet: operations of the networks' room, with gates and a search's batch norm."""

from __future__ import annotations

__all__ = ["BorderPooling", "GatedOperation", "MixedEdge", "Norms", "SearchNorm", "replace_norms"]

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from tauzero.networks._darts_operations import FactorizedReduce
from tauzero.search.oneshot._gates import Term


@dataclass(frozen=True, slots=True)
class Norms:
    """How a supernet normalises.

    Attributes
    ----------
    affine
        Whether norms inside cells have a scale and a shift. Searches leave them out: they would undo the gates.
    running
        Whether norms keep running statistics and use them in evaluation mode. Without, every batch is normalised
        by its own statistics: those that were gathered under other gates say nothing of a cell.
    pool, skip
        Whether a norm follows pooling, and skip connections.
    """

    affine: bool = False
    running: bool = False
    pool: bool = False
    skip: bool = False


class SearchNorm(nn.BatchNorm2d):
    """Batch norm that takes the gate of its operation, as a factor of its scale: no pass over the images of its own."""

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        """Normalise ``[b, c, h, w]`` and multiply by the scalar `gate`."""
        if gate is None:
            return super().forward(x)
        # Written out: with channels last the backward kernel reads past the end of a tensor that is only expanded.
        weight: Tensor = gate.expand(self.num_features).contiguous()
        bias: Tensor | None = None
        if self.affine:
            weight, bias = gate * self.weight, gate * self.bias
        tracked = self.running_mean is not None
        if self.training and tracked and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        own = self.training or not tracked
        found: Tensor = functional.batch_norm(
            x,
            self.running_mean if tracked else None,
            self.running_var if tracked else None,
            weight,
            bias,
            own,
            self.momentum or 0.0,
            self.eps,
        )
        return found


def search_norm(channels: int, norms: Norms) -> SearchNorm:
    """The norm of operations."""
    return SearchNorm(channels, affine=norms.affine, track_running_stats=norms.running)


def replace_norms(module: nn.Module, *, affine: bool, running: bool) -> None:
    """Put norms of a search in place of all batch norms inside a module."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, SearchNorm(child.num_features, affine=affine, track_running_stats=running))
        else:
            replace_norms(child, affine=affine, running=running)


class GatedOperation(nn.Module):
    """An operation, its last norm standing apart so that it can take the gate.

    Parameters
    ----------
    operation
        A module of the networks' room.
    channels
        Of its output.
    norms
        How the supernet normalises.
    norm
        Whether a norm follows an operation that has none of its own.

    Attributes
    ----------
    norm : SearchNorm or None
        The last norm: scale and shift of the operation's output.
    identity : bool
        Whether the operation returns its input, which drop path spares.
    """

    def __init__(self, operation: nn.Module, channels: int, norms: Norms, *, norm: bool) -> None:
        super().__init__()
        self.norm: SearchNorm | None = search_norm(channels, norms) if norm else None
        inner = getattr(operation, "op", None)
        if isinstance(operation, FactorizedReduce):
            operation.bn = nn.Identity()
            self.norm = search_norm(channels, norms)
        elif isinstance(inner, nn.Sequential) and isinstance(inner[-1], nn.BatchNorm2d):
            operation.op = inner[:-1]
            self.norm = search_norm(channels, norms)
        replace_norms(operation, affine=norms.affine, running=norms.running)
        self.body = operation
        self.identity = isinstance(operation, nn.Identity) and self.norm is None

    def forward(self, x: Tensor, gate: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """The operation's output times the scalar `gate` and, for each image, `keep` ``[b, 1, 1, 1]``."""
        out: Tensor = self.body(x)
        if self.norm is not None:
            out = self.norm(out, gate)
        elif gate is not None:
            out = out * gate
        return out if keep is None or self.identity else out * keep.to(out.dtype)


class BorderPooling(nn.Module):
    """3×3 average pooling of stride 1 whose border windows average over the pixels that exist.

    On a CPU it is two products with banded matrices: PyTorch's pooling took a third of a supernet's step there.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        if x.device.type != "cpu":
            return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return _band(x.shape[2], x.dtype) @ (x @ _band(x.shape[3], x.dtype).T)


@cache
def _band(side: int, dtype: torch.dtype) -> Tensor:
    """Averages over neighbours along one side, ``[side, side]``."""
    place = torch.arange(side)
    near = ((place[:, None] - place).abs() <= 1).to(torch.float64)
    return (near / near.sum(dim=1, keepdim=True)).to(dtype)


class MixedEdge(nn.Module):
    """All candidates of one edge.

    Parameters
    ----------
    operations
        By number; None stands for ``none``, which is never computed.
    partial
        k: only the first 1/k of the channels passes through operations, the others bypass them (2×2 max pooling where
        the edge halves the image), and channels are shuffled afterwards (Xu et al., ICLR 2020, section 3.2). 1 for all.
    stride
        2 where the edge halves the image.
    """

    def __init__(self, operations: Sequence[GatedOperation | None], *, partial: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.operations = nn.ModuleDict({str(k): op for k, op in enumerate(operations) if op is not None})
        self.partial, self.stride = partial, stride

    def operation(self, number: int) -> GatedOperation | None:
        """The candidate of a number; None for ``none``."""
        key = str(number)
        if key not in self.operations:
            return None
        found = self.operations[key]
        return found if isinstance(found, GatedOperation) else None

    def forward(
        self, x: Tensor, terms: Sequence[Term], scale: Tensor | None = None, keep: Tensor | None = None
    ) -> Tensor | None:
        """Sum of the terms for ``[b, c, h, w]``; None where it is zero.

        Parameters
        ----------
        x
            The edge's input.
        terms
            Operations to be computed, with gates.
        scale
            What the whole output is multiplied by.
        keep
            Drop path's factors, ``[ops, b, 1, 1, 1]``.
        """
        if self.partial == 1:
            out = self._sum(x, terms, keep)
            return out if out is None or scale is None else out * scale
        taken = x.shape[1] // self.partial
        rest = x[:, taken:]
        if self.stride == 2:
            rest = functional.max_pool2d(rest, 2, 2)
        through = self._sum(x[:, :taken], terms, keep)
        if through is None:
            through = rest.new_zeros((len(x), taken, *rest.shape[2:]))
        out = torch.cat([through, rest], dim=1)
        b, c, h, w = out.shape
        out = out.view(b, self.partial, c // self.partial, h, w).transpose(1, 2).reshape(b, c, h, w)
        return out if scale is None else out * scale

    def _sum(self, x: Tensor, terms: Sequence[Term], keep: Tensor | None) -> Tensor | None:
        total: Tensor | None = None
        for number, gate in terms:
            term = self.operations[str(number)](x, gate, None if keep is None else keep[number])
            total = term if total is None else total + term
        return total
