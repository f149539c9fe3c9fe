"""``tauzero evaluate``: surrogates judged by a named protocol."""

from __future__ import annotations

__all__ = ["evaluate"]

import json
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from tauzero._cli_models import TuneOption
from tauzero._cli_provenance import provenance
from tauzero._cli_support import (
    DatasetOption,
    JsonOption,
    ProxiesOption,
    ProxyColumnsOption,
    SourceOption,
    dataset_of,
    emit,
    guarded,
    jsonable,
    make_table,
    progress_bar,
    proxy_encoders,
    split_names,
)

#: Columns of the table with mean ± standard deviation, and columns with the mean alone.
_SPREAD = ("tau", "tau_unseen")
_MEANS = ("spearman", "p_at_1", "n_at_10", "r2", "coverage_90", "width_90", "fit_s", "predict_s")


@guarded("Nothing half-written is left; run the same command again.")
def evaluate(
    benchmark: Annotated[str, typer.Argument(help="The table to judge on, such as nasbench201.")],
    dataset: DatasetOption = None,
    protocol: Annotated[
        str, typer.Option("--protocol", help="Which rows train and which judge: all, unique or heldout.")
    ] = "all",
    train: Annotated[
        list[int] | None,
        typer.Option("--train", min=1, help="Training set sizes: --train 78 156 469.", show_default="78 156 469"),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="Surrogates: repeated or a,b,c.", show_default="auto")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many random training sets.")] = 5,
    metric: Annotated[str | None, typer.Option("--metric", help="By default the table's main accuracy.")] = None,
    test: Annotated[
        int | None, typer.Option("--test", min=2, help="Judge on so many random rows of those of the protocol.")
    ] = None,
    proxies: ProxiesOption = None,
    proxy_columns: ProxyColumnsOption = None,
    tune: TuneOption = None,
    source: SourceOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder for the JSON and the predictions of the first seed: `tauzero report` reads it."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Parallel processes.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Judge surrogates by Kendall's tau on architectures that they have not seen.

    Example: `tauzero evaluate nasbench201 --dataset cifar10 --protocol all --train 78 156 469 --model auto --seeds 5`
    """
    from tauzero import benchmarks, evaluation, surrogates

    table = benchmarks.load(benchmark, source)
    names = split_names(model or []) or ["auto"]
    models: Any = names
    if tune is not None:
        models = {f"{name} tuned": surrogates.create(name, table.space, tune=tune) for name in names}
    further = proxy_encoders(table.space, proxies, proxy_columns)
    sizes = list(dict.fromkeys(train)) if train else [78, 156, 469]
    start = perf_counter()
    with progress_bar("fitting") as progress:
        evaluated = evaluation.evaluate(
            table,
            dataset_of(table, dataset),
            protocol,
            sizes,
            models,
            seeds,
            metric=metric,
            encoders=further,
            test=test,
            keep=None if out is None else 0,
            n_jobs=jobs,
            progress=progress,
        )
    result = evaluated.to_dict()
    result["tune"] = tune
    result["proxies"] = None if not further else {"file": proxies, "columns": further[0].columns}
    if out is not None:
        _write(out, result, evaluated.predictions, perf_counter() - start)
        result["out"] = out
    cells = [
        [row["model"], row["train"], *(_spread(row, name) for name in _SPREAD), *(row[name] for name in _MEANS)]
        for row in result["rows"]
    ]
    title = (
        f"{benchmark}, {result['metric']} on {result['dataset']}, protocol {protocol}: "
        f"mean ± standard deviation over {seeds} seed{'s' if seeds > 1 else ''}"
    )
    ceiling = result["noise_ceiling"]
    noise = (
        "The table has no independent runs to compute a noise ceiling from."
        if ceiling is None
        else f"Noise ceiling: tau {ceiling:.4f} between independent training runs ({result['noise_ceiling_metric']})."
    )
    notes = [noise]
    if any(row["coverage_90"] is not None for row in result["rows"]):
        unit = {"percent": "percentage points"}.get(
            table.unit(result["dataset"], result["metric"]), "the metric's unit"
        )
        notes.append(
            "coverage_90 is the share of rows without a copy in training inside the 90 % interval, width_90 its mean "
            f"width in {unit}."
        )
    if further:
        notes.append(f"With {len(further[0].columns)} proxies of {proxies}: {', '.join(further[0].columns)}.")
    if out is not None:
        notes.append(f"Wrote {out}; `tauzero report {out} --out report.html` makes a page of it.")
    table_ = make_table(title, ["model", "train", *_SPREAD, *_MEANS], cells)
    emit(result, as_json, table_, f"Protocol {protocol}: {result['protocol_text']}.", *notes)


def _spread(row: dict[str, float | None], name: str) -> str:
    mean, std = row[name], row[f"{name}_std"]
    return "–" if mean is None or std is None else f"{mean:.4f} ± {std:.4f}"


def _write(out: Path, result: dict[str, Any], predictions: Any, seconds: float) -> None:
    """Keep what was printed, how it was made, and the predictions of the first seed."""
    from tauzero.benchmarks import atomic_path
    from tauzero.evaluation import save_predictions

    made = provenance()
    facts = {name: result[name] for name in ("benchmark", "space", "dataset", "metric", "protocol")}
    save_predictions(predictions, out / "predictions.parquet", {**facts, **made})
    content = {"format": "tauzero.evaluation", "version": 1, **result, **made, "seconds": seconds}
    with atomic_path(out / "evaluation.json") as partial:
        partial.write_text(json.dumps(jsonable(content), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
