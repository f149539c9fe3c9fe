"""Path encoding (White et al., AAAI 2021, "BANANAS", section 4)."""

from __future__ import annotations

__all__ = ["Paths"]

import itertools
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.encoders.base import Encoder
from tauzero.spaces import Genotypes, SearchSpace, operation_code


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
    def feature_names(self) -> list[str]:
        """Sequences such as ``conv_3x3>avg_pool_3x3``; ``()`` is the direct connection."""
        names = []
        for length in range(self._longest + 1):
            names += [">".join(s) or "()" for s in itertools.product(self._alphabet, repeat=length)]
        return names

    def _encode(self, rows: Genotypes) -> npt.NDArray[np.uint16]:
        graphs = self.space.graphs(rows)
        if self.contract_skips:
            graphs = graphs.contract(operation_code("skip_connect"))
        k, longest = len(self._alphabet), self._longest
        letter = np.full(128, -1, dtype=np.int64)
        letter[[operation_code(o) for o in self._alphabet]] = np.arange(k)
        letters = letter[graphs.ops]
        n, v = letters.shape
        # counts[u][length][row, sequence]: paths from the input to u that read a sequence, u's own letter included.
        blocks: list[list[npt.NDArray[np.uint16]]] = []
        output = np.asarray(graphs.num_nodes, dtype=np.int64) - 1
        total = [np.zeros((n, k**length), dtype=np.uint16) for length in range(longest + 1)]
        start = [np.zeros((n, k**length), dtype=np.uint16) for length in range(longest + 1)]
        start[0][:] = 1
        blocks.append(start)
        for u in range(1, v):
            arriving = [np.zeros((n, k**length), dtype=np.uint16) for length in range(min(u, longest + 1))]
            for s in range(u):
                weight = graphs.adjacency[:, s, u].astype(np.uint16)
                if not weight.any():
                    continue
                for length, block in enumerate(blocks[s][: len(arriving)]):
                    arriving[length] += block * weight[:, None]
            is_output = (output == u)[:, None]
            for length, block in enumerate(arriving):
                total[length] += np.where(is_output, block, 0).astype(np.uint16)
            own = letters[:, u]
            extended = [np.zeros((n, 1), dtype=np.uint16)]
            hot = (own[:, None] == np.arange(k)).astype(np.uint16)
            extended += [(block[:, :, None] * hot[:, None, :]).reshape(n, -1) for block in arriving[:longest]]
            blocks.append(extended)
        features = np.concatenate(total, axis=1)
        return features if self.counts else np.minimum(features, 1).astype(np.uint16)
