"""Parametric curves, fitted to all architectures at once and continued to the end of training."""

from __future__ import annotations

__all__ = ["FAMILIES", "Extrapolation"]

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from tauzero.spaces import unknown_name
from tauzero.surrogates._curves_base import CurvePredictor, Epochs, Floats, last_seen
from tauzero.surrogates._validation import check_integer, check_number

#: Names of the curves that are averaged.
FAMILIES = ("pow3", "log_power", "exp3", "ilog2")

_CHUNK = 256  # curves fitted at a time: what is known of all their candidates stays in the cache
_FLOOR = 1e-12


class Extrapolation(CurvePredictor):
    """Average over parametric learning curves (Domhan et al., IJCAI 2015, Table 1), by least squares.

    ================  =============================  =====================
    ``pow3``          c - a x^(-α)                   power law
    ``log_power``     a / (1 + (x/e^b)^c), c < 0     logistic power
    ``exp3``          c - exp(-a x + b)              exponential
    ``ilog2``         c - a / log(x + 1)             logarithm (the paper's has log x, infinite at 1)
    ================  =============================  =====================

    The paper samples the parameters of a mixture by MCMC, one curve after the other. Here the non-linear ones (α, a,
    or b and c) run over a fixed grid, the linear ones follow in closed form, for all curves in one pass; a candidate
    with squared error S weighs exp(-S/2σ²), where σ is no less than the misfit of the best one. Curves must not fall
    and their asymptote must not exceed `ceiling`: otherwise the best curve on that border is taken. A curve of a
    single value goes on unchanged.

    Parameters
    ----------
    final
        The epoch to predict, not before the last of the curves.
    losses
        The curves are losses; the prediction is minus the final one.
    families
        Some of `FAMILIES`.
    noise
        σ: least standard deviation of a measurement, in the unit of the curves (percent).
    ceiling
        The best value there is: 100 for percentages. None for none; with `losses` it is 0 unless None.
    """

    name = "extrapolation"
    has_std = True

    def __init__(
        self,
        *,
        final: int = 200,
        losses: bool = False,
        families: Sequence[str] = FAMILIES,
        noise: float = 0.5,
        ceiling: float | None = 100.0,
    ) -> None:
        self.final = final
        self.losses = losses
        self.families = families
        self.noise = noise
        self.ceiling = ceiling

    def _predict(self, values: Floats, epochs: Epochs, genotypes: Any) -> tuple[Floats, Floats]:
        del genotypes
        shapes, at_end, growing, prior = self._shapes(epochs)
        ceiling = np.inf if self.ceiling is None else 0.0 if self.losses else float(self.ceiling)
        mean, std = np.empty(len(values)), np.empty(len(values))
        for start in range(0, len(values), _CHUNK):
            part = slice(start, start + _CHUNK)
            ends, error = _fitted_ends(values[part], shapes, at_end, growing, ceiling)
            # Where no candidate fits as well as the noise would have it, that misfit is the noise.
            count = np.isfinite(values[part]).sum(axis=1)
            variance = np.maximum(float(self.noise) ** 2, error.min(axis=1) / count)
            log_weight = prior - error / (2 * variance[:, None])
            weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
            weight /= weight.sum(axis=1, keepdims=True)
            mean[part] = np.sum(weight * ends, axis=1)
            spread = np.sum(weight * (ends - mean[part, None]) ** 2, axis=1)
            std[part] = np.sqrt(spread + variance)
        single = np.isfinite(values).sum(axis=1) < 2
        mean[single] = last_seen(values[single])[0]
        std[single] = np.nan  # one value says nothing about how far the curve goes on
        return mean, std

    def _shapes(self, epochs: Epochs) -> tuple[Floats, Floats, Any, Floats]:
        """Candidates' curves at the epochs ``[k, t]`` and at the end ``[k]``, which are free of an offset, log prior.

        Curves are ``offset + slope × shape`` with shapes that rise to 0, or ``slope × shape`` with shapes that rise
        to 1 (`log_power`, whose offset is none).
        """
        check_integer(self, "final", 1)
        check_number(self, "noise", 1e-9, 1e9)
        if self.final < epochs[-1]:
            raise ValueError(
                f"The 'final' parameter of Extrapolation must not be before the last epoch of the curves, "
                f"{epochs[-1]}. Got {self.final}."
            )
        if self.ceiling is not None:
            check_number(self, "ceiling", -1e12, 1e12)
        if isinstance(self.families, str) or not len(self.families):
            raise ValueError(
                f"The 'families' parameter of Extrapolation must be some of {FAMILIES}. Got {self.families!r} instead."
            )
        x = np.r_[epochs, self.final].astype(np.float64)
        rows: list[Floats] = []
        rising_to_one: list[bool] = []
        log_prior: list[float] = []
        for family in self.families:
            if family == "pow3":
                made = [-((x / x[0]) ** -a) for a in np.geomspace(0.05, 4.0, 120)]
            elif family == "exp3":
                # From a curve that is almost straight up to the end, to one that is flat after the first value.
                made = [-np.exp(-a * x) for a in np.geomspace(0.1 / x[-1], 5.0 / x[0], 150)]
            elif family == "ilog2":
                made = [-1.0 / np.log(x + 1.0)]
            elif family == "log_power":
                grid = product(np.geomspace(0.02, x[-1], 36), np.geomspace(0.3, 3.0, 24))
                made = [1.0 / (1.0 + (x / middle) ** -power) for middle, power in grid]
            else:
                raise unknown_name("learning curve", family, FAMILIES)
            rows += made
            rising_to_one += [family == "log_power"] * len(made)
            log_prior += [-np.log(len(made))] * len(made)  # each family counts alike, however fine its grid
        table = np.stack(rows)
        growing = ~np.array(rising_to_one)
        if self.losses:
            # Minus a loss rises to 0: what is left of the loss is what is missing from the shape.
            table[~growing] = table[~growing] - 1.0
        return table[:, :-1], table[:, -1], growing, np.array(log_prior)


