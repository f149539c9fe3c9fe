"""The space of NAS-Bench-Graph (Qin et al., NeurIPS 2022, arXiv 2206.09166): 26,206 graph neural networks."""

from __future__ import annotations

__all__ = ["LINKS", "NASBenchGraph"]

import ast
import itertools
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from tauzero.spaces._graphs import CellGraphs
from tauzero.spaces._operations import operation_code
from tauzero.spaces.base import Genotypes, SearchSpace
from tauzero.spaces.errors import InvalidGenotypeError

_NODES = 4
#: For each value of the first column what the four nodes read: 0 the input, k the k-th node (``link_list``).
LINKS: tuple[tuple[int, ...], ...] = (
    (0, 0, 0, 0),
    (0, 0, 0, 1),
    (0, 0, 1, 1),
    (0, 0, 1, 2),
    (0, 0, 1, 3),
    (0, 1, 1, 1),
    (0, 1, 1, 2),
    (0, 1, 2, 2),
    (0, 1, 2, 3),
)
_OPS = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip")
_SHARED_NAMES = (
    "gat_conv",
    "gcn_conv",
    "gin_conv",
    "cheb_conv",
    "sage_conv",
    "arma_conv",
    "graph_conv",
    "linear",
    "skip_connect",
)
_SKIP = _OPS.index("skip")
_POWERS = len(_OPS) ** np.arange(_NODES, -1, -1)  # of a row as a number of base 9, …
_DECIMALS = 10 ** np.arange(_NODES, -1, -1)  # … and as the authors' key
_CODES = len(_OPS) ** (_NODES + 1)
_FORM = "Expected a form like \"Arch([0, 1, 1, 2], ['gcn', 'gin', 'fc', 'cheb'])\", or the authors' number"

#: A form of the wiring and, for each of its nodes, the node of the given wiring that comes there.
_Placed: TypeAlias = tuple[int, tuple[int, ...]]


