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
    guarded,
    make_table,
    progress_bar,
)
from tauzero.spaces.errors import UnknownNameError, unknown_name

_OBJECTIVES = ("table", "surrogate")


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
        typer.Option("--surrogate", help="A model's folder or name; by default the pretrained one."),
    ] = None,
    train: Annotated[
        int | None, typer.Option("--train", min=1, help="Fit a surrogate on this many table rows instead.")
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
    training_s = 0.0
    with progress_bar("searching") as progress:
        if objective == "table":
            goal: Any = TableObjective(table, dataset)
        else:
            predictor, training_s = _predictor(table, benchmark, dataset, surrogate, train, seed)
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
        "simulated_s": trajectory.simulated_seconds + training_s,
        "wall_s": perf_counter() - start,
        "benchmark": benchmark,
        "dataset": dataset,
        "algorithm": algorithm,
        "objective": goal.label,
        "budget": budget,
        "seed": seed,
        "stopped": trajectory.stopped,
        "notes": list(trajectory.notes),
        "out": out,
    }
    facts = [
        ["best architecture", payload["best"]["arch"]],
        ["value (" + goal.label + ")", f"{trajectory.best_value:.3f}"],
        ["validation accuracy, %", _shown(payload["best"]["validation_accuracy"])],
        ["test accuracy, %", _shown(payload["best"]["test_accuracy"])],
        ["queries", f"{trajectory.queries:,} of {budget:,} ({trajectory.stopped})"],
        ["simulated training, h", _shown(payload["simulated_s"] / 3600)],
        ["wall clock, s", _shown(payload["wall_s"])],
    ]
    title = f"{algorithm} on {benchmark}, {dataset}, seed {seed}"
    emit(payload, as_json, make_table(title, ["property", "value"], facts), *trajectory.notes)


def _predictor(
    table: Any, benchmark: str, dataset: str, name: str | None, train: int | None, seed: int
) -> tuple[Any, float]:
    """Return a fitted surrogate and the training seconds that its training rows stand for."""
    import numpy as np

    from tauzero import surrogates
    from tauzero.evaluation import protocol_split

    if name is not None and train is not None:
        raise ValueError("--surrogate and --train exclude each other: a saved model, or one fitted now.")
    if train is None:
        chosen = name if name is not None else _pretrained(benchmark, dataset)
        predictor = surrogates.load(chosen)
        if predictor.space_ is not table.space:
            raise ValueError(f"The surrogate {chosen} predicts {predictor.space_.name}, not {table.space.name}.")
        return predictor, 0.0
    rows = table.space.enumerate()
    values = table.table(dataset, table.default_metric)
    picked = protocol_split(table.space, "all", train, seed, available=np.isfinite(values)).train
    _, cost = table.query(rows[picked], dataset=dataset, metric=table.default_metric, return_cost=True)
    predictor = surrogates.create("auto", table.space, random_state=seed)
    predictor.fit(rows[picked], values[picked])
    return predictor, float(cost.sum())


def _pretrained(benchmark: str, dataset: str) -> str:
    """Name of the pretrained surrogate of a table's dataset."""
    from tauzero.surrogates import pretrained_names

    known = pretrained_names()
    wanted = f"{benchmark}-{dataset}"
    for name in known:
        if name.lower() == wanted.lower():
            return name
    raise ValueError(
        f"There is no pretrained surrogate {wanted!r}: fit one with --train N, or name one with --surrogate "
        f"(pretrained: {', '.join(known) or 'none'})."
    )


def _look_up(table: Any, genotypes: Any, dataset: str, metric: str) -> float | None:
    """Accuracy of one architecture in percent, or None where the table does not have the metric."""
    try:
        value = float(table.query(genotypes, dataset=dataset, metric=metric)[0])
    except UnknownNameError:
        return None
    return value if math.isfinite(value) else None


def _shown(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:,.3f}"
