"""The networks of NAS-Bench-201 and NATS-Bench's topology space, and of such cells with more nodes and operations.

Dong and Yang, ICLR 2020 (arXiv 2001.00326), section 2.1; details after the authors' AutoDL-Projects
(commit f46486e): ``tiny_network.py``, ``cells.py`` and ``cell_operations.py``. Modules carry the names that
they have there, so that the published weights (``net_state_dict``) load.
"""

from __future__ import annotations

__all__ = [
    "Cell",
    "NASBench201Family",
    "NASBench201Network",
    "NASBench201XFamily",
    "Pooling",
    "ReLUConvNorm",
    "Reduction",
    "norm",
    "operation",
]

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from tauzero import spaces
from tauzero.networks._darts_operations import SeparableConvolution
from tauzero.networks._datasets import DatasetShape
from tauzero.networks.base import CellNetwork, NetworkFamily, NetworkStack
from tauzero.spaces import Genotypes
from tauzero.spaces._edge_cells import EdgeCellSpace, cell_edges
from tauzero.spaces._nasbench201_costs import edge_costs

_KERNELS = {"conv_1x1": 1, "conv_3x3": 3, "conv_5x5": 5}
_CHANNELS, _CELLS_PER_STAGE, _STAGES = 16, 5, 3


def norm(channels: int, enabled: bool) -> nn.Module:
    """Batch norm with the benchmark's constants, or the identity without parameters."""
    return nn.BatchNorm2d(channels, eps=1e-5, momentum=0.1) if enabled else nn.Identity()


class ReLUConvNorm(nn.Module):
    """ReLU, convolution without bias, batch norm (``ReLUConvBN``)."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, batch_norm: bool) -> None:
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(inplace=False),  # the same node feeds several operations
            nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=kernel // 2, bias=False),
            norm(c_out, batch_norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[b, c_out, h/stride, w/stride]``."""
        out: Tensor = self.op(x)
        return out


class Pooling(nn.Module):
    """3×3 average pooling whose border windows average over the pixels that exist (``POOLING``)."""

    def __init__(self) -> None:
        super().__init__()
        self.op = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape."""
        out: Tensor = self.op(x)
        return out


def operation(name: str, channels: int, batch_norm: bool) -> nn.Module:
    """One operation of the shared vocabulary on ``channels`` channels; ``none`` is a module that is never called."""
    if name in _KERNELS:
        return ReLUConvNorm(channels, channels, _KERNELS[name], 1, batch_norm)
    kind, separable, size = name.partition("_conv_")
    if separable:  # ``DualSepConv`` and ``SepConv`` of the authors' file are DARTS' two
        return SeparableConvolution(channels, int(size[0]), 1, kind == "dil", batch_norm)
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride=1, padding=1)
    return Pooling() if name == "avg_pool_3x3" else nn.Identity()  # ``none`` holds its place and is never called


class Cell(nn.Module):
    """Nodes, of which each is the sum of the operations on its incoming edges (``InferCell``).

    Parameters
    ----------
    names
        The operation of each edge, in the order of the genotype.
    active
        ``bool[E]``: the edges that are computed.
    nodes
        Number of nodes.
    channels
        Of the input and of every node.
    batch_norm
        False replaces batch normalisation by the identity.
    """

    def __init__(
        self, names: Sequence[str], active: npt.NDArray[np.bool_], nodes: int, channels: int, batch_norm: bool
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(operation(name, channels, batch_norm) for name in names)
        self.edges = cell_edges(nodes)
        self.last = nodes - 1
        self.active = tuple(e for e in range(len(self.edges)) if active[e])

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output node, ``[b, c, h, w]`` as `x`."""
        nodes: dict[int, Tensor] = {0: x}
        for e in self.active:
            source, target = self.edges[e]
            term = self.layers[e](nodes[source])
            nodes[target] = nodes[target] + term if target in nodes else term
        # A disconnected cell multiplies by zero, as the published ``Zero`` does: gradients stay defined.
        return nodes[self.last] if self.last in nodes else x.mul(0.0)


