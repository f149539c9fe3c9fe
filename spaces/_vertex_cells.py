"""What spaces of cells with operations on the vertices share (NAS-Bench-101)."""

from __future__ import annotations

__all__ = ["OPERATION_NAMES", "VertexCellSpace"]

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tauzero.spaces._graphs import CellGraphs
from tauzero.spaces._module_hash import module_hashes
from tauzero.spaces._nasbench101_costs import network_costs, vertex_channels
from tauzero.spaces._operations import operation_code
from tauzero.spaces.base import Genotypes, SearchSpace, is_integral
from tauzero.spaces.errors import InvalidGenotypeError

#: What the authors' ``base_ops.py`` calls operations of the shared vocabulary; those after the first three are no part
#: of the published space and are named after the same pattern. The order is the labels of module hashes: append only.
OPERATION_NAMES = {
    "conv_3x3": "conv3x3-bn-relu",
    "conv_1x1": "conv1x1-bn-relu",
    "max_pool_3x3": "maxpool3x3",
    "conv_5x5": "conv5x5-bn-relu",
    "avg_pool_3x3": "avgpool3x3",
    "skip_connect": "identity",
}
_MODULE = re.compile(r"([01]+):(input(?:,[\w-]+)*,output)")


class VertexCellSpace(SearchSpace):
    """Cells with operations on the vertices of a directed acyclic graph.

    A genotype is ``int8[n, V (V − 1) / 2 + V − 2]``: the entries above the diagonal of a V-vertex adjacency
    matrix, the edge x → y in column y(y-1)/2 + x, then the operations of the inner vertices. Vertex 0 is the input,
    the last one the output. As in the official ``ModelSpec``, vertices off every input-output path are
    pruned before anything else. Attributes of a concrete space beside those of `SearchSpace`:

    ``_vertices``
        V.
    ``_shared_names``
        The name of each operation code in the shared vocabulary.
    """

    _vertices: int
    _shared_names: tuple[str, ...]
    concatenates = True
    projects_input = True
    descriptor_names = ("log_parameters", "log_multiply_adds")

    @property
    def _num_bits(self) -> int:
        return self._vertices * (self._vertices - 1) // 2

    # -- views --------------------------------------------------------------------------------

    def adjacency(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """The V-vertex matrices as given, not pruned, ``uint8[n, V, V]``."""
        rows = self.check_range(genotypes)
        matrix = np.zeros((len(rows), self._vertices, self._vertices), dtype=np.uint8)
        y, x = np.tril_indices(self._vertices, -1)
        matrix[:, x, y] = rows[:, y * (y - 1) // 2 + x]
        return matrix

    @staticmethod
    def _on_paths(matrix: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Which vertices lie on a path from the first to the last, ``bool[n, V]``; none where there is no path."""
        n, v = matrix.shape[:2]
        forward, backward = np.zeros((n, v), dtype=np.bool_), np.zeros((n, v), dtype=np.bool_)
        forward[:, 0] = backward[:, -1] = True
        for u in range(1, v):
            forward[:, u] = ((matrix[:, :u, u] > 0) & forward[:, :u]).any(axis=1)
        for u in range(v - 2, -1, -1):
            backward[:, u] = ((matrix[:, u, u + 1 :] > 0) & backward[:, u + 1 :]).any(axis=1)
        kept: npt.NDArray[np.bool_] = forward & backward
        return kept

    def pruned_graphs(self, genotypes: npt.ArrayLike) -> CellGraphs:
        """Pruned cells in the vertex order of the rows themselves, which `graphs` brings into canonical order.

        Isomorphic rows may differ here, and so do their networks by some channels: when the output's channels
        cannot be shared equally, the first vertices take one more.
        """
        rows = self.validate(genotypes)
        matrix = self.adjacency(rows)
        keep = self._on_paths(matrix)
        matrix *= keep[:, :, None] & keep[:, None, :]
        order = np.argsort(~keep, axis=1, kind="stable")  # those kept move together, the output behind them
        nodes = keep.sum(axis=1)
        matrix = np.take_along_axis(np.take_along_axis(matrix, order[:, :, None], 1), order[:, None, :], 2)
        codes = np.array([operation_code(s) for s in self._shared_names], dtype=np.int8)
        ops = np.zeros(keep.shape, dtype=np.int8)
        ops[:, 0], ops[:, -1] = operation_code("input"), operation_code("output")
        ops[:, 1:-1] = codes[rows[:, self._num_bits :]]
        ops = np.where(np.arange(self._vertices) < nodes[:, None], np.take_along_axis(ops, order, 1), np.int8(0))
        return CellGraphs(matrix, ops.astype(np.int8), nodes.astype(np.int8))

    def vertex_widths(self, graphs: CellGraphs) -> npt.NDArray[np.float64]:
        """Channels of each vertex as a share of the cell's, ``float64[n, V]``; 1 at the input and the output."""
        channels = 128
        width = vertex_channels(graphs, channels) / channels
        width[:, 0] = 1.0
        width[np.arange(len(graphs)), graphs.num_nodes.astype(np.int64) - 1] = 1.0
        return width

    def costs(self, genotypes: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Trainable parameters, and multiply-adds of convolutions and classifier, of the published networks.

        ``int64[n]`` each, on CIFAR-10. Isomorphic rows cost the same here: what is counted is the cell in canonical
        order, in NAS-Bench-101 the one that was published, whose parameters these are in all 423,624 rows.
        """
        return network_costs(self.graphs(genotypes))

    def descriptors(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Logarithms of parameters and multiply-adds, ``float64[n, 2]``."""
        return np.log(np.stack(self.costs(genotypes), axis=1))

    def from_matrices(self, adjacency: npt.ArrayLike, operations: npt.ArrayLike) -> Genotypes:
        """Turn official module specifications of one size into genotypes, ``int8[n, L]``.

        Parameters
        ----------
        adjacency
            Integers ``[n, k, k]``, upper triangular, 2 ≤ k ≤ V; vertex k-1 is the output.
        operations
            Integers ``[n, k-2]``: codes of the inner vertices.
        """
        matrix, codes = np.asarray(adjacency), np.asarray(operations)
        k = matrix.shape[-1] if matrix.ndim == 3 else 0
        if (
            matrix.ndim != 3
            or matrix.shape[1] != k
            or not 2 <= k <= self._vertices
            or codes.shape != (len(matrix), k - 2)
        ):
            raise InvalidGenotypeError(
                f"Expected adjacency [n, k, k] with 2 <= k <= {self._vertices} and operations [n, k - 2]. "
                f"Got shapes {matrix.shape} and {codes.shape}."
            )
        if not is_integral(matrix) or not is_integral(codes):
            raise InvalidGenotypeError(
                "The 'adjacency' and 'operations' arguments must hold integers. "
                f"Got dtypes {matrix.dtype} and {codes.dtype}."
            )
        if np.tril(matrix).any():
            raise InvalidGenotypeError("The 'adjacency' argument must be upper triangular (edges go forwards).")
        rows = np.zeros((len(matrix), self.length), dtype=np.int64)
        for y in range(1, k):
            target = self._vertices - 1 if y == k - 1 else y
            for x in range(y):
                rows[:, target * (target - 1) // 2 + x] = matrix[:, x, y]
        rows[:, self._num_bits : self._num_bits + k - 2] = codes
        return self.validate(rows)

    # -- names --------------------------------------------------------------------------------

    def hash(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Official 128-bit module hash of each row, ``uint8[n, 16]``; equal for isomorphic rows."""
        rows, back = self.distinct(genotypes)
        graphs = self.graphs(rows)
        output = np.zeros((len(rows), 16), dtype=np.uint8)
        label_of = np.full(128, -1, dtype=np.int64)
        for label, shared in enumerate(OPERATION_NAMES):
            label_of[operation_code(shared)] = label
        label_of[operation_code("output")] = -2
        for k in np.unique(graphs.num_nodes):
            some = np.flatnonzero(graphs.num_nodes == k)
            output[some] = module_hashes(graphs.adjacency[some, :k, :k], label_of[graphs.ops[some, :k]])
        return output[back]

    def hash_strings(self, genotypes: npt.ArrayLike) -> list[str]:
        """Official module hashes as 32 hexadecimal digits, the keys of the published table."""
        return [bytes(row).hex() for row in self.hash(genotypes)]

    def to_string(self, genotypes: npt.ArrayLike) -> list[str]:
        """Pruned module in canonical order as ``adjacency:operations``, the two as in the official records.

        For example ``0110001000001000…:input,conv3x3-bn-relu,maxpool3x3,output``: the matrix row by row,
        then the operations of all vertices.
        """
        return self._written(self.graphs(self.validate(genotypes)))

    def _written(self, graphs: CellGraphs) -> list[str]:
        """Modules of pruned cells, the vertices in the order of the graphs."""
        names = {operation_code(s): o for s, o in zip(self._shared_names, self.operations, strict=True)}
        names |= {operation_code("input"): "input", operation_code("output"): "output"}
        texts = []
        for matrix, ops, k in zip(graphs.adjacency, graphs.ops.tolist(), graphs.num_nodes.tolist(), strict=True):
            bits = "".join(map(str, matrix[:k, :k].reshape(-1).tolist()))
            texts.append(f"{bits}:{','.join(names[o] for o in ops[:k])}")
        return texts

    def from_string(self, strings: Sequence[str]) -> Genotypes:
        """Read modules in the form of `to_string` into ``int8[n, L]``."""
        given = [s.strip() for s in self._read_strings(strings)]
        rows = np.zeros((len(given), self.length), dtype=np.int8)
        for i, text in enumerate(given):
            rows[i] = self._read_module(text, i)
        return rows

    def _read_module(self, text: str, i: int, otherwise: str = "") -> Genotypes:
        """Read one module, the i-th of several, into ``int8[L]``."""
        codes = {name: code for code, name in enumerate(self.operations)}
        match = _MODULE.fullmatch(text)
        if match is None:
            raise InvalidGenotypeError(
                f"String {i} is not a NAS-Bench-101 module. Expected '<matrix of 0 and 1, row by row>:input,"
                f"conv3x3-bn-relu,…,output'{otherwise}. Got {text!r}."
            )
        inner = match[2].split(",")[1:-1]
        k = len(inner) + 2
        if len(match[1]) != k * k or any(o not in codes for o in inner):
            raise InvalidGenotypeError(
                f"String {i} names {k} vertices ({match[2]}) and needs {k * k} matrix entries and operations of "
                f"{', '.join(self.operations)}. Got {len(match[1])} entries: {text!r}."
            )
        matrix = np.array(list(match[1]), dtype=np.int8).reshape(1, k, k)
        labels = np.array([[codes[o] for o in inner]], dtype=np.int8).reshape(1, k - 2)
        try:
            row: Genotypes = self.from_matrices(matrix, labels)[0]
        except InvalidGenotypeError as error:
            raise InvalidGenotypeError(f"String {i} is not a NAS-Bench-101 module: {error}") from error
        return row
