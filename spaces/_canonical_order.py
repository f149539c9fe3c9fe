"""Orders of the vertices of small directed graphs that do not depend on how they were numbered, for whole batches."""

from __future__ import annotations

__all__ = ["Colors", "mix", "refine", "tell_apart"]

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

#: One 64-bit hash for each vertex, ``uint64[n, V]``.
Colors: TypeAlias = npt.NDArray[np.uint64]

_CHOSEN = np.uint64(0x2545F4914F6CDD1D)


def mix(x: Colors) -> Colors:
    """SplitMix64's finaliser (Steele et al., OOPSLA 2014): spreads labels over 64 bits so that sums are hashes."""
    x = (x + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def refine(reads: npt.NDArray[np.uint64], colors: Colors, rounds: int) -> Colors:
    """Weisfeiler-Lehman refinement in both directions (Shervashidze et al., JMLR 2011, algorithm 1).

    Parameters
    ----------
    reads
        ``uint64[n, V, V]``: entry [i, r, s] is the weight with which vertex r reads vertex s, 0 for none.
    colors
        ``uint64[n, V]``: what is known of the vertices.
    rounds
        V − 1 of them leave nothing to be found by more.
    """
    for _ in range(rounds):
        below = np.einsum("nrs,ns->nr", reads, mix(colors))
        above = np.einsum("nrs,nr->ns", reads, mix(colors ^ np.uint64(0xA5A5)))
        colors = mix(colors * np.uint64(3) + mix(below) + mix(above ^ np.uint64(0x5A5A)))
    return colors


def tell_apart(
    reads: npt.NDArray[np.uint64],
    colors: Colors,
    present: npt.NDArray[np.bool_],
    rounds: int,
    preference: Colors | None = None,
) -> Colors:
    """Refine colours until those of the vertices in question all differ; sorted by them, isomorphic graphs agree.

    Where refinement leaves vertices of one colour, one of the smallest such colour is marked and colours are
    refined again. It does not matter which one if an automorphism exchanges them, as it is wherever
    refinement is as fine as isomorphism; tests check that for all cells of the published spaces.

    Parameters
    ----------
    reads, colors, rounds
        As of `refine`.
    present
        ``bool[n, V]``: the vertices that have to differ.
    preference
        ``uint64[n, V]``: which vertex of one colour is marked first, the smallest. It is refined along, from
        the same marks.
    """
    colors = refine(reads, colors, rounds)
    liked = None if preference is None else refine(reads, preference, rounds)
    pending = np.arange(len(colors))
    for _ in range(colors.shape[1]):
        # Vertices that are not in question get a colour each that no other has.
        shown = np.where(present[pending], colors[pending], np.arange(colors.shape[1], dtype=np.uint64))
        ordered = np.sort(shown, axis=1)
        twins = ordered[:, 1:] == ordered[:, :-1]
        open_ = twins.any(axis=1)
        pending, shown, ordered = pending[open_], shown[open_], ordered[open_]
        if not len(pending):
            break
        color = ordered[np.arange(len(pending)), twins[open_].argmax(axis=1)]
        candidates = shown == color[:, None]
        first = candidates
        if liked is not None:
            best = np.where(candidates, liked[pending], np.uint64(2**64 - 1)).min(axis=1)
            first = candidates & (liked[pending] == best[:, None])
        chosen = first.argmax(axis=1)
        colors[pending, chosen] = mix(colors[pending, chosen] ^ _CHOSEN)
        colors[pending] = refine(reads[pending], colors[pending], rounds)
        if liked is not None:
            liked[pending, chosen] = mix(liked[pending, chosen] ^ _CHOSEN)
            liked[pending] = refine(reads[pending], liked[pending], rounds)
    return colors
