"""Further metrics that a graph network learns beside its target."""

from __future__ import annotations

__all__ = ["check_auxiliary", "merge_auxiliary", "transform_auxiliary"]

import numpy as np
import numpy.typing as npt

from tauzero.surrogates._target import TargetTransform

Floats = npt.NDArray[np.float64]


def check_auxiliary(auxiliary: npt.ArrayLike, n: int) -> Floats:
    """Return ``float64[n, k]``, or raise `ValueError` that says what is wrong with the argument."""
    try:
        given = np.asarray(auxiliary)
        values = None if given.dtype.kind in "USMmc" else given.astype(np.float64)
    except (TypeError, ValueError):
        values = None
    if values is None:
        raise ValueError("The 'auxiliary' argument must hold numbers, NaN where unknown. Got values that are none.")
    if values.ndim != 2 or len(values) != n:
        raise ValueError(
            f"The 'auxiliary' argument must have a row for each architecture and a column for each metric, shape "
            f"({n}, k). Got {values.shape}."
        )
    if np.isinf(values).any():
        row, column = (int(k) for k in np.argwhere(np.isinf(values))[0])
        raise ValueError(
            f"The 'auxiliary' argument must be finite or NaN. Got {values[row, column]} in row {row}, column {column}."
        )
    return values


def merge_auxiliary(values: Floats, group: npt.NDArray[np.int64]) -> Floats:
    """Means of each group's known values, ``float64[groups, k]`` from ``float64[n, k]``; NaN where there is none."""
    return np.stack([_mean_of_known(column, group) for column in values.T], axis=1)


def transform_auxiliary(values: Floats, kind: str) -> Floats:
    """Each metric transformed as the target is (mean 0, variance 1), NaN where unknown, ``float64[n, k]``."""
    transformed = np.full(values.shape, np.nan)
    for column, given in zip(transformed.T, values.T, strict=True):
        known = np.isfinite(given)
        if known.any():
            column[known] = TargetTransform(kind).fit_transform(given[known])
    return transformed


def _mean_of_known(values: Floats, group: npt.NDArray[np.int64]) -> Floats:
    known = np.isfinite(values)
    groups = int(group.max()) + 1
    count = np.bincount(group[known], minlength=groups)
    total = np.bincount(group[known], weights=values[known], minlength=groups)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
