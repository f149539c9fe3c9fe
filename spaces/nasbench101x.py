"""Cells of NAS-Bench-101's kind with other bounds on vertices and edges and other operations; no table covers them."""

from __future__ import annotations

__all__ = ["NASBench101X"]

from collections.abc import Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from tauzero.spaces._canonical_order import mix, tell_apart
from tauzero.spaces._cell_counts import count_cells, draw_columns
from tauzero.spaces._graphs import CellGraphs
from tauzero.spaces._nasbench101_tables import MAX_EDGES, V
from tauzero.spaces._operations import operation_code
from tauzero.spaces._parameters import check_bound, check_operations, written_name
from tauzero.spaces._vertex_cells import OPERATION_NAMES, VertexCellSpace
from tauzero.spaces.base import Genotypes

_MOST_VERTICES = 12
_DEFAULT = ("conv_3x3", "conv_1x1", "max_pool_3x3")
_CHUNK = 8_192


class NASBench101X(VertexCellSpace):
    """Cells of at most V vertices and E edges with operations on the vertices.

    With ``vertices=7, edges=9`` and the default operations the cells are those of `NASBench101`. There is no
    enumeration, and canonical forms are in another order of vertices than the published one; module hashes agree.

    A genotype is ``int8[n, V (V − 1) / 2 + V − 2]``: the entries above the diagonal of the adjacency matrix, the edge
    x → y in column y(y-1)/2 + x, then the operations of the inner vertices. Vertices off every input-output path are
    pruned; a row is valid if a path is left and at most E edges are. Rows that differ by what is
    pruned or are isomorphic are one network (the only notion, ``isomorphism``).

    Parameters
    ----------
    vertices
        V, 2 to 12, input and output included.
    edges
        E, from 1 to V (V − 1) / 2.
    operations
        Names of the shared vocabulary, or those of the authors, in any order: ``conv_3x3``, ``conv_1x1``,
        ``max_pool_3x3`` (these by default), ``conv_5x5``, ``avg_pool_3x3``, ``skip_connect``.

    `size` counts labelled cells: adjacency matrices of 2 to V vertices that all lie on a path, with operations.
    `sample` draws them uniformly, so that a cell comes as often as its vertices have different topological orders.
    (The random search of NAS-Bench-101's authors draws matrices of V vertices until one is valid; small cells, which
    many matrices are pruned to, come more often there.) The vertices that a drawn cell lacks stand before the
    output, without edges.

    Descriptors as in `NASBench101`, of the cell in canonical order.
    """

    extends = "nasbench101"
    parameters = MappingProxyType({"vertices": 8, "edges": 11, "operations": _DEFAULT})
    enumerable = False
    notions = ("isomorphism",)

    def __init__(self, vertices: int = 8, edges: int = 11, operations: Sequence[str] | str = _DEFAULT) -> None:
        kind = "nasbench101x"
        self._vertices = check_bound(kind, "vertices", vertices, 2, _MOST_VERTICES)
        self.max_edges = check_bound(kind, "edges", edges, 1, self._num_bits)
        synonyms = {theirs: name for name, theirs in OPERATION_NAMES.items()}
        names = check_operations(kind, operations, list(OPERATION_NAMES), synonyms)
        values = {"vertices": self._vertices, "edges": self.max_edges, "operations": names}
        self.name = written_name(kind, values, self.parameters)
        self._shared_names = self.graph_operations = names
        self.operations = tuple(OPERATION_NAMES[name] for name in names)
        self.cardinalities = (2,) * self._num_bits + (len(names),) * (self._vertices - 2)
        self.max_path_length = min(self._vertices - 2, self.max_edges - 1)
        sizes = range(2, self._vertices + 1)
        #: Labelled cells of 2, 3, … V vertices.
        self._counts = [len(names) ** (k - 2) * count_cells(k, self.max_edges) for k in sizes]
        self.size = sum(self._counts)

    # -- members ------------------------------------------------------------------------------

    def is_valid(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether the output is reached and at most E edges are left after pruning, ``bool[n]``."""
        matrix = self.adjacency(genotypes)
        keep = self._on_paths(matrix)
        left = (matrix * (keep[:, :, None] & keep[:, None, :])).sum(axis=(1, 2))
        return np.asarray((left > 0) & (left <= self.max_edges), dtype=np.bool_)

    def _why_invalid(self, row: Genotypes) -> str:
        matrix = self.adjacency(row[None])
        keep = self._on_paths(matrix)[0]
        if not keep.any():
            return f"its output (vertex {self._vertices - 1}) cannot be reached from its input (vertex 0)."
        left = int(matrix[0][np.ix_(keep, keep)].sum())
        return f"it has {left} edges after pruning, {self.max_edges} are allowed."

    def _draw(self, n: int, rng: np.random.Generator) -> Genotypes:
        shares = np.array([float(count) for count in self._counts])
        vertices = 2 + rng.choice(len(shares), size=n, p=shares / shares.sum())
        rows = np.zeros((n, self.length), dtype=np.int8)
        rows[:, self._num_bits :] = rng.integers(len(self.operations), size=(n, self._vertices - 2), dtype=np.int8)
        for k in np.unique(vertices).tolist():
            at = np.flatnonzero(vertices == k)
            for y, column in enumerate(draw_columns(k, self.max_edges, len(at), rng), start=1):
                target = self._vertices - 1 if y == k - 1 else y
                start = target * (target - 1) // 2
                rows[at, start : start + y] = column
            rows[at, self._num_bits + k - 2 :] = 0
        return rows

    # -- equal networks -----------------------------------------------------------------------

    def graphs(self, genotypes: npt.ArrayLike) -> CellGraphs:
        """Pruned cells in canonical vertex order; the output is vertex ``num_nodes - 1``."""
        rows = self.validate(genotypes)
        parts = [self._ordered(rows[start : start + _CHUNK]) for start in range(0, max(len(rows), 1), _CHUNK)]
        return CellGraphs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _ordered(self, rows: Genotypes) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int8], npt.NDArray[np.int8]]:
        """Vertices sorted by depth, the longest way from the input, then by colour."""
        graphs = self.pruned_graphs(rows)
        reads = np.ascontiguousarray(graphs.adjacency.transpose(0, 2, 1)).astype(np.uint64)
        color = tell_apart(reads, mix(graphs.ops.astype(np.uint64)), graphs.mask, self._vertices)
        depth = np.zeros(graphs.ops.shape, dtype=np.int64)
        for v in range(1, self._vertices):
            depth[:, v] = np.where(graphs.adjacency[:, :, v] > 0, depth + 1, 0).max(axis=1)
        depth[~graphs.mask] = self._vertices
        order = np.lexsort((color, depth), axis=1)
        matrix = np.take_along_axis(np.take_along_axis(graphs.adjacency, order[:, :, None], 1), order[:, None, :], 2)
        return matrix, np.take_along_axis(graphs.ops, order, 1), graphs.num_nodes

    def canonical(self, genotypes: npt.ArrayLike, notion: str | None = None) -> Genotypes:
        """One row for all isomorphic cells, ``int8[n, L]``: pruned, in canonical order, unused columns 0."""
        self.check_notion(notion)
        graphs = self.graphs(genotypes)
        n, last = np.arange(len(graphs)), graphs.num_nodes.astype(np.int64) - 1
        into_output = graphs.adjacency[n, :, last]
        matrix = graphs.adjacency.copy()
        matrix[n, :, last] = 0
        matrix[:, :, -1] = into_output
        code_of = np.zeros(128, dtype=np.int8)
        code_of[[operation_code(name) for name in self._shared_names]] = np.arange(len(self._shared_names))
        y, x = np.tril_indices(self._vertices, -1)
        rows = np.zeros((len(graphs), self.length), dtype=np.int8)
        rows[:, y * (y - 1) // 2 + x] = matrix[:, x, y]
        rows[:, self._num_bits :] = code_of[graphs.ops[:, 1:-1]]
        return rows

    def _admissible(self, children: Genotypes, parents: Genotypes) -> npt.NDArray[np.bool_]:
        # A change that only touches pruned parts, or that an isomorphism undoes, is no new network.
        valid = self.is_valid(children)
        valid[valid] = (self.canonical(children[valid]) != self.canonical(parents[valid])).any(axis=1)
        return valid

    def is_published(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Which networks are those of a cell of NAS-Bench-101, ``bool[n]``."""
        graphs = self.pruned_graphs(genotypes)
        small = (graphs.num_nodes <= V) & (graphs.adjacency.sum(axis=(1, 2)) <= MAX_EDGES)
        ops = [operation_code(name) for name in ("none", "input", "output", *_DEFAULT)]
        return np.asarray(small & np.isin(graphs.ops, ops).all(axis=1), dtype=np.bool_)

    def to_string(self, genotypes: npt.ArrayLike) -> list[str]:
        """Pruned module as ``adjacency:operations``, in the vertex order of the row itself."""
        return self._written(self.pruned_graphs(genotypes))

    def num_vertices(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Vertices left after pruning, input and output included (2 to V), ``int64[n]``."""
        return self._on_paths(self.adjacency(self.validate(genotypes))).sum(axis=1).astype(np.int64)
