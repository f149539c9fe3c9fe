"""NAS-Bench-101 (Ying et al., ICML 2019): 423,624 unique cells of at most 7 vertices and 9 edges."""

from __future__ import annotations

__all__ = ["NASBench101"]

import re
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tauzero.spaces._graphs import CellGraphs
from tauzero.spaces._module_hash import module_hashes
from tauzero.spaces._nasbench101_costs import network_costs, vertex_channels
from tauzero.spaces._nasbench101_tables import (
    INNER,
    MAX_EDGES,
    NUM_BITS,
    NUM_LABELS,
    NASBench101Tables,
    V,
    build_tables,
    prune,
)
from tauzero.spaces._operations import operation_code
from tauzero.spaces.base import Genotypes, SearchSpace, is_integral
from tauzero.spaces.errors import InvalidGenotypeError, UnknownNameError

#: Rows up to which a plain product of integers takes less time than preparing one of floats.
_FEW = 64
#: Genotype bytes to the digits that `int` reads; what is no digit becomes a letter that it refuses.
_DIGITS = bytes(b"012"[value] if value < 3 else ord("x") for value in range(256))
_SHARED_NAMES = ("conv_3x3", "conv_1x1", "max_pool_3x3")
_LABEL_POWERS = 3 ** np.arange(INNER - 1, -1, -1, dtype=np.int32)
_BIT_POWERS = 2 ** np.arange(NUM_BITS, dtype=np.int32)  # sums stay below 2**24: exact as float32 too
_HASH = re.compile(r"[0-9a-f]{32}")
_MODULE = re.compile(r"([01]+):(input(?:,[\w-]+)*,output)")


