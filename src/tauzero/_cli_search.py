"""``tauzero search``: a NAS algorithm over looked-up or predicted accuracies."""

from __future__ import annotations

__all__ = ["search"]

import math
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from tauzero._cli_support import (
    DatasetOption,
    JsonOption,
    SeedOption,
    SourceOption,
    dataset_of,
    emit,
    fail,
    guarded,
    make_table,
    progress_bar,
)
from tauzero.spaces.errors import UnknownNameError, unknown_name

_OBJECTIVES = ("table", "surrogate")
#: Rows that the surrogate is fitted on unless --train or --surrogate says otherwise.
_TRAIN = 156


@guarded(
    "With --out the queries so far are kept there, and the same command goes on from them; without it "
    "nothing was written."
)
def search(
    benchmark: Annotated[str, typer.Argument(help="The table to search in, such as nasbench201.")],
    algorithm: Annotated[str, typer.Option("--algorithm", help="A search algorithm.")] = "regularized_evolution",
    objective: Annotated[
        str, typer.Option("--objective", help="table (each query is a training) or surrogate (predictions).")
    ] = "table",
    dataset: DatasetOption = None,
    budget: Annotated[int, typer.Option("--budget", min=1, help="Number of architectures to query.")] = 100,
    surrogate: Annotated[
        str | None,
        typer.Option("--surrogate", help="A model's folder or the name of a pretrained one, instead of fitting one."),
    ] = None,
    train: Annotated[
        int | None,
        typer.Option("--train", min=1, help="Fit the surrogate on this many random rows.", show_default="156"),
    ] = None,
    source: SourceOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Parquet file of the queries; resumes from it if it exists.")
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Search for the best architecture by look-up or over predictions.

    Example: `tauzero search nasbench201 --algorithm regularized_evolution --objective surrogate --budget 1000`
    """
    from tauzero import benchmarks
    from tauzero.search import SurrogateObjective, TableObjective, run

    if objective not in _OBJECTIVES:
        raise unknown_name("objective", objective, _OBJECTIVES)
    if objective == "table" and (surrogate is not None or train is not None):
        raise ValueError("--surrogate and --train belong to --objective surrogate. Got --objective table.")
    start = perf_counter()
    table = benchmarks.load(benchmark, source)
    dataset = dataset_of(table, dataset)
    if not table.space.enumerable:
        fail(
            f"a search needs a space that can be enumerated, and {table.space.name} has about {table.space.size:.1e} "
            f"architectures: predict those that you propose by `tauzero fit {benchmark} --out MODEL` and "
            "`tauzero predict MODEL --arch …`."
        )
    training_s, looked_up = 0.0, 0
    notes: list[str] = []
    with progress_bar("searching") as progress:
        if objective == "table":
            goal: Any = TableObjective(table, dataset, _other_metric(table, dataset))
        else:
            predictor, training_s, looked_up, notes = _predictor(table, dataset, surrogate, train, seed)
            goal = SurrogateObjective(predictor)
        trajectory = run(algorithm, goal, budget, seed, progress=progress, checkpoint=out)
    best = trajectory.best[None]
    payload = {
        "best": {
            "arch": table.space.to_string(best)[0],
            "index": int(table.space.index(best)[0]),
            "value": trajectory.best_value,
            "validation_accuracy": _look_up(table, best, dataset, "validation_accuracy"),
            "test_accuracy": _look_up(table, best, dataset, "test_accuracy"),
        },
        "queries": trajectory.queries,
        "true_queries": trajectory.queries if objective == "table" else looked_up,
        "simulated_s": trajectory.simulated_seconds + training_s,
        "wall_s": perf_counter() - start,
        "benchmark": benchmark,
        "dataset": dataset,
        "algorithm": algorithm,
        "objective": goal.label,
        "budget": budget,
        "seed": seed,
        "stopped": trajectory.stopped,
        "notes": [*trajectory.notes, *notes],
        "out": out,
    }
    facts = [
        ["best architecture", payload["best"]["arch"]],
        ["value (" + goal.label + ")", f"{trajectory.best_value:.3f}"],
        ["validation accuracy, %", _shown(payload["best"]["validation_accuracy"])],
        ["test accuracy, %", _shown(payload["best"]["test_accuracy"])],
        ["queries", f"{trajectory.queries:,} of {budget:,} ({trajectory.stopped})"],
        ["true queries (trainings)", f"{payload['true_queries']:,}"],
        ["simulated training, h", _shown(payload["simulated_s"] / 3600)],
        ["wall clock, s", _shown(payload["wall_s"])],
    ]
    title = f"{algorithm} on {benchmark}, {dataset}, seed {seed}"
    emit(payload, as_json, make_table(title, ["property", "value"], facts), *payload["notes"])


def _predictor(
    table: Any, dataset: str, name: str | None, train: int | None, seed: int
) -> tuple[Any, float, int, list[str]]:
    """Return a fitted surrogate, the training seconds and the number of true queries it cost, and what to know."""
    import numpy as np

    from tauzero import surrogates
    from tauzero.evaluation import protocol_split

    if name is not None and train is not None:
        raise ValueError("--surrogate and --train exclude each other: a saved model, or one fitted now.")
    if name is not None:
        predictor = surrogates.load(name)
        if predictor.space_ is not table.space:
            raise ValueError(f"The surrogate {name} predicts {predictor.space_.name}, not {table.space.name}.")
        count = int(predictor.metadata_.get("training_rows", predictor.n_train_))
        same = predictor.metadata_.get("benchmark") == table.name
        known = [f"{name} was trained on {count:,} rows of this very table: what it finds says nothing about search."]
        return predictor, 0.0, count, known if same else []
    # As in a search by look-up, validation accuracy drives and test accuracy is only reported.
    stand_in = _other_metric(table, dataset) or table.default_metric
    metric = "validation_accuracy" if "validation_accuracy" in table.metrics(dataset) else stand_in
    rows = table.space.enumerate()
    values = table.table(dataset, metric)
    if not np.isfinite(values).all():
        metric = stand_in
        values = table.table(dataset, metric)
    picked = protocol_split(table.space, "all", train or _TRAIN, seed, available=np.isfinite(values)).train
    _, cost = table.query(rows[picked], dataset=dataset, metric=metric, return_cost=True)
    predictor = surrogates.create("auto", table.space, random_state=seed)
    predictor.fit(rows[picked], values[picked])
    known = [f"The surrogate was fitted on the {metric} of {len(picked):,} random architectures, looked up."]
    return predictor, float(cost.sum()), len(picked), known


def _other_metric(table: Any, dataset: str) -> str | None:
    """The main metric of a dataset whose networks have no accuracies, such as structural similarity; else None."""
    known = table.metrics(dataset)
    accuracies = {"validation_accuracy", table.default_metric}
    return None if accuracies & set(known) else str(table.main_metric(dataset))


def _look_up(table: Any, genotypes: Any, dataset: str, metric: str) -> float | None:
    """Accuracy of one architecture in percent, or None where the table does not have the metric."""
    try:
        value = float(table.query(genotypes, dataset=dataset, metric=metric)[0])
    except UnknownNameError:
        return None
    return value if math.isfinite(value) else None


def _shown(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:,.3f}"
