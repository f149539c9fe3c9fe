"""Measures of a ranking: Kendall's tau and friends, what they do with ties, and the noise ceiling."""

from __future__ import annotations

__all__ = [
    "coverage",
    "kendall_tau",
    "mae",
    "n_at_k",
    "negative_log_likelihood",
    "noise_ceiling",
    "pearson",
    "precision_at_k",
    "r2",
    "regret",
    "spearman",
]

from itertools import combinations

import numpy as np
import numpy.typing as npt


def kendall_tau(y: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Kendall's rank correlation tau-b (Kendall, Biometrika 33, 1945), in [−1, 1].

    (concordant − discordant pairs) / √(pairs untied in y · pairs untied in the prediction). Ties in
    either are neither concordant nor discordant. O(n log n).

    Parameters
    ----------
    y
        ``float64[n]``, n ≥ 2, finite: true values.
    prediction
        ``float64[n]``, finite: predicted values or scores on any scale.

    Returns
    -------
    float
        0.0 if y or the prediction is constant: a constant ranks nothing (scipy returns NaN there).
    """
    from scipy.stats import kendalltau

    a, b = _pair(y, prediction, 2)
    if _constant(a) or _constant(b):
        return 0.0
    # The method concerns scipy's p-value only, which is not used; the asymptotic one divides by n - 2.
    return float(kendalltau(a, b, method="asymptotic" if len(a) > 2 else "exact").statistic)


def spearman(y: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Spearman's rank correlation, in [−1, 1]: `pearson` of the ranks, ties having their mean rank.

    Parameters and constants as in `kendall_tau`.
    """
    from scipy.stats import rankdata

    a, b = _pair(y, prediction, 2)
    return pearson(rankdata(a), rankdata(b))


def pearson(y: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Pearson's linear correlation, in [−1, 1]; 0.0 if y or the prediction is constant.

    Parameters as in `kendall_tau`.
    """
    a, b = _pair(y, prediction, 2)
    if _constant(a) or _constant(b):
        return 0.0
    a, b = _unit(a), _unit(b)
    return float(np.clip(a @ b, -1.0, 1.0))


def r2(y: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Coefficient of determination 1 − Σ(y − p)² / Σ(y − ȳ)², at most 1, negative if worse than the mean.

    For constant y: 1.0 if the prediction is exact, else 0.0 (as scikit-learn has it). Parameters as in
    `kendall_tau`; the prediction must be in the unit of y.
    """
    a, b = _pair(y, prediction, 2)
    residual = float(((a - b) ** 2).sum())
    total = float(((a - a.mean()) ** 2).sum())
    if _constant(a) or total == 0.0:
        return 1.0 if residual == 0.0 else 0.0
    return 1.0 - residual / total


def mae(y: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    """Mean absolute error in the unit of y (percentage points for accuracies); n ≥ 1."""
    a, b = _pair(y, prediction, 1)
    return float(np.abs(a - b).mean())


def coverage(y: npt.ArrayLike, interval: npt.ArrayLike) -> float:
    """Share of the true values inside their intervals (ends included), in [0, 1].

    Intervals of level 0.9 are calibrated if this is 0.9 on new architectures; less is overconfident, more is
    wider than need be.

    Parameters
    ----------
    y
        ``float64[n]``, n ≥ 1, finite: true values.
    interval
        ``float64[n, 2]``: lower and upper ends in the unit of y, which may be infinite.
    """
    truth = _column("y", y, 1)
    ends = np.asarray(interval, dtype=np.float64)
    if ends.shape != (len(truth), 2):
        raise ValueError(f"The 'interval' argument must have shape ({len(truth)}, 2). Got {ends.shape}.")
    ordered = ends[:, 0] <= ends[:, 1]
    if not ordered.all():
        bad = int(np.argmin(ordered))
        raise ValueError(
            f"The 'interval' argument must have lower ends below upper ends. Got {ends[bad].tolist()} in row {bad}."
        )
    return float(((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean())


def negative_log_likelihood(y: npt.ArrayLike, prediction: npt.ArrayLike, std: npt.ArrayLike) -> float:
    """Mean negative log likelihood of normal distributions, in nats; less is better.

    Mean of log(s √(2π)) + (y − p)² / (2 s²): a proper score of predictions and their standard deviations
    together (Gneiting and Raftery, JASA 102, 2007, section 4.1). It depends on the unit of y; among models
    of one table a difference of 0.1 is a factor of 1.1 in the typical density at the truth.

    Parameters
    ----------
    y, prediction
        ``float64[n]``, n ≥ 1, finite.
    std
        ``float64[n]``, positive and finite, in the unit of y.
    """
    a, b = _pair(y, prediction, 1)
    deviation = _column("std", std, 1)
    if len(deviation) != len(a):
        raise ValueError(f"The arguments y and std must have the same length. Got {len(a)} and {len(deviation)}.")
    if deviation.min() <= 0:
        bad = int(np.argmin(deviation))
        raise ValueError(f"The 'std' argument must be positive. Got {deviation[bad]} at position {bad}.")
    return float((np.log(deviation) + 0.5 * np.log(2 * np.pi) + 0.5 * ((a - b) / deviation) ** 2).mean())


def precision_at_k(y: npt.ArrayLike, prediction: npt.ArrayLike, k: float = 0.01) -> float:
    """Share of the truly k best among the k predicted best, in [0, 1].

    Ties across a border are counted in expectation over all ways of breaking them: each of t tied
    members that compete for r places counts as r/t of a member. A constant prediction therefore gets
    k/n, what guessing gets.

    Parameters
    ----------
    y, prediction
        As in `kendall_tau`, n ≥ 1.
    k
        A count (an integer from 1 to n) or a fraction (a float in (0, 1]; the count is k·n, rounded
        to the nearest integer, at least 1). ``1`` is one architecture, ``1.0`` all of them.
    """
    a, b = _pair(y, prediction, 1)
    count = _count(k, len(a))
    return float((_membership(a, count) * _membership(b, count)).sum() / count)


def n_at_k(y: npt.ArrayLike, prediction: npt.ArrayLike, k: float = 10) -> int:
    """True rank (1 is the best) of the truly best among the k predicted best; N@k of Ning et al., 2020 (GATES).

    Pessimistic with ties in the prediction: of equally predicted architectures the truly worst come
    first, so that a constant prediction gains nothing from the order of the rows. Equal true values
    share the smallest rank.

    Parameters
    ----------
    y, prediction, k
        As in `precision_at_k`.
    """
    a, b = _pair(y, prediction, 1)
    count = _count(k, len(a))
    chosen = np.lexsort((a, -b))[:count]
    return int((a > a[chosen].max()).sum()) + 1


def regret(y: npt.ArrayLike, chosen: int, optimum: float | None = None) -> float:
    """How far the chosen architecture is below the best, in the unit of y, ≥ 0.

    Parameters
    ----------
    y
        ``float64[n]``, finite: true values.
    chosen
        Position in y.
    optimum
        The best value, by default the maximum of y.
    """
    a = _column("y", y, 1)
    if isinstance(chosen, bool) or not isinstance(chosen, int | np.integer) or not 0 <= chosen < len(a):
        raise ValueError(f"The 'chosen' argument must be a position in y, 0 to {len(a) - 1}. Got {chosen!r}.")
    best = float(a.max()) if optimum is None else float(optimum)
    if not best >= a[chosen]:
        raise ValueError(f"The 'optimum' argument must be at least the chosen value {a[chosen]}. Got {optimum!r}.")
    return best - float(a[chosen])


def noise_ceiling(runs: npt.ArrayLike) -> float | None:
    """Mean Kendall tau between two independent training runs of the same architectures.

    How well one training ranks what another training measures. It is a reference, not a bound: the
    mean over several runs is less noisy than one run and can be ranked better than this.

    Parameters
    ----------
    runs
        ``float64[n, r]``; NaN where an architecture has no such run.

    Returns
    -------
    float or None
        Mean over all pairs of runs that have at least two architectures in common, rows with a NaN
        in either of the two left out; None if there is no such pair.
    """
    table = np.asarray(runs, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"The 'runs' argument must be a matrix [architectures, runs]. Got shape {table.shape}.")
    if np.isinf(table).any():
        raise ValueError("The 'runs' argument must not be infinite: mark runs that are missing with NaN.")
    taus = []
    for first, second in combinations(table.T, 2):
        both = ~(np.isnan(first) | np.isnan(second))
        if both.sum() >= 2:
            taus.append(kendall_tau(first[both], second[both]))
    return float(np.mean(taus)) if taus else None


def _column(name: str, given: npt.ArrayLike, least: int) -> npt.NDArray[np.float64]:
    values = np.asarray(given)
    if values.dtype.kind not in "fiub":
        raise ValueError(f"The '{name}' argument must hold numbers. Got dtype {values.dtype}.")
    if values.ndim != 1:
        raise ValueError(f"The '{name}' argument must be one-dimensional. Got shape {values.shape}.")
    if len(values) < least:
        raise ValueError(f"The '{name}' argument must hold at least {least} values. Got {len(values)}.")
    column = values.astype(np.float64)
    finite = np.isfinite(column)
    if not finite.all():
        bad = int(np.argmin(finite))
        raise ValueError(
            f"The '{name}' argument must be finite. Got {column[bad]} at position {bad} "
            f"({int((~finite).sum())} such values): drop the rows that have no value."
        )
    return column


def _pair(
    y: npt.ArrayLike, prediction: npt.ArrayLike, least: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    a, b = _column("y", y, least), _column("prediction", prediction, least)
    if len(a) != len(b):
        raise ValueError(f"The arguments y and prediction must have the same length. Got {len(a)} and {len(b)}.")
    return a, b


def _constant(values: npt.NDArray[np.float64]) -> bool:
    return bool((values == values[0]).all())


def _unit(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Centred and scaled to length 1; scaled first, so that neither huge nor tiny values overflow."""
    scaled = values / np.abs(values).max()
    centred = scaled - scaled.mean()
    norm = float(np.linalg.norm(centred))
    unit: npt.NDArray[np.float64] = centred / norm if norm > 0 else centred
    return unit


def _count(k: float, n: int) -> int:
    if isinstance(k, int | np.integer) and not isinstance(k, bool) and 1 <= k <= n:
        return int(k)
    if isinstance(k, float | np.floating) and 0 < k <= 1:
        return max(1, int(np.floor(float(k) * n + 0.5)))
    raise ValueError(f"The 'k' argument must be an integer from 1 to {n} or a float in (0, 1]. Got {k!r}.")


def _membership(values: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """Probability of each to be among the `count` highest when ties are broken at random."""
    border = np.partition(values, len(values) - count)[len(values) - count]
    above, tied = values > border, values == border
    share: npt.NDArray[np.float64] = above + tied * ((count - above.sum()) / tied.sum())
    return share