def _exact_product(digits: Genotypes, powers: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Numbers that small digits write, ``int32[n]``."""
    if len(digits) <= _FEW:
        return np.asarray(digits @ powers, dtype=np.int32)
    with np.errstate(invalid="ignore"):  # some BLAS flag what their vector registers hold beside the data
        # Many times faster than a product of integers.
        return np.asarray(digits.astype(np.float32) @ powers.astype(np.float32), dtype=np.int32)


class NASBench101(SearchSpace):
    """Cells with operations on the vertices of a directed acyclic graph.

    A genotype is ``int8[n, 26]``: first the 21 entries above the diagonal of a 7-vertex adjacency
    matrix, the edge x → y in column y(y-1)/2 + x, then the operations of vertices 1 to 5 (codes 0
    ``conv3x3-bn-relu``, 1 ``conv1x1-bn-relu``, 2 ``maxpool3x3``). Vertex 0 is the input, 6 the output.
    As in the official ``ModelSpec``, vertices off every input-output path are pruned before anything
    else; a row is valid if a path is left and at most 9 edges are. So cells of fewer than 7 vertices
    are rows too, and several rows may mean one network: `index` and `canonical` take isomorphic
    cells together (the only notion here, ``isomorphism``).

    Row i of `enumerate` is the i-th cell that the official ``generate_graph.py`` finds; its vertex
    order is the one stored in the published table.
    """

    name = "nasbench101"
    cardinalities = (2,) * NUM_BITS + (3,) * INNER
    size = 423_624
    operations = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
    graph_operations = _SHARED_NAMES
    max_path_length = INNER
    notions = ("isomorphism",)
    concatenates = True
    projects_input = True
    descriptor_names = ("log_parameters", "log_multiply_adds")

    @cached_property
    def _tables(self) -> NASBench101Tables:
        return build_tables()

    # -- order --------------------------------------------------------------------------------

    @cached_property
    def _all(self) -> Genotypes:
        t = self._tables
        inner = t.pattern_inner[t.cell_pattern]
        rows = np.zeros((self.size, self.length), dtype=np.int8)
        rows[:, :NUM_BITS] = (t.pattern_bits[:, None] >> np.arange(NUM_BITS) & 1).astype(np.int8)[t.cell_pattern]
        digits = (t.cell_labels[:, None] // _LABEL_POWERS.astype(np.int64) % 3).astype(np.int8)
        rows[:, NUM_BITS:] = np.where(np.arange(INNER) < inner[:, None], digits, 0)
        rows.setflags(write=False)
        return rows

    def enumerate(self) -> Genotypes:
        """All 423,624 cells in canonical form, ``int8[423624, 26]`` (read-only)."""
        return self._all

    @staticmethod
    def _bits(rows: Genotypes) -> npt.NDArray[np.int32]:
        return _exact_product(rows[:, :NUM_BITS], _BIT_POWERS)

    def is_valid(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether the output is reached and at most 9 edges are left after pruning, ``bool[n]``."""
        return self._tables.pattern_of[self._bits(self.check_range(genotypes))] >= 0

    def _why_invalid(self, row: Genotypes) -> str:
        matrix = self.adjacency(row[None])[0].astype(np.int64)
        reach = np.linalg.matrix_power(np.eye(V, dtype=np.int64) + matrix, V)
        if not reach[0, V - 1]:
            return "its output (vertex 6) cannot be reached from its input (vertex 0)."
        keep = (reach[0] > 0) & (reach[:, V - 1] > 0)
        return f"it has {int(matrix[np.ix_(keep, keep)].sum())} edges after pruning, {MAX_EDGES} are allowed."

    def index(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Number of each cell in the official generation order, ``int64[n]``; isomorphic rows share one.

        Raises
        ------
        InvalidGenotypeError
            If a row is not a member of the space.
        """
        one = self._one(genotypes)
        if one is not None:
            return np.array([one[2]], dtype=np.int64)
        rows = self.check_range(genotypes)
        cells, valid = self._cells(rows)
        if not valid.all():
            self.validate(rows)
        return cells

    def _one(self, genotypes: npt.ArrayLike) -> tuple[int, int, int] | None:
        """Adjacency and labelling numbers and the cell of a single valid row ``int8[1, 26]``; else None.

        What searches ask for a thousand times: numbers take a tenth of the time that arrays of one row take.
        """
        if not isinstance(genotypes, np.ndarray) or genotypes.shape != (1, self.length) or genotypes.dtype != np.int8:
            return None
        digits = genotypes.tobytes().translate(_DIGITS)
        try:
            bits, labels = int(digits[NUM_BITS - 1 :: -1], 2), int(digits[NUM_BITS:], 3)
        except ValueError:
            return None
        t = self._tables
        pattern = int(t.pattern_of[bits])
        if pattern < 0:
            return None
        return bits, labels, int(t.cell_of[pattern, t.relabel[t.permutation_of[bits], labels]])

    def _cells(self, rows: Genotypes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Number of each cell, which means nothing where a row is no member, and whether it is one."""
        t = self._tables
        bits = self._bits(rows)
        pattern = t.pattern_of[bits]
        labels = _exact_product(rows[:, NUM_BITS:], _LABEL_POWERS)
        return t.cell_of[pattern, t.relabel[t.permutation_of[bits], labels]].astype(np.int64), pattern >= 0

    def classes(self, notion: str | None = None) -> npt.NDArray[np.int64]:
        """Every enumerated cell is its own class of isomorphic cells: 0 to 423,623 (read-only)."""
        self.check_notion(notion)
        return self._own_classes

    @cached_property
    def _own_classes(self) -> npt.NDArray[np.int64]:
        labels = np.arange(self.size, dtype=np.int64)
        labels.setflags(write=False)
        return labels

    def canonical(self, genotypes: npt.ArrayLike, notion: str | None = None) -> Genotypes:
        """Pruned cells in the vertex order of the published table, ``int8[n, 26]``."""
        self.check_notion(notion)
        return np.ascontiguousarray(self._all[self.index(genotypes)])

    def _admissible(self, children: Genotypes, parents: Genotypes) -> npt.NDArray[np.bool_]:
        # A change that only touches pruned parts, or that an isomorphism undoes, is no new network.
        cells, valid = self._cells(children)
        # `neighbors` gives one parent over and over.
        own, _ = self._cells(parents[:1] if parents.strides[0] == 0 else parents)
        return valid & (cells != own)

    def neighbors(self, row: npt.ArrayLike) -> Genotypes:
        """All valid cells that differ from one row in one column and are other networks, ``int8[k, 26]``."""
        array = np.asarray(row)
        parent = array[None] if array.ndim == 1 else array
        one = self._one(parent)
        if one is None:
            return super().neighbors(row)
        bits, labels, own = one
        t = self._tables
        flips, relabelled, masks = self._changes
        changed = bits ^ flips
        pattern = t.pattern_of[changed]
        cells = t.cell_of[pattern, t.relabel[t.permutation_of[changed], relabelled[labels]]]
        kept: Genotypes = (parent ^ masks[labels])[(pattern >= 0) & (cells != own)]
        return kept

    @cached_property
    def _changes(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], Genotypes]:
        """The changes of one column in the order of `_moves`: what they do to a row's two numbers and to the row.

        Adjacency bits that flip ``[31]``, the labelling number afterwards ``[243, 31]``, and what to combine with the
        row by exclusive or ``[243, 31, 26]``.
        """
        rows, column, shift, values = self._moves
        parents = np.zeros((NUM_LABELS, 1, self.length), dtype=np.int8)
        parents[:, 0, NUM_BITS:] = np.arange(NUM_LABELS)[:, None] // _LABEL_POWERS % 3
        children = np.repeat(parents, len(rows), axis=1)
        children[:, rows, column] = (children[:, rows, column] + shift) % values
        flips = np.asarray(children[0, :, :NUM_BITS] @ _BIT_POWERS, dtype=np.int32)
        relabelled = np.asarray(children[:, :, NUM_BITS:] @ _LABEL_POWERS, dtype=np.int64)
        return flips, relabelled, np.asarray(children ^ parents, dtype=np.int8)

    # -- views --------------------------------------------------------------------------------

    def adjacency(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """The 7-vertex matrices as given, not pruned, ``uint8[n, 7, 7]``."""
        rows = self.check_range(genotypes)
        matrix = np.zeros((len(rows), V, V), dtype=np.uint8)
        y, x = np.tril_indices(V, -1)
        matrix[:, x, y] = rows[:, y * (y - 1) // 2 + x]
        return matrix

    def num_vertices(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Vertices left after pruning, input and output included (2 to 7), ``int64[n]``."""
        t = self._tables
        return t.pattern_inner[t.cell_pattern[self.index(genotypes)]].astype(np.int64) + 2

    def graphs(self, genotypes: npt.ArrayLike) -> CellGraphs:
        """Pruned cells in canonical vertex order (V = 7); the output is vertex ``num_nodes - 1``."""
        t = self._tables
        cell = self.index(genotypes)
        pattern = t.cell_pattern[cell]
        inner = t.pattern_inner[pattern]
        labels = self._all[cell, NUM_BITS:]
        place = np.arange(V)
        ops = np.zeros((len(cell), V), dtype=np.int8)
        ops[:, 1 : V - 1] = np.array([operation_code(s) for s in _SHARED_NAMES], dtype=np.int8)[labels]
        ops[:, 0] = operation_code("input")
        ops = np.where(place <= inner[:, None], ops, np.int8(0)).astype(np.int8)
        ops[np.arange(len(cell)), inner + 1] = operation_code("output")
        return CellGraphs(self._pattern_adjacency[pattern], ops, (inner + 2).astype(np.int8))

    def pruned_graphs(self, genotypes: npt.ArrayLike) -> CellGraphs:
        """Pruned cells in the vertex order of the rows themselves (V = 7), which `graphs` brings into canonical order.

        Isomorphic rows may differ here, and so do their networks by some channels: when the output's channels
        cannot be shared equally, the first vertices take one more.
        """
        rows = self.validate(genotypes)
        patterns, back = np.unique(self._bits(rows), return_inverse=True)
        back = back.reshape(-1)
        bits, used = prune(patterns)
        place = np.arange(V)
        keep = np.ones((len(patterns), V), dtype=np.bool_)
        keep[:, 1 : V - 1] = used[:, None] >> np.arange(INNER) & 1
        order = np.argsort(~keep, axis=1, kind="stable")  # those kept move together, the output behind them
        nodes = keep.sum(axis=1)
        matrix = np.zeros((len(patterns), V, V), dtype=np.uint8)
        y, x = np.tril_indices(V, -1)
        matrix[:, x, y] = bits[:, None] >> (y * (y - 1) // 2 + x) & 1
        matrix = np.take_along_axis(np.take_along_axis(matrix, order[:, :, None], 1), order[:, None, :], 2)
        ops = np.zeros((len(rows), V), dtype=np.int8)
        ops[:, 0], ops[:, V - 1] = operation_code("input"), operation_code("output")
        ops[:, 1 : V - 1] = np.array([operation_code(s) for s in _SHARED_NAMES], dtype=np.int8)[rows[:, NUM_BITS:]]
        ops = np.where((place < nodes[:, None])[back], np.take_along_axis(ops, order[back], 1), np.int8(0))
        return CellGraphs(matrix[back], ops.astype(np.int8), nodes.astype(np.int8)[back])

    @cached_property
    def _pattern_adjacency(self) -> npt.NDArray[np.uint8]:
        """``uint8[patterns, 7, 7]`` with the output moved next to the last inner vertex."""
        t = self._tables
        matrix = np.zeros((len(t.pattern_bits), V, V), dtype=np.uint8)
        for y in range(1, V):
            for x in range(y):
                matrix[:, x, y] = t.pattern_bits >> (y * (y - 1) // 2 + x) & 1
        rows = np.arange(len(matrix))
        last = t.pattern_inner.astype(np.int64) + 1
        into_output = matrix[:, :, V - 1].copy()
        matrix[:, :, V - 1] = 0
        matrix[rows, :, last] = into_output
        return matrix

    def vertex_widths(self, graphs: CellGraphs) -> npt.NDArray[np.float64]:
        """Channels of each vertex as a share of the cell's, ``float64[n, 7]``; 1 at the input and the output."""
        channels = 128
        width = vertex_channels(graphs, channels) / channels
        width[:, 0] = 1.0
        width[np.arange(len(graphs)), graphs.num_nodes.astype(np.int64) - 1] = 1.0
        return width

    def costs(self, genotypes: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Trainable parameters, and multiply-adds of convolutions and classifier, of the published networks.

        ``int64[n]`` each. The parameters equal the published ones in all 423,624 rows. Isomorphic rows cost
        the same here: what is counted is the one that was published.
        """
        return network_costs(self.graphs(genotypes))

    def descriptors(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Logarithms of parameters and multiply-adds, ``float64[n, 2]``."""
        return np.log(np.stack(self.costs(genotypes), axis=1))

    def from_matrices(self, adjacency: npt.ArrayLike, operations: npt.ArrayLike) -> Genotypes:
        """Turn official module specifications of one size into genotypes, ``int8[n, 26]``.

        Parameters
        ----------
        adjacency
            Integers ``[n, k, k]``, upper triangular, 2 ≤ k ≤ 7; vertex k-1 is the output.
        operations
            Integers ``[n, k-2]``: codes of the inner vertices.
        """
        matrix, codes = np.asarray(adjacency), np.asarray(operations)
        k = matrix.shape[-1] if matrix.ndim == 3 else 0
        if matrix.ndim != 3 or matrix.shape[1] != k or not 2 <= k <= V or codes.shape != (len(matrix), k - 2):
            raise InvalidGenotypeError(
                f"Expected adjacency [n, k, k] with 2 <= k <= {V} and operations [n, k - 2]. "
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
            target = V - 1 if y == k - 1 else y
            for x in range(y):
                rows[:, target * (target - 1) // 2 + x] = matrix[:, x, y]
        rows[:, NUM_BITS : NUM_BITS + k - 2] = codes
        return self.validate(rows)

    # -- names --------------------------------------------------------------------------------

    def hash(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Official 128-bit module hash of each row, ``uint8[n, 16]``; equal for isomorphic rows."""
        cells, back = np.unique(self.index(genotypes), return_inverse=True)
        graphs = self.graphs(self._all[cells])
        output = np.zeros((len(cells), 16), dtype=np.uint8)
        label_of = np.full(128, -1, dtype=np.int64)
        for code, shared in enumerate(_SHARED_NAMES):
            label_of[operation_code(shared)] = code
        label_of[operation_code("output")] = -2
        for k in np.unique(graphs.num_nodes):
            rows = np.flatnonzero(graphs.num_nodes == k)
            output[rows] = module_hashes(graphs.adjacency[rows, :k, :k], label_of[graphs.ops[rows, :k]])
        return output[back.reshape(-1)]

    def hash_strings(self, genotypes: npt.ArrayLike) -> list[str]:
        """Official module hashes as 32 hexadecimal digits, the keys of the published table."""
        return [bytes(row).hex() for row in self.hash(genotypes)]

    def from_hash(self, hashes: Sequence[str]) -> Genotypes:
        """Look up cells by official module hash, ``int8[n, 26]``.

        The first call hashes the whole space (about twenty seconds).
        """
        wanted = [h.lower() for h in self._read_strings(hashes)]
        known = self._index_of_hash if wanted else {}
        unknown = [h for h in wanted if h not in known]
        if unknown:
            raise UnknownNameError(
                f"{len(unknown)} of {len(wanted)} module hashes are not in NAS-Bench-101, the first of them "
                f"{unknown[0]!r}. Expected 32 hexadecimal digits of a cell of at most 7 vertices and 9 edges."
            )
        return np.ascontiguousarray(self._all[np.array([known[h] for h in wanted], dtype=np.int64)])

    @cached_property
    def _index_of_hash(self) -> dict[str, int]:
        return {h: i for i, h in enumerate(self.hash_strings(self._all))}

    def to_string(self, genotypes: npt.ArrayLike) -> list[str]:
        """Pruned module as ``adjacency:operations``, the two as in the official records.

        For example ``0110001000001000…:input,conv3x3-bn-relu,maxpool3x3,output``: the matrix row by row,
        then the operations of all vertices.
        """
        graphs = self.graphs(self.validate(genotypes))
        names = {operation_code(s): o for s, o in zip(_SHARED_NAMES, self.operations, strict=True)}
        names |= {operation_code("input"): "input", operation_code("output"): "output"}
        texts = []
        for matrix, ops, k in zip(graphs.adjacency, graphs.ops.tolist(), graphs.num_nodes.tolist(), strict=True):
            bits = "".join(map(str, matrix[:k, :k].reshape(-1).tolist()))
            texts.append(f"{bits}:{','.join(names[o] for o in ops[:k])}")
        return texts

    def from_string(self, strings: Sequence[str]) -> Genotypes:
        """Read modules in the form of `to_string`, or official module hashes, into ``int8[n, 26]``."""
        given = [s.strip() for s in self._read_strings(strings)]
        hashed = [i for i, s in enumerate(given) if _HASH.fullmatch(s.lower())]
        rows = np.zeros((len(given), self.length), dtype=np.int8)
        if hashed:
            rows[hashed] = self.from_hash([given[i] for i in hashed])
        codes = {name: code for code, name in enumerate(self.operations)}
        for i in sorted(set(range(len(given))) - set(hashed)):
            match = _MODULE.fullmatch(given[i])
            if match is None:
                raise InvalidGenotypeError(
                    f"String {i} is not a NAS-Bench-101 module. Expected '<matrix of 0 and 1, row by row>:input,"
                    f"conv3x3-bn-relu,…,output' or a module hash of 32 hexadecimal digits. Got {given[i]!r}."
                )
            inner = match[2].split(",")[1:-1]
            k = len(inner) + 2
            if len(match[1]) != k * k or any(o not in codes for o in inner):
                raise InvalidGenotypeError(
                    f"String {i} names {k} vertices ({match[2]}) and needs {k * k} matrix entries and operations of "
                    f"{', '.join(self.operations)}. Got {len(match[1])} entries: {given[i]!r}."
                )
            matrix = np.array(list(match[1]), dtype=np.int8).reshape(1, k, k)
            labels = np.array([[codes[o] for o in inner]], dtype=np.int8).reshape(1, k - 2)
            try:
                rows[i] = self.from_matrices(matrix, labels)[0]
            except InvalidGenotypeError as error:
                raise InvalidGenotypeError(f"String {i} is not a NAS-Bench-101 module: {error}") from error
        return rows
