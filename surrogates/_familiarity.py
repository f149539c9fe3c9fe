"""How unlike a training set an architecture is."""

from __future__ import annotations

__all__ = ["Familiarity"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_NEIGHBOURS = 3
_TYPICAL = 0.95
_CHUNK = 8_192


@dataclass(frozen=True, eq=False)
class Familiarity:
    """Mean distance to the three nearest training rows in standardised features, relative to what is usual.

    Attributes
    ----------
    anchors
        ``float32[m, d]``: features of training rows.
    unit
        The 95 % quantile of the same distance of each of them to the others.
    """

    anchors: npt.NDArray[np.float32]
    unit: float

    @classmethod
    def fit(cls, anchors: npt.NDArray[np.float32]) -> Familiarity:
        """Learn from the features of training rows, ``float32[n, d]``, n ≥ 1."""
        if len(anchors) < 2:
            return cls(anchors, 1.0)
        own = _nearest(_distances(anchors, anchors), skip=1)
        return cls(anchors, max(float(np.quantile(own, _TYPICAL)), 1e-3))

    def score(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Distance of other rows, ``float64[n]``, in units of `unit`."""
        out = np.empty(len(features))
        for start in range(0, len(features), _CHUNK):
            part = slice(start, start + _CHUNK)
            out[part] = _nearest(_distances(features[part], self.anchors), skip=0)
        return out / self.unit


def _distances(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Root mean squared difference per feature, ``float32[n, m]``."""
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2.0 * (a @ b.T)
    return np.sqrt(np.maximum(squared, 0.0, out=squared) / max(a.shape[1], 1))


def _nearest(distance: npt.NDArray[np.float32], *, skip: int) -> npt.NDArray[np.float64]:
    """Mean of the least distances of each row, the first `skip` (itself) left out."""
    count = min(_NEIGHBOURS, distance.shape[1] - skip)
    least = np.partition(distance, skip + count - 1, axis=1)[:, : skip + count]
    total = np.sort(least, axis=1)[:, skip:].mean(axis=1, dtype=np.float64)
    return np.asarray(total, dtype=np.float64)
