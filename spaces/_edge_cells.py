"""What spaces of cells with operations on the edges share (NAS-Bench-201, TransNAS-Bench-101)."""

from __future__ import annotations

__all__ = ["EDGES", "NONE", "SKIP", "Costs", "EdgeCellSpace", "cell_edges", "graph_hash", "wiring"]

from abc import abstractmethod
from collections.abc import Callable
from functools import cache, cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tauzero.spaces._canonical_order import mix, refine
from tauzero.spaces._graphs import CellGraphs
from tauzero.spaces._operations import operation_code
from tauzero.spaces.base import Genotypes, SearchSpace


def cell_edges(nodes: int) -> tuple[tuple[int, int], ...]:
    """Source and target node of each genotype column; node 0 is the input, the last node the output."""
    return tuple((u, v) for v in range(1, nodes) for u in range(v))


#: Those of four nodes: 0→1, 0→2, 1→2, 0→3, 1→3, 2→3.
EDGES = cell_edges(4)
#: What a network costs: ``int64[2]`` parameters and multiply-adds of what is the same in all networks, and
#: ``int64[E, k, 2]`` those that each operation adds on each edge.
Costs: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

#: Codes of the two operations that cells are simplified by.
NONE, SKIP = 0, 1


class EdgeCellSpace(SearchSpace):
    """Cells of four nodes, or of another number, a node being the sum of the operations on its incoming edges.

    A genotype is ``int8[n, E]``: the operation of each of `cell_edges`, code 0 being ``none`` and 1
    ``skip_connect``. Attributes of a concrete space beside those of `SearchSpace`:

    ``_nodes``
        Number of nodes N; E = N (N − 1) / 2 edges.
    ``_shared_names``
        The name of each operation code in the shared vocabulary, ``none`` first.
    ``_identity_edges``
        Edges on which a skip connection does nothing in every cell of the network, ``bool[E]``.
    ``_none``, ``_skip``
        The codes of these two, −1 where a space has no such operation.

    Descriptors are natural logarithms of what the published network without its classifier costs:
    parameters (batch norm's affine pairs included) and multiply-adds of the convolutions for one image.
    Operations off every input-output path are not counted, because equal networks have equal descriptors.
    """

    _nodes: int = 4
    _none: int = NONE
    _skip: int = SKIP
    _shared_names: tuple[str, ...]
    _identity_edges: tuple[bool, ...]
    max_path_length = 3
    descriptor_names = ("log_parameters", "log_multiply_adds")

    @cached_property
    def _edges(self) -> tuple[tuple[int, int], ...]:
        """Source and target of each column."""
        return cell_edges(self._nodes)

    # -- order --------------------------------------------------------------------------------

    @cached_property
    def _powers(self) -> npt.NDArray[np.int64]:
        """Place values of the columns in the code of a row, ``int64[E]``."""
        return len(self._shared_names) ** np.arange(len(self._edges) - 1, -1, -1, dtype=np.int64)

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
        """All cells in order of `index`, ``int8[size, E]`` (read-only)."""
        return self._all

    def index(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Number of each row in `enumerate`, ``int64[n]``."""
        return self._index_of_code[self.check_range(genotypes) @ self._powers]

    # -- equal networks -----------------------------------------------------------------------

    def _active(self, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """Which edges lie on a path from input to output, ``bool[n, E]``."""
        on = rows != self._none
        forward = np.zeros((self._nodes, len(rows)), dtype=np.bool_)
        backward = np.zeros_like(forward)
        forward[0] = backward[-1] = True
        for e, (u, v) in enumerate(self._edges):  # in topological order
            forward[v] |= on[:, e] & forward[u]
        for e in range(len(self._edges) - 1, -1, -1):
            u, v = self._edges[e]
            backward[u] |= on[:, e] & backward[v]
        return np.stack([on[:, e] & forward[u] & backward[v] for e, (u, v) in enumerate(self._edges)], axis=1)

    def is_connected(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether the output depends on the input, ``bool[n]``."""
        return np.asarray(self._active(self.check_range(genotypes)).any(axis=1), dtype=np.bool_)

    def active_edges(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Which operations can carry information from input to output, ``bool[n, E]``."""
        return self._active(self.check_range(genotypes))

    def prune(self, genotypes: npt.ArrayLike) -> Genotypes:
        """Set operations off every input-output path to ``none``; `has_dead_operations` tells whose change."""
        rows = self.check_range(genotypes)
        return np.where(self._active(rows), rows, np.int8(max(self._none, 0))).astype(np.int8)

    def has_dead_operations(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether some operation other than ``none`` is off every input-output path, ``bool[n]``."""
        rows = self.check_range(genotypes)
        return ((rows != self._none) & ~self._active(rows)).any(axis=1)

    def _keys(self) -> dict[str, Callable[[], npt.NDArray[Any]]]:
        """By notion: one key for each enumerated cell, the same for cells that are equal."""
        return {
            "string": lambda: self._all @ self._powers,
            "reachable": lambda: self.prune(self._all) @ self._powers,
            "expression": lambda: self._expression(self.prune(self._all)),
            "network": lambda: self._network(self.prune(self._all)),
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
            used = (self._all != self._none).sum(axis=1)
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
        totals = fixed + by_edge[np.arange(len(self._edges)), rows].sum(axis=1)
        return np.log(totals.astype(np.float64))

    # -- graphs -------------------------------------------------------------------------------

    def graphs(self, genotypes: npt.ArrayLike) -> CellGraphs:
        """Cells with operations moved from edges to vertices (V = E + 2).

        Vertex 0 is the input, vertices 1 to E are the edges' operations in genotype order, the last vertex
        is the output. An operation feeds those that start at the node where it ends. ``none``
        stays as an isolated vertex.
        """
        rows = self.check_range(genotypes)
        last = len(self._edges) + 1
        ops = np.zeros((len(rows), last + 1), dtype=np.int8)
        ops[:, 0], ops[:, last] = operation_code("input"), operation_code("output")
        ops[:, 1:last] = np.array([operation_code(s) for s in self._shared_names], dtype=np.int8)[rows]
        present = (ops != operation_code("none")).astype(np.uint8)
        adjacency = wiring(self._nodes) * present[:, :, None] * present[:, None, :]
        return CellGraphs(adjacency, ops, np.full(len(rows), last + 1, dtype=np.int8))

    # -- hashes of equal networks ---------------------------------------------------------------

    def _expression(self, rows: Genotypes) -> npt.NDArray[np.uint64]:
        """64-bit hash of each pruned cell's output as a nested sum with skips contracted and zeros dropped."""
        node = np.zeros((len(rows), self._nodes), dtype=np.uint64)
        node[:, 0] = 1
        factor = np.uint64(max(8, len(self._shared_names)))
        for e, (u, v) in enumerate(self._edges):  # edges are in topological order
            op = rows[:, e].astype(np.uint64)
            applied = mix(node[:, u] * factor + op)
            passes_on = (rows[:, e] == self._skip) & self._identity_edges[e]
            there = rows[:, e] != self._none
            node[:, v] += np.where(there, np.where(passes_on, node[:, u], applied), np.uint64(0))
        return node[:, -1]

    def _reads(self, rows: Genotypes) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
        """Each pruned cell as a graph of operations with skips contracted.

        Vertices are the input, the (at most E) operations and the output; a node's value is a vector of how often
        each source is summed into it.

        Returns
        -------
        ``uint64[n, E + 2, E + 2]``, entry [i, r, s] saying how often vertex r reads s, and which vertices there are.
        """
        n, last = len(rows), len(self._edges) + 1
        value = np.zeros((n, self._nodes, last + 1), dtype=np.uint64)
        value[:, 0, 0] = 1
        reads = np.zeros((n, last + 1, last + 1), dtype=np.uint64)
        passes_on = (rows == self._skip) & np.array(self._identity_edges)
        is_op = (rows != self._none) & ~passes_on
        for e, (u, v) in enumerate(self._edges):
            reads[:, e + 1] = np.where(is_op[:, e, None], value[:, u], np.uint64(0))
            value[:, v] += np.where(passes_on[:, e, None], value[:, u], np.uint64(0))
            value[:, v, e + 1] += is_op[:, e].astype(np.uint64)
        reads[:, last] = value[:, -1]
        ends = np.ones((n, 1), dtype=np.bool_)
        return reads, np.concatenate([ends, is_op, ends], axis=1)

    def _network(self, rows: Genotypes) -> npt.NDArray[np.uint64]:
        """64-bit isomorphism hash of each pruned cell as a graph of operations with skips contracted.

        Weisfeiler-Lehman refinement over both directions tells operations apart by what they read and by who
        reads them; E + 1 rounds exceed the longest path.
        """
        reads, present = self._reads(rows)
        color = refine(reads, mix(self._labels(np.where(present[:, 1:-1], rows, 0))), len(self._edges) + 1)
        return graph_hash(color, present)

    @staticmethod
    def _labels(inner: npt.NDArray[np.integer]) -> npt.NDArray[np.uint64]:
        """First colours of the vertices of `_reads` from labels of the operations, ``uint64[n, E + 2]``."""
        label = np.zeros((len(inner), inner.shape[1] + 2), dtype=np.uint64)
        label[:, 0], label[:, -1] = 100, 101
        label[:, 1:-1] = inner
        return label


def graph_hash(color: npt.NDArray[np.uint64], present: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
    """One hash for each graph from the colours of its vertices, whatever their order, ``uint64[n]``."""
    return np.where(present, mix(color), np.uint64(0)).sum(axis=1, dtype=np.uint64)


@cache
def wiring(nodes: int) -> npt.NDArray[np.uint8]:
    """Adjacency of input, operations and output if no edge is empty, ``uint8[E + 2, E + 2]`` (read-only)."""
    edges = cell_edges(nodes)
    matrix = np.zeros((len(edges) + 2, len(edges) + 2), dtype=np.uint8)
    for e, (u, v) in enumerate(edges):
        matrix[0, e + 1] = u == 0
        matrix[e + 1, -1] = v == nodes - 1
        for f, (s, _) in enumerate(edges):
            matrix[e + 1, f + 1] = s == v
    matrix.setflags(write=False)
    return matrix