def _fitted_ends(
    values: Floats, shapes: Floats, at_end: Floats, has_offset: Any, ceiling: float
) -> tuple[Floats, Floats]:
    """Value of every candidate at the end and its squared error, ``float64[n, k]`` each.

    Least squares for ``y = offset + slope × shape`` subject to slope ≥ 0 and offset ≤ ceiling (shapes rise to 0, so
    the offset is the asymptote); the optimum is inside, or on one of the borders, each in closed form.
    """
    known = np.isfinite(values)
    mask = known.astype(np.float64)
    y = np.where(known, values, 0.0)
    count = mask.sum(axis=1)[:, None]
    s1, s2 = mask @ shapes.T, mask @ (shapes**2).T  # [n, k]
    y1, ys = y.sum(axis=1)[:, None], y @ shapes.T
    y2 = (y**2).sum(axis=1)[:, None]
    # Shapes that do not change over the values seen (all but the first few exponentials) have no slope.
    variance = s2 - s1**2 / count
    free = variance > 1e-10 * np.maximum(s2, _FLOOR)
    slope = np.where(free, (ys - s1 * y1 / count) / np.where(free, variance, 1.0), 0.0)
    falls = slope <= 0
    slope = np.where(falls, 0.0, slope)
    offset = (y1 - slope * s1) / count
    above = offset > ceiling
    if np.isfinite(ceiling):
        # On the border: the asymptote is the ceiling itself.
        through = np.maximum((ys - ceiling * s1) / np.maximum(s2, _FLOOR), 0.0)
        slope, offset = np.where(above, through, slope), np.where(above, ceiling, offset)
    # A curve without an offset.
    single = ys / np.maximum(s2, _FLOOR)
    top = ceiling if np.isfinite(ceiling) and ceiling > 0 else np.inf
    single = np.clip(single, 0.0, top)
    slope, offset = np.where(has_offset, slope, single), np.where(has_offset, offset, 0.0)
    error = y2 - 2 * (offset * y1 + slope * ys) + offset**2 * count + 2 * offset * slope * s1 + slope**2 * s2
    return offset + slope * at_end, np.maximum(error, 0.0)
