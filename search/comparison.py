"""The comparison that tauzero is for: search on predictions against search by look-up, at equal true queries."""

from __future__ import annotations

__all__ = ["Comparison", "compare_prediction_with_lookup"]

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tauzero.search._registry import create
from tauzero.search._run import run
from tauzero.search._studies import by_prediction, fresh_surrogate, in_parallel, seed_list, surrogate_label
from tauzero.search.objectives import ArrayObjective, TableObjective
from tauzero.search.surrogate_objective import SurrogateObjective
from tauzero.spaces import Progress, SearchSpace

if TYPE_CHECKING:
    from tauzero.benchmarks import Benchmark

_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Both ways of spending the same number of true queries, for several seeds (s) and q = n_train + budget.

    The search sees only `metric`; `report_metric` is read once per way and seed, at the architecture
    that its `metric` chose.

    Attributes
    ----------
    space, dataset, metric, report_metric, algorithm, surrogate
        What was compared.
    n_train, budget
        True queries for training the surrogate and for looking up what it ranks highest; look-up
        search has the sum of both.
    seeds
        Integer seeds.
    optimum, report_optimum
        Best value of the table in `metric` and in `report_metric` (percent).
    lookup_regret, prediction_regret
        ``float64[s, q]``: optimum minus best `metric` after each true query.
    lookup_chosen, prediction_chosen
        ``int64[s]``: `SearchSpace.index` of the chosen architecture.
    lookup_report, prediction_report
        ``float64[s]``: `report_metric` at the chosen architecture.
    fit_seconds, predict_seconds
        ``float64[s]``: wall time of the surrogate on this machine.
    notes
        Statements that a reader of the figures should see.
    """

    space: str
    dataset: str
    metric: str
    report_metric: str
    algorithm: str
    surrogate: str
    n_train: int
    budget: int
    seeds: tuple[int, ...]
    optimum: float
    report_optimum: float
    lookup_regret: npt.NDArray[np.float64]
    prediction_regret: npt.NDArray[np.float64]
    lookup_chosen: npt.NDArray[np.int64]
    prediction_chosen: npt.NDArray[np.int64]
    lookup_report: npt.NDArray[np.float64]
    prediction_report: npt.NDArray[np.float64]
    fit_seconds: npt.NDArray[np.float64]
    predict_seconds: npt.NDArray[np.float64]
    notes: tuple[str, ...] = ()

    @property
    def curves(self) -> dict[str, npt.NDArray[np.float64]]:
        """Regret of both ways, name → ``float64[s, q]``, as `tauzero.evaluation.plots.regret_curves` takes it."""
        return {
            f"look-up: {self.algorithm}": self.lookup_regret,
            f"predictions: {self.surrogate} trained on {self.n_train}": self.prediction_regret,
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON-able values, with mean, standard deviation and quantiles over seeds."""
        return {
            "space": self.space,
            "dataset": self.dataset,
            "metric": self.metric,
            "report_metric": self.report_metric,
            "algorithm": self.algorithm,
            "surrogate": self.surrogate,
            "n_train": self.n_train,
            "budget": self.budget,
            "queries": self.n_train + self.budget,
            "seeds": list(self.seeds),
            "optimum": self.optimum,
            "report_optimum": self.report_optimum,
            "lookup": _way(self.lookup_regret, self.lookup_chosen, self.lookup_report),
            "prediction": {
                **_way(self.prediction_regret, self.prediction_chosen, self.prediction_report),
                "fit_s": float(self.fit_seconds.mean()),
                "predict_s": float(self.predict_seconds.mean()),
            },
            "notes": list(self.notes),
        }


def _way(
    regret: npt.NDArray[np.float64], chosen: npt.NDArray[np.int64], report: npt.NDArray[np.float64]
) -> dict[str, Any]:
    quantiles = np.quantile(regret, _QUANTILES, axis=0)
    return {
        "report": float(report.mean()),
        "report_std": _std(report),
        "report_per_seed": report.tolist(),
        "chosen": chosen.tolist(),
        "regret": {
            "mean": regret.mean(axis=0).tolist(),
            "std": (regret.std(axis=0, ddof=1) if len(regret) > 1 else np.zeros(regret.shape[1])).tolist(),
            "quantiles": {f"{q:g}": row.tolist() for q, row in zip(_QUANTILES, quantiles, strict=True)},
        },
    }


