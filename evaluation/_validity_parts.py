"""Parts of a validity report: errors on rows that a model has not seen, by region, and searches side by side."""

from __future__ import annotations

__all__ = [
    "accuracy_regions",
    "calibration",
    "error_figures",
    "left_out_region",
    "noise_figures",
    "region_figures",
    "search_curves",
    "unseen_rows",
]

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tauzero.evaluation.metrics import coverage, kendall_tau, mae, precision_at_k, r2, spearman
from tauzero.evaluation.splits import coarsest_classes, holdout_mask, protocol_split
from tauzero.spaces import Genotypes, SearchSpace

if TYPE_CHECKING:
    from tauzero.benchmarks import Benchmark
    from tauzero.surrogates import PredictedColumn, SurrogateBenchmark

Floats = npt.NDArray[np.float64]
_LEVELS = (0.5, 0.8, 0.9, 0.95)
_SPARSE = 1  # decimals of a percentage that the sparse tau looks at


def unseen_rows(benchmark: SurrogateBenchmark, column: PredictedColumn, against: Benchmark) -> npt.NDArray[np.bool_]:
    """Rows of ``against.architectures`` that a model was not fitted on, no copies of fitted ones, ``bool[m]``.

    Models say by their cards what was kept apart: `holdout_mask`, or the training rows that ``tauzero fit`` drew.

    Raises
    ------
    ValueError
        If the card says neither.
    """
    space = against.space
    rows = None if space.enumerable else against.architectures
    card = column.model.metadata_
    if "holdout_mask" in str(card.get("held_out", "")):
        return holdout_mask(space, architectures=rows)
    if card.get("benchmark") == against.name and {"train", "seed", "metric", "dataset"} <= set(card):
        known = np.isfinite(against.table(card["dataset"], card["metric"]))
        split = protocol_split(space, "all", card["train"], card["seed"], available=known, architectures=rows)
        classes = coarsest_classes(space) if rows is None else space.distinct(rows)[1]
        return ~np.isin(classes, classes[split.train])
    raise ValueError(
        f"The models of {benchmark.name} do not say which rows of {against.name} they were not fitted on: pass rows=…, "
        "a mask or positions of architectures that they have not seen."
    )


def error_figures(truth: Floats, predicted: Floats) -> dict[str, float]:
    """Measures of predictions in percent; `sparse_tau` ignores differences below 0.1 (Siems et al., 2020)."""
    sparse = kendall_tau(np.round(truth, _SPARSE), np.round(predicted, _SPARSE))
    return {
        "tau": kendall_tau(truth, predicted),
        "sparse_tau": sparse,
        "spearman": spearman(truth, predicted),
        "r2": r2(truth, predicted),
        "mae": mae(truth, predicted),
        "p_at_1_percent": precision_at_k(truth, predicted, 0.01),
    }


def calibration(model: Any, genotypes: Genotypes, truth: Floats) -> list[dict[str, Any]]:
    """Share of true values inside the model's intervals, for each level."""
    found = []
    for level in _LEVELS:
        try:
            _, ends = model.predict(genotypes, return_interval=level)
        except ValueError:  # too few rows that the model was checked on
            continue
        width = float((ends[:, 1] - ends[:, 0]).mean())
        found.append({"level": level, "coverage": coverage(truth, ends), "width": width})
    return found


def noise_figures(
    benchmark: SurrogateBenchmark, column: PredictedColumn, genotypes: Genotypes, runs: Floats | None
) -> dict[str, Any]:
    """Spread of predicted runs beside that of real ones: root mean square deviation of a run from its mean.

    Parameters
    ----------
    benchmark, column
        What is judged.
    genotypes
        ``int8[n, L]``.
    runs
        ``float64[n, r]``, the table's runs of these; None where it has none.
    """
    predictive, spread = benchmark.spread(genotypes, column.dataset, column.metric)
    kind = column.noise if isinstance(column.noise, str) else "runs"
    found: dict[str, Any] = {
        "kind": kind,
        "predictive_std": _rms(predictive),
        "run_std": _rms(spread),
        "table_run_std": None,
        "table_runs": None,
    }
    if runs is not None:
        count = np.isfinite(runs).sum(axis=1)
        some = runs[count > 1]
        if len(some):
            variance = np.nanvar(some, axis=1, ddof=1)
            weight = count[count > 1] - 1
            found["table_run_std"] = float(np.sqrt((variance * weight).sum() / weight.sum()))
            found["table_runs"] = int(runs.shape[1])
    return found


