"""Path encoding (White et al., AAAI 2021, "BANANAS", section 4)."""

from __future__ import annotations

__all__ = ["Paths"]

import itertools
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.encoders.base import Encoder
from tauzero.spaces import CellGraphs, Genotypes, SearchSpace, operation_code

_COUNTS = 1 << 22  # path counts held for each vertex at a time: bounds the memory where sequences are many
_CELL_INPUTS = ("cell_input_0", "cell_input_1")


class Paths(Encoder):
    """How many input-to-output paths of a cell read each sequence of operations.

    Parameters
    ----------
    max_length
        Truncate: leave out sequences of more operations than this. None keeps all lengths that the space allows.
    counts
        Count paths; with False a feature only says whether there is such a path, as published.
    contract_skips
        Contract skip connections first, so that sequences are over the other operations only.

    Notes
    -----
    Where a cell has two inputs (`DARTS`), paths from each are counted apart (``0:sep_conv_3x3``); where there
    are several kinds of cell (`SearchSpace.cells`), so are theirs (``0:sep_conv_3x3@normal``). Vertices
    without operation, such as sums, are passed through.
    """

    name = "paths"

    def __init__(
        self,
        space: SearchSpace | str,
        *,
        max_length: int | None = None,
        counts: bool = False,
        contract_skips: bool = False,
        canonical: bool = True,
    ) -> None:
        super().__init__(space, canonical=canonical)
        if max_length is not None and (
            isinstance(max_length, bool) or not isinstance(max_length, int | np.integer) or max_length < 0
        ):
            raise ValueError(
                f"The 'max_length' parameter of Paths must be None or an integer of at least 0. Got {max_length!r}."
            )
        self.max_length = None if max_length is None else int(max_length)
        self.counts = counts
        self.contract_skips = contract_skips

    def get_params(self) -> dict[str, Any]:
        """The arguments that make an equal encoder, without the space."""
        return super().get_params() | {
            "max_length": self.max_length,
            "counts": self.counts,
            "contract_skips": self.contract_skips,
        }

    @cached_property
    def _alphabet(self) -> list[str]:
        return [o for o in self.space.graph_operations if not (self.contract_skips and o == "skip_connect")]

    @cached_property
    def _longest(self) -> int:
        limit = self.space.max_path_length
        return limit if self.max_length is None else min(limit, self.max_length)

    @cached_property
    def _groups(self) -> list[tuple[str, str, str]]:
        """Kind of cell, what its paths start from, and the name of a path with ``{}`` for its operations."""
        cells = self.space.cells(self.space.sample(1, 0))
        codes = [operation_code(name) for name in _CELL_INPUTS]
        groups = []
        for kind, graphs in cells.items():
            place = "" if len(cells) == 1 else f"@{kind}"
            if np.isin(graphs.ops, codes).any():
                groups += [(kind, start, f"{i}:{{}}{place}") for i, start in enumerate(_CELL_INPUTS)]
            else:
                groups.append((kind, "input", f"{{}}{place}"))
        return groups

    @cached_property
    def feature_names(self) -> list[str]:
        """Sequences such as ``conv_3x3>avg_pool_3x3``, shorter ones first; ``()`` is the direct connection."""
        return [
            form.format(">".join(sequence) or "()")
            for length in range(self._longest + 1)
            for _, _, form in self._groups
            for sequence in itertools.product(self._alphabet, repeat=length)
        ]

    def _encode(self, rows: Genotypes) -> npt.NDArray[np.uint16]:
        step = max(1, _COUNTS // sum(len(self._alphabet) ** length for length in range(self._longest + 1)))
        if len(rows) > step:
            parts = [self._encode(rows[start : start + step]) for start in range(0, len(rows), step)]
            return np.concatenate(parts)
        cells = self.space.cells(rows)
        found = [self._count(cells[kind], operation_code(start)) for kind, start, _ in self._groups]
        features = np.concatenate([g[length] for length in range(self._longest + 1) for g in found], axis=1)
        return features if self.counts else np.minimum(features, 1).astype(np.uint16)

    def _count(self, graphs: CellGraphs, start: int) -> list[npt.NDArray[np.uint16]]:
        """Number of paths from vertices of operation `start` by length and sequence, ``uint16[n, k^length]`` each."""
        graphs = graphs.contract(operation_code("sum"))
        if self.contract_skips:
            graphs = graphs.contract(operation_code("skip_connect"))
        k, longest = len(self._alphabet), self._longest
        letter = np.full(128, -1, dtype=np.int64)
        letter[[operation_code(o) for o in self._alphabet]] = np.arange(k)
        letters = letter[graphs.ops]
        n, v = letters.shape
        output = np.asarray(graphs.num_nodes, dtype=np.int64) - 1
        total = [np.zeros((n, k**length), dtype=np.uint16) for length in range(longest + 1)]
        # blocks[u][length][row, sequence]: paths from the start to u that read a sequence, u's own letter included.
        blocks: list[list[npt.NDArray[np.uint16]]] = []
        for u in range(v):
            sources = [(s, graphs.adjacency[:, s, u]) for s in range(u) if blocks[s]]
            sources = [(s, weight) for s, weight in sources if weight.any()]
            lengths = max((len(blocks[s]) for s, _ in sources), default=0)
            arriving = [np.zeros((n, k**length), dtype=np.uint16) for length in range(lengths)]
            for s, weight in sources:
                for length, block in enumerate(blocks[s]):
                    arriving[length] += block * weight.astype(np.uint16)[:, None]
            is_output = (output == u)[:, None]
            if is_output.any():
                for length, block in enumerate(arriving):
                    total[length] += np.where(is_output, block, 0).astype(np.uint16)
            extended: list[npt.NDArray[np.uint16]] = []
            if arriving:
                hot = (letters[:, u, None] == np.arange(k)).astype(np.uint16)
                extended = [np.zeros((n, 1), dtype=np.uint16)]
                extended += [(block[:, :, None] * hot[:, None, :]).reshape(n, -1) for block in arriving[:longest]]
            begins = graphs.ops[:, u] == start
            if begins.any():
                if not extended:
                    extended = [np.zeros((n, 1), dtype=np.uint16)]
                extended[0] += begins.astype(np.uint16)[:, None]
            blocks.append(extended)
        return total
