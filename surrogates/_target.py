"""Monotone transforms of the target: what a surrogate fits in place of the accuracy itself."""

from __future__ import annotations

__all__ = ["TARGETS", "TargetTransform"]

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata

from tauzero.spaces import unknown_name

#: Names of the transforms.
TARGETS = ("identity", "rank", "normal", "log_error", "mixed")

_KNOTS = 257  # knots of the stored inverse: fine enough for percent, too coarse to carry a table
Floats = npt.NDArray[np.float64]


def _standardise(values: Floats) -> Floats:
    spread = values.std()
    centred: Floats = values - values.mean()
    return centred / spread if spread > 0 else centred


class TargetTransform:
    """A strictly increasing map from accuracies to the values that a model fits, and its inverse.

    Accuracies crowd near the top with a long tail of failures, so that least squares on them spends
    its effort on the failures. The transforms spread the top out:

    ``identity``
        Standardised only.
    ``rank``
        Mean rank, scaled to (0, 1), standardised.
    ``normal``
        Normal scores of the ranks: Φ⁻¹((rank - ½)/n).
    ``log_error``
        -log(c - y), where c - y is the error: c = 100 for percentages, else a tenth of the range above
        the maximum.
    ``mixed``
        Sum of the standardised ``normal`` and ``log_error``.

    Parameters
    ----------
    kind
        One of `TARGETS`.
    """

    def __init__(self, kind: str) -> None:
        if kind not in TARGETS:
            raise unknown_name("target transform", kind, TARGETS)
        self.kind = kind

    def fit_transform(self, y: npt.ArrayLike) -> Floats:
        """Learn the map from training targets and return them transformed, ``float64[n]``, mean 0, variance 1."""
        values = np.asarray(y, dtype=np.float64)
        parts: list[Floats] = []
        if self.kind in {"normal", "mixed"}:
            parts.append(norm.ppf((rankdata(values) - 0.5) / len(values)))
        if self.kind in {"log_error", "mixed"}:
            parts.append(-np.log(self._ceiling(values) - values))
        if self.kind == "rank":
            parts.append((rankdata(values) - 0.5) / len(values))
        if self.kind == "identity":
            parts.append(values)
        combined = np.sum([_standardise(p) for p in parts], axis=0)
        self._location, self._scale = float(combined.mean()), float(combined.std()) or 1.0
        transformed: Floats = (combined - self._location) / self._scale
        inputs, first = np.unique(values, return_index=True)
        outputs = transformed[first]
        apart = np.r_[True, np.diff(outputs) > 0]  # values that differ by rounding only may be mapped to one
        inputs, outputs = inputs[apart], outputs[apart]
        if len(inputs) > _KNOTS:
            # Equally spaced in the transformed value, the ends kept exactly.
            grid = np.linspace(outputs[0], outputs[-1], _KNOTS)
            inputs, outputs = np.interp(grid, outputs, inputs), grid
        self.knots_y, self.knots_t = inputs, outputs
        return transformed

    @staticmethod
    def _ceiling(values: Floats) -> float:
        low, high = float(values.min()), float(values.max())
        if low >= 0 and 1.5 < high < 100:
            return 100.0
        # Equal values leave no range: then the ceiling is as far above them as their size allows to tell apart.
        return high + 0.1 * max(high - low, 1e-9 * abs(high), 1e-12)

    def transform(self, y: npt.ArrayLike) -> Floats:
        """Map other targets through the learned knots, ``float64[n]``."""
        return self._interpolate(np.asarray(y, dtype=np.float64), self.knots_y, self.knots_t)

    def inverse(self, t: npt.ArrayLike) -> Floats:
        """Map predictions back to accuracies, ``float64[n]``; beyond the training range it goes on linearly."""
        return self._interpolate(np.asarray(t, dtype=np.float64), self.knots_t, self.knots_y)

    @staticmethod
    def _interpolate(values: Floats, source: Floats, target: Floats) -> Floats:
        if len(source) == 1:
            return np.full(values.shape, target[0]) + (values - source[0])
        result = np.interp(values, source, target)
        # The mean slope of the outer eighth: single steps between neighbouring ranks are noise.
        width = max(1, len(source) // 8)
        low = (target[width] - target[0]) / (source[width] - source[0])
        high = (target[-1] - target[-1 - width]) / (source[-1] - source[-1 - width])
        result = np.where(values < source[0], target[0] + (values - source[0]) * low, result)
        return np.where(values > source[-1], target[-1] + (values - source[-1]) * high, result)

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """What a file needs: plain values and arrays."""
        return {"kind": self.kind}, {"knots_y": self.knots_y, "knots_t": self.knots_t}

    @classmethod
    def from_state(cls, plain: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> TargetTransform:
        """Rebuild from `state`."""
        made = cls(plain["kind"])
        made.knots_y, made.knots_t = arrays["knots_y"], arrays["knots_t"]
        return made
