"""Cells of NAS-Bench-201's kind with any number of nodes and other operations; no table covers them."""

from __future__ import annotations

__all__ = ["NASBench201X"]

import re
from collections.abc import Sequence
from functools import cached_property
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from tauzero.spaces._edge_cell_canonical import Templates, make_templates, rewritten, without_spare_nodes
from tauzero.spaces._edge_cells import Costs, EdgeCellSpace, cell_edges
from tauzero.spaces._nasbench201_costs import OPERATION_NAMES, edge_costs
from tauzero.spaces._parameters import check_bound, check_operations, written_name
from tauzero.spaces.base import Genotypes, SearchSpace
from tauzero.spaces.errors import InvalidGenotypeError
from tauzero.spaces.nasbench201 import NASBench201

_MOST_NODES = 12
_LARGEST = 1_000_000  # architectures of a space that is enumerated
_TEMPLATE_NODES = 5  # 3¹⁰ patterns are looked at in seconds, 3¹⁵ are not
_TERM = re.compile(r"(\w+)~(\d+)")
_DEFAULT = ("none", "skip_connect", "conv_1x1", "conv_3x3", "avg_pool_3x3")


class NASBench201X(EdgeCellSpace):
    """Cells of N nodes; each of the N (N − 1) / 2 edges (0→1), (0→2), (1→2), (0→3), … has one operation.

    With ``nodes=4`` and the default operations these are the cells of `NASBench201`, in lexicographic order instead of
    the published one. The networks are NAS-Bench-201's in everything else.

    A genotype is ``int8[n, E]``: codes of `operations` in the order of the edges above.

    Parameters
    ----------
    nodes
        N, 2 to 12, input and output included.
    operations
        Names of the shared vocabulary (`tauzero.spaces.OPERATIONS`), or those of the authors, in any order:
        ``none``, ``skip_connect``, ``conv_1x1``, ``conv_3x3``, ``avg_pool_3x3`` (these five by default),
        ``max_pool_3x3``, ``conv_5x5``, ``sep_conv_3x3``, ``sep_conv_5x5``, ``dil_conv_3x3``, ``dil_conv_5x5``.

    Spaces of up to a million architectures are enumerated.

    Notions of equal networks:

    ``network`` (default; up to five nodes)
        The same operations wired the same way once operations that cannot carry information from input to output
        are dropped and skip connections contracted; two convolutions are never merged into one.
    ``cell`` (default from six nodes on)
        Finer: equal up to the numbering of nodes, after dead operations are dropped and those nodes contracted
        that do nothing but pass on, where the cell can be written without them.
    ``expression`` (where the space is enumerated)
        As ``network``, compared as nested sums.
    ``reachable``
        Equal after operations off every input-output path are set to ``none``.
    ``string``
        Every string is its own class.

    Descriptors as in `NASBench201`.
    """

    extends = "nasbench201"
    parameters = MappingProxyType({"nodes": 5, "operations": _DEFAULT})

    def __init__(self, nodes: int = 5, operations: Sequence[str] | str = _DEFAULT) -> None:
        kind = "nasbench201x"
        self._nodes = check_bound(kind, "nodes", nodes, 2, _MOST_NODES)
        synonyms = {theirs: name for name, theirs in OPERATION_NAMES.items()}
        names = check_operations(kind, operations, list(OPERATION_NAMES), synonyms)
        self.name = written_name(kind, {"nodes": self._nodes, "operations": names}, self.parameters)
        self._shared_names = names
        self._none = names.index("none") if "none" in names else -1
        self._skip = names.index("skip_connect") if "skip_connect" in names else -1
        self.operations = tuple(OPERATION_NAMES[name] for name in names)
        self.graph_operations = tuple(name for name in names if name != "none")
        if not self.graph_operations:
            raise ValueError(f"The 'operations' parameter of {kind} must name one beside 'none'. Got {names!r}.")
        num_edges = len(cell_edges(self._nodes))
        self.cardinalities = (len(names),) * num_edges
        self.size = len(names) ** num_edges
        self.enumerable = self.size <= _LARGEST
        self.max_path_length = self._nodes - 1
        self._identity_edges = (True,) * num_edges
        exact = ("network",) if self.enumerable or self._nodes <= _TEMPLATE_NODES else ("cell",)
        self.notions = (*exact, *(("expression",) if self.enumerable else ()), "reachable", "string")

    @property
    def num_nodes(self) -> int:
        """N, input and output included."""
        return self._nodes

    # -- rows where there is no enumeration -----------------------------------------------------

    def enumerate(self) -> Genotypes:
        """All cells in lexicographic order, ``int8[size, E]`` (read-only)."""
        return super().enumerate() if self.enumerable else SearchSpace.enumerate(self)

    def index(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Number of each row in `enumerate`, ``int64[n]``."""
        return super().index(genotypes) if self.enumerable else SearchSpace.index(self, genotypes)

    def classes(self, notion: str | None = None) -> npt.NDArray[np.int64]:
        """Class of each cell under a notion of equal networks, ``int64[size]`` (read-only)."""
        return super().classes(notion) if self.enumerable else SearchSpace.classes(self, self.check_notion(notion))

    def _draw(self, n: int, rng: np.random.Generator) -> Genotypes:
        return rng.integers(len(self.operations), size=(n, self.length), dtype=np.int8)

    @cached_property
    def _templates(self) -> Templates:
        return make_templates(self)

    def canonical(self, genotypes: npt.ArrayLike, notion: str | None = None) -> Genotypes:
        """One row for all that are equal, ``int8[n, E]``; without enumeration where the space is a large one."""
        chosen = self.check_notion(notion)
        rows = self.validate(genotypes)
        if self.enumerable:
            return super().canonical(rows, chosen)
        if chosen == "string":
            return rows
        pruned = self.prune(rows)
        if chosen == "reachable" or not len(rows):
            return pruned
        return rewritten(self, pruned, self._templates) if chosen == "network" else without_spare_nodes(self, pruned)

    @cached_property
    def _published(self) -> set[bytes]:
        """Canonical rows of those cells of NAS-Bench-201 that this space has, written with this many nodes."""
        published = NASBench201()
        rows = published.prune(published.enumerate())
        code = np.array(
            [self._shared_names.index(n) if n in self._shared_names else -1 for n in published._shared_names],
            dtype=np.int8,
        )
        wide = np.full((len(rows), self.length), max(self._none, 0), dtype=np.int8)
        place = {edge: k for k, edge in enumerate(self._edges)}
        for e, (u, v) in enumerate(published._edges):
            wide[:, place[u, self._nodes - 1 if v == published._nodes - 1 else v]] = code[rows[:, e]]
        wide = wide[(wide >= 0).all(axis=1)]
        return {row.tobytes() for row in self.canonical(wide)}

    def is_published(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Which networks are those of a cell of NAS-Bench-201, ``bool[n]``."""
        rows = self.canonical(genotypes)
        if self._nodes <= 4:
            return np.full(len(rows), set(self._shared_names) <= set(_DEFAULT))
        if self._none < 0:  # without it all edges of five nodes and more are taken
            return np.zeros(len(rows), dtype=np.bool_)
        return np.array([row.tobytes() in self._published for row in rows], dtype=np.bool_)

    # -- names --------------------------------------------------------------------------------

    def to_string(self, genotypes: npt.ArrayLike) -> list[str]:
        """The authors' notation, ``|nor_conv_3x3~0|+|none~0|skip_connect~1|+|…~0|…~1|…~2|+…``."""
        names = self.operations
        texts = []
        for row in self.check_range(genotypes).tolist():
            terms = [f"{names[code]}~{u}" for code, (u, _) in zip(row, self._edges, strict=True)]
            nodes = [terms[v * (v - 1) // 2 : v * (v + 1) // 2] for v in range(1, self._nodes)]
            texts.append("+".join(f"|{'|'.join(node)}|" for node in nodes))
        return texts

    def from_string(self, strings: Sequence[str]) -> Genotypes:
        """Read the authors' notation into ``int8[n, E]``."""
        codes = {name: code for code, name in enumerate(self.operations)}
        given = self._read_strings(strings)
        rows = np.zeros((len(given), self.length), dtype=np.int8)
        for i, text in enumerate(given):
            nodes = text.strip().split("+")
            terms = [_TERM.fullmatch(term) for node in nodes for term in node.strip("|").split("|")]
            found = [(m[1], int(m[2])) for m in terms if m is not None]
            framed = all(node.startswith("|") and node.endswith("|") for node in nodes)
            widths = [node.count("|") - 1 for node in nodes]
            if (
                not framed
                or widths != list(range(1, self._nodes))
                or [u for _, u in found] != [u for u, _ in self._edges]
            ):
                raise InvalidGenotypeError(
                    f"String {i} is not an architecture of {self.name}. Expected a form like "
                    f"{self.to_string(np.zeros((1, self.length), dtype=np.int8))[0]!r}. Got {text!r}."
                )
            for j, (operation, _) in enumerate(found):
                if operation not in codes:
                    raise InvalidGenotypeError(
                        f"Unknown operation {operation!r} in string {i}. Known: {', '.join(self.operations)}. "
                        f"Got {text!r}."
                    )
                rows[i, j] = codes[operation]
        return rows

    # -- costs --------------------------------------------------------------------------------

    def _costs(self) -> Costs:
        fixed, each = edge_costs(self._shared_names)
        return fixed, np.broadcast_to(each, (self.length, *each.shape))
