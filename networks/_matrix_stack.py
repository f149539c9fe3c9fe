"""Many small NAS-Bench-201 networks trained together: every layer is one batched matrix product.

A grouped convolution of hundreds of groups with four channels each spends its time on bookkeeping. Here activations lie
as ``[g, c, w, h, b]`` (network, channel, column, row, image), so that

* a convolution is ``bmm`` of a matrix of weights of each network with the pixels. For narrow images the matrix
  maps whole rows of pixels: its zeros cost less than copying each pixel once for every place in the kernel;
* pooling is a product with one constant matrix, shared by all networks and channels;
* batch norm sees each channel's pixels in one piece;
* operations of one kind that read the same node of a cell, on whichever edges and of whichever networks, are one call.

What the networks compute is the same up to the order of sums.
"""

from __future__ import annotations

__all__ = ["MatrixStack"]

import math
from collections.abc import Callable, Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tauzero.networks.nasbench201 import Cell, NASBench201Network, Pooling, Reduction, ReLUConvNorm

#: Images up to this width are convolved by whole rows, wider ones pixel by pixel.
_ROWS_UP_TO = 8


class _Convolutions(nn.Module):
    """Convolutions of equal shape without biases, each with its own input, ``[p, c, w, h, b] -> [p, c', w', h', b]``.

    `scale` and `shift`, ``[p, c']``, are applied to the result (a batch norm in evaluation mode).
    """

    def __init__(self, layers: Sequence[nn.Conv2d]) -> None:
        super().__init__()
        first = layers[0]
        self.stride = int(first.stride[0])
        self.kernel = int(first.kernel_size[0])
        self.weight = nn.Parameter(torch.stack([m.weight.detach() for m in layers]))

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(x, self.prepare(x.shape[2]))

    def prepare(self, width: int, scale: Tensor | None = None) -> Tensor:
        """The weights as `convolve` reads them, times ``[p, c']``."""
        weight = self.weight if scale is None else self.weight * scale[:, :, None, None, None]
        if self.kernel > 1 and width <= _ROWS_UP_TO:
            matrices: Tensor = _RowMatrices.apply(weight, width, self.stride)  # type: ignore[no-untyped-call]
            return matrices
        return weight.transpose(3, 4).flatten(2)

    def convolve(self, x: Tensor, prepared: Tensor, shift: Tensor | None = None) -> Tensor:
        """The convolution; `shift`, ``[p, c']``, is added."""
        p, out_channels = self.weight.shape[:2]
        width, height, images = x.shape[2:]
        s = self.stride
        by_rows = prepared.dim() == 4
        if by_rows and s == 1 and len(x) == p:
            found = _RowConvolution.apply(x, prepared)  # type: ignore[no-untyped-call]
        else:
            if by_rows:
                matrix = prepared.permute(1, 2, 0, 3).flatten(2)
                spread = _Rows.apply(x, self.kernel, s)  # type: ignore[no-untyped-call]
                columns = spread.view(len(x), matrix.shape[2], -1)
            elif self.kernel > 1:
                matrix = prepared
                spread = _Windows.apply(x, self.kernel, s)  # type: ignore[no-untyped-call]
                columns = spread.view(len(x), matrix.shape[2], -1)
            else:
                matrix, columns = prepared, x[:, :, ::s, ::s].flatten(2)
            if len(x) == p:
                found = torch.bmm(matrix, columns)
            else:  # one input for all
                found = (matrix.flatten(0, 1) @ columns[0]).view(p, matrix.shape[1], -1)
        if shift is not None:
            found += shift.repeat_interleave(width // s if by_rows else 1, dim=1)[:, :, None]
        return found.view(p, out_channels, width // s, height // s, images)


class _RowMatrices(torch.autograd.Function):
    """From a row of all input channels to one of all output channels, ``[p, c', c, k, k] -> [k, p, c'·w', c·w]``."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, width: int, stride: int) -> Tensor:
        p, out_channels, channels, kernel = weight.shape[:4]
        ctx.shape, ctx.width, ctx.stride = weight.shape, width, stride
        found = weight.new_zeros(kernel, p, out_channels, width // stride, channels, width)
        for place in range(kernel):
            _diagonal(found, place - kernel // 2, stride).copy_(weight[..., place].permute(3, 0, 1, 2).unsqueeze(-1))
        return found.view(kernel, p, out_channels * (width // stride), channels * width)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        p, out_channels, channels, kernel = ctx.shape[:4]
        gradient = gradients[0].contiguous()
        gradient = gradient.view(kernel, p, out_channels, ctx.width // ctx.stride, channels, ctx.width)
        found = gradient.new_empty(ctx.shape)
        for place in range(kernel):
            summed = _diagonal(gradient, place - kernel // 2, ctx.stride).sum(dim=-1)
            found[..., place] = summed.permute(1, 2, 3, 0)
        return found, None, None


def _diagonal(matrices: Tensor, offset: int, stride: int) -> Tensor:
    """Entries ``[k, p, c', c, n]`` of ``[k, p, c', w', c, w]`` where column w' reads w = s·w' + offset."""
    here, there = _overlap(offset, matrices.shape[5], stride)
    a, b, c, d, e, f = matrices.stride()
    shape = (*matrices.shape[:3], matrices.shape[4], here.stop - here.start)
    start = matrices.storage_offset() + here.start * d + there.start * f
    return matrices.as_strided(shape, (a, b, c, e, d + stride * f), start)


class _RowConvolution(torch.autograd.Function):
    """Convolutions of stride 1 from rows to rows: one product for each row of the kernel, none of which copies pixels.

    `x` is ``[p, c, w, h, b]`` and `matrices` ``[k, p, c'·w, c·w]``; the result is ``[p, c'·w, h·b]``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrices: Tensor) -> Tensor:
        p, channels, width, height, images = x.shape
        half = len(matrices) // 2
        padded = functional.pad(x, (0, 0, half, half)).view(p, channels * width, -1)
        ctx.save_for_backward(padded, matrices)
        ctx.shape = x.shape
        return _sum_of_products(matrices, [padded.narrow(2, k * images, height * images) for k in range(len(matrices))])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,) = gradients
        padded, matrices = ctx.saved_tensors
        kernel, images = len(matrices), ctx.shape[4]
        length, border = gradient.shape[2], (kernel // 2) * images
        for_matrices = torch.empty_like(matrices)
        for k in range(kernel):
            torch.bmm(gradient, padded.narrow(2, k * images, length).transpose(1, 2), out=for_matrices[k])
        # Row i of the input went to the rows i - k + half of the output.
        wide = functional.pad(gradient, (border, border))
        parts = [wide.narrow(2, (kernel - 1 - k) * images, length) for k in range(kernel)]
        return _sum_of_products(matrices.transpose(2, 3), parts).view(ctx.shape), for_matrices


def _sum_of_products(matrices: Tensor, columns: Sequence[Tensor]) -> Tensor:
    """Sum over k of ``matrices[k] @ columns[k]``, in place."""
    found = torch.bmm(matrices[0], columns[0])
    for matrix, part in zip(matrices[1:], columns[1:], strict=True):
        torch.baddbmm(found, matrix, part, out=found)
    return found


class _Rows(torch.autograd.Function):
    """Each row of pixels with those above and below, ``[p, c, w, h, b] -> [p, k, c, w, h', b]``.

    Written out, since the gradient of overlapping views goes pixel by pixel.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: int, stride: int) -> Tensor:
        p, channels, width, height, images = x.shape
        ctx.height, ctx.stride = height, stride
        found = x.new_empty(p, kernel, channels, width, height // stride, images)
        for offset in range(kernel):
            here, there = _overlap(offset - kernel // 2, height, stride)
            part = found[:, offset]
            part[:, :, :, : here.start].zero_()
            part[:, :, :, here.stop :].zero_()
            part[:, :, :, here] = x[:, :, :, there]
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        p, kernel, channels, width, _, images = gradient.shape
        found = gradient.new_zeros(p, channels, width, ctx.height, images)
        for offset in range(kernel):
            here, there = _overlap(offset - kernel // 2, ctx.height, ctx.stride)
            found[:, :, :, there] += gradient[:, offset, :, :, here]
        return found, None, None


def _overlap(offset: int, height: int, stride: int) -> tuple[slice, slice]:
    """Rows of the output whose row of the input at an offset exists, and those rows of the input."""
    rows = height // stride
    first = max(0, -(offset // stride)) if offset < 0 else 0
    last = min(rows, (height - 1 - offset) // stride + 1)
    return slice(first, last), slice(first * stride + offset, (last - 1) * stride + offset + 1, stride)


class _Windows(torch.autograd.Function):
    """Each pixel with its neighbours, ``[p, c, w, h, b] -> [p, c, k, k, w', h', b]``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: int, stride: int) -> Tensor:
        p, channels, width, height, images = x.shape
        ctx.shape, ctx.stride = x.shape, stride
        found = x.new_zeros(p, channels, kernel, kernel, width // stride, height // stride, images)
        for i in range(kernel):
            across, columns = _overlap(i - kernel // 2, width, stride)
            for j in range(kernel):
                down, rows = _overlap(j - kernel // 2, height, stride)
                found[:, :, i, j, across, down] = x[:, :, columns, rows]
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        kernel = gradient.shape[2]
        found = gradient.new_zeros(ctx.shape)
        for i in range(kernel):
            across, columns = _overlap(i - kernel // 2, ctx.shape[2], ctx.stride)
            for j in range(kernel):
                down, rows = _overlap(j - kernel // 2, ctx.shape[3], ctx.stride)
                found[:, :, columns, rows] += gradient[:, :, i, j, across, down]
        return found, None, None


class _Norms(nn.Module):
    """Batch norms of equal width, ``[p, c, w, h, b]``."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, layers: Sequence[nn.BatchNorm2d]) -> None:
        super().__init__()
        first = layers[0]
        self.eps, self.momentum = first.eps, first.momentum
        self.weight = nn.Parameter(torch.cat([m.weight.detach() for m in layers]))
        self.bias = nn.Parameter(torch.cat([m.bias.detach() for m in layers]))
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, torch.cat([getattr(m, name) for m in layers]).clone())

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(1, x.shape[0] * x.shape[1], -1)
        momentum = 0.1 if self.momentum is None else self.momentum
        out = functional.batch_norm(
            flat, self.running_mean, self.running_var, self.weight, self.bias, self.training, momentum, self.eps
        )
        return out.view(x.shape)

    def affine(self, count: int) -> tuple[Tensor, Tensor]:
        """Scale and shift of evaluation mode, ``[p, c]`` each."""
        scale = self.weight / torch.sqrt(self.running_var + self.eps)
        return scale.view(count, -1), (self.bias - self.running_mean * scale).view(count, -1)


class _ConvolutionNorms(nn.Module):
    """Convolution and batch norm, which are one product in evaluation mode."""

    def __init__(self, convolutions: Sequence[nn.Module], norms: Sequence[nn.Module]) -> None:
        super().__init__()
        self.count = len(convolutions)
        self._folded: dict[int, tuple[Tensor, Tensor]] = {}
        self.convolutions = _Convolutions([m for m in convolutions if isinstance(m, nn.Conv2d)])
        self.norms = _Norms([m for m in norms if isinstance(m, nn.BatchNorm2d)])

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            out: Tensor = self.norms(self.convolutions(x))
            return out
        width = x.shape[2]
        if width not in self._folded:
            scale, shift = self.norms.affine(self.count)
            self._folded[width] = (self.convolutions.prepare(width, scale), shift)
        return self.convolutions.convolve(x, *self._folded[width])

    def train(self, mode: bool = True) -> Self:
        """Weights change only in training: what evaluation has made of them is forgotten on the way there and back."""
        self._folded.clear()
        return super().train(mode)


class _Average(nn.Module):
    """Average pooling of all channels, which is a linear map of the pixels, the same for all."""

    def __init__(self, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._pool = pool
        self._matrices: dict[tuple[int, int, torch.dtype], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        width, height = x.shape[2:4]
        key = (width, height, x.dtype)
        if key not in self._matrices:
            # What pooling does to each single pixel are the columns of its matrix.
            pixels = torch.eye(width * height, dtype=x.dtype).view(-1, 1, width, height)
            self._matrices[key] = self._pool(pixels).flatten(1).T.contiguous()
        matrix = self._matrices[key]
        flat = x.reshape(-1, width * height, x.shape[4])
        found = torch.bmm(matrix.expand(len(flat), -1, -1), flat)
        shrink = math.isqrt(width * height // len(matrix))
        return found.view(*x.shape[:2], width // shrink, height // shrink, x.shape[4])


class _Term(nn.Module):
    """One kind of operation that reads one node, for pairs of network and target node."""

    networks: Tensor

    def __init__(self, kind: str, source: int, pairs: Sequence[tuple[int, int]], size: int, operation: nn.Module):
        super().__init__()
        self.source, self.operation, self.rectified = source, operation, kind == "convolution"
        members = [n for n, _ in pairs]
        self.everybody = members == list(range(size))
        self.register_buffer("networks", torch.tensor(members), persistent=False)
        targets = [t for _, t in pairs]
        #: Target node, first of its rows, number of rows; all networks if there are as many.
        self.parts = [(t, targets.index(t), targets.count(t)) for t in sorted(set(targets))]

    def forward(self, node: Tensor) -> Tensor:
        out: Tensor = self.operation(node if self.everybody else node.index_select(0, self.networks))
        return out


class _Cells(nn.Module):
    """The same cell position of all networks."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        super().__init__()
        self.size, self.last = len(cells), cells[0].last
        edges: dict[tuple[int, int, str, int], list[tuple[int, int, nn.Module]]] = {}
        for network, cell in enumerate(cells):
            for edge in cell.active:
                source, target = cell.edges[edge]
                layer = cell.layers[edge]
                edges.setdefault((source, target, *_kind(layer)), []).append((target, network, layer))
        found: dict[tuple[int, str, int, int], list[tuple[int, int, nn.Module]]] = {}
        for (source, target, kind, size), members in edges.items():
            # What all networks have needs no picking; the rest is joined, whichever its target.
            alone = target if len(members) == self.size else 0
            found.setdefault((source, kind, size, alone), []).extend(members)
        self.terms = nn.ModuleList()
        for (source, kind, *_), members in sorted(found.items(), key=lambda item: item[0]):
            members.sort(key=lambda member: member[:2])
            layers = [layer for *_, layer in members]
            operation: nn.Module
            if kind == "convolution":
                parts = [list(layer.op) for layer in layers if isinstance(layer, ReLUConvNorm)]
                operation = _ConvolutionNorms([p[1] for p in parts], [p[2] for p in parts])
            elif kind == "pooling":
                operation = _Average(layers[0])
            else:
                operation = nn.Identity()
            pairs = [(network, target) for target, network, _ in members]
            self.terms.append(_Term(kind, source, pairs, self.size, operation))

    def forward(self, x: Tensor) -> Tensor:
        sums: dict[int, Tensor] = {0: x}
        rectified: dict[int, Tensor] = {}
        for term in cast("list[_Term]", list(self.terms)):
            source = term.source
            if term.rectified and source not in rectified:
                rectified[source] = functional.relu(sums[source])
            value = term(rectified[source] if term.rectified else sums[source])
            for target, start, count in term.parts:
                part = value[start : start + count]
                if count < self.size:
                    if target not in sums:
                        sums[target] = torch.zeros_like(x)
                    # In place: a node is read only after all its terms were added, and sums keep nothing for gradients.
                    sums[target].index_add_(0, term.networks[start : start + count], part)
                else:
                    fresh = part.clone() if isinstance(term.operation, nn.Identity) else part
                    sums[target] = sums[target] + part if target in sums else fresh
        # Networks without a path to the output keep the zero that their node began with.
        return sums[self.last] if self.last in sums else torch.zeros_like(x)


def _kind(layer: nn.Module) -> tuple[str, int]:
    """Operations of one kind are computed together."""
    if isinstance(layer, ReLUConvNorm):
        return "convolution", int(layer.op[1].kernel_size[0])  # type: ignore[index]
    return ("pooling", 3) if isinstance(layer, Pooling) else ("identity", 1)


class _Reductions(nn.Module):
    def __init__(self, blocks: Sequence[Reduction]) -> None:
        super().__init__()
        self.conv_a = _ConvolutionNorms([r.conv_a.op[1] for r in blocks], [r.conv_a.op[2] for r in blocks])
        self.conv_b = _ConvolutionNorms([r.conv_b.op[1] for r in blocks], [r.conv_b.op[2] for r in blocks])
        self.pool = _Average(blocks[0].downsample[0])
        self.shortcut = _Convolutions([m for r in blocks for m in [r.downsample[1]] if isinstance(m, nn.Conv2d)])

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv_b(functional.relu(self.conv_a(functional.relu(x))))
        out: Tensor = self.shortcut(self.pool(x)) + inner
        return out


class MatrixStack(nn.Module):
    """NAS-Bench-201 networks of one shape side by side, made for training many small ones on a CPU.

    Parameters
    ----------
    networks
        At least one; equal channels, cells and classes, with batch norm. Their parameters are copied; those of edges
        that cannot influence the output are left out. Operations as `supports` says.
    """

    def __init__(self, networks: Sequence[NASBench201Network]) -> None:
        super().__init__()
        self.size = len(networks)
        self.stem = _ConvolutionNorms([n.stem[0] for n in networks], [n.stem[1] for n in networks])
        self.blocks = nn.ModuleList()
        for parts in zip(*(n.cells for n in networks), strict=True):
            if isinstance(parts[0], Reduction):
                self.blocks.append(_Reductions([p for p in parts if isinstance(p, Reduction)]))
            else:
                self.blocks.append(_Cells([p for p in parts if isinstance(p, Cell)]))
        self.norms = _Norms([m for n in networks for m in [n.lastact[0]] if isinstance(m, nn.BatchNorm2d)])
        self.weight = nn.Parameter(torch.stack([n.classifier.weight.detach() for n in networks]))
        self.bias = nn.Parameter(torch.stack([n.classifier.bias.detach() for n in networks]))
        self.train(networks[0].training)

    @staticmethod
    def supports(network: nn.Module) -> bool:
        """Whether all that the network computes is one of: none, skip, pooling, square convolutions with batch norm."""
        if not (isinstance(network, NASBench201Network) and isinstance(network.stem[1], nn.BatchNorm2d)):
            return False
        cells = [c for c in network.cells if isinstance(c, Cell)]
        return all(isinstance(c.layers[e], ReLUConvNorm | Pooling | nn.Identity) for c in cells for e in c.active)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[b, size, classes]`` of images ``[b, 3, H, W]``, which all networks see."""
        x: Tensor = self.stem(images.permute(1, 3, 2, 0).unsqueeze(0))
        for block in self.blocks:
            x = block(x)
        features = functional.relu(self.norms(x)).mean(dim=(2, 3))
        return torch.baddbmm(self.bias[:, :, None], self.weight, features).permute(2, 0, 1)
