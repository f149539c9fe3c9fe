"""NAS-Bench-201 (Dong and Yang, ICLR 2020), equal to the topology space of NATS-Bench: 5^6 = 15,625 cells."""

from __future__ import annotations

__all__ = ["NASBench201"]

import random
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.spaces._graphs import CellGraphs
from tauzero.spaces._operations import operation_code
from tauzero.spaces.base import Genotypes, SearchSpace
from tauzero.spaces.errors import InvalidGenotypeError

_EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
_NONE, _SKIP = 0, 1
_SHARED_NAMES = ("none", "skip_connect", "conv_1x1", "conv_3x3", "avg_pool_3x3")
_POWERS = 5 ** np.arange(5, -1, -1)
_PATTERN = re.compile(r"\|(\w+)~0\|\+\|(\w+)~0\|(\w+)~1\|\+\|(\w+)~0\|(\w+)~1\|(\w+)~2\|")


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele et al., OOPSLA 2014): spreads labels over 64 bits so that sums are hashes."""
    x = (x + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class NASBench201(SearchSpace):
    """Cells of four nodes; each of the six edges (0→1), (0→2), (1→2), (0→3), (1→3), (2→3) has one of five operations.

    A genotype is ``int8[n, 6]``: the operation of each edge in the order above; codes 0 ``none``,
    1 ``skip_connect``, 2 ``nor_conv_1x1``, 3 ``nor_conv_3x3``, 4 ``avg_pool_3x3``. Row i of
    `enumerate` is the architecture that NAS-Bench-201 and NATS-Bench publish under index i.

    Notions of equal networks (number of classes):

    ``network`` (default)
        The same operations wired the same way once operations that cannot carry information from
        input to output are dropped and skip connections contracted; two convolutions are never
        merged into one (5,425).
    ``expression``
        As above, but compared as nested sums, so that one shared operation equals two separate
        ones with the same input (4,930). The coarsest notion: used to keep duplicates on one side
        of a split.
    ``skip_zero``
        The published ``to_unique_str(consider_zero=True)`` of NATS-Bench (6,466).
    ``skip``
        The published ``to_unique_str(consider_zero=False)``: skips merged, zeros kept (12,751).
    ``reachable``
        Equal after operations off every input-output path are set to ``none`` (9,445).
    ``string``
        Every string is its own class (15,625).
    """

    name = "nasbench201"
    cardinalities = (5, 5, 5, 5, 5, 5)
    size = 15_625
    operations = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    graph_operations = _SHARED_NAMES[1:]
    max_path_length = 3
    notions = ("network", "expression", "skip_zero", "skip", "reachable", "string")

    # -- order --------------------------------------------------------------------------------

    @cached_property
    def _official_order(self) -> npt.NDArray[np.int64]:
        """Base-5 code of each official index (AutoDL-Projects, exps/NATS-Bench/main-tss.py: seed 88)."""
        codes = list(range(self.size))
        random.Random(88).shuffle(codes)  # noqa: S311 - reproduces the published order
        return np.array(codes, dtype=np.int64)

    @cached_property
    def _index_of_code(self) -> npt.NDArray[np.int64]:
        index = np.empty(self.size, dtype=np.int64)
        index[self._official_order] = np.arange(self.size)
        return index

    @cached_property
    def _all(self) -> Genotypes:
        rows = (self._official_order[:, None] // _POWERS % 5).astype(np.int8)
        rows.setflags(write=False)
        return rows

    def enumerate(self) -> Genotypes:
        """All 15,625 cells in the official order, ``int8[15625, 6]`` (read-only)."""
        return self._all

    def index(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Official NAS-Bench-201 / NATS-Bench index of each row, ``int64[n]``."""
        return self._index_of_code[self.check_range(genotypes) @ _POWERS]

    # -- names --------------------------------------------------------------------------------

    def to_string(self, genotypes: npt.ArrayLike) -> list[str]:
        """Official notation, such as ``|nor_conv_3x3~0|+|none~0|skip_connect~1|+|…~0|…~1|…~2|``."""
        names = np.array(self.operations)[self.check_range(genotypes)]
        return [f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|" for a, b, c, d, e, f in names.tolist()]

    def from_string(self, strings: Sequence[str]) -> Genotypes:
        """Read official notation into ``int8[n, 6]``."""
        codes = {name: code for code, name in enumerate(self.operations)}
        given = self._read_strings(strings)
        rows = np.zeros((len(given), self.length), dtype=np.int8)
        for i, text in enumerate(given):
            match = _PATTERN.fullmatch(text.strip())
            if match is None:
                raise InvalidGenotypeError(
                    f"String {i} is not a NAS-Bench-201 architecture. Expected a form like "
                    f"'|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|'. Got {text!r}."
                )
            for j, operation in enumerate(match.groups()):
                if operation not in codes:
                    raise InvalidGenotypeError(
                        f"Unknown operation {operation!r} in string {i}. Known: {', '.join(self.operations)}. "
                        f"Got {text!r}."
                    )
                rows[i, j] = codes[operation]
        return rows

    # -- equal networks -----------------------------------------------------------------------

    @staticmethod
    def _active(rows: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """Which edges lie on a path from input to output, ``bool[n, 6]``."""
        on = rows != _NONE
        forward = [np.ones(len(rows), dtype=np.bool_)]
        forward.append(on[:, 0])
        forward.append(on[:, 1] | (on[:, 2] & forward[1]))
        forward.append(on[:, 3] | (on[:, 4] & forward[1]) | (on[:, 5] & forward[2]))
        backward = [np.ones(len(rows), dtype=np.bool_)] * 4
        backward[2] = on[:, 5]
        backward[1] = on[:, 4] | (on[:, 2] & backward[2])
        live = [on[:, e] & forward[u] & backward[v] for e, (u, v) in enumerate(_EDGES)]
        return np.stack(live, axis=1)

    def is_connected(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether the output depends on the input, ``bool[n]``; 341 of the 15,625 cells are not connected."""
        return np.asarray(self._active(self.check_range(genotypes)).any(axis=1), dtype=np.bool_)

    def active_edges(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Which operations can carry information from input to output, ``bool[n, 6]``."""
        return self._active(self.check_range(genotypes))

    def prune(self, genotypes: npt.ArrayLike) -> Genotypes:
        """Set operations off every input-output path to ``none``; `has_dead_operations` tells whose change."""
        rows = self.check_range(genotypes)
        return np.where(self._active(rows), rows, np.int8(_NONE)).astype(np.int8)

    def has_dead_operations(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether some operation other than ``none`` is off every input-output path; False for 9,445 strings."""
        rows = self.check_range(genotypes)
        return ((rows != _NONE) & ~self._active(rows)).any(axis=1)

    def classes(self, notion: str | None = None) -> npt.NDArray[np.int64]:
        """Class of each of the 15,625 cells under a notion of equal networks, ``int64[15625]`` (read-only)."""
        chosen = self.check_notion(notion)
        if chosen not in self._class_cache:
            labels = np.unique(_KEYS[chosen](self), return_inverse=True)[1].astype(np.int64).reshape(-1)
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
            used = (self._all != _NONE).sum(axis=1)
            order = np.lexsort((np.arange(self.size), used, labels))
            first = np.flatnonzero(np.r_[True, np.diff(labels[order]) > 0])
            self._representative_cache[notion] = order[first].astype(np.int64)
        return self._representative_cache[notion]

    @cached_property
    def _representative_cache(self) -> dict[str, npt.NDArray[np.int64]]:
        return {}

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
        ops[:, 1:7] = np.array([operation_code(s) for s in _SHARED_NAMES], dtype=np.int8)[rows]
        wiring = np.zeros((8, 8), dtype=np.uint8)
        for e, (u, v) in enumerate(_EDGES):
            if u == 0:
                wiring[0, e + 1] = 1
            if v == 3:
                wiring[e + 1, 7] = 1
            for f, (s, _) in enumerate(_EDGES):
                if s == v:
                    wiring[e + 1, f + 1] = 1
        present = (ops != operation_code("none")).astype(np.uint8)
        adjacency = wiring * present[:, :, None] * present[:, None, :]
        return CellGraphs(adjacency, ops, np.full(len(rows), 8, dtype=np.int8))


def _published_expression(rows: Genotypes, *, zeros: bool) -> npt.NDArray[np.bytes_]:
    """NATS-Bench's ``to_unique_str`` (genotype_utils.py) as whole-column string operations, ``bytes[n]``.

    A node is the sorted, ``+``-joined list of its incoming terms. As published, ``skip_connect`` passes
    a node's string on and, with `zeros`, a term is ``#`` if its operation is ``none`` or its source
    reads exactly ``#`` (a node that sums two zeros, ``#+#``, is no zero any more). Because strings are
    joined and not nested, which sums coincide depends on the sort order: the counts 12,751 and 6,466
    are those of this very procedure.
    """
    names = np.array([op.encode() for op in NASBench201.operations])
    node = [np.full(len(rows), b"0")]
    for target in (1, 2, 3):
        terms = []
        for e, (u, v) in enumerate(_EDGES):
            if v != target:
                continue
            source, op = node[u], rows[:, e]
            applied = np.strings.add(np.strings.add(np.strings.add(b"(", source), b")@"), names[op])
            term = np.where(op == _SKIP, source, applied)
            if zeros:
                term = np.where((op == _NONE) | (source == b"#"), b"#", term)
            terms.append(term)
        table = np.sort(np.stack(terms, axis=1), axis=1)
        joined = table[:, 0]
        for column in range(1, table.shape[1]):
            joined = np.strings.add(np.strings.add(joined, b"+"), table[:, column])
        node.append(joined)
    return node[3]


def _expression(rows: Genotypes) -> npt.NDArray[np.uint64]:
    """64-bit hash of each pruned cell's output as a nested sum with skips contracted and zeros dropped."""
    node = np.zeros((len(rows), 4), dtype=np.uint64)
    node[:, 0] = 1
    for e, (u, v) in enumerate(_EDGES):  # edges are in topological order
        op = rows[:, e].astype(np.uint64)
        applied = _mix(node[:, u] * np.uint64(8) + op)
        node[:, v] += np.where(rows[:, e] == _NONE, np.uint64(0), np.where(rows[:, e] == _SKIP, node[:, u], applied))
    return node[:, 3]


def _network(rows: Genotypes) -> npt.NDArray[np.uint64]:
    """64-bit isomorphism hash of each pruned cell as a graph of operations with skips contracted.

    Sources are the input and the (at most six) operations; a node's value is a vector of how often
    each source is summed into it. Weisfeiler-Lehman refinement over both directions tells operations
    apart by what they read and by who reads them; seven rounds exceed the longest path.
    """
    n = len(rows)
    value = np.zeros((n, 4, 7), dtype=np.uint64)
    value[:, 0, 0] = 1
    reads = np.zeros((n, 8, 7), dtype=np.uint64)  # [i, reader, source]; reader 7 is the output
    is_op = (rows != _NONE) & (rows != _SKIP)
    for e, (u, v) in enumerate(_EDGES):
        reads[:, e + 1] = np.where(is_op[:, e, None], value[:, u], np.uint64(0))
        value[:, v] += np.where((rows[:, e] == _SKIP)[:, None], value[:, u], np.uint64(0))
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


#: What equal networks have in common, one key for each of the 15,625 cells, by notion.
_KEYS: dict[str, Callable[[NASBench201], npt.NDArray[Any]]] = {
    "string": lambda space: space.enumerate() @ _POWERS,
    "reachable": lambda space: space.prune(space.enumerate()) @ _POWERS,
    "skip": lambda space: _published_expression(space.enumerate(), zeros=False),
    "skip_zero": lambda space: _published_expression(space.enumerate(), zeros=True),
    "expression": lambda space: _expression(space.prune(space.enumerate())),
    "network": lambda space: _network(space.prune(space.enumerate())),
}
