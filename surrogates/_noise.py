"""Noise of a surrogate benchmark: how far a single training run strays from the mean, and its numbered draws."""

from __future__ import annotations

__all__ = ["RunNoise", "fit_run_noise", "standard_normals"]

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tauzero.spaces import Genotypes

Floats = npt.NDArray[np.float64]

_STEP, _FIRST, _SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


@dataclass(frozen=True)
class RunNoise:
    """Standard deviation of single training runs as a function of the predicted mean: piecewise linear.

    Attributes
    ----------
    value
        Knots in the unit of the metric, strictly ascending; outside of them the deviation is that of the nearest.
    std
        The deviation at each, ≥ 0.
    source
        One sentence: which runs of which table.
    """

    value: tuple[float, ...]
    std: tuple[float, ...]
    source: str = ""

    def __post_init__(self) -> None:
        knots, spread = np.asarray(self.value, dtype=np.float64), np.asarray(self.std, dtype=np.float64)
        fits = knots.ndim == 1 and knots.shape == spread.shape and len(knots) > 0
        if not fits or not np.isfinite([knots, spread]).all() or (np.diff(knots) <= 0).any() or (spread < 0).any():
            raise ValueError(
                "The noise of training runs must be given by ascending values and as many deviations ≥ 0, all finite. "
                f"Got {list(self.value)} and {list(self.std)}."
            )

    def at(self, mean: Floats) -> Floats:
        """Deviation of a run where the mean over runs is predicted to be `mean`, ``float64[n]``."""
        return np.interp(mean, self.value, self.std)


def fit_run_noise(runs: npt.ArrayLike, source: str = "", bins: int = 12) -> RunNoise:
    """Read the noise of training runs from a table.

    Within `bins` groups of architectures of similar mean, the variances of the runs around each architecture's own mean
    (n - 1 in the denominator) are averaged by degrees of freedom: architectures with more runs count more.

    Parameters
    ----------
    runs
        ``float64[n, r]``, a row for each architecture, NaN where a run is missing. Rows with fewer than two runs say
        nothing of noise and are left out.
    source
        Goes into `RunNoise.source`.
    bins
        Groups of about equal size, ≥ 1; fewer where there are not ten architectures for each.

    Raises
    ------
    ValueError
        If no architecture has two runs.
    """
    values = np.asarray(runs, dtype=np.float64)
    known = np.isfinite(values)
    count = known.sum(axis=1)
    values, known, count = values[count > 1], known[count > 1], count[count > 1]
    if not len(values):
        raise ValueError("The noise of training runs needs architectures with two runs or more. Got none.")
    mean = np.where(known, values, 0.0).sum(axis=1) / count
    squares = (np.where(known, values - mean[:, None], 0.0) ** 2).sum(axis=1)
    order = np.argsort(mean, kind="stable")
    knots: list[float] = []
    spread: list[float] = []
    for part in np.array_split(order, max(1, min(bins, len(order) // 10))):
        centre = float(mean[part].mean())
        if not knots or centre > knots[-1]:  # equal means in two groups make one knot
            knots.append(centre)
            spread.append(float(np.sqrt(squares[part].sum() / (count[part] - 1).sum())))
    return RunNoise(tuple(knots), tuple(spread), source)


def standard_normals(rows: Genotypes, seed: int, name: str) -> Floats:
    """One standard normal number for each architecture, ``float64[n]``: a function of the row, the seed and a name.

    Counter-based: each column of a row is mixed into a 64-bit state by a round of SplitMix64 (Steele, Lea and Flood,
    OOPSLA 2014), so that a number depends neither on the batch nor on the order; the normal quantile function makes it
    normal. Pass canonical rows, so that equal networks have equal numbers.

    Parameters
    ----------
    rows
        ``int8[n, L]``.
    seed
        A non-negative integer of any size.
    name
        What the numbers are for, such as dataset and metric: other names, other numbers.
    """
    from scipy.special import ndtri

    key = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    state = np.full(len(rows), np.frombuffer(key, dtype="<u8")[0], dtype=np.uint64)
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is what is meant
        for column in np.asarray(rows).T:
            state = _mixed(state ^ (column.astype(np.int64) + 129).astype(np.uint64))
        state = _mixed(state)
    return np.asarray(ndtri(((state >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53))


def _mixed(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = state + _STEP
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))
