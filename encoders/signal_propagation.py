"""Signal propagation: mean-field statistics of the untrained network in closed form."""

from __future__ import annotations

__all__ = ["SignalPropagation"]

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tauzero.encoders.base import Encoder
from tauzero.spaces import OPERATIONS, CellGraphs, Genotypes

_Array = npt.NDArray[np.float32]

#: Area of the kernel of each operation that has weights and is followed by batch norm and ReLU.
_AREA = {
    "conv_1x1": 1,
    "conv_3x3": 9,
    "conv_5x5": 25,
    "sep_conv_3x3": 9,
    "sep_conv_5x5": 25,
    "dil_conv_3x3": 9,
    "dil_conv_5x5": 25,
    "mb_conv_3x3": 9,
    "mb_conv_5x5": 25,
    "block": 9,
    "block_wide": 9,
    "block_down": 9,
    "block_wide_down": 9,
    **{f"block_c{channels}": 9 for channels in range(8, 65, 8)},
    # Layers of graph networks mix channels with weights of their own; what they add up over is no image.
    **dict.fromkeys(("gat_conv", "gcn_conv", "gin_conv", "cheb_conv", "sage_conv", "arma_conv", "graph_conv"), 1),
    "linear": 1,
}
_POOLS = {"avg_pool_3x3", "max_pool_3x3"}
_KINDS = ("pointwise", "spatial", "pool")
_CELLS = 3  # cells that the signal runs through
#: Correlation of two random images, and of two similar ones, before the first cell.
_INPUTS = ((0.3, 0.9), (0.0, 0.5))
_STATISTICS = ("log_power", "similarity", "common", "log_variances")
_POOLED = 0.5  # share of its variation that a signal keeps when it is pooled
_TINY = np.float32(1e-6)
_CHUNK = 4_096  # cells at a time: the covariances of a chunk stay in the cache


