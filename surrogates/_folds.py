"""Folds of a training set, and what the rows left out say about the error."""

from __future__ import annotations

__all__ = ["fold_numbers", "scaled_deviation", "typical_spreads"]

from collections.abc import Callable

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


def typical_spreads(
    predict: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float64]],
    training: npt.NDArray[np.float32],
    unlabelled: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float64], float]:
    """How far the members of an ensemble disagree on the training rows, and typically on others.

    Members that were fitted on a row agree on it more than they do elsewhere, so what is usual is measured
    on a sample of the space that has no labels.

    Parameters
    ----------
    predict
        Features ``float32[n, d]`` to the predictions of every member, ``float64[members, n]``.
    training, unlabelled
        ``float32[n, d]`` each.

    Returns
    -------
    Standard deviation between members on the training rows ``float64[n]``, and its mean on the others.
    """
    inside = predict(training).std(axis=0)
    return inside, float(predict(unlabelled).std(axis=0).mean())