def accuracy_regions(truth: Floats, count: int) -> list[tuple[str, float, float]]:
    """Names and bounds of regions of equal size by true value: (name, low, high), high excluded except in the last."""
    edges = np.quantile(truth, np.linspace(0.0, 1.0, count + 1))
    names = [f"{100 * k // count} to {100 * (k + 1) // count} % by value" for k in range(count)]
    last = count - 1
    return [
        (name, float(edges[k]), float(np.inf if k == last else edges[k + 1])) for k, name in enumerate(names)
    ]  # fmt: skip


def region_figures(truth: Floats, predicted: Floats, std: Floats) -> dict[str, Any]:
    """Errors within one region, where there are two rows at least."""
    figures: dict[str, Any] = {"rows": len(truth)}
    if len(truth) > 1:
        figures |= {
            "tau": kendall_tau(truth, predicted),
            "mae": mae(truth, predicted),
            "bias": float((predicted - truth).mean()),
            "predicted_std": float(std.mean()),
        }
    return figures


def left_out_region(
    model: tuple[str, dict[str, Any]],
    space: SearchSpace,
    rows: Genotypes,
    truth: Floats,
    *,
    train: npt.NDArray[np.int64],
    inside: npt.NDArray[np.bool_],
    judged: npt.NDArray[np.int64],
    count: int,
    seed: int,
) -> dict[str, Any]:
    """Judge a region by a surrogate that saw nothing of it, beside one that was fitted on as many rows of everywhere.

    Parameters
    ----------
    model
        Name and parameters of the surrogate.
    space, rows, truth
        Architectures ``int8[m, L]`` and their values.
    train, judged
        Positions that may be learned from, and that are judged on.
    inside
        ``bool[m]``: the region.
    count
        Training rows.
    seed
        Draws training rows and seeds the models.
    """
    from tauzero import surrogates

    judged = judged[inside[judged]]
    found: dict[str, Any] = {"rows": len(judged)}
    rng = np.random.default_rng(seed)
    for label, pool in (("without", train[~inside[train]]), ("with", train)):
        if len(judged) < 2 or len(pool) < 2:
            found[label] = None
            continue
        chosen = rng.choice(pool, min(count, len(pool)), replace=False)
        name, params = model
        fitted = surrogates.create(name, space, random_state=seed, **params).fit(rows[chosen], truth[chosen])
        mean, std = fitted.predict(rows[judged], return_std=True)
        ood = float((fitted.ood_score(rows[judged]) > 1).mean())
        found[label] = {**region_figures(truth[judged], mean, std), "train": len(chosen), "ood_share": ood}
    return found


def search_curves(
    space: SearchSpace,
    seen: Floats,
    truth: Floats,
    *,
    algorithm: str,
    budget: int,
    seeds: Sequence[int],
    step: Callable[[], None],
) -> Floats:
    """True regret of the incumbent after each query of searches that see `seen`, ``float64[seeds, budget]``.

    The incumbent is what has looked best so far to the search; its regret is taken in `truth`.
    """
    from tauzero import search

    objective = search.ArrayObjective(space, seen)
    curves = np.empty((len(seeds), budget))
    for k, seed in enumerate(seeds):
        trajectory = search.run(algorithm, objective, budget, seed)
        values = np.asarray(trajectory.values)
        best = np.maximum.accumulate(values)
        first = np.concatenate([[True], best[1:] > best[:-1]])
        position = np.maximum.accumulate(np.where(first, np.arange(len(values)), 0))
        regret = truth.max() - truth[np.asarray(trajectory.index)[position]]
        curves[k] = np.pad(regret, (0, budget - len(regret)), mode="edge")
        step()
    return curves


def _rms(values: Floats) -> float:
    return float(np.sqrt((values**2).mean()))
