"""``tauzero evaluate``: surrogates judged by a named protocol."""

from __future__ import annotations

__all__ = ["evaluate"]

from typing import Annotated

import typer

from tauzero._cli_support import (
    DatasetOption,
    JsonOption,
    SourceOption,
    dataset_of,
    emit,
    guarded,
    make_table,
    progress_bar,
    split_names,
)

#: Columns of the table with mean ± standard deviation, and columns with the mean alone.
_SPREAD = ("tau", "tau_unseen")
_MEANS = ("spearman", "p_at_1", "n_at_10", "r2", "fit_s", "predict_s")


@guarded("Nothing was written; run the same command again.")
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
    source: SourceOption = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Parallel processes.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Judge surrogates by Kendall's tau on architectures that they have not seen.

    Example: `tauzero evaluate nasbench201 --dataset cifar10 --protocol all --train 78 156 469 --model auto --seeds 5`
    """
    from tauzero import benchmarks, evaluation

    table = benchmarks.load(benchmark, source)
    models = split_names(model or []) or ["auto"]
    sizes = list(dict.fromkeys(train)) if train else [78, 156, 469]
    with progress_bar("fitting") as progress:
        result = evaluation.evaluate(
            table,
            dataset_of(table, dataset),
            protocol,
            sizes,
            models,
            seeds,
            metric=metric,
            n_jobs=jobs,
            progress=progress,
        ).to_dict()
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
    table_ = make_table(title, ["model", "train", *_SPREAD, *_MEANS], cells)
    emit(result, as_json, table_, f"Protocol {protocol}: {result['protocol_text']}.", noise)


def _spread(row: dict[str, float | None], name: str) -> str:
    mean, std = row[name], row[f"{name}_std"]
    return "–" if mean is None or std is None else f"{mean:.4f} ± {std:.4f}"
