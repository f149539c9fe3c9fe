"""The networks of NAS-Bench-101, and of such cells with other bounds and operations.

Ying et al., ICML 2019 (arXiv 1902.09635), section 2.1 and appendix A; details after the authors' nasbench
(commit b942470): ``config.py``, ``model_builder.py`` and ``base_ops.py``.
"""

from __future__ import annotations

__all__ = ["NASBench101Family", "NASBench101Network", "NASBench101XFamily"]

from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tauzero import spaces
from tauzero.networks._datasets import DatasetShape
from tauzero.networks.base import CellNetwork, NetworkFamily
from tauzero.spaces import CellGraphs, Genotypes, operation_code
from tauzero.spaces._nasbench101_costs import network_costs, vertex_channels
from tauzero.spaces._vertex_cells import VertexCellSpace

_CHANNELS, _STACKS, _MODULES = 128, 3, 3
_KERNELS = {operation_code(name): kernel for name, kernel in (("conv_3x3", 3), ("conv_1x1", 1), ("conv_5x5", 5))}


class _ConvNormReLU(nn.Sequential):
    """Convolution without bias, batch norm, ReLU (``conv_bn_relu``)."""

    def __init__(self, c_in: int, c_out: int, kernel: int, batch_norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
        # TensorFlow's momentum 0.997 is the share that stays, PyTorch's the share that is new.
        self.norm = nn.BatchNorm2d(c_out, eps=1e-5, momentum=0.003) if batch_norm else nn.Identity()
        self.relu = nn.ReLU(inplace=False)


def _without_weights(code: int) -> nn.Module:
    if code == operation_code("max_pool_3x3"):
        return nn.MaxPool2d(3, stride=1, padding=1)
    if code == operation_code("avg_pool_3x3"):
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return nn.Identity()


class _Vertex(nn.Module):
    """One operation on the sum of what arrives; what comes from the cell's input is projected first.

    Parameters
    ----------
    code
        Code of the operation in `tauzero.spaces.OPERATIONS`.
    c_in, width
        Channels of the cell's input and of this vertex.
    sources
        Inner vertices that it reads, numbered from 0, each with whether it has channels too many.
    reads_input
        Whether the cell's input is read as well.
    """

    def __init__(
        self, code: int, c_in: int, width: int, sources: list[tuple[int, bool]], *, reads_input: bool, batch_norm: bool
    ) -> None:
        super().__init__()
        self.width = width
        self.sources = tuple(sources)
        self.projection = _ConvNormReLU(c_in, width, 1, batch_norm) if reads_input else None
        kernel = _KERNELS.get(code)
        self.operation = _without_weights(code) if kernel is None else _ConvNormReLU(width, width, kernel, batch_norm)

    def forward(self, x: Tensor, inner: list[Tensor]) -> Tensor:
        total = None if self.projection is None else self.projection(x)
        for source, too_wide in self.sources:
            term = inner[source][:, : self.width] if too_wide else inner[source]
            total = term if total is None else total + term
        out: Tensor = self.operation(total)
        return out


class _Module(nn.Module):
    """A cell: its inner vertices in order, those that feed the output concatenated (``build_module``)."""

    def __init__(self, graph: CellGraphs, c_in: int, c_out: int, batch_norm: bool) -> None:
        super().__init__()
        edges, ops = graph.adjacency[0] > 0, graph.ops[0].tolist()
        output = int(graph.num_nodes[0]) - 1
        width = vertex_channels(graph, c_out)[0].tolist()
        self.vertices = nn.ModuleList(
            _Vertex(
                ops[v],
                c_in,
                width[v],
                [(u - 1, width[u] > width[v]) for u in range(1, v) if edges[u, v]],
                reads_input=bool(edges[0, v]),
                batch_norm=batch_norm,
            )
            for v in range(1, output)
        )
        self.feeding = tuple(v - 1 for v in range(1, output) if edges[v, output])
        self.projection = _ConvNormReLU(c_in, c_out, 1, batch_norm) if edges[0, output] else None

    def forward(self, x: Tensor) -> Tensor:
        inner: list[Tensor] = []
        for vertex in self.vertices:
            inner.append(vertex(x, inner))
        total: Any = None if self.projection is None else self.projection(x)
        if self.feeding:
            arriving = [inner[v] for v in self.feeding]
            joined = arriving[0] if len(arriving) == 1 else torch.cat(arriving, dim=1)
            total = joined if total is None else joined + total
        out: Tensor = total  # something feeds the output of a valid cell
        return out


class NASBench101Network(CellNetwork):
    """Stem, stacks of equal cells with C, 2C, 4C channels and max pooling between, and a linear classifier.

    Parameters
    ----------
    row
        ``int8[L]``, a cell of the space. Unreachable vertices are pruned; the others keep the order of the row,
        because the first ones that feed the output get the channels that cannot be shared equally.
    num_classes
        Width of the classifier.
    channels
        C, at least 4; 128 as published.
    stacks, modules_per_stack
        How often the cell is repeated; 3 stacks of 3 as published.
    batch_norm
        False replaces batch normalisation by the identity.
    space
        The space of the row: that of NAS-Bench-101, or one with other cells.
    """

    def __init__(
        self,
        row: Genotypes,
        num_classes: int,
        *,
        channels: int = _CHANNELS,
        stacks: int = _STACKS,
        modules_per_stack: int = _MODULES,
        batch_norm: bool = True,
        space: VertexCellSpace | None = None,
    ) -> None:
        super().__init__()
        graph = (_space("nasbench101") if space is None else space).pruned_graphs(row[None])
        self.stem = _ConvNormReLU(3, channels, 3, batch_norm)
        self.cells = nn.ModuleList()
        reads, width = channels, channels
        for stack in range(stacks):
            if stack:
                # ``padding='same'`` of the original: a last odd row or column is pooled alone.
                self.cells.append(nn.MaxPool2d(2, stride=2, ceil_mode=True))
                width *= 2
            for _ in range(modules_per_stack):
                self.cells.append(_Module(graph, reads, width, batch_norm))
                reads = width
        self.classifier = nn.Linear(reads, num_classes)

    def blocks(self) -> list[nn.Module]:
        """Cells, and the max pooling between stacks, in forward order."""
        return list(self.cells)

    def feature_map(self, images: Tensor) -> Tensor:
        """Output of the last cell, ``[b, 4C, H/4, W/4]`` for images ``[b, 3, H, W]``."""
        x: Tensor = self.stem(images)
        for cell in self.cells:
            x = cell(x)
        return x


def _space(name: str) -> VertexCellSpace:
    space = spaces.get(name)
    if not isinstance(space, VertexCellSpace):  # pragma: no cover - for the type checker
        raise TypeError(f"The registry of spaces holds something else under the name {name!r}.")
    return space


class NASBench101Family(NetworkFamily):
    """Builds and counts NAS-Bench-101 networks, 3 stacks of 3 cells with 128, 256 and 512 channels as published."""

    space = "nasbench101"
    image_multiple = 4
    options = MappingProxyType({"channels": _CHANNELS, "stacks": _STACKS, "modules_per_stack": _MODULES})

    def check_option(self, name: str, value: Any) -> None:
        """Refuse what is no positive integer, and stems too narrow for the split of the channels."""
        super().check_option(name, value)
        least = self._min_channels()
        if name == "channels" and value < least:
            raise ValueError(
                f"The 'channels' option of {self.space} networks must be at least {least}, since that many "
                f"vertices may share the channels. Got {value!r}."
            )

    def _min_channels(self) -> int:
        """Most vertices that can feed the output, two edges each, and so share its channels."""
        return 4  # of nine edges

    def make(self, row: Genotypes, num_classes: int, *, batch_norm: bool, **options: Any) -> NASBench101Network:
        """Construct the network of one row ``int8[L]``."""
        return NASBench101Network(row, num_classes, batch_norm=batch_norm, space=_space(self.space), **options)

    def count_parameters(self, genotypes: Genotypes, num_classes: int, **options: Any) -> npt.NDArray[np.int64]:
        """All parameters including batch norm's affine pairs, ``int64[n]``, of the rows as given."""
        graphs = _space(self.space).pruned_graphs(genotypes)
        return network_costs(graphs, num_classes=num_classes, **options)[0]

    def count_flops(self, genotypes: Genotypes, shape: DatasetShape, **options: Any) -> npt.NDArray[np.int64]:
        """Multiply-adds of convolutions and the classifier, ``int64[n]``; the benchmark publishes none."""
        graphs = _space(self.space).pruned_graphs(genotypes)
        sizes = {"num_classes": shape.num_classes, "image_size": shape.image_size}
        return network_costs(graphs, **sizes, **options)[1]


class NASBench101XFamily(NASBench101Family):
    """The same networks with cells of other bounds and operations: one family for each such space."""

    space = "nasbench101x"

    def __init__(self, space: str = "nasbench101x") -> None:
        self.space = space

    def _min_channels(self) -> int:
        home = _space(self.space)
        most = home.max_edges if isinstance(home, spaces.NASBench101X) else 0
        return max(1, min(most // 2, home._vertices - 2))