class SignalPropagation(Encoder):
    """What mean-field theory says of the cell's untrained network, without building it.

    Second moments of the signals at every vertex are followed through three cells in a row, for one image
    (power), for two random images and for two similar ones, covariances between vertices included: sums
    add covariances; a convolution with batch norm and ReLU removes what random images have in common,
    normalises and applies the arc-cosine kernel of degree 1 (Cho and Saul, NeurIPS 2009, eq. 6; Poole et
    al., NeurIPS 2016, eq. 5; with batch norm, Yang et al., ICLR 2019, section 3); its random weights make it
    independent of other vertices up to the means; pooling halves the variation. After each cell: the
    logarithm of the power, the similarity left between similar images, the share common to random ones, and the
    sum of the logarithms of the variances that batch norm removed (the second term of the Zen-score: Lin et
    al., ICCV 2021, eq. 5).

    Beside these: moments of how many operations of a kind a signal meets if it splits evenly at every vertex;
    logarithms of sums over paths of the product of gains (SynFlow: Tanaka et al., NeurIPS 2020, in expectation);
    and channel widths by kind of operation (`SearchSpace.vertex_widths`).

    Invariant to the order of vertices. Spaces with several kinds of cell have each in its own columns.
    """

    name = "signal_propagation"

    @cached_property
    def feature_names(self) -> list[str]:
        """Such as ``mean[spatial]``, ``log_power[0.3,2]`` (input, cell), with ``@normal`` where cells differ."""
        names = [f"{what}[{kind}]" for kind in _KINDS for what in ("width", "log_width", "square_width", "max_width")]
        names += ["read_width"]
        names += [f"{what}[{kind}]" for kind in (*_KINDS, "conv") for what in ("mean", "spread")]
        names += ["log_gain[synflow]", "log_gain[double]", "log_gain[half]"]
        names += [f"{what}[{random},{cell}]" for random, _ in _INPUTS for cell in range(_CELLS) for what in _STATISTICS]
        kinds = list(self.space.cells(self.space.sample(1, 0)))
        return names if len(kinds) == 1 else [f"{name}@{kind}" for kind in kinds for name in names]

    def _encode(self, rows: Genotypes) -> _Array:
        if len(rows) == 1:  # in company: NumPy adds up in another order where the last axis has length one
            return self._encode(np.repeat(rows, 2, axis=0))[:1]
        parts = []
        for graphs in self.space.cells(rows).values():
            widths = self.space.vertex_widths(graphs)
            blocks = np.array_split(np.arange(len(graphs)), max(1, -(-len(graphs) // _CHUNK)))
            chunks = [np.stack(list(self._columns(graphs.take(b), widths[b])), axis=1) for b in blocks]
            parts.append(np.concatenate(chunks, axis=0, dtype=np.float32))
        return np.concatenate(parts, axis=1)

    def _columns(self, graphs: CellGraphs, widths: npt.NDArray[np.floating]) -> Iterator[_Array]:
        """Columns of a chunk, ``float32[n]`` each; arrays inside have the architecture last, so rows are vectors."""
        n, v = graphs.ops.shape
        edges = np.ascontiguousarray(graphs.adjacency.transpose(1, 2, 0), dtype=np.float32)  # [V, V, n]
        output = graphs.num_nodes.astype(np.int64) - 1
        each = np.arange(n)
        width = np.ascontiguousarray(widths.T, dtype=np.float32)
        area, pool = _AREA_OF[graphs.ops.T], _POOL_OF[graphs.ops.T]
        conv = area > 0
        place = np.arange(v)[:, None]
        inner = (place > 0) & (place < output) & (graphs.ops.T > 0)
        log_width = np.log(np.maximum(width, np.float32(1e-3)))
        kinds = (area == 1, area > 1, pool)
        for kind in kinds:
            yield (kind * width).sum(axis=0)
            yield (kind * log_width).sum(axis=0)
            yield (kind * width * width).sum(axis=0)
            yield np.where(kind, width, 0).max(axis=0)
        yield (edges[0] * width * inner).sum(axis=0)
        for kind in (*kinds, conv):
            mean, square = _met(edges, kind)
            at_output = mean[output, each]
            yield at_output
            yield np.sqrt(np.maximum(square[output, each] - at_output**2, 0))
        synflow = np.where(conv, 4 * np.sqrt(area * np.maximum(width, np.float32(1e-3))), 1).astype(np.float32)
        for gain in (synflow, np.where(conv, np.float32(2), 1), np.where(conv, np.float32(0.5), 1)):
            through = np.zeros((v, n), dtype=np.float32)
            through[0] = 1
            for u in range(1, v):
                through[u] = (edges[:u, u] * through[:u]).sum(axis=0) * gain[u]
            yield np.log(through[output, each] + _TINY)
        for random, similar in _INPUTS:
            signal = np.empty((3, n), dtype=np.float32)
            signal[:] = np.array([1.0, random, similar], dtype=np.float32)[:, None]
            for _ in range(_CELLS):
                moments, log_variances = _moments(edges, conv, pool, signal, project=self.space.projects_input)
                power, common, similarity = self._at_output(edges, moments, output)
                yield np.log(np.maximum(power, _TINY))
                yield np.clip((similarity - common) / np.maximum(power - common, _TINY), -1, 2)
                yield common / np.maximum(power, _TINY)
                yield log_variances
                signal = np.stack([power, common, similarity]) / np.maximum(power, _TINY)

    def _at_output(self, edges: _Array, moments: _Array, output: npt.NDArray[np.int64]) -> _Array:
        """Moments of the cell's output, ``float32[3, n]``."""
        each = np.arange(len(output))
        if not self.space.concatenates:
            at_output: _Array = moments[:, output, each]
            return at_output
        reads = np.ascontiguousarray(edges[:, output, each])  # [V, n]
        beside = np.zeros(len(output), dtype=np.float32)
        if self.space.projects_input:  # a projection of the input is added, not concatenated
            beside = reads[0].copy()
            reads[0] = 0
        joined: _Array = (reads * moments).sum(axis=1) / np.maximum(reads.sum(axis=0), 1) + beside * moments[:, 0]
        return joined


def _met(edges: _Array, kind: npt.NDArray[np.bool_]) -> tuple[_Array, _Array]:
    """Mean and mean square of how many vertices of a kind a signal has met at each vertex, ``float32[V, n]``."""
    mean, square = np.zeros(kind.shape, dtype=np.float32), np.zeros(kind.shape, dtype=np.float32)
    for u in range(1, len(kind)):
        share = edges[:u, u]
        total = np.maximum(share.sum(axis=0), _TINY)
        before = (share * mean[:u]).sum(axis=0) / total
        mean[u] = before + kind[u]
        square[u] = (share * square[:u]).sum(axis=0) / total + (2 * before + 1) * kind[u]
    return mean, square


def _rectified(variance: _Array, covariance: _Array) -> _Array:
    """Second moments after batch norm and ReLU, ``float32[3, n]``: one image, two random ones, two similar ones.

    Batch norm leaves random images uncorrelated; ReLU keeps half of the power.
    """
    c = np.clip(covariance / variance, 0, 1)
    similar = (np.sqrt(1 - c * c) + (np.pi - np.arccos(c)) * c) / np.pi
    return np.stack([np.full_like(similar, 0.5), np.full_like(similar, 0.5 / np.pi), 0.5 * similar])


def _moments(
    edges: _Array, conv: npt.NDArray[np.bool_], pool: npt.NDArray[np.bool_], signal: _Array, *, project: bool
) -> tuple[_Array, _Array]:
    """Second moments at every vertex, ``float32[3, V, n]``, and the sum of the logarithms of batch norm's variances."""
    v, n = conv.shape
    joint = np.zeros((3, v, v, n), dtype=np.float32)
    log_variances = np.zeros(n, dtype=np.float32)
    power, common, similar = signal
    if project:
        signal = _rectified(np.maximum(power - common, _TINY), similar - common)
    joint[:, 0, 0] = signal
    for u in range(1, v):
        weight = edges[:u, u]
        with_others = np.einsum("in,kijn->kjn", weight, joint[:, :u, :u])  # [3, u, n]
        power, common, similar = (with_others * weight).sum(axis=1)
        variance = np.maximum(power - common, _TINY)
        log_variances += np.where(conv[u], np.log(variance), 0)
        keep = np.where(pool[u], np.float32(_POOLED), 1)
        linear = np.stack([common + keep * (power - common), common, common + keep * (similar - common)])
        own = np.where(conv[u], _rectified(variance, similar - common), linear)
        # Random weights: what a convolution puts out has only its mean in common with other vertices.
        means = np.sqrt(np.maximum(own[1] * np.einsum("iin->in", joint[1, :u, :u]), 0))
        joint[:, u, :u] = joint[:, :u, u] = np.where(conv[u], means, with_others)
        joint[:, u, u] = own
    return np.einsum("kvvn->kvn", joint), log_variances


def _property(values: dict[str, int]) -> npt.NDArray[np.int64]:
    table = np.zeros(128, dtype=np.int64)
    for code, name in enumerate(OPERATIONS):
        table[code] = values.get(name, 0)
    return table


_AREA_OF = _property(_AREA)
_POOL_OF = _property(dict.fromkeys(_POOLS, 1)).astype(np.bool_)
