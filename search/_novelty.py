"""Which architectures are the same, and random ones that were not asked for."""

from __future__ import annotations

__all__ = ["draw_new", "new_rows", "novelty_keys"]

from collections.abc import Callable, Hashable

import numpy as np

from tauzero.spaces import Genotypes, SearchSpace

_DRAWS = 20  # attempts at drawing architectures that were not asked for, before the rest of a space is listed
_LISTED = 1_000_000  # spaces up to this size can be listed


def novelty_keys(space: SearchSpace, rows: Genotypes) -> list[Hashable]:
    """What tells architectures apart: `SearchSpace.index`, or the canonical row where there is none."""
    if not len(rows):
        return []
    if space.enumerable:
        return list(space.index(rows).tolist())
    return [row.tobytes() for row in space.canonical(rows)]


def new_rows(
    space: SearchSpace, rows: Genotypes, refused: Callable[[Hashable], bool], taken: set[Hashable]
) -> Genotypes:
    """Rows whose key is neither refused nor in `taken`, each once, in their order; `taken` grows by them."""
    kept = []
    for i, key in enumerate(novelty_keys(space, rows)):
        if key not in taken and not refused(key):
            taken.add(key)
            kept.append(i)
    return rows[kept]


def draw_new(
    space: SearchSpace, rng: np.random.Generator, n: int, refused: Callable[[Hashable], bool], taken: set[Hashable]
) -> Genotypes:
    """Up to n different uniform architectures that are new; fewer only where the space has no more.

    Parameters
    ----------
    space, rng
        Where to draw, and the source of randomness.
    n
        How many, ≥ 1.
    refused
        Whether a key (`novelty_keys`) is not new.
    taken
        Further keys that are not new; grows by those of the rows that were looked at.
    """
    parts = [np.empty((0, space.length), dtype=np.int8)]
    missing = n
    for _ in range(_DRAWS):
        parts.append(new_rows(space, space.sample(missing, rng), refused, taken))
        missing -= len(parts[-1])
        if not missing:
            return np.concatenate(parts)
    if space.enumerable and space.size <= _LISTED:
        rows = new_rows(space, space.enumerate(), refused, taken)
        parts.append(rows[rng.permutation(len(rows))[:missing]])
    return np.concatenate(parts)
