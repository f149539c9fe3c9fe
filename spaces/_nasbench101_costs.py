"""What networks of NAS-Bench-101 cost, in closed form for whole batches."""

from __future__ import annotations

__all__ = ["network_costs", "vertex_channels"]

import numpy as np
import numpy.typing as npt

from tauzero.spaces._graphs import CellGraphs
from tauzero.spaces._operations import operation_code

_AREAS = {"conv_3x3": 9, "conv_1x1": 1, "conv_5x5": 25}


def vertex_channels(graphs: CellGraphs, channels: int) -> npt.NDArray[np.int64]:
    """Channels that each inner vertex puts out, ``int64[n, V]``; 0 on the input, the output and padding.

    The official split (nasbench, model_builder.py, compute_vertex_channels): those that feed the output share its
    channels, the first ones taking what is left over; others have as many as the widest they feed.
    """
    edges = graphs.adjacency > 0
    n, v = graphs.ops.shape
    each, output = np.arange(n), graphs.num_nodes.astype(np.int64) - 1
    feeds = edges[each, :, output]
    feeds[:, 0] = False
    count = np.maximum(feeds.sum(axis=1), 1)[:, None]
    rank = feeds.cumsum(axis=1) - 1
    width = np.where(feeds, channels // count + (rank < channels % count), 0).astype(np.int64)
    inner = np.arange(v) < output[:, None]
    for u in range(v - 2, 0, -1):
        widest = np.where(edges[:, u], width, 0).max(axis=1)
        width[:, u] = np.where(feeds[:, u] | ~inner[:, u], width[:, u], widest)
    return width


def network_costs(
    graphs: CellGraphs,
    *,
    channels: int = 128,
    stacks: int = 3,
    modules_per_stack: int = 3,
    image_size: int = 32,
    num_classes: int = 10,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Trainable parameters, and multiply-adds of convolutions and the classifier, ``int64[n]`` each.

    Parameters
    ----------
    graphs
        Pruned cells; the order of the vertices decides which of them get the channels left over by the split.
    channels
        Width of the stem and the first stack; each further stack doubles it.
    stacks, modules_per_stack
        How often the cell is repeated.
    image_size
        Height and width of the images in pixels; pooling between stacks halves it, rounding up.
    num_classes
        Width of the classifier.
    """
    n, v = graphs.ops.shape
    each, output = np.arange(n), graphs.num_nodes.astype(np.int64) - 1
    edges = graphs.adjacency.astype(np.int64)
    area = np.zeros(128, dtype=np.int64)
    for name, value in _AREAS.items():
        area[operation_code(name)] = value
    area_of = area[graphs.ops]
    direct = edges[each, 0, output]
    inner = (np.arange(v) > 0) & (np.arange(v) < output[:, None])
    weights = np.full(n, 3 * 9 * channels)
    adds = weights * image_size**2
    norms = np.full(n, 2 * channels)
    reads, side, wide = channels, image_size, channels
    for stack in range(stacks):
        if stack:
            wide, side = 2 * wide, -(-side // 2)
        width = vertex_channels(graphs, wide)
        own = (area_of * width**2).sum(axis=1)
        # Whatever reads the cell's input, the output included, reads a 1x1 projection to its own width.
        projected = (edges[:, 0] * width * inner).sum(axis=1) + direct * wide
        normed = ((area_of > 0) * width).sum(axis=1) + projected
        # Only the first module of a stack reads the narrower output of the stack before.
        used = modules_per_stack * own + projected * (reads + (modules_per_stack - 1) * wide)
        weights = weights + used
        adds = adds + used * side**2
        norms = norms + modules_per_stack * 2 * normed
        reads = wide
    return weights + norms + (reads + 1) * num_classes, adds + reads * num_classes
