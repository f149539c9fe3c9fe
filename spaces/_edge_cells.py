"""What spaces of four-node cells with operations on the six edges share (NAS-Bench-201, TransNAS-Bench-101)."""

from __future__ import annotations

__all__ = ["EDGES", "NONE", "SKIP", "Costs", "EdgeCellSpace"]

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from tauzero.spaces._graphs import CellGraphs
from tauzero.spaces._operations import operation_code
from tauzero.spaces.base import Genotypes, SearchSpace

#: Source and target node of each genotype column; node 0 is the input, node 3 the output.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
#: What a network costs: ``int64[2]`` parameters and multiply-adds of what is the same in all networks, and
#: ``int64[6, k, 2]`` those that each operation adds on each edge.
Costs: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

#: Codes of the two operations that cells are simplified by.
NONE, SKIP = 0, 1


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele et al., OOPSLA 2014): spreads labels over 64 bits so that sums are hashes."""
    x = (x + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class EdgeCellSpace(SearchSpace):
    """Cells of four nodes, a node being the sum of the operations on its incoming edges.

    A genotype is ``int8[n, 6]``: the operation of each of `EDGES`, code 0 being ``none`` and 1
    ``skip_connect``. Class attributes of a concrete space beside those of `SearchSpace`:

    ``_shared_names``
        The name of each operation code in the shared vocabulary, ``none`` first.
    ``_identity_edges``
        Edges on which a skip connection does nothing in every cell of the network, ``bool[6]``.

    Descriptors are natural logarithms of what the published network without its classifier costs:
    parameters (batch norm's affine pairs included) and multiply-adds of the convolutions for one image.
    Operations off every input-output path are not counted, because equal networks have equal descriptors.
    """

    _shared_names: ClassVar[tuple[str, ...]]
    _identity_edges: ClassVar[tuple[bool, ...]]
    max_path_length = 3
    descriptor_names = ("log_parameters", "log_multiply_adds")

    # -- order --------------------------------------------------------------------------------

    @cached_property
    def _powers(self) -> npt.NDArray[np.int64]:
        """Place values of the columns in the code of a row, ``int64[6]``."""
        return len(self._shared_names) ** np.arange(len(EDGES) - 1, -1, -1, dtype=np.int64)

    @cached_property
    def _published_order(self) -> npt.NDArray[np.int64]:
        """Code of the row at each index, ``int64[size]``; in lexicographic order unless a space says otherwise."""
        return np.arange(self.size, dtype=np.int64)

    @cached_property
    def _index_of_code(self) -> npt.NDArray[np.int64]:
        index = np.empty(self.size, dtype=np.int64)
        index[self._published_order] = np.arange(self.size)
        return index

    @cached_property
    def _all(self) -> Genotypes:
        digits = self._published_order[:, None] // self._powers % len(self._shared_names)
        rows = np.ascontiguousarray(digits, dtype=np.int8)
        rows.setflags(write=False)
        return rows

    def enumerate(self) -> Genotypes:
        """All cells in order of `index`, ``int8[size, 6]`` (read-only)."""
        return self._all

    def index(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Number of each row in `enumerate`, ``int64[n]``."""
        return self._index_of_code[self.check_range(genotypes) @ self._powers]

    # -- equal networks -----------------------------------------------------------------------

    @staticmethod
    def _active(rows: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """Which edges lie on a path from input to output, ``bool[n, 6]``."""
        on = rows != NONE
        forward = [np.ones(len(rows), dtype=np.bool_)]
        forward.append(on[:, 0])
        forward.append(on[:, 1] | (on[:, 2] & forward[1]))
        forward.append(on[:, 3] | (on[:, 4] & forward[1]) | (on[:, 5] & forward[2]))
        backward = [np.ones(len(rows), dtype=np.bool_)] * 4
        backward[2] = on[:, 5]
        backward[1] = on[:, 4] | (on[:, 2] & backward[2])
        live = [on[:, e] & forward[u] & backward[v] for e, (u, v) in enumerate(EDGES)]
        return np.stack(live, axis=1)

    def is_connected(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether the output depends on the input, ``bool[n]``."""
        return np.asarray(self._active(self.check_range(genotypes)).any(axis=1), dtype=np.bool_)

    def active_edges(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Which operations can carry information from input to output, ``bool[n, 6]``."""
        return self._active(self.check_range(genotypes))

    def prune(self, genotypes: npt.ArrayLike) -> Genotypes:
        """Set operations off every input-output path to ``none``; `has_dead_operations` tells whose change."""
        rows = self.check_range(genotypes)
        return np.where(self._active(rows), rows, np.int8(NONE)).astype(np.int8)

    def has_dead_operations(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether some operation other than ``none`` is off every input-output path, ``bool[n]``."""
        rows = self.check_range(genotypes)
        return ((rows != NONE) & ~self._active(rows)).any(axis=1)

    def _keys(self) -> dict[str, Callable[[], npt.NDArray[Any]]]:
        """By notion: one key for each enumerated cell, the same for cells that are equal."""
        return {
            "string": lambda: self._all @ self._powers,
            "reachable": lambda: self.prune(self._all) @ self._powers,
            "expression": lambda: _expression(self.prune(self._all), self._identity_edges),
            "network": lambda: _network(self.prune(self._all), self._identity_edges),
        }

    def classes(self, notion: str | None = None) -> npt.NDArray[np.int64]:
        """Class of each cell under a notion of equal networks, ``int64[size]`` (read-only)."""
        chosen = self.check_notion(notion)
        if chosen not in self._class_cache:
            labels = np.unique(self._keys()[chosen](), return_inverse=True)[1].astype(np.int64).reshape(-1)
            labels.setflags(write=False)
            self._class_cache[chosen] = labels
        return self._class_cache[chosen]

    @cached_property
    def _class_cache(self) -> dict[str, npt.NDArray[np.int64]]:
        return {}

    def _representatives(self, notion: str) -> npt.NDArray[np.int64]:
        """The member with the fewest operations stands for its class; of several, the one of the smallest index."""
        if notion not in self._representative_cache:
            labels = self.classes(notion)
            used = (self._all != NONE).sum(axis=1)
            order = np.lexsort((np.arange(self.size), used, labels))
            first = np.flatnonzero(np.r_[True, np.diff(labels[order]) > 0])
            self._representative_cache[notion] = order[first].astype(np.int64)
        return self._representative_cache[notion]

    @cached_property
    def _representative_cache(self) -> dict[str, npt.NDArray[np.int64]]:
        return {}

    # -- costs --------------------------------------------------------------------------------

    @abstractmethod
    def _costs(self) -> Costs:
        """Parameters and multiply-adds of the published network, by edge and operation."""

    def descriptors(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Logarithms of parameters and multiply-adds of each pruned network, ``float64[n, 2]``."""
        rows = self.prune(genotypes)
        fixed, by_edge = self._costs()
        # by_edge[edge, operation] for each edge of each row
        totals = fixed + by_edge[np.arange(len(EDGES)), rows].sum(axis=1)
        return np.log(totals.astype(np.float64))

    # -- graphs -------------------------------------------------------------------------------

    def graphs(self, genotypes: npt.ArrayLike) -> CellGraphs:
        """Cells with operations moved from edges to vertices (V = 8).

        Vertex 0 is the input, vertices 1 to 6 are the six edges' operations in genotype order, vertex
        7 is the output. An operation feeds those that start at the node where it ends. ``none``
        stays as an isolated vertex.
        """
        rows = self.check_range(genotypes)
        ops = np.zeros((len(rows), 8), dtype=np.int8)
        ops[:, 0], ops[:, 7] = operation_code("input"), operation_code("output")
        ops[:, 1:7] = np.array([operation_code(s) for s in self._shared_names], dtype=np.int8)[rows]
        wiring = np.zeros((8, 8), dtype=np.uint8)
        for e, (u, v) in enumerate(EDGES):
            if u == 0:
                wiring[0, e + 1] = 1
            if v == 3:
                wiring[e + 1, 7] = 1
            for f, (s, _) in enumerate(EDGES):
                if s == v:
                    wiring[e + 1, f + 1] = 1
        present = (ops != operation_code("none")).astype(np.uint8)
        adjacency = wiring * present[:, :, None] * present[:, None, :]
        return CellGraphs(adjacency, ops, np.full(len(rows), 8, dtype=np.int8))


def _expression(rows: Genotypes, identity: tuple[bool, ...]) -> npt.NDArray[np.uint64]:
    """64-bit hash of each pruned cell's output as a nested sum with skips contracted and zeros dropped."""
    node = np.zeros((len(rows), 4), dtype=np.uint64)
    node[:, 0] = 1
    for e, (u, v) in enumerate(EDGES):  # edges are in topological order
        op = rows[:, e].astype(np.uint64)
        applied = _mix(node[:, u] * np.uint64(8) + op)
        passes_on = (rows[:, e] == SKIP) & identity[e]
        node[:, v] += np.where(rows[:, e] == NONE, np.uint64(0), np.where(passes_on, node[:, u], applied))
    return node[:, 3]


def _network(rows: Genotypes, identity: tuple[bool, ...]) -> npt.NDArray[np.uint64]:
    """64-bit isomorphism hash of each pruned cell as a graph of operations with skips contracted.

    Sources are the input and the (at most six) operations; a node's value is a vector of how often
    each source is summed into it. Weisfeiler-Lehman refinement over both directions tells operations
    apart by what they read and by who reads them; seven rounds exceed the longest path.
    """
    n = len(rows)
    value = np.zeros((n, 4, 7), dtype=np.uint64)
    value[:, 0, 0] = 1
    reads = np.zeros((n, 8, 7), dtype=np.uint64)  # [i, reader, source]; reader 7 is the output
    passes_on = (rows == SKIP) & np.array(identity)
    is_op = (rows != NONE) & ~passes_on
    for e, (u, v) in enumerate(EDGES):
        reads[:, e + 1] = np.where(is_op[:, e, None], value[:, u], np.uint64(0))
        value[:, v] += np.where(passes_on[:, e, None], value[:, u], np.uint64(0))
        value[:, v, e + 1] += is_op[:, e].astype(np.uint64)
    reads[:, 7] = value[:, 3]
    label = np.zeros((n, 8), dtype=np.uint64)
    label[:, 0], label[:, 7] = 100, 101
    label[:, 1:7] = np.where(is_op, rows, 0).astype(np.uint64)
    color = _mix(label)
    present = np.concatenate([np.ones((n, 1), bool), is_op, np.ones((n, 1), bool)], axis=1)
    for _ in range(7):
        below = (reads * _mix(color)[:, None, :7]).sum(axis=2, dtype=np.uint64)
        above = np.zeros_like(color)
        above[:, :7] = (reads * _mix(color ^ np.uint64(0xA5A5))[:, :, None]).sum(axis=1, dtype=np.uint64)
        color = _mix(color * np.uint64(3) + _mix(below) + _mix(above ^ np.uint64(0x5A5A)))
    return np.where(present, _mix(color), np.uint64(0)).sum(axis=1, dtype=np.uint64)
