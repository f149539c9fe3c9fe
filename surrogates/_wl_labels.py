"""Weisfeiler-Lehman labels of the vertices of whole batches of cells, as 64-bit hashes."""

from __future__ import annotations

__all__ = ["Labels", "vertex_labels"]

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tauzero.spaces import CellGraphs

Labels: TypeAlias = npt.NDArray[np.uint64]
_CHUNK = 16_384  # cells at a time: products of labels and adjacency fit into the cache
_BELOW, _ABOVE = np.uint64(0x9E6C63D0876A9A47), np.uint64(0xB5297A4D3F84D5B5)


def _mix(x: Labels) -> Labels:
    """SplitMix64's finaliser (Steele et al., OOPSLA 2014): spreads labels over 64 bits so that sums are hashes."""
    x = (x + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def vertex_labels(cells: Mapping[str, CellGraphs], rounds: int) -> Labels:
    """Labels after 0 to `rounds` rounds of refinement, ``uint64[rounds + 1, n, V]``.

    Round 0 is a vertex's operation and the kind of cell it is in; each round replaces a vertex's label by one of
    its own, of the multiset of those it reads and of the multiset of those that read it (Shervashidze et al.,
    JMLR 2011, algorithm 1, with directed edges). A multiset's hash is the sum of its members' hashes, so
    nothing has to be sorted. The vertices of all kinds of cell stand beside each other (V of all together);
    vertices without operation have label 0.

    Parameters
    ----------
    cells
        Graphs of the same n architectures, by kind of cell. Entries of `adjacency` above 1 count parallel edges.
    rounds
        H ≥ 0.
    """
    blocks = []
    for kind, graphs in enumerate(cells.values()):
        n, v = graphs.ops.shape
        labels = np.zeros((rounds + 1, n, v), dtype=np.uint64)
        for start in range(0, n, _CHUNK):
            part = slice(start, start + _CHUNK)
            ops = graphs.ops[part]
            present = (ops > 0) & graphs.mask[part]
            edges = graphs.adjacency[part].astype(np.uint64)
            color = np.where(present, _mix(ops.astype(np.uint64) + np.uint64(256 * (kind + 1))), np.uint64(0))
            labels[0, part] = color
            for h in range(1, rounds + 1):
                read = np.where(present, _mix(color ^ _BELOW), np.uint64(0))
                readers = np.where(present, _mix(color ^ _ABOVE), np.uint64(0))
                below = (edges * read[:, :, None]).sum(axis=1, dtype=np.uint64)
                above = (edges * readers[:, None, :]).sum(axis=2, dtype=np.uint64)
                color = np.where(present, _mix(color * np.uint64(3) + _mix(below) + _mix(above ^ _ABOVE)), np.uint64(0))
                labels[h, part] = color
        blocks.append(labels)
    return np.concatenate(blocks, axis=2)