class NASBenchGraph(SearchSpace):
    """Graph neural networks of four computing nodes, each of which reads one earlier node or the input.

    A genotype is ``int8[n, 5]``: the form of the wiring, 0 to 8 (`LINKS`), and the operation of each node. Nodes that
    no other reads are joined to the output, which concatenates them. A row is valid if some operation is
    no skip connection.

    `enumerate` has the 26,206 networks that the authors trained, in the order of their numbers (``hash_arch``: the
    genotype's digits); `index` and `canonical` read every valid row. The one notion, ``network``, is that of the
    authors' package (``valid_hash``): two rows are equal if they differ in the order of nodes that hang together in
    the same way, or by skip connections without effect. Those are the ones that a node reads, that stand alone behind
    what they read, or that connect the input to the output; they are moved to the front of the chain.

    Descriptors: nodes that are joined to the output, nodes on the longest path, and skip connections, all of
    them of the canonical form.
    """

    name = "nasbench_graph"
    cardinalities = (len(LINKS), *(len(_OPS),) * _NODES)
    size = 26_206
    operations = _OPS
    graph_operations = _SHARED_NAMES
    max_path_length = _NODES
    notions = ("network",)
    concatenates = True
    descriptor_names = ("outputs", "depth", "skips")

    # -- members and order --------------------------------------------------------------------

    def is_valid(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether some operation is no skip connection, ``bool[n]``."""
        return np.asarray((self.check_range(genotypes)[:, 1:] != _SKIP).any(axis=1), dtype=np.bool_)

    def _why_invalid(self, row: Genotypes) -> str:  # noqa: ARG002 - there is one reason only
        return "all four operations are skip connections."

    @cached_property
    def _canonical_code(self) -> npt.NDArray[np.int64]:
        """What each code of base 9 is in canonical form, ``int64[59049]``; codes of invalid rows mean nothing."""
        codes = np.arange(_CODES, dtype=np.int64)
        rows = codes[:, None] // _POWERS % len(_OPS)
        skips = (rows[:, 1:] == _SKIP) @ (1 << np.arange(_NODES))
        best = np.full(_CODES, _CODES, dtype=np.int64)
        for link in range(len(LINKS)):
            for mask in range(1 << _NODES):
                at = np.flatnonzero((rows[:, 0] == link) & (skips == mask))
                for form, source in _forms(*_without_idle_skips(LINKS[link], mask)):
                    code = form * _POWERS[0] + rows[at][:, 1 + np.array(source)] @ _POWERS[1:]
                    best[at] = np.minimum(best[at], code)
        return best

    @cached_property
    def _index_of_code(self) -> npt.NDArray[np.int64]:
        """Number of the network of each code of base 9, ``int64[59049]``; -1 where there is none."""
        rows = np.arange(_CODES)[:, None] // _POWERS % len(_OPS)
        valid = (rows[:, 1:] != _SKIP).any(axis=1)
        index = np.full(_CODES, -1, dtype=np.int64)
        index[valid] = np.unique(self._canonical_code[valid], return_inverse=True)[1].reshape(-1)
        return index

    @cached_property
    def _all(self) -> Genotypes:
        codes = np.unique(self._canonical_code[self._index_of_code >= 0])
        rows = np.ascontiguousarray(codes[:, None] // _POWERS % len(_OPS), dtype=np.int8)
        rows.setflags(write=False)
        return rows

    def enumerate(self) -> Genotypes:
        """All 26,206 networks in canonical form, by ascending authors' number, ``int8[26206, 5]`` (read-only)."""
        return self._all

    def index(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Place of each network in `enumerate`, ``int64[n]``; equal networks share one."""
        return self._index_of_code[self.validate(genotypes) @ _POWERS]

    def classes(self, notion: str | None = None) -> npt.NDArray[np.int64]:
        """Every enumerated network is its own class: 0 to 26,205 (read-only)."""
        self.check_notion(notion)
        return self._own_classes

    def canonical(self, genotypes: npt.ArrayLike, notion: str | None = None) -> Genotypes:
        """The row that the authors trained for each network, ``int8[n, 5]``."""
        self.check_notion(notion)
        return np.ascontiguousarray(self._all[self.index(genotypes)])

    def _admissible(self, children: Genotypes, parents: Genotypes) -> npt.NDArray[np.bool_]:
        # A change that leaves the network the same is no neighbour.
        index = self._index_of_code[children @ _POWERS]
        return np.asarray((index >= 0) & (index != self._index_of_code[parents @ _POWERS]), dtype=np.bool_)

    # -- names --------------------------------------------------------------------------------

    def hash(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The authors' number of each network (``valid_hash``): the digits of its canonical row, ``int64[n]``."""
        return np.asarray(self.canonical(genotypes) @ _DECIMALS, dtype=np.int64)

    def from_hash(self, numbers: npt.ArrayLike) -> Genotypes:
        """Read the authors' numbers into ``int8[n, 5]``; the digits may be those of any row of the space."""
        given = np.asarray(numbers)
        if given.ndim != 1 or given.dtype.kind not in "iu":
            raise InvalidGenotypeError(
                f"The 'numbers' argument must hold integers, shape [n]. Got dtype {given.dtype}, shape {given.shape}."
            )
        digits = given.astype(np.int64)[:, None] // _DECIMALS % 10
        wrong = (given < 0) | (given >= 10 ** (_NODES + 1)) | (digits > _SKIP).any(axis=1)
        if wrong.any():
            bad = int(np.argmax(wrong))
            raise InvalidGenotypeError(
                f"Number {bad} is none of {self.name}. Expected up to five digits 0 to 8. Got {given[bad]}."
            )
        return self.validate(digits)

    def to_string(self, genotypes: npt.ArrayLike) -> list[str]:
        """The authors' constructor, such as ``Arch([0, 1, 1, 2], ['gcn', 'gin', 'fc', 'cheb'])``."""
        rows = self.validate(genotypes).tolist()
        return [f"Arch({list(LINKS[link])}, {[_OPS[op] for op in ops]})" for link, *ops in rows]

    def from_string(self, strings: Sequence[str]) -> Genotypes:
        """Read the form of `to_string`, or the authors' numbers as text, into ``int8[n, 5]``; nothing is evaluated.

        Any list in which a node reads an earlier one is read; its nodes are put into the order of one of `LINKS`.
        """
        given = self._read_strings(strings)
        rows = np.zeros((len(given), self.length), dtype=np.int8)
        for i, text in enumerate(given):
            try:
                if text.strip().isdecimal():
                    rows[i] = self.from_hash([int(text.strip()[:9])])[0]  # longer ones have too many digits anyway
                    continue
                parents, ops = _arch(text.strip())
                form, source = next(_forms(parents, tuple(range(_NODES))))
                rows[i] = [form, *(_OPS.index(ops[k]) for k in source)]
                self.validate(rows[i][None])
            except (SyntaxError, TypeError, ValueError, OverflowError, RecursionError, MemoryError) as error:
                raise InvalidGenotypeError(
                    f"String {i} is no network of NAS-Bench-Graph ({error}). {_FORM}. Got {text[:200]!r}."
                ) from error
        return rows

    # -- graphs -------------------------------------------------------------------------------

    @cached_property
    def _adjacency(self) -> npt.NDArray[np.uint8]:
        """By form of wiring, ``uint8[9, 6, 6]``."""
        matrices = np.zeros((len(LINKS), _NODES + 2, _NODES + 2), dtype=np.uint8)
        for matrix, parents in zip(matrices, LINKS, strict=True):
            for node, parent in enumerate(parents, 1):
                matrix[parent, node] = 1
                matrix[node, -1] = node not in parents
        return matrices

    def graphs(self, genotypes: npt.ArrayLike) -> CellGraphs:
        """The input, the four nodes and the output, which reads those that no other node reads (V = 6)."""
        rows = self.validate(genotypes)
        ops = np.empty((len(rows), _NODES + 2), dtype=np.int8)
        ops[:, 0], ops[:, -1] = operation_code("input"), operation_code("output")
        ops[:, 1:-1] = np.array([operation_code(name) for name in _SHARED_NAMES], dtype=np.int8)[rows[:, 1:]]
        return CellGraphs(self._adjacency[rows[:, 0]], ops, np.full(len(rows), _NODES + 2, dtype=np.int8))

    def descriptors(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Nodes at the output, depth and skip connections of each canonical row, ``float64[n, 3]``."""
        rows = self.canonical(genotypes)
        shapes = np.array([[_NODES - len(set(parents) - {0}), _depth(parents)] for parents in LINKS])
        return np.column_stack([shapes[rows[:, 0]], (rows[:, 1:] == _SKIP).sum(axis=1)]).astype(np.float64)


def _depth(parents: tuple[int, ...]) -> int:
    depths = [0]
    for parent in parents:
        depths.append(depths[parent] + 1)
    return max(depths)


def _without_idle_skips(parents: tuple[int, ...], mask: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Take skip connections without effect out of a wiring and put them before it, as a chain.

    Parameters
    ----------
    parents
        What the nodes 1 to 4 read.
    mask
        Bit k is set if node k + 1 is a skip connection.

    Returns
    -------
    What the nodes read afterwards, and which one (from 0) has come to each place.
    """
    reads = dict(enumerate(parents, 1))
    idle: list[int] = []
    while True:
        for node, parent in reads.items():
            is_read = node in reads.values()
            alone = list(reads.values()).count(parent) == 1
            if mask >> (node - 1) & 1 and (is_read or alone or parent == 0):
                break
        else:
            break
        del reads[node]
        reads = {k: parent if v == node else v for k, v in reads.items()}
        idle.append(node)
    order = [*idle, *reads]
    place = {node: k for k, node in enumerate(order, 1)} | {0: len(idle)}
    found = (*range(len(idle)), *(place[parent] for parent in reads.values()))
    return found, tuple(node - 1 for node in order)


def _forms(parents: tuple[int, ...], nodes: tuple[int, ...]) -> Iterator[_Placed]:
    """Yield every way to number the nodes of a wiring such that it is one of `LINKS`, as `_Placed`."""
    for order in itertools.permutations(range(_NODES)):  # order[k]: the node that comes to place k
        place = {0: 0} | {node + 1: k for k, node in enumerate(order, 1)}
        found = tuple(place[parents[node]] for node in order)
        if found in LINKS:
            yield LINKS.index(found), tuple(nodes[node] for node in order)


def _arch(text: str) -> tuple[tuple[int, ...], list[str]]:
    """Read the two lists of an ``Arch(…)`` call as plain literals, and check them."""
    call = ast.parse(text, mode="eval").body
    named = isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Arch"
    if not (isinstance(call, ast.Call) and named and len(call.args) == 2 and not call.keywords):
        raise ValueError("no Arch(…) of two lists")
    parents, ops = (ast.literal_eval(argument) for argument in call.args)
    if not (isinstance(parents, list) and isinstance(ops, list) and len(parents) == len(ops) == _NODES):
        raise ValueError("not two lists of four")
    for node, parent in enumerate(parents):
        if type(parent) is not int or not 0 <= parent <= node:
            raise ValueError(f"node {node + 1} reads 0 to {node}, not {parent!r}")
    unknown = [op for op in ops if op not in _OPS]
    if unknown:
        raise ValueError(f"unknown operation {unknown[0]!r}, known: {', '.join(_OPS)}")
    return tuple(parents), ops
