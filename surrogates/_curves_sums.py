"""Scores that need no training set: the last value seen, and sums over the curve."""

from __future__ import annotations

__all__ = ["EarlyStopping", "SumOfCurve"]

from typing import Any

import numpy as np

from tauzero.surrogates._curves_base import CurvePredictor, Epochs, Floats, last_seen
from tauzero.surrogates._validation import check_integer, check_number


class EarlyStopping(CurvePredictor):
    """The last value seen: what a practitioner does who stops all trainings early.

    Parameters
    ----------
    losses
        The curves are losses; the prediction is minus the last one.
    """

    name = "early_stopping"
    last_only = True

    def __init__(self, *, losses: bool = False) -> None:
        self.losses = losses

    def _predict(self, values: Floats, epochs: Epochs, genotypes: Any) -> tuple[Floats, Floats]:
        del epochs, genotypes
        return last_seen(values)[0], np.full(len(values), np.nan)


class SumOfCurve(CurvePredictor):
    """Sum of a curve over the epochs: training speed (Ru et al., "Speedy Performance Estimation", NeurIPS 2021).

    With training losses ℓ_t of the epochs t = 1 … T, the paper's estimators are

    - TSE, also called SoTL: Σ_t ℓ_t;
    - TSE-E: Σ_{t > T-E} ℓ_t, the last E epochs only (`last`);
    - TSE-EMA: Σ_t γ^(T-t) ℓ_t (`decay`).

    The same with accuracies is the area under the learning curve. Where epochs were left out, a value stands for
    all epochs since the one measured before it, so that with every epoch measured the sums are the paper's. A curve
    that ends early (NaN to the end) is summed up to its own last epoch T.

    Parameters
    ----------
    losses
        The curves are losses; the prediction is minus their sum.
    last
        E of TSE-E; None for all epochs.
    decay
        γ of TSE-EMA in (0, 1]; None for 1.
    average
        Divide by the sum of the weights: the unit is then the metric's, and curves of different length can be
        compared. Curves of one length are ranked alike by the sum and by the average.
    """

    name = "sum_of_curve"

    def __init__(
        self, *, losses: bool = False, last: int | None = None, decay: float | None = None, average: bool = True
    ) -> None:
        self.losses = losses
        self.last = last
        self.decay = decay
        self.average = average

    def _predict(self, values: Floats, epochs: Epochs, genotypes: Any) -> tuple[Floats, Floats]:
        del genotypes
        if self.last is not None:
            check_integer(self, "last", 1)
        if self.decay is not None:
            check_number(self, "decay", 1e-9, 1.0)
        measured = np.isfinite(values)
        stop = np.where(measured, epochs.astype(np.float64), 0.0)
        # The epoch measured before each column, 0 in front of the first.
        before = np.concatenate([np.zeros((len(values), 1)), np.maximum.accumulate(stop, axis=1)[:, :-1]], axis=1)
        end = stop.max(axis=1, keepdims=True)
        if self.last is not None:
            before = np.maximum(before, end - self.last)
        width = np.maximum(np.where(measured, stop - before, 0.0), 0.0)
        weight = width
        if self.decay is not None and self.decay < 1:
            # Σ γ^(T-t) over t = before+1 … stop, a geometric series.
            weight = self.decay ** (end - stop) * (1 - self.decay**width) / (1 - self.decay) * measured
        total = np.sum(np.where(measured, values, 0.0) * weight, axis=1)
        return (total / weight.sum(axis=1) if self.average else total), np.full(len(values), np.nan)
