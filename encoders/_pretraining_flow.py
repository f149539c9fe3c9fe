"""Simulated flow of information through cells: one miniature network with fixed random weights per draw.

After the flow surrogate of Hwang et al., "FGP: Flow-based graph pre-training" (NeurIPS 2025, arXiv:2510.18360):
vectors run through the cell forwards and backwards, every operation being one random map that all architectures
share. What the maps are made of is our own: a vector is a signal of a few positions and channels, and an operation
reads the positions that its kernel would.
"""

from __future__ import annotations

__all__ = ["flow_vectors", "flow_width"]

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tauzero.spaces import OPERATIONS, CellGraphs, operation_code

Floats = npt.NDArray[np.float64]

_POSITIONS, _CHANNELS = 8, 4
_WIDTH = _POSITIONS * _CHANNELS
_CHUNK = 4_096  # cells at a time: bounds the memory of their states
_THREE, _FIVE = (-1, 0, 1), (-2, -1, 0, 1, 2)
#: Positions, relative to the one that is written, that an operation reads. Others read three.
_OFFSETS: dict[str, tuple[int, ...]] = {
    "conv_1x1": (0,),
    "cell_input_0": (0,),
    "cell_input_1": (0,),
    "factorized_reduce": (0,),
    "conv_5x5": _FIVE,
    "sep_conv_5x5": _FIVE,
    "mb_conv_5x5": _FIVE,
    "dil_conv_3x3": (-2, 0, 2),
    "dil_conv_5x5": (-4, -2, 0, 2, 4),
}
_IDENTITIES = ("input", "output", "skip_connect", "sum")
_INPUT, _OUTPUT = operation_code("input"), operation_code("output")


def flow_width(heads: int) -> int:
    """Length of the flow vector of one cell."""
    return 2 * heads * _WIDTH


@lru_cache(maxsize=1_024)
def _weights(name: str, seed: int, head: int, backward: bool) -> Floats:
    """Random circular convolution over positions that mixes channels, as a matrix ``float64[w, w]``.

    Scaled such that a rectifier after it keeps second moments (He et al., ICCV 2015, eq. 10).
    """
    rng = np.random.default_rng([seed, head, int(backward), operation_code(name)])
    offsets = _OFFSETS.get(name, _THREE)
    kernel = rng.normal(size=(len(offsets), _CHANNELS, _CHANNELS)) * np.sqrt(2.0 / (len(offsets) * _CHANNELS))
    matrix = np.zeros((_POSITIONS, _CHANNELS, _POSITIONS, _CHANNELS))
    for offset, mix in zip(offsets, kernel, strict=True):
        for position in range(_POSITIONS):
            matrix[(position + offset) % _POSITIONS, :, position, :] += mix
    square: Floats = matrix.reshape(_WIDTH, _WIDTH)
    square.setflags(write=False)
    return square


def _apply(name: str, x: Floats, seed: int, head: int, backward: bool) -> Floats:
    """What an operation makes of vectors ``float64[m, w]``."""
    if name in _IDENTITIES:
        return x
    if name in {"avg_pool_3x3", "max_pool_3x3"}:
        signal = x.reshape(-1, _POSITIONS, _CHANNELS)
        window = np.stack([np.roll(signal, shift, axis=1) for shift in _THREE])
        pooled = window.mean(axis=0) if name == "avg_pool_3x3" else window.max(axis=0)
        return np.asarray(pooled.reshape(x.shape), dtype=np.float64)
    return np.maximum(x @ _weights(name, seed, head, backward), 0.0)


def _run(graphs: CellGraphs, seed: int, head: int, backward: bool) -> Floats:
    """One pass over a batch of cells, ``float64[n, w]``: the vector that arrives at the other end."""
    adjacency, ops = graphs.adjacency, graphs.ops
    n, v = ops.shape
    if backward:  # the same pass over the cell with its edges turned round
        adjacency, ops = adjacency[:, ::-1, ::-1].transpose(0, 2, 1), ops[:, ::-1]
    source, target = (_OUTPUT, _INPUT) if backward else (_INPUT, _OUTPUT)
    start = np.random.default_rng([seed, head, int(backward)]).normal(size=_WIDTH)
    states = np.zeros((v, n, _WIDTH))
    arrived = np.zeros((n, _WIDTH))
    for w in range(v):
        total = states[w]
        for u in range(w):
            rows = np.flatnonzero(adjacency[:, u, w])
            if len(rows) == n and bool((adjacency[:, u, w] == 1).all()):
                total += states[u]
            elif len(rows):
                total[rows] += states[u, rows] * adjacency[rows, u, w, None]
        for code in np.unique(ops[:, w]).tolist():
            rows = np.flatnonzero(ops[:, w] == code)
            if code == 0:  # unused and padding
                total[rows] = 0.0
            elif code == source:
                total[rows] = start
            else:
                total[rows] = _apply(OPERATIONS[code], total[rows], seed, head, backward)
            if code == target:
                arrived[rows] = total[rows]
    return arrived


def flow_vectors(graphs: CellGraphs, *, heads: int, seed: int) -> Floats:
    """Simulate the flow through cells.

    For each draw of random maps ("head") and each direction, a random vector enters at one end of the cell; a
    vertex adds up what arrives, and passes it through its operation: a random convolution and a rectifier,
    the mean or the maximum of three positions, or nothing (skips, sums). The result is what comes out at the
    other end. It is zero where no path leads through the cell, and does not depend on the order of vertices.

    Parameters
    ----------
    graphs
        n cells.
    heads
        Number of draws, ≥ 1.
    seed
        Of the maps and of the entering vectors.

    Returns
    -------
    ``float64[n, 2 · heads · 32]``: forward and backward vector of each head.
    """
    flow = np.empty((len(graphs), flow_width(heads)))
    for first in range(0, len(graphs), _CHUNK):
        part = graphs.take(np.arange(first, min(first + _CHUNK, len(graphs))))
        parts = [_run(part, seed, head, backward) for head in range(heads) for backward in (False, True)]
        flow[first : first + len(part)] = np.concatenate(parts, axis=1)
    return flow
