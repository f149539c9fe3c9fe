"""How unlike a training set an architecture is."""

from __future__ import annotations

__all__ = ["Familiarity"]

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_NEIGHBOURS = 3
_TYPICAL = 0.95
_FOLDS = 10
_LEAST_UNIT = 1e-3
_CHUNK = 8_192

_Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Familiarity:
    """Distance from the training rows and excess over their range, in standardised features, relative to what is usual.

    The distance is the mean root mean squared difference to the three nearest training rows. The excess is the
    Euclidean distance to the box that the training rows' features span: a cell with one vertex more than any in
    training may lie near some of them in most features and outside of all of them in a few. The score is the
    larger of the two, each in units of what 95 % of the training rows stay below when they are left out.

    Attributes
    ----------
    anchors
        ``float32[m, d]``: features of training rows.
    low, high
        ``float32[d]``: their range.
    unit, excess_unit
        The 95 % quantiles.
    """

    anchors: _Array
    low: _Array
    high: _Array
    unit: float
    excess_unit: float

    @classmethod
    def fit(cls, anchors: _Array, *, least_excess: float = _LEAST_UNIT) -> Familiarity:
        """Learn from the features of training rows, ``float32[n, d]``, n ≥ 1.

        `least_excess` is the least unit of the excess, in standard deviations of a feature: of a training set that
        fills its space, hardly a row left out leaves the range of the others.
        """
        low, high = anchors.min(axis=0), anchors.max(axis=0)
        if len(anchors) < 2:
            return cls(anchors, low, high, 1.0, 1.0)
        own = _nearest(_distances(anchors, anchors), skip=1)
        fold = np.arange(len(anchors)) % min(_FOLDS, len(anchors))
        excess = np.empty(len(anchors))
        for k in range(fold.max() + 1):
            others = anchors[fold != k]
            excess[fold == k] = _excess(anchors[fold == k], others.min(axis=0), others.max(axis=0))
        least = (_LEAST_UNIT, max(least_excess, _LEAST_UNIT))
        units = [max(float(np.quantile(of, _TYPICAL)), at) for of, at in zip((own, excess), least, strict=True)]
        return cls(anchors, low, high, units[0], units[1])

    def score(self, features: _Array) -> npt.NDArray[np.float64]:
        """Score of other rows, ``float64[n]``, at least 0; above 1 is unusual."""
        return np.maximum(self.distance(features), _excess(features, self.low, self.high) / self.excess_unit)

    def distance(self, features: _Array) -> npt.NDArray[np.float64]:
        """Only the distance to the nearest training rows in its unit, ``float64[n]``."""
        out = np.empty(len(features))
        for start in range(0, len(features), _CHUNK):
            part = features[start : start + _CHUNK]
            out[start : start + _CHUNK] = _nearest(_distances(part, self.anchors), skip=0) / self.unit
        return out


def _excess(features: _Array, low: _Array, high: _Array) -> npt.NDArray[np.float64]:
    """Euclidean distance to a box, ``float64[n]``."""
    outside = np.maximum(np.maximum(low - features, features - high), 0)
    return np.sqrt((outside.astype(np.float64) ** 2).sum(axis=1))


def _distances(a: _Array, b: _Array) -> _Array:
    """Root mean squared difference per feature, ``float32[n, m]``."""
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2.0 * (a @ b.T)
    return np.sqrt(np.maximum(squared, 0.0, out=squared) / max(a.shape[1], 1))


def _nearest(distance: _Array, *, skip: int) -> npt.NDArray[np.float64]:
    """Mean of the least distances of each row, the first `skip` (itself) left out."""
    count = min(_NEIGHBOURS, distance.shape[1] - skip)
    least = np.partition(distance, skip + count - 1, axis=1)[:, : skip + count]
    total = np.sort(least, axis=1)[:, skip:].mean(axis=1, dtype=np.float64)
    return np.asarray(total, dtype=np.float64)
