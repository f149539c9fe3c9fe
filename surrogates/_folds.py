"""Folds of a training set, and what the rows left out say about the error."""

from __future__ import annotations

__all__ = ["fold_numbers", "left_out_spread", "scaled_deviation"]

import numpy as np
import numpy.typing as npt


def fold_numbers(n: int, folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Assign each of n rows to one of `folds` folds of (almost) equal size, ``int64[n]``.

    Rows are different networks already (`Surrogate.fit` merges equal ones), so no network is on both sides.
    """
    return np.random.default_rng(seed).permutation(np.arange(n) % folds)


def scaled_deviation(spread: npt.NDArray[np.float64], typical: float, noise: float) -> npt.NDArray[np.float64]:
    """Standard deviation from the left-out error and from how far the members of an ensemble disagree.

    The left-out error is right on average; where members disagree more than usual, more is expected.

    Parameters
    ----------
    spread
        ``float64[n]``: standard deviation between members.
    typical
        Its mean over the training set; 0 for an ensemble of one.
    noise
        Root mean squared error on rows left out.
    """
    relative = spread / typical if typical > 0 else np.ones(len(spread))
    return noise * np.sqrt(0.5 + 0.5 * relative**2)


def left_out_spread(
    latent: npt.NDArray[np.float64], left_out: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], float]:
    """How far the members of an ensemble disagree on each training row, and typically on rows that one has not seen.

    A member that left a row out says what the ensemble's error there is judged by; were it counted in the
    row's disagreement too, large errors would come with large deviations by construction and intervals would
    be too narrow. So the disagreement of a row is that of the members fitted on it, on a scale on which its mean is
    the disagreement of all members, which is closest to what new rows will show.

    Parameters
    ----------
    latent
        ``float64[members, n]``: predictions of the training rows.
    left_out
        ``bool[members, n]``: which member was not fitted on which row.

    Returns
    -------
    ``float64[n]`` and its mean over the rows that a member left out.
    """
    judged = left_out.any(axis=0)
    typical = float(latent[:, judged].std(axis=0).mean()) if judged.any() else 0.0
    inside = ~left_out
    count = np.maximum(inside.sum(axis=0), 1)
    mean = (latent * inside).sum(axis=0) / count
    spread = np.sqrt((((latent - mean) ** 2) * inside).sum(axis=0) / count)
    usual = float(spread[judged].mean()) if judged.any() else 0.0
    return spread * (typical / usual) if usual > 0 else np.full(latent.shape[1], typical), typical
