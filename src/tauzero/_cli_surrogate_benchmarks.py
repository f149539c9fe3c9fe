"""``tauzero benchmarks fit-surrogate`` and ``validity``: surrogates in a table's place, and what they are worth."""

from __future__ import annotations

__all__ = ["fit_surrogate", "validity"]

from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from tauzero._cli_support import (
    DatasetOption,
    JsonOption,
    SeedOption,
    SourceOption,
    emit,
    fail,
    guarded,
    make_table,
    progress_bar,
    split_names,
)

_HELD_OUT = "tauzero.evaluation.holdout_mask(space): a fifth of the architectures by class of equal networks, seed 0"


@guarded("No benchmark was written; run the same command again.")
def fit_surrogate(
    name: Annotated[str, typer.Argument(help="The table to learn from, such as nasbench201.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the benchmark; it must not exist, or be one.")],
    dataset: Annotated[
        list[str] | None, typer.Option("--dataset", help="Datasets: repeated or a,b,c.", show_default="the first")
    ] = None,
    train: Annotated[
        int | None, typer.Option("--train", min=2, help="Random training rows.", show_default="all that may be used")
    ] = None,
    model: Annotated[str, typer.Option("--model", help="Surrogate; auto chooses one for the space.")] = "auto",
    metric: Annotated[str | None, typer.Option("--metric", help="By default the table's main accuracy.")] = None,
    cost: Annotated[bool, typer.Option(help="Fit a model of the training seconds as well.")] = True,
    source: SourceOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Fit a surrogate that stands for a table, with the noise of its runs and its training seconds.

    A fifth of the table is kept apart, so that `tauzero benchmarks validity` can judge it. Use it as surrogate:FOLDER.

    Example: `tauzero benchmarks fit-surrogate nasbench201 --train 2000 --out my201`
    """
    import numpy as np

    from tauzero.benchmarks import load
    from tauzero.evaluation import holdout_mask, protocol_split
    from tauzero.surrogates import fit_benchmark

    table = load(name, source)
    space = table.space
    datasets = split_names(dataset or []) or [table.datasets[0]]
    target = metric if metric is not None else table.main_metric(datasets[0])
    known = np.isfinite(table.table(datasets[0], target))
    given = None if space.enumerable else table.architectures
    if train is None:
        rows = np.flatnonzero(known & ~holdout_mask(space, architectures=given))
    else:
        rows = protocol_split(space, "heldout", train, seed, available=known, architectures=given).train
    start = perf_counter()
    with progress_bar("fitting") as progress:
        made = fit_benchmark(
            table, rows, datasets, metric, model=model, name=out.name, seed=seed, cost=cost, held_out=_HELD_OUT,
            progress=progress,
        )  # fmt: skip
    folder = made.save(out)
    facts = made.info()
    columns = [
        {k: entry[k] for k in ("dataset", "metric", "model", "training_networks", "noise", "cost")}
        for entry in facts["surrogate"]
    ]
    payload = {
        "benchmark": f"surrogate:{out}",
        "table": name,
        "space": space.name,
        "train": len(rows),
        "seed": seed,
        "columns": columns,
        "out": folder,
        "bytes": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()),
        "seconds": perf_counter() - start,
    }
    shown = make_table(f"surrogate:{out}", list(columns[0]), [list(c.values()) for c in columns])
    hint = f"Judge it by `tauzero benchmarks validity surrogate:{out} --against {name}`."
    emit(payload, as_json, shown, hint)


@guarded("Nothing was written; run the same command again.")
def validity(
    name: Annotated[str, typer.Argument(help="A surrogate benchmark, surrogate:FOLDER or surrogate:NAME.")],
    against: Annotated[
        str | None, typer.Option("--against", help="The table.", show_default="what it learned from")
    ] = None,
    dataset: DatasetOption = None,
    metric: Annotated[str | None, typer.Option("--metric", help="By default the main metric.")] = None,
    judged: Annotated[int, typer.Option("--judged", min=2, help="Rows of each random set of unseen rows.")] = 1_000,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many such sets.")] = 5,
    refit: Annotated[
        str, typer.Option("--refit", help="Surrogate fitted without a region, or none.")
    ] = "gaussian_process",
    algorithms: Annotated[
        list[str] | None,
        typer.Option("--algorithms", help="Searches (a,b,c) on both.", show_default="random, evolution, local"),
    ] = None,
    budget: Annotated[int, typer.Option("--budget", min=1, help="Queries of each search.")] = 150,
    trials: Annotated[int, typer.Option("--trials", min=0, help="Searches of each algorithm; 0 for none.")] = 10,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for validity.json and plots.")] = None,
    source: SourceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how far a surrogate benchmark can be trusted: on rows it has not seen, by region, and in searches.

    Example: `tauzero benchmarks validity surrogate:nasbench201-cifar10 --against nasbench201 --out validity`
    """
    from tauzero import evaluation
    from tauzero.benchmarks import has_scheme, load

    if not has_scheme(name):
        fail(f"the validity of surrogate benchmarks is measured, surrogate:FOLDER or surrogate:NAME. Got {name}.")
    made: Any = load(name)
    if against is None and not made.origins:
        fail(f"{name} does not say what it learned from: name a table by --against.")
    table = load(against or made.origins[0], source)
    more: dict[str, Any] = {} if not algorithms else {"algorithms": split_names(algorithms)}
    start = perf_counter()
    with progress_bar("judging") as progress:
        report = evaluation.validity(
            made, table, dataset, metric=metric, judged=judged, seeds=seeds, refit=None if refit == "none" else refit,
            budget=budget, trials=trials, progress=progress, **more,
        )  # fmt: skip
    written = [] if out is None else report.save(out)
    facts = report.to_dict()
    payload = {**facts, "seconds": perf_counter() - start, "written": written}
    notes = [f"Wrote {', '.join(map(str, written))}."] if written else []
    emit(payload, as_json, *_shown(facts), *notes)


def _shown(facts: dict[str, Any]) -> list[Any]:
    """Tables for people."""
    held = facts["held_out"]
    title = f"{facts['benchmark']} against {facts['against']}: {facts['metric']} on {facts['dataset']}"
    rows = [[key, held["all"][key], f"{held['mean'][key]:.4f} ± {held['std'][key]:.4f}"] for key in held["all"]]
    header = ["measure", f"all {held['rows']:,} unseen", f"{held['seeds']} sets of {held['judged']:,}"]
    shown = [make_table(title, header, rows)]
    levels = [[f"{e['level']:.0%}", f"{e['coverage']:.1%}", e["width"]] for e in facts["intervals"]]
    if levels:
        shown.append(make_table("intervals", ["level", "inside", "mean width"], levels))
    noise = facts["noise"]
    real = "none in the table" if noise["table_run_std"] is None else f"{noise['table_run_std']:.3f}"
    shown.append(
        f"Deviation of predictions {noise['predictive_std']:.3f}, of predicted runs {noise['run_std']:.3f} "
        f"({noise['kind']}), of real runs {real}."
    )
    names = ("rows", "tau", "mae", "bias")
    by = [*facts["regions"], *({"region": k, **v} for k, v in facts["familiarity"].items())]
    shown.append(make_table("by region", ["region", *names], [[e["region"], *(e.get(n) for n in names)] for e in by]))
    if "left_out" in facts:
        cells = [
            [e["region"], e["rows"], *(None if e[w] is None else e[w].get(n) for w in ("without", "with")
                                       for n in ("mae", "tau"))]
            for e in facts["left_out"]["regions"]
        ]  # fmt: skip
        columns = ["region", "rows", "mae without it", "tau", "mae with it", "tau"]
        shown.append(make_table(f"{facts['left_out']['model']} that learned nothing of a region", columns, cells))
    if "searches" in facts:
        found = facts["searches"]
        cells = [
            [e["algorithm"], e["sees"], *(f"{r:.3f} ± {s:.3f}" for r, s in zip(e["regret"], e["std"], strict=True))]
            for e in found["rows"]
        ]
        columns = ["algorithm", "sees", *(f"after {q}" for q in found["queries"])]
        shown.append(make_table(f"true regret of searches, {found['trials']} trials", columns, cells))
    return shown
