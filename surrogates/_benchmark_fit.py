"""Fitting a surrogate benchmark: models of metrics and of training seconds, and the noise of runs, from a table."""

from __future__ import annotations

__all__ = ["fit_benchmark", "fitted_cost", "noise_of"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.benchmarks import Benchmark
from tauzero.spaces import Progress
from tauzero.surrogates._noise import RunNoise, fit_run_noise
from tauzero.surrogates._registry import create
from tauzero.surrogates.benchmark import PredictedColumn, SurrogateBenchmark

_SECONDS = "training_seconds"
_COST_ROWS = 1_000  # training seconds follow from few rows: they are sums over operations


def fit_benchmark(
    table: Benchmark,
    rows: npt.ArrayLike,
    datasets: str | Sequence[str] | None = None,
    metric: str | None = None,
    *,
    model: str = "auto",
    name: str | None = None,
    seed: int = 0,
    cost: bool = True,
    held_out: str = "",
    progress: Progress | None = None,
    **params: Any,
) -> SurrogateBenchmark:
    """Fit surrogates on some rows of a table, to be used in the table's place.

    Parameters
    ----------
    table
        What to learn from.
    rows
        ``int[n]``, positions in ``table.architectures``: the rows that are learned from. Keep others apart, whole
        classes of equal networks (`tauzero.evaluation.protocol_split`), to know afterwards what the predictions are
        worth. Rows without a value are left out.
    datasets
        Which to predict, by default the table's first; a model for each.
    metric
        By default the main metric of each dataset.
    model, params
        Name and parameters of the surrogate.
    name
        Of the benchmark; by default that of the table and its dataset.
    seed
        Of the models.
    cost
        Whether to fit a model of the training seconds, where the table has any.
    held_out
        One sentence on the rows that were kept apart; it goes into the models' cards.
    progress
        Called with (done, total) models.

    Returns
    -------
    The benchmark, in memory: its `save` writes it. Runs scatter by the noise of the table's training runs, where the
    metric has single runs among `rows`; else by the models' predictive deviation.
    """
    given = [datasets] if isinstance(datasets, str) else list(datasets or [table.datasets[0]])
    official = {d.lower(): d for d in table.datasets}
    chosen = [official.get(d.lower(), d) for d in given]
    for dataset in chosen:
        table.metrics(dataset)  # an unknown one is refused before anything is fitted
    learned = _positions(table, rows)
    costed = [d for d in chosen if cost and _SECONDS in table.metrics(d)]
    total, done = len(chosen) + len(costed), 0
    columns = []
    for dataset in chosen:
        target = table.main_metric(dataset) if metric is None else metric
        epochs = table.epochs(dataset, target)
        epoch = epochs[-1] if epochs else None
        card = {
            "benchmark": table.name,
            "dataset": dataset,
            "metric": target,
            "epoch": epoch,
            "unit": table.unit(dataset, target),
            "model": model,
            "seed": seed,
            "held_out": held_out,
            "licence": table.info()["licence"],
        }
        values = table.table(dataset, target, epoch)
        fitted = _fitted(create(model, table.space, random_state=seed, **params), table, learned, values)
        fitted.metadata_ = {**card, "training_rows": int(np.isfinite(values[learned]).sum())}
        done += 1
        if progress is not None:
            progress(done, total)
        seconds = None
        if dataset in costed:
            seconds = fitted_cost(table, learned, dataset, epoch, seed)
            if seconds is not None:
                seconds.metadata_ = {**card, "metric": _SECONDS, "unit": "seconds", "model": seconds.name}
            done += 1
            if progress is not None:
                progress(done, total)
        noise = noise_of(table, learned, dataset, target, epoch)
        text = f"predicted by {model}, fitted on {fitted.metadata_['training_rows']:,} rows of {table.name}"
        columns.append(
            PredictedColumn(
                dataset, target, epoch, table.unit(dataset, target), fitted,
                "predictive" if noise is None else noise, seconds, text,
            )
        )  # fmt: skip
    label = name if name is not None else f"{table.name}-{'-'.join(chosen)}"
    return SurrogateBenchmark(
        columns, label, licence=table.info()["licence"],
        provenance={"trained_on": list(table.origins), "held_out": held_out},
    )  # fmt: skip


def noise_of(
    table: Benchmark, rows: npt.NDArray[np.int64], dataset: str, metric: str, epoch: int | None
) -> RunNoise | None:
    """Noise of the training runs of a metric among some rows; None where the table has no two runs of it."""
    runs = table.runs(dataset, metric, epoch)
    if len(runs) < 2 or table.on_demand:
        return None
    values = np.stack([table.table(dataset, metric, epoch, run)[rows] for run in runs], axis=1)
    if not (np.isfinite(values).sum(axis=1) > 1).any():
        return None
    return fit_run_noise(values, f"{len(runs)} runs of {metric} on {dataset} in {table.name}")


def _positions(table: Benchmark, rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
    given = np.asarray(rows)
    size = len(table.architectures)
    if given.ndim != 1 or given.dtype.kind not in "iu" or not len(given) or given.min() < 0 or given.max() >= size:
        raise ValueError(
            f"The 'rows' argument must hold positions in the {size:,} architectures of {table.name}, from 0 to "
            f"{size - 1}. Got dtype {given.dtype} and shape {given.shape}."
        )
    return given.astype(np.int64)


def _fitted(estimator: Any, table: Benchmark, rows: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> Any:
    """Fit an estimator to the rows that have a value of a column."""
    known = rows[np.isfinite(values[rows])]
    if not len(known):
        raise ValueError(f"{table.name} has no value in any of the {len(rows):,} given rows.")
    return estimator.fit(table.architectures[known], values[known])


def fitted_cost(table: Benchmark, rows: npt.NDArray[np.int64], dataset: str, epoch: int | None, seed: int) -> Any:
    """A Gaussian process of the training seconds on at most a thousand rows; None where they are not known."""
    if epoch not in table.epochs(dataset, _SECONDS):
        return None
    values = table.table(dataset, _SECONDS, epoch)
    known = rows[np.isfinite(values[rows])]
    if not len(known):
        return None
    if len(known) > _COST_ROWS:
        known = np.sort(np.random.default_rng(seed).choice(known, _COST_ROWS, replace=False))
    # Seconds add up over operations and layers: as they are, no transform serves them better.
    estimator = create("gaussian_process", table.space, random_state=seed, target="identity")
    return estimator.fit(table.architectures[known], values[known])
