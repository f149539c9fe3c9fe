"""``tauzero search``: a NAS algorithm over looked-up, predicted, proxy-scored or trained networks."""

from __future__ import annotations

__all__ = ["search"]

import math
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from tauzero._cli_oneshot import MethodOption, PresetOption, SpaceOption, check_mix, one_shot
from tauzero._cli_provenance import stamp
from tauzero._cli_search_front import front_of, judged, shown_front
from tauzero._cli_search_goals import Wanted, goal_of, place_of, shape_options
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
    split_names,
)

#: Queries where neither --budget nor --seconds is given.
_BUDGET = 100
#: Architectures asked for at a time where each call of the objective predicts: one costs as much as many.
_TOGETHER = 50


@guarded(
    "With --out the queries (or epochs) so far are kept there, and the same command goes on from them; without it "
    "nothing was written."
)
def search(
    benchmark: Annotated[
        str | None,
        typer.Argument(help="The table to search in, such as nasbench201; without --objective table also a space."),
    ] = None,
    model: Annotated[
        str | None, typer.Argument(help="Model of --objective surrogate; the same as --surrogate.")
    ] = None,
    method: MethodOption = None,
    space_name: SpaceOption = None,
    preset: PresetOption = None,
    algorithm: Annotated[
        str | None,
        typer.Option("--algorithm", help="A search algorithm.", show_default="by what a query costs: docs/search.md"),
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            "--objective",
            help="table (each query is a training), surrogate (predictions), proxy (untrained networks) or training.",
        ),
    ] = "table",
    dataset: DatasetOption = None,
    budget: Annotated[
        int | None,
        typer.Option("--budget", min=1, help="Number of architectures to query.", show_default="100, or --seconds"),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", min=0, help="Stop before the query whose training would exceed this sum of seconds."),
    ] = None,
    ask: Annotated[
        int | None,
        typer.Option("--ask", min=1, help="Architectures asked for at a time.", show_default="1"),
    ] = None,
    surrogate: Annotated[
        str | None,
        typer.Option("--surrogate", help="A model's folder or the name of a pretrained one, instead of fitting one."),
    ] = None,
    train: Annotated[
        int | None,
        typer.Option("--train", min=1, help="Fit the surrogate on this many random rows.", show_default="156"),
    ] = None,
    kind: Annotated[
        str, typer.Option("--kind", help="What is maximised of predictions: mean, ucb or thompson.")
    ] = "mean",
    proxies: Annotated[
        list[str] | None,
        typer.Option("--proxies", help="Proxies (a,b,c), ranked together, or an aggregate.", show_default="synflow"),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", help="Images: noise, digits or a path.", show_default="noise for proxies, digits for training"
        ),
    ] = None,
    images: Annotated[int | None, typer.Option("--images", min=2, help="Number of images.")] = None,
    image_size: Annotated[int | None, typer.Option("--image-size", min=2, help="Their height and width.")] = None,
    epochs: Annotated[
        list[int] | None,
        typer.Option("--epochs", min=1, help="Training budget; may be repeated for multi-fidelity algorithms."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="NAME=VALUE",
            help="Shape of the networks, as channels=8, or any option of --method; may be repeated.",
        ),
    ] = None,
    costs: Annotated[
        list[str] | None,
        typer.Option("--costs", help="Weigh accuracy against these (a,b): params, flops, TABLE:METRIC."),
    ] = None,
    front: Annotated[
        int, typer.Option("--front", min=2, help="Most architectures of the front of --costs that are listed.")
    ] = 50,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    engine: Annotated[
        str, typer.Option("--engine", help="Where proxies and trainings run: local processes, or ray.")
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Architectures of one --ask at a time.", show_default="no processes"),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", help="With --engine ray: the cluster.", show_default="one on this machine"),
    ] = None,
    source: SourceOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Parquet file of the queries, or folder of --method; resumes from it if it exists."),
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Search for the best architecture by look-up, over predictions, by proxies or by training.

    Example: `tauzero search nasbench201 --algorithm regularized_evolution --objective surrogate --budget 1000`

    With --method a supernet is trained instead: `tauzero search --method gdas --data PATH --out gdas`
    """
    from tauzero.search import run
    from tauzero.search._registry import find

    check_mix(
        method,
        benchmark,
        {"--space": space_name, "--preset": preset},
        {
            "--algorithm": algorithm, "--objective": objective != "table", "--dataset": dataset, "--budget": budget,
            "--seconds": seconds, "--ask": ask, "--surrogate": surrogate, "--train": train, "--kind": kind != "mean",
            "--proxies": proxies, "--costs": costs, "--engine": engine != "local", "--workers": workers,
            "--address": address,
        },
    )  # fmt: skip
    if method is not None:
        one_shot(
            method, space=space_name, preset=preset, data=data, images=images, image_size=image_size,
            epochs=epochs or [], options=shape_options(option or []), device=device, source=source, out=out, seed=seed,
            as_json=as_json,
        )  # fmt: skip
        return
    if model is not None and surrogate is not None:
        raise ValueError("MODEL and --surrogate are the same: give one of them.")
    surrogate = surrogate if model is None else model
    wanted = Wanted(
        objective, surrogate, train, kind, split_names(proxies or []), data, epochs or [], images, image_size, device,
        split_names(costs or []), shape_options(option or []), engine, workers, address,
    )  # fmt: skip
    wanted.check()
    if (workers or 1) > 1 and (ask or 1) == 1:
        raise ValueError("--workers divides the architectures that are asked for at a time: give --ask 8 as well.")
    start = perf_counter()
    fits = objective == "surrogate" and surrogate is None
    space, table = place_of(str(benchmark), source, needs_table=objective == "table" or fits)
    dataset = dataset if table is None else dataset_of(table, dataset)
    with progress_bar("searching") as progress:
        goal = goal_of(wanted, space, table, dataset, seed)
        algorithm = algorithm or _suited(space, objective, costed=bool(wanted.costs))
        together = _TOGETHER if objective == "surrogate" and not goal.objective.instant else 1
        together = max(together, find(algorithm).together)
        try:
            trajectory = run(
                algorithm,
                goal.objective,
                _BUDGET if budget is None and seconds is None else budget,
                seed,
                seconds=seconds,
                batch_size=ask or together,
                progress=progress,
                checkpoint=out,
            )
        finally:
            goal.close()
    if out is not None:
        stamp(out)
    payload = {
        "best": _best(space, table, dataset, trajectory),
        "queries": trajectory.queries,
        "repeats": trajectory.repeats,
        "true_queries": trajectory.queries if objective in {"table", "training"} else goal.looked_up,
        "simulated_s": trajectory.simulated_seconds + goal.seconds,
        "wall_s": perf_counter() - start,
        "benchmark": benchmark,
        "dataset": dataset,
        "algorithm": algorithm,
        "objective": goal.objective.label,
        "budget": trajectory.budget or None,
        "seconds_budget": seconds,
        "seed": seed,
        "stopped": trajectory.stopped,
        "notes": [*trajectory.notes, *goal.notes],
        "out": out,
    }
    shown = [_facts(payload)]
    if goal.predictor is not None and len(trajectory):
        payload["best"] |= judged(goal.predictor, space, trajectory.best[None])[0]
    if trajectory.costs:
        payload["front_size"], payload["pareto"] = front_of(space, trajectory, front, goal.predictor)
        shown.append(shown_front(payload["front_size"], payload["pareto"]))
    emit(payload, as_json, *shown, *payload["notes"])


def _suited(space: Any, objective: str, *, costed: bool) -> str:
    """The algorithm where none is named: where predictions are free, one that needs no model of its own."""
    if objective != "surrogate":
        return "nsga2" if costed else "tauzero"
    return "regularized_evolution" if space.enumerable and not costed else "mass_evolution"


def _best(space: Any, table: Any, dataset: str | None, trajectory: Any) -> dict[str, Any]:
    """The best architecture with what its table knows of it; nothing but None after a search without queries."""
    known = ("validation_accuracy", "test_accuracy")
    if not len(trajectory):
        return dict.fromkeys(("arch", "index", "value", "epochs", *known))
    row = trajectory.best[None]
    return {
        "arch": space.to_string(row)[0],
        "index": int(space.index(row)[0]) if space.enumerable else None,
        "value": trajectory.best_value,
        "epochs": int(trajectory.epochs[trajectory.best_position]) or None,
        **{metric: _look_up(table, row, dataset, metric) for metric in known},
    }


def _facts(payload: dict[str, Any]) -> Any:
    best = payload["best"]
    limits = [f"{payload['budget']:,}"] if payload["budget"] else []
    if payload["seconds_budget"] is not None:
        limits.append(f"{payload['seconds_budget']:,.0f} s")
    facts = [
        ["best architecture", best["arch"]],
        ["value (" + payload["objective"] + ")", _shown(best["value"])],
        *([["predicted ± std; ood_score", _prediction(best)]] if "std" in best else []),
        ["validation accuracy, %", _shown(best["validation_accuracy"])],
        ["test accuracy, %", _shown(best["test_accuracy"])],
        ["queries", f"{payload['queries']:,} of {' and '.join(limits)} ({payload['stopped']})"],
        ["true queries (trainings)", f"{payload['true_queries']:,}"],
        ["simulated training, h", _shown(payload["simulated_s"] / 3600)],
        ["wall clock, s", _shown(payload["wall_s"])],
    ]
    where = payload["benchmark"] if payload["dataset"] is None else f"{payload['benchmark']}, {payload['dataset']}"
    return make_table(f"{payload['algorithm']} on {where}, seed {payload['seed']}", ["property", "value"], facts)


def _prediction(point: dict[str, Any]) -> str:
    unlike = " (unlike the training set)" if point["ood"] else ""
    return f"{point['predicted']:.3f} ± {point['std']:.3f}; {_shown(point['ood_score'])}{unlike}"


def _look_up(table: Any, genotypes: Any, dataset: str | None, metric: str) -> float | None:
    """Accuracy of one architecture in percent, or None where there is no table, metric or such an architecture."""
    if table is None or metric not in table.metrics(dataset):
        return None
    try:
        value = float(table.query(genotypes, dataset=dataset, metric=metric)[0])
    except ValueError:  # a table of some rows of its space
        return None
    return value if math.isfinite(value) else None


def _shown(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:,.3f}"
