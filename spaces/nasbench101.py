"""NAS-Bench-101 (Ying et al., ICML 2019): 423,624 unique cells of at most 7 vertices and 9 edges."""

from __future__ import annotations

__all__ = ["NASBench101"]

import re
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tauzero.spaces._graphs import CellGraphs
from tauzero.spaces._nasbench101_tables import (
    INNER,
    MAX_EDGES,
    NUM_BITS,
    NUM_LABELS,
    NASBench101Tables,
    V,
    build_tables,
)
from tauzero.spaces._operations import operation_code
from tauzero.spaces._vertex_cells import VertexCellSpace
from tauzero.spaces.base import Genotypes
from tauzero.spaces.errors import UnknownNameError

#: Rows up to which a plain product of integers takes less time than preparing one of floats.
_FEW = 64
#: Genotype bytes to the digits that `int` reads; what is no digit becomes a letter that it refuses.
_DIGITS = bytes(b"012"[value] if value < 3 else ord("x") for value in range(256))
_SHARED_NAMES = ("conv_3x3", "conv_1x1", "max_pool_3x3")
_LABEL_POWERS = 3 ** np.arange(INNER - 1, -1, -1, dtype=np.int32)
_BIT_POWERS = 2 ** np.arange(NUM_BITS, dtype=np.int32)  # sums stay below 2**24: exact as float32 too
_HASH = re.compile(r"[0-9a-f]{32}")


def _exact_product(digits: Genotypes, powers: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Numbers that small digits write, ``int32[n]``."""
    if len(digits) <= _FEW:
        return np.asarray(digits @ powers, dtype=np.int32)
    with np.errstate(invalid="ignore"):  # some BLAS flag what their vector registers hold beside the data
        # Many times faster than a product of integers.
        return np.asarray(digits.astype(np.float32) @ powers.astype(np.float32), dtype=np.int32)


class NASBench101(VertexCellSpace):
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
    _vertices = V
    _shared_names = _SHARED_NAMES

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

    # -- names --------------------------------------------------------------------------------

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

    def from_string(self, strings: Sequence[str]) -> Genotypes:
        """Read modules in the form of `to_string`, or official module hashes, into ``int8[n, 26]``."""
        given = [s.strip() for s in self._read_strings(strings)]
        hashed = [i for i, s in enumerate(given) if _HASH.fullmatch(s.lower())]
        rows = np.zeros((len(given), self.length), dtype=np.int8)
        if hashed:
            rows[hashed] = self.from_hash([given[i] for i in hashed])
        for i in sorted(set(range(len(given))) - set(hashed)):
            rows[i] = self._read_module(given[i], i, " or a module hash of 32 hexadecimal digits")
        return rows
