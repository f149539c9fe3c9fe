"""Learning curves out of a table, and how well predictors rank for the training that they cost."""

from __future__ import annotations

__all__ = ["curves_from", "tau_by_cost"]

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from tauzero.benchmarks import Benchmark
from tauzero.surrogates._curves_base import CurvePredictor, LearningCurves


def curves_from(
    benchmark: Benchmark,
    genotypes: npt.ArrayLike,
    dataset: str | None = None,
    metric: str = "validation_accuracy",
    up_to: int | None = None,
    *,
    seed: int | None = None,
    one_run: bool = False,
) -> LearningCurves:
    """Look up the beginning of learning curves, and what they would have cost.

    Parameters
    ----------
    benchmark, dataset, metric, seed
        As in `Benchmark.query`.
    genotypes
        ``int8[n, L]``.
    up_to
        The last epoch to read; None for all that the table has.
    one_run
        The epochs are checkpoints of one training, so that the curve costs what its last value costs. By default every
        epoch is a training of its own with its own learning rate schedule and costs are added: so it is in
        NAS-Bench-101 (4, 12, 36, 108 epochs) and NAS-Bench-201 (12 and 200).

    Returns
    -------
    LearningCurves

    Raises
    ------
    ValueError
        If the metric is not known for any epoch up to `up_to`, or needs no training.
    """
    known = benchmark.epochs(dataset, metric)
    epochs = [e for e in known if up_to is None or e <= up_to]
    if not epochs:
        there = f"Known: {', '.join(map(str, known))}" if known else "It needs no training"
        raise ValueError(f"The 'up_to' argument leaves no epoch of {metric}. Got {up_to!r}. {there}.")
    columns = [benchmark.query(genotypes, dataset, metric, e, seed, return_cost=True) for e in epochs]
    return LearningCurves(
        np.stack([values for values, _ in columns], axis=1),
        np.array(epochs, dtype=np.int64),
        np.stack([seconds for _, seconds in columns], axis=1),
        one_run,
    )


def tau_by_cost(
    predictors: Mapping[str, CurvePredictor],
    curves: LearningCurves,
    y: npt.ArrayLike,
    train: npt.ArrayLike = (),
    *,
    genotypes: npt.ArrayLike | None = None,
    full_seconds: npt.ArrayLike | None = None,
) -> list[dict[str, Any]]:
    """Kendall tau of predictors that see one more epoch at a time, against the cost of what they see.

    Parameters
    ----------
    predictors
        By the name that stands in the result; copies of them are fitted anew for every length of the curve.
    curves
        Of all architectures.
    y
        ``float[n]``: the final metric, larger is better; rows with NaN, or without a curve, are left out.
    train
        Rows whose final metric may be learned from, ``int[m]``. All predictors are judged on the other rows.
    genotypes
        ``int8[n, L]``, for predictors whose parameter ``space`` is set.
    full_seconds
        ``float[n]``: time of a full training; None for that of the last epoch of the curves.

    Returns
    -------
    One dictionary per predictor and length: ``predictor``, ``epochs`` (the last one seen), ``tau``, ``seconds`` (mean
    training time of what was read of a judged architecture; what the training rows cost is not in it) and ``fraction``
    (of its full training).
    """
    from sklearn.base import clone

    final = np.asarray(y, dtype=np.float64)
    if final.shape != (len(curves.values),):
        raise ValueError(f"The 'y' argument must have one value per curve, ({len(curves.values)},). Got {final.shape}.")
    full = curves.each_seconds[:, -1] if full_seconds is None else np.asarray(full_seconds, dtype=np.float64)
    learned = np.zeros(len(final), dtype=np.bool_)
    learned[np.asarray(train, dtype=np.intp)] = True
    rows = []
    for epoch in curves.epochs.tolist():
        seen = curves.until(epoch)
        usable = np.isfinite(final) & np.isfinite(seen.values).any(axis=1)
        fitted, judged = np.flatnonzero(usable & learned), np.flatnonzero(usable & ~learned)
        for name, predictor in predictors.items():
            reads = getattr(predictor, "space", None) is not None
            cells = [None if not reads or genotypes is None else np.asarray(genotypes)[k] for k in (fitted, judged)]
            copy: CurvePredictor = clone(predictor)
            if copy.needs_fit:
                copy.fit(seen.values[fitted], final[fitted], seen.epochs, genotypes=cells[0])
            predicted = copy.predict(seen.values[judged], seen.epochs, genotypes=cells[1])
            seconds = seen.each_seconds[judged, -1] if copy.last_only else seen.seconds[judged]
            rows.append(
                {
                    "predictor": name,
                    "epochs": epoch,
                    "tau": float(kendalltau(final[judged], predicted).statistic),
                    "seconds": float(np.mean(seconds)),
                    "fraction": float(np.mean(seconds) / np.mean(full[judged])),
                }
            )
    return rows
