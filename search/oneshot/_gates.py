"""What a method tells a supernet before each pass: which operations are computed, and what they count."""

from __future__ import annotations

__all__ = ["Gates", "Plan", "Term"]

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

#: An operation that is computed on an edge: its number, and what its output is multiplied by (None: nothing).
Term: TypeAlias = tuple[int, Tensor | None]


@dataclass(frozen=True, slots=True)
class Plan:
    """The gates of one kind of cell, taken apart once for all cells of that kind.

    Attributes
    ----------
    terms
        For each edge the operations that are computed on it, without ``none``.
    present
        Whether an edge has any active operation, ``none`` included, ``bool[edges]``.
    scales
        For each edge what its whole output is multiplied by; None for nothing.
    """

    terms: tuple[tuple[Term, ...], ...]
    present: tuple[bool, ...]
    scales: tuple[Tensor, ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class Gates:
    """Weights of the operations of a supernet's cells.

    The output of an edge is the sum of its active operations, each times its weight. What is not active is not
    computed: it costs neither time nor memory, and its weights get no gradient from the pass.

    Parameters
    ----------
    weights
        Float ``[kinds, edges, ops]`` on the device of the supernet; entries that are not active are not read. None
        says that every weight is the constant 1, and nothing is multiplied.
    active
        ``bool[kinds, edges, ops]``, in NumPy: the supernet looks at it without waiting for a GPU.
    edges
        Float ``[kinds, edges]``: what the whole output of each edge is multiplied by, channels that bypass the
        operations included (PC-DARTS' edge normalisation). None for nothing.
    """

    weights: Tensor | None
    active: npt.NDArray[np.bool_]
    edges: Tensor | None = None

    def check(self, shape: tuple[int, int, int]) -> None:
        """Refuse gates of another shape than ``(kinds, edges, ops)`` of the supernet with a `ValueError`."""
        weights = shape if self.weights is None else tuple(self.weights.shape)
        edges = shape[:2] if self.edges is None else tuple(self.edges.shape)
        if self.active.shape != shape or weights != shape or edges != shape[:2] or self.active.dtype != np.bool_:
            raise ValueError(
                f"The gates of this supernet must be 'weights' {list(shape)} or None, 'active' bool {list(shape)} and "
                f"'edges' {list(shape[:2])} or None. Got {list(weights)}, {self.active.dtype} "
                f"{list(self.active.shape)} and {list(edges)}."
            )

    def plans(self, none: int | None) -> list[Plan]:
        """Take the gates apart, one plan for each kind of cell; `none` is the number of the operation that is zero."""
        kinds, edges, ops = self.active.shape
        # One node of the graph for all scalars: taking each by its index would make hundreds.
        split = None if self.weights is None else self.weights.reshape(-1).unbind()
        scales = None if self.edges is None else [row.unbind() for row in self.edges.unbind()]
        found = []
        for kind in range(kinds):
            terms = []
            for edge in range(edges):
                at = (kind * edges + edge) * ops
                chosen = [int(op) for op in np.flatnonzero(self.active[kind, edge]) if op != none]
                terms.append(tuple((op, None if split is None else split[at + op]) for op in chosen))
            present = tuple(bool(p) for p in self.active[kind].any(axis=1))
            found.append(Plan(tuple(terms), present, None if scales is None else scales[kind]))
        return found