def _std(values: npt.NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def compare_prediction_with_lookup(
    benchmark: Benchmark,
    dataset: str | None = None,
    *,
    n_train: int = 156,
    budget: int = 50,
    algorithm: str = "regularized_evolution",
    surrogate: str | Any = "auto",
    seeds: int | Sequence[int] = 5,
    metric: str | None = None,
    report_metric: str | None = None,
    algorithm_params: Mapping[str, Any] | None = None,
    surrogate_params: Mapping[str, Any] | None = None,
    rounds: int = 1,
    one_per_class: bool = True,
    n_jobs: int = 1,
    progress: Progress | None = None,
) -> Comparison:
    """Compare search on predictions with search by look-up, both with n_train + budget true queries.

    Look-up: `algorithm` runs over the table. Predictions: `n_train` random architectures are looked
    up and train the surrogate, which ranks the whole space; the `budget` architectures predicted best,
    none of them looked up before, are then looked up (in `rounds` parts, the surrogate being trained
    anew on all that is known before each). Each way chooses the best that it has looked up.

    Parameters
    ----------
    benchmark, dataset
        Table to search.
    n_train, budget
        True queries for training and for checking predictions, each ≥ 1.
    algorithm, algorithm_params
        Search algorithm and its parameters.
    surrogate, surrogate_params
        Name of a surrogate and its parameters, or an unfitted estimator (it is cloned).
    seeds
        How many seeds (0, 1, …), or the seeds.
    metric
        What drives the search; by default validation accuracy, see `TableObjective`.
    report_metric
        Read only at the chosen architectures; by default test accuracy, or what the table has instead.
    rounds
        How often the surrogate is trained, ≥ 1: with 1 it only ever sees random architectures.
    one_per_class
        Look up one architecture of each class of equal networks (`SearchSpace.classes`) before a copy of
        one that has been looked up: copies of one network have the same prediction.
    n_jobs
        Worker processes of joblib; the result does not depend on it.
    progress
        Called with (done, total) seeds.
    """
    for name, number in (("n_train", n_train), ("budget", budget), ("rounds", rounds)):
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
            raise ValueError(f"The '{name}' argument must be an integer ≥ 1. Got {number!r}.")
    chosen_seeds = seed_list(seeds)
    objective = TableObjective(benchmark, dataset, metric)
    space = benchmark.space
    if n_train + budget > space.size:
        raise ValueError(
            f"{n_train} training and {budget} checking queries exceed the {space.size:,} architectures of {space.name}."
        )
    reported = report_metric if report_metric is not None else benchmark.default_metric
    report = benchmark.table(objective.dataset, reported)
    notes = objective.notes
    if reported == objective.metric and not notes:
        notes = (f"{reported} both drives the search and is reported: the figures are optimistic.",)
    task = _Task(
        space, objective.table, int(n_train), int(budget), algorithm, dict(algorithm_params or {}),
        surrogate, dict(surrogate_params or {}), min(int(rounds), int(budget)), one_per_class,
    )  # fmt: skip
    results = in_parallel(task, chosen_seeds, n_jobs, progress)
    lookup_chosen = np.array([r.lookup_chosen for r in results])
    prediction_chosen = np.array([r.prediction_chosen for r in results])
    return Comparison(
        space=space.name,
        dataset=objective.dataset,
        metric=objective.metric,
        report_metric=reported,
        algorithm=algorithm,
        surrogate=surrogate_label(surrogate),
        n_train=int(n_train),
        budget=int(budget),
        seeds=tuple(chosen_seeds),
        optimum=objective.optimum,
        report_optimum=float(np.nanmax(report)),
        lookup_regret=objective.optimum - np.stack([r.lookup for r in results]),
        prediction_regret=objective.optimum - np.stack([r.prediction for r in results]),
        lookup_chosen=lookup_chosen,
        prediction_chosen=prediction_chosen,
        lookup_report=report[lookup_chosen],
        prediction_report=report[prediction_chosen],
        fit_seconds=np.array([r.fit_seconds for r in results]),
        predict_seconds=np.array([r.predict_seconds for r in results]),
        notes=notes,
    )


@dataclass(frozen=True, slots=True)
class _Outcome:
    """One seed: best looked-up value after each true query, and the architecture chosen, of both ways."""

    lookup: npt.NDArray[np.float64]
    lookup_chosen: int
    prediction: npt.NDArray[np.float64]
    prediction_chosen: int
    fit_seconds: float
    predict_seconds: float


@dataclass(frozen=True, slots=True)
class _Task:
    """All that a worker needs: arrays instead of the benchmark, so that no file is opened twice."""

    space: SearchSpace
    table: npt.NDArray[np.float64]
    n_train: int
    budget: int
    algorithm: str
    algorithm_params: dict[str, Any]
    surrogate: str | Any
    surrogate_params: dict[str, Any]
    rounds: int
    one_per_class: bool

    def __call__(self, seed: int) -> _Outcome:
        # Independent streams: the two ways do not share their random draws.
        streams = np.random.SeedSequence(seed).spawn(3)
        queries = self.n_train + self.budget
        objective = ArrayObjective(self.space, self.table)
        by_lookup = run(create(self.algorithm, self.space, streams[0], **self.algorithm_params), objective, queries)
        looked_up = np.random.default_rng(streams[1]).choice(self.space.size, self.n_train, replace=False)
        model_seed = int(streams[2].generate_state(1)[0] >> 1)
        rows = self.space.enumerate()
        fit_seconds = predict_seconds = 0.0
        for part in np.array_split(np.arange(self.budget), self.rounds):
            model = fresh_surrogate(self.surrogate, self.space, self.surrogate_params, model_seed)
            start = time.perf_counter()
            model.fit(rows[looked_up], self.table[looked_up])
            fitted = time.perf_counter()
            predicted = SurrogateObjective(model, space=self.space).predictions()
            fit_seconds += fitted - start
            predict_seconds += time.perf_counter() - fitted
            ranked = by_prediction(self.space, predicted, looked_up, one_per_class=self.one_per_class)
            looked_up = np.concatenate([looked_up, ranked[: len(part)]])
        values = self.table[looked_up]
        return _Outcome(
            lookup=np.pad(by_lookup.incumbents, (0, queries - len(by_lookup)), mode="edge"),
            lookup_chosen=int(by_lookup.index[by_lookup.best_position]),
            prediction=np.maximum.accumulate(values),
            prediction_chosen=int(looked_up[values.argmax()]),
            fit_seconds=fit_seconds,
            predict_seconds=predict_seconds,
        )
