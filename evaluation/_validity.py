"""Validity of a surrogate benchmark: how far its predictions can stand for the table that they were learned from."""

from __future__ import annotations

__all__ = ["ValidityReport", "validity"]

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tauzero.evaluation import _validity_parts as parts
from tauzero.spaces import Progress
from tauzero.spaces._progress import silent

if TYPE_CHECKING:
    from tauzero.benchmarks import Benchmark
    from tauzero.surrogates import PredictedColumn, SurrogateBenchmark

Floats = npt.NDArray[np.float64]
_ALGORITHMS = ("random_search", "regularized_evolution", "local_search")
_MARKS = (1, 5, 10, 20, 50, 100, 150, 200, 300, 500, 1_000)
_DRAWS, _REFITS = 7, 11  # streams of random numbers beside the seeds
_FILE = "validity.json"


@dataclass(frozen=True, eq=False)
class ValidityReport:
    """What `validity` measured.

    Attributes
    ----------
    facts
        All figures as plain JSON values; `validity` describes them.
    truth, predicted
        ``float64[n]``: values of the table and predictions on the unseen rows.
    curves
        ``"ALGORITHM, table"`` and ``"ALGORITHM, surrogate"`` → true regret after each query, ``float64[trials,
        budget]``; empty where the table is not of a whole space.
    """

    facts: Mapping[str, Any]
    truth: Floats = field(repr=False)
    predicted: Floats = field(repr=False)
    curves: Mapping[str, Floats] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The figures."""
        return dict(self.facts)

    def save(self, folder: str | Path, *, plots: bool = True) -> list[Path]:
        """Write ``validity.json`` and, with `plots`, ``predicted.png`` and ``searches.png``. Returns the files.

        In the folder of a surrogate benchmark the JSON becomes its `SurrogateBenchmark.validity`.
        """
        from tauzero.benchmarks import atomic_path

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / _FILE) as partial:
            partial.write_text(json.dumps(self.facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        written = [folder / _FILE]
        if plots:
            from tauzero.evaluation import plots as drawn

            title = f"{self.facts['benchmark']} against {self.facts['against']}"
            figure = drawn.predicted_vs_true(self.truth, self.predicted, title=title)
            written.append(drawn.save(figure, folder / "predicted.png"))
            if self.curves:
                written.append(drawn.save(drawn.regret_curves(self.curves, title=title), folder / "searches.png"))
        return written


def validity(
    benchmark: SurrogateBenchmark,
    against: Benchmark,
    dataset: str | None = None,
    *,
    metric: str | None = None,
    rows: npt.ArrayLike | None = None,
    runs_metric: str | None = None,
    judged: int = 1_000,
    seeds: int = 5,
    regions: int = 5,
    refit: str | tuple[str, Mapping[str, Any]] | None = "gaussian_process",
    refit_rows: int = 500,
    algorithms: Sequence[str] = _ALGORITHMS,
    budget: int = 150,
    trials: int = 10,
    progress: Progress | None = None,
) -> ValidityReport:
    """Measure how far a surrogate benchmark can be trusted in the place of a table.

    Parameters
    ----------
    benchmark
        What is judged, ``benchmarks.load("surrogate:…")``.
    against
        The table that its models learned from, or another one of the same space, data set and protocol.
    dataset, metric
        One column of the benchmark; by default its first dataset and that one's main metric.
    rows
        ``bool[m]`` or ``int[n]`` in ``against.architectures``: what the models have not seen. By default what their
        cards say was kept apart.
    runs_metric
        Metric of the table whose single runs the benchmark's runs are compared with; by default the column's own.
    judged, seeds
        Measures are taken on all unseen rows, and on `seeds` random sets of so many of them (half of them where
        there are fewer than twice as many): mean and standard deviation say how much a set of that size decides.
    regions
        Number of regions of equal size by true value.
    refit, refit_rows
        A surrogate, or (name, parameters), that is fitted anew to see what happens in a region that it learned nothing
        of, with as many rows; None leaves this out.
    algorithms, budget, trials
        Searches that are made on the table and on the predictions with the same seeds; only where the table is of a
        whole space.
    progress
        Called with (done, total) steps.

    Returns
    -------
    A report; keys of its `facts`:

    ``held_out``
        ``rows``; measures on ``all`` of them; ``mean`` and ``std`` over the random sets (``tau``, ``sparse_tau``: tau
        that ignores differences below 0.1 as Siems et al., 2020, have it, ``spearman``, ``r2``, ``mae``,
        ``p_at_1_percent``).
    ``intervals``
        For each level the share of true values inside, and the mean width.
    ``noise``
        Root mean square deviations: of the predictions (``predictive_std``), of the benchmark's runs (``run_std``), of
        the table's runs (``table_run_std``, None where it has none).
    ``regions``, ``familiarity``
        The same model by true value, and by `Surrogate.ood_score` (at most 1, above).
    ``left_out``
        The refitted surrogate in a region, fitted ``without`` it and ``with`` rows of everywhere.
    ``searches``
        True regret of incumbents after some numbers of queries, of searches on the table and on the surrogate.

    Raises
    ------
    ValueError
        If the spaces differ, the table has no such metric, or which rows are unseen is not known.
    """
    column = _column(benchmark, dataset, metric)
    if against.on_demand:
        raise ValueError(f"The 'against' argument must be a table of what was measured. Got {against!r}.")
    if against.space is not benchmark.space:
        raise ValueError(
            f"The 'against' argument must be a table of {benchmark.space.name}, the space of {benchmark.name}. Got "
            f"{against.name}, of {against.space.name}."
        )
    counts = {
        "judged": (judged, 2),
        "seeds": (seeds, 1),
        "regions": (regions, 1),
        "refit_rows": (refit_rows, 2),
        "budget": (budget, 1),
        "trials": (trials, 0),
    }
    for name, (number, least) in counts.items():
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
            raise ValueError(f"The '{name}' argument must be an integer ≥ {least}. Got {number!r}.")
    space, architectures = against.space, against.architectures
    epoch = column.epoch if column.epoch in against.epochs(column.dataset, column.metric) else None
    table = against.table(column.dataset, column.metric, epoch)
    known = np.isfinite(table)
    unseen = _mask(rows, len(table)) if rows is not None else parts.unseen_rows(benchmark, column, against)
    test = np.flatnonzero(unseen & known)
    if len(test) < 2:
        raise ValueError(f"There are {len(test)} unseen rows of {against.name} with a value; two at least are needed.")
    model = ("gaussian_process", {}) if refit is None else (refit, {}) if isinstance(refit, str) else refit
    bounds = parts.accuracy_regions(table[test], int(regions))
    whole = space.enumerable and bool(known.all()) and trials > 0
    searches = list(algorithms) if whole else []
    total = 2 + (len(bounds) + 1 if refit is not None else 0) + 2 * len(searches) * trials
    tell, done = progress or silent, 0

    def step() -> None:
        nonlocal done
        done += 1
        tell(done, total)

    genotypes, truth = architectures[test], table[test]
    predicted = benchmark.query(genotypes, column.dataset, column.metric, column.epoch)
    deviation = benchmark.spread(genotypes, column.dataset, column.metric)[0]
    step()
    familiar = column.model.ood_score(genotypes) <= 1
    facts: dict[str, Any] = {
        "format": "tauzero.validity",
        "version": 1,
        "benchmark": benchmark.name,
        "against": against.name,
        "space": space.name,
        "dataset": column.dataset,
        "metric": column.metric,
        "epoch": column.epoch,
        "model": column.model.name,
        "held_out": _held_out(truth, predicted, int(judged), int(seeds)),
        "intervals": parts.calibration(column.model, genotypes, truth),
        "noise": parts.noise_figures(benchmark, column, genotypes, _runs(against, column, runs_metric, test)),
        "regions": [
            {"region": name, "low": low, **parts.region_figures(truth[i], predicted[i], deviation[i])}
            for name, low, high in bounds
            for i in [(truth >= low) & (truth < high)]
        ],
        "familiarity": {
            name: parts.region_figures(truth[i], predicted[i], deviation[i])
            for name, i in (("ood_score at most 1", familiar), ("ood_score above 1", ~familiar))
        },
    }
    step()
    if refit is not None:
        train = np.flatnonzero(~unseen & known)
        near = _near_best(space, architectures, table, train)
        limits = [(name, (table >= low) & (table < high)) for name, low, high in bounds]
        facts["left_out"] = {"model": model[0], "params": dict(model[1]), "regions": []}
        for number, (name, inside) in enumerate([*limits, ("near the best known", near)]):
            found = parts.left_out_region(
                (model[0], dict(model[1])), space, architectures, table,
                train=train, inside=inside, judged=test, count=int(refit_rows), seed=_REFITS + number,
            )  # fmt: skip
            facts["left_out"]["regions"].append({"region": name, **found})
            step()
    curves: dict[str, Floats] = {}
    if searches:
        seen = benchmark.table(column.dataset, column.metric, column.epoch)
        for algorithm in searches:
            for label, values in (("table", table), ("surrogate", seen)):
                curve = parts.search_curves(
                    space, values, table,
                    algorithm=algorithm, budget=int(budget), seeds=range(int(trials)), step=step,
                )  # fmt: skip
                curves[f"{algorithm}, {label}"] = curve
        facts["searches"] = _search_figures(curves, int(trials))
    return ValidityReport(facts, truth, np.asarray(predicted), curves)


def _column(benchmark: SurrogateBenchmark, dataset: str | None, metric: str | None) -> PredictedColumn:
    from tauzero.surrogates import SurrogateBenchmark

    if not isinstance(benchmark, SurrogateBenchmark):
        raise ValueError(  # noqa: TRY004 - every bad argument of tauzero is a ValueError
            f"The 'benchmark' argument must be one of benchmarks.load('surrogate:…'). Got {benchmark!r}."
        )
    return benchmark._column(benchmark._resolve(dataset, metric, None, None))


def _mask(rows: npt.ArrayLike, size: int) -> npt.NDArray[np.bool_]:
    given = np.asarray(rows)
    if given.dtype == np.bool_ and given.shape == (size,):
        return given
    if given.dtype.kind in "iu" and given.ndim == 1 and len(given) and given.min() >= 0 and given.max() < size:
        mask = np.zeros(size, dtype=np.bool_)
        mask[given] = True
        return mask
    raise ValueError(
        f"The 'rows' argument must be a mask bool[{size}] or positions below {size}. Got dtype {given.dtype} and shape "
        f"{given.shape}."
    )


def _held_out(truth: Floats, predicted: Floats, judged: int, seeds: int) -> dict[str, Any]:
    count = max(2, min(judged, len(truth) // 2))  # sets of all rows would not differ
    found = []
    for seed in range(seeds):
        some = np.random.default_rng([_DRAWS, seed]).choice(len(truth), count, replace=False)
        found.append(parts.error_figures(truth[some], predicted[some]))
    spread = {key: np.array([f[key] for f in found]) for key in found[0]}
    return {
        "rows": len(truth),
        "all": parts.error_figures(truth, predicted),
        "judged": count,
        "seeds": seeds,
        "mean": {key: float(v.mean()) for key, v in spread.items()},
        "std": {key: float(v.std(ddof=1)) if len(v) > 1 else 0.0 for key, v in spread.items()},
    }


def _runs(
    against: Benchmark, column: PredictedColumn, metric: str | None, test: npt.NDArray[np.int64]
) -> Floats | None:
    """Single runs of the metric in the table after the column's training, ``float64[n, r]``."""
    wanted = column.metric if metric is None else metric
    epoch = column.epoch if column.epoch in against.epochs(column.dataset, wanted) else None
    runs = against.runs(column.dataset, wanted, epoch)
    if len(runs) < 2:
        return None
    return np.stack([against.table(column.dataset, wanted, epoch, run)[test] for run in runs], axis=1)


def _near_best(space: Any, rows: Any, table: Floats, train: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Architectures that differ from the best training row in at most a third of the genotype's columns."""
    best = rows[train[np.argmax(table[train])]]
    return np.asarray((rows != best).sum(axis=1) <= max(1, space.length // 3), dtype=np.bool_)


def _search_figures(curves: Mapping[str, Floats], trials: int) -> dict[str, Any]:
    budget = next(iter(curves.values())).shape[1]
    marks = sorted({*(m for m in _MARKS if m < budget), budget})
    rows = []
    for name, curve in curves.items():
        algorithm, seen = name.split(", ")
        at = curve[:, [m - 1 for m in marks]]
        std = at.std(axis=0, ddof=1) if trials > 1 else np.zeros(len(marks))
        rows.append({"algorithm": algorithm, "sees": seen, "regret": at.mean(axis=0).tolist(), "std": std.tolist()})
    return {"trials": trials, "queries": marks, "rows": rows}
