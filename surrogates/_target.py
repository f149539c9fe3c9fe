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
_SATURATED = 0.95  # share of the margin beyond the training range up to which `transform` undoes `inverse`
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
        transformed: Floats = (combined - combined.mean()) / (float(combined.std()) or 1.0)
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
        """Map other targets through the learned knots, ``float64[n]``: the inverse of `inverse`."""
        values = np.asarray(y, dtype=np.float64)
        if len(self.knots_y) == 1:
            return self.knots_t[0] + (values - self.knots_y[0])
        result = np.interp(values, self.knots_y, self.knots_t)
        for end, sign in ((0, -1.0), (-1, 1.0)):
            margin, slope = self._beyond(end)
            # Far outside of what `inverse` can give it goes on linearly.
            share = np.maximum(sign * (values - self.knots_y[end]), 0.0) / margin
            inside = np.minimum(share, _SATURATED)
            distance = inside / (1 - inside) + (share - inside) / (1 - _SATURATED) ** 2
            result = np.where(share > 0, self.knots_t[end] + sign * distance * margin / slope, result)
        return result

    def inverse(self, t: npt.ArrayLike) -> Floats:
        """Map predictions back to accuracies, ``float64[n]``.

        Beyond the training range it goes on with the same slope but levels off, strictly increasing: at most
        half the way from the middle to the end is added, and a percentage stays one (a Gaussian process that
        extrapolates along a steep tail would else predict -65 %).
        """
        values = np.asarray(t, dtype=np.float64)
        if len(self.knots_y) == 1:
            return self.knots_y[0] + (values - self.knots_t[0])
        result = np.interp(values, self.knots_t, self.knots_y)
        for end, sign in ((0, -1.0), (-1, 1.0)):
            margin, slope = self._beyond(end)
            distance = np.maximum(sign * (values - self.knots_t[end]), 0.0) * slope / margin
            result = np.where(distance > 0, self.knots_y[end] + sign * margin * distance / (1 + distance), result)
        return result

    def _beyond(self, end: int) -> tuple[float, float]:
        """How far `inverse` can go beyond the first (0) or last (-1) knot, and its slope there."""
        y, t = self.knots_y, self.knots_t
        # The mean slope of the outer eighth: single steps between neighbouring ranks are noise.
        width = max(1, len(y) // 8)
        inner = width if end == 0 else -1 - width
        slope = (y[end] - y[inner]) / (t[end] - t[inner])
        margin = 0.5 * abs(y[end] - np.interp(0.0, t, y))
        if y[0] >= 0 and 1.5 < y[-1] <= 100:
            margin = min(margin, y[0] if end == 0 else 100.0 - y[-1])
        return max(margin, 1e-3 * (y[-1] - y[0])), slope

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """What a file needs: plain values and arrays."""
        return {"kind": self.kind}, {"knots_y": self.knots_y, "knots_t": self.knots_t}

    @classmethod
    def from_state(cls, plain: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> TargetTransform:
        """Rebuild from `state`."""
        made = cls(plain["kind"])
        made.knots_y, made.knots_t = arrays["knots_y"], arrays["knots_t"]
        return made
