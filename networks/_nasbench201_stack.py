"""Stacks of NAS-Bench-201 networks: every edge is computed once for each kind of operation that stands on it."""

from __future__ import annotations

__all__ = ["NASBench201Stack"]

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from tauzero.networks._stack import stack_modules
from tauzero.networks.base import NetworkStack
from tauzero.networks.nasbench201 import Cell, NASBench201Network, Reduction


def _apart(x: Tensor, size: int) -> Tensor:
    """Channels ``[b, size·c, …]`` network by network, ``[b, size, c, …]``; zero-copy."""
    out: Tensor = x.unflatten(1, (size, -1))  # type: ignore[no-untyped-call]
    return out


class _EdgeOperation(nn.Module):
    """One kind of operation on one edge, for those networks of the stack that have it there."""

    places: Tensor

    def __init__(self, operation: nn.Module, ends: tuple[int, int], members: Sequence[int], size: int) -> None:
        super().__init__()
        self.operation = operation
        self.source, self.target = ends
        self.everybody = len(members) == size
        self.count = len(members)
        self.register_buffer("places", torch.tensor(members), persistent=False)

    def forward(self, node: Tensor) -> Tensor:
        """Read a node ``[b, size, c, h, w]``; returns ``[b, g, c, h, w]``."""
        picked = node if self.everybody else node.index_select(1, self.places)
        out: Tensor = self.operation(picked.flatten(1, 2))
        return _apart(out, self.count)


class _StackedCell(nn.Module):
    def __init__(self, cells: Sequence[Cell]) -> None:
        super().__init__()
        self.size = len(cells)
        self.last = cells[0].last
        self.operations = nn.ModuleList()
        for edge, ends in enumerate(cells[0].edges):
            kinds: dict[tuple[str, ...], list[int]] = {}
            for place, cell in enumerate(cells):
                if edge in cell.active:
                    kinds.setdefault(_signature(cell.layers[edge]), []).append(place)
            for members in kinds.values():
                stacked = stack_modules([_plain(cells[place].layers[edge]) for place in members], members)
                self.operations.append(_EdgeOperation(stacked, ends, members, self.size))

    def forward(self, x: Tensor) -> Tensor:
        nodes: dict[int, Tensor] = {0: _apart(x, self.size)}
        for operation in cast("list[_EdgeOperation]", list(self.operations)):
            if operation.source not in nodes:
                continue
            term = operation(nodes[operation.source])
            target = operation.target
            if operation.everybody:
                nodes[target] = nodes[target] + term if target in nodes else term
            else:
                into = nodes[target] if target in nodes else torch.zeros_like(nodes[0])
                nodes[target] = into.index_add(1, operation.places, term)
        # Networks without a path to the output keep the zero that their node began with.
        return (nodes[self.last] if self.last in nodes else nodes[0].mul(0.0)).flatten(1, 2)


def _plain(operation: nn.Module) -> nn.Module:
    """ReLU-convolution-norm and pooling wrap what they do in ``op``."""
    inner = getattr(operation, "op", operation)
    return inner if isinstance(inner, nn.Module) else operation


def _signature(operation: nn.Module) -> tuple[str, ...]:
    """Operations with equal signatures on one edge have layers of equal shapes."""
    return tuple(str(m) for m in operation.modules())


class _StackedReduction(nn.Module):
    def __init__(self, reductions: Sequence[Reduction], members: Sequence[int]) -> None:
        super().__init__()
        self.conv_a = stack_modules([r.conv_a.op for r in reductions], members)
        self.conv_b = stack_modules([r.conv_b.op for r in reductions], members)
        self.downsample = stack_modules([r.downsample for r in reductions], members)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.downsample(x) + self.conv_b(self.conv_a(x))
        return out


class NASBench201Stack(NetworkStack):
    """NAS-Bench-201 networks of one shape side by side, with the weights of the networks given.

    Parameters
    ----------
    networks
        At least one; equal channels, cells and classes, any operations.
    """

    def __init__(self, networks: Sequence[NASBench201Network]) -> None:
        super().__init__()
        self.size = len(networks)
        members = range(self.size)
        self.stem = stack_modules([n.stem for n in networks], members)
        self.cells = nn.ModuleList()
        for parts in zip(*(n.cells for n in networks), strict=True):
            if isinstance(parts[0], Reduction):
                self.cells.append(_StackedReduction([p for p in parts if isinstance(p, Reduction)], members))
            else:
                self.cells.append(_StackedCell([p for p in parts if isinstance(p, Cell)]))
        self.lastact = stack_modules([n.lastact for n in networks], members)
        self.classifier = stack_modules([n.classifier for n in networks], members)
        if not networks[0].training:
            self.eval()

    def blocks(self) -> list[nn.Module]:
        """Cells and reductions in forward order."""
        return list(self.cells)

    def feature_map(self, images: Tensor) -> Tensor:
        """Output of the last batch norm and ReLU, ``[b, size·4C, H/4, W/4]``."""
        shared = images.shape[1] == 3
        x: Tensor = self.stem(images.repeat(1, self.size, 1, 1) if shared else images)
        for cell in self.cells:
            x = cell(x)
        out: Tensor = self.lastact(x)
        return out

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[b, size, classes]``."""
        pooled = self.feature_map(images).mean(dim=(2, 3), keepdim=True)
        logits: Tensor = self.classifier(pooled)
        return _apart(logits.flatten(1), self.size)