class Reduction(nn.Module):
    """Residual block that halves the image; no batch norm in the shortcut (``ResNetBasicblock``)."""

    def __init__(self, c_in: int, c_out: int, batch_norm: bool) -> None:
        super().__init__()
        self.conv_a = ReLUConvNorm(c_in, c_out, 3, 2, batch_norm)
        self.conv_b = ReLUConvNorm(c_out, c_out, 3, 1, batch_norm)
        self.downsample = nn.Sequential(
            nn.AvgPool2d(2, stride=2, padding=0), nn.Conv2d(c_in, c_out, 1, stride=1, padding=0, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Halve the image, ``[b, c_out, h/2, w/2]``."""
        out: Tensor = self.downsample(x) + self.conv_b(self.conv_a(x))
        return out


class NASBench201Network(CellNetwork):
    """Stem, three stages of N cells with C, 2C, 4C channels and reductions between, and a linear classifier.

    Parameters
    ----------
    row
        ``int8[E]``, the operations of the cell's edges.
    num_classes
        Width of the classifier.
    channels
        C; 16 as published.
    cells_per_stage
        N; 5 as published.
    batch_norm
        False replaces batch normalisation by the identity.
    space
        The space of the row: that of NAS-Bench-201, or one with other cells.

    Notes
    -----
    Edges off every input-output path hold parameters, as in the benchmark, but are not computed. The output
    is the same; their batch norms' running statistics stay as initialised.
    """

    def __init__(
        self,
        row: Genotypes,
        num_classes: int,
        *,
        channels: int = _CHANNELS,
        cells_per_stage: int = _CELLS_PER_STAGE,
        batch_norm: bool = True,
        space: EdgeCellSpace | None = None,
    ) -> None:
        super().__init__()
        home = _space("nasbench201") if space is None else space
        active = home.active_edges(row[None])[0]
        names = [home._shared_names[code] for code in row]
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, kernel_size=3, padding=1, bias=False), norm(channels, batch_norm)
        )
        self.cells = nn.ModuleList()
        width = channels
        for stage in range(_STAGES):
            if stage:
                self.cells.append(Reduction(width, 2 * width, batch_norm))
                width *= 2
            for _ in range(cells_per_stage):
                self.cells.append(Cell(names, active, home._nodes, width, batch_norm))
        self.lastact = nn.Sequential(norm(width, batch_norm), nn.ReLU(inplace=True))
        self.global_pooling = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(width, num_classes)

    def blocks(self) -> list[nn.Module]:
        """Cells and reductions in forward order."""
        return list(self.cells)

    def feature_map(self, images: Tensor) -> Tensor:
        """Output of the last batch norm and ReLU, ``[b, 4C, H/4, W/4]`` for images ``[b, 3, H, W]``."""
        x: Tensor = self.stem(images)
        for cell in self.cells:
            x = cell(x)
        out: Tensor = self.lastact(x)
        return out

    def features(self, images: Tensor) -> Tensor:
        """Globally averaged features that the classifier reads, ``[b, 4C]``."""
        pooled: Tensor = self.global_pooling(self.feature_map(images))
        return pooled.flatten(1)


def _space(name: str) -> EdgeCellSpace:
    space = spaces.get(name)
    if not isinstance(space, EdgeCellSpace):  # pragma: no cover - for the type checker
        raise TypeError(f"The registry of spaces holds something else under the name {name!r}.")
    return space


class NASBench201Family(NetworkFamily):
    """Builds and counts NAS-Bench-201 networks, C = 16 and N = 5 as published."""

    space = "nasbench201"
    image_multiple = 4
    options = MappingProxyType({"channels": _CHANNELS, "cells_per_stage": _CELLS_PER_STAGE})

    def make(self, row: Genotypes, num_classes: int, *, batch_norm: bool, **options: Any) -> NASBench201Network:
        """Construct the network of one row ``int8[E]``."""
        return NASBench201Network(row, num_classes, batch_norm=batch_norm, space=_space(self.space), **options)

    def stack(self, networks: Sequence[CellNetwork]) -> NetworkStack | None:
        """Grouped convolutions; every edge once for each kind of operation on it."""
        from tauzero.networks._nasbench201_stack import NASBench201Stack  # it knows the modules of this file

        return NASBench201Stack([n for n in networks if isinstance(n, NASBench201Network)])

    def train_together(self, networks: Sequence[CellNetwork]) -> nn.Module | None:
        """One batched matrix product for each kind of layer, where all operations have that form."""
        from tauzero.networks._matrix_stack import MatrixStack

        if not all(MatrixStack.supports(n) for n in networks):
            return None
        return MatrixStack([n for n in networks if isinstance(n, NASBench201Network)])

    def count_parameters(self, genotypes: Genotypes, num_classes: int, **options: Any) -> npt.NDArray[np.int64]:
        """All parameters including batch norm's affine pairs, ``int64[n]``."""
        fixed, each = edge_costs(_space(self.space)._shared_names, stages=_STAGES, **options)
        classifier = (_last_width(options) + 1) * num_classes
        return np.asarray(fixed[0] + classifier + each[genotypes, 0].sum(axis=1), dtype=np.int64)

    def count_flops(self, genotypes: Genotypes, shape: DatasetShape, **options: Any) -> npt.NDArray[np.int64]:
        """Multiply-adds of convolutions and the classifier, plus its bias, ``int64[n]`` (``flop_benchmark.py``)."""
        names = _space(self.space)._shared_names
        fixed, each = edge_costs(names, stages=_STAGES, image_size=shape.image_size, **options)
        classifier = (_last_width(options) + 1) * shape.num_classes
        return np.asarray(fixed[1] + classifier + each[genotypes, 1].sum(axis=1), dtype=np.int64)


def _last_width(options: Mapping[str, Any]) -> int:
    return int(options["channels"]) * 2 ** (_STAGES - 1)


class NASBench201XFamily(NASBench201Family):
    """The same networks with cells of another number of nodes, or other operations: one family for each such space."""

    space = "nasbench201x"

    def __init__(self, space: str = "nasbench201x") -> None:
        self.space = space
