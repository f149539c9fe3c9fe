"""Pareto fronts: which points no other point beats in every objective, front after front, and how crowded they are."""

from __future__ import annotations

__all__ = ["crowding_distances", "front_numbers", "nondominated"]

import numpy as np
import numpy.typing as npt


def nondominated(points: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which points are dominated by no other, ``bool[n]``.

    Parameters
    ----------
    points
        ``float64[n, k]``, finite; every column is to be maximised. A point dominates another if it is nowhere
        smaller and somewhere larger; equal points do not dominate each other.

    Notes
    -----
    Distinct points are taken in falling lexicographic order, in which none is dominated by a later one. Each
    survivor removes what it dominates in one vectorised step: O(n · k · size of the front).
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or not np.isfinite(points).all():
        raise ValueError(
            f"The 'points' argument must be a finite matrix [n, k], one column per objective. Got shape {points.shape}."
        )
    distinct, inverse = np.unique(points, axis=0, return_inverse=True)
    left = np.arange(len(distinct))[::-1]  # `unique` sorts lexicographically
    front = np.zeros(len(distinct), dtype=np.bool_)
    while len(left):
        front[left[0]] = True
        beaten = (distinct[left] <= distinct[left[0]]).all(axis=1)
        left = left[~beaten]
    found: npt.NDArray[np.bool_] = front[inverse.reshape(-1)]
    return found


def front_numbers(points: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Which front each point is in, ``int64[n]``: 0 for the non-dominated, 1 for those without the former, and so on.

    The fast non-dominated sort of Deb, Pratap, Agarwal and Meyarivan (IEEE TEC 6, 2002, section III.A): count by how
    many each point is dominated, take those of count 0, subtract what they dominate. O(k · n²) time, n² bytes.

    Parameters
    ----------
    points
        ``float64[n, k]``, finite; every column is to be maximised.
    """
    n = len(points)
    nowhere_smaller = np.ones((n, n), dtype=np.bool_)
    for column in points.T:
        nowhere_smaller &= column[:, None] >= column[None, :]
    # Both ways round: the two are equal, and neither dominates the other.
    dominates = nowhere_smaller & ~nowhere_smaller.T
    beaten_by = dominates.sum(axis=0, dtype=np.int64)
    found = np.full(n, -1, dtype=np.int64)
    front = np.flatnonzero(beaten_by == 0)
    number = 0
    while len(front):
        found[front] = number
        beaten_by -= dominates[front].sum(axis=0, dtype=np.int64)
        front = np.flatnonzero((beaten_by == 0) & (found < 0))
        number += 1
    return found


def crowding_distances(
    points: npt.NDArray[np.float64], fronts: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.float64]:
    """How far apart the neighbours of each point are within its front, ``float64[n]``, infinite at the ends.

    Deb et al. (2002, section III.B): in each objective the distance between the next smaller and the next larger value
    in the front, divided by the range of the front, summed over objectives. Equal values keep the order of the rows;
    an objective that is constant in a front adds nothing but its two ends.

    Parameters
    ----------
    points
        ``float64[n, k]``, finite.
    fronts
        ``int64[n]``: the front of each point; None: all are in one.
    """
    n = len(points)
    group = np.zeros(n, dtype=np.int64) if fronts is None else fronts
    total = np.zeros(n)
    for column in points.T:
        order = np.lexsort((column, group))  # stable; front after front, smallest first
        values, of = column[order], group[order]
        first = np.r_[True, of[1:] != of[:-1]][:n]
        last = np.r_[first[1:], True][:n]
        starts, ends = np.flatnonzero(first), np.flatnonzero(last)
        spread = np.repeat(values[ends] - values[starts], ends - starts + 1)
        gap = np.zeros(n)
        gap[1:-1] = values[2:] - values[:-2]
        share = np.divide(gap, spread, out=np.zeros(n), where=spread > 0)
        share[first | last] = np.inf
        total[order] += share
    return total
