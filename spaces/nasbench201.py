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

from tauzero.spaces._edge_cells import EDGES, NONE, SKIP, Costs, EdgeCellSpace
from tauzero.spaces._nasbench201_costs import edge_costs
from tauzero.spaces.base import Genotypes
from tauzero.spaces.errors import InvalidGenotypeError

_PATTERN = re.compile(r"\|(\w+)~0\|\+\|(\w+)~0\|(\w+)~1\|\+\|(\w+)~0\|(\w+)~1\|(\w+)~2\|")


class NASBench201(EdgeCellSpace):
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
    _shared_names = ("none", "skip_connect", "conv_1x1", "conv_3x3", "avg_pool_3x3")
    _identity_edges = (True,) * 6  # reductions stand between cells, which therefore keep shape
    graph_operations = _shared_names[1:]
    notions = ("network", "expression", "skip_zero", "skip", "reachable", "string")

    # -- order --------------------------------------------------------------------------------

    @cached_property
    def _published_order(self) -> npt.NDArray[np.int64]:
        """Base-5 code of each official index (AutoDL-Projects, exps/NATS-Bench/main-tss.py: seed 88)."""
        codes = list(range(self.size))
        random.Random(88).shuffle(codes)  # noqa: S311 - reproduces the published order
        return np.array(codes, dtype=np.int64)

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

    def _keys(self) -> dict[str, Callable[[], npt.NDArray[Any]]]:
        return super()._keys() | {
            "skip": lambda: _published_expression(self._all, zeros=False),
            "skip_zero": lambda: _published_expression(self._all, zeros=True),
        }

    # -- costs --------------------------------------------------------------------------------

    def _costs(self) -> Costs:
        """For CIFAR-10: 32×32 images, 16 channels, three stages of five cells."""
        fixed, each = edge_costs(self._shared_names)
        return fixed, np.broadcast_to(each, (self.length, *each.shape))


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
        for e, (u, v) in enumerate(EDGES):
            if v != target:
                continue
            source, op = node[u], rows[:, e]
            applied = np.strings.add(np.strings.add(np.strings.add(b"(", source), b")@"), names[op])
            term = np.where(op == SKIP, source, applied)
            if zeros:
                term = np.where((op == NONE) | (source == b"#"), b"#", term)
            terms.append(term)
        table = np.sort(np.stack(terms, axis=1), axis=1)
        joined = table[:, 0]
        for column in range(1, table.shape[1]):
            joined = np.strings.add(np.strings.add(joined, b"+"), table[:, column])
        node.append(joined)
    return node[3]
