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

_COLUMNS = ("tau", "spearman", "p_at_1", "n_at_10", "r2", "fit_s", "predict_s")


@guarded("Nothing was written; run the same command again.")
def evaluate(
    benchmark: Annotated[str, typer.Argument(help="The table to judge on, such as nasbench201.")],
    dataset: DatasetOption = None,
    protocol: Annotated[str, typer.Option("--protocol", help="all or unique; which rows train and judge.")] = "all",
    train: Annotated[
        list[int] | None, typer.Option("--train", min=1, help="Training set sizes: --train 78 156 469.")
    ] = None,
    model: Annotated[list[str] | None, typer.Option("--model", help="Surrogates, repeated or a,b,c.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many random training sets.")] = 5,
    source: SourceOption = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Parallel processes.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Judge surrogates by Kendall's tau on architectures that they have not seen.

    Example: `tauzero evaluate nasbench201 --dataset cifar10 --protocol all --train 78 156 469 --model auto --seeds 5`
    """
    from tauzero import benchmarks, evaluation

    table = benchmarks.load(benchmark, source)
    dataset = dataset_of(table, dataset)
    models = split_names(model or []) or ["auto"]
    sizes = list(dict.fromkeys(train)) if train else [78, 156, 469]
    with progress_bar("fitting") as progress:
        result = evaluation.evaluate(
            table, dataset, protocol, sizes, models, seeds, n_jobs=jobs, progress=progress
        ).to_dict()
    ceiling = result.get("noise_ceiling")
    cells = [
        [
            row["model"],
            row["train"],
            f"{row['tau']:.4f} ± {row['tau_std']:.4f}",
            *(row[c] for c in _COLUMNS[1:]),
        ]
        for row in result["rows"]
    ]
    title = f"{benchmark}, {dataset}, protocol {protocol}: mean ± standard deviation over {seeds} seeds"
    noise = (
        "The table has no independent runs to compute a noise ceiling from."
        if ceiling is None
        else (f"Noise ceiling: {ceiling:.4f} (tau between independent training runs of the same architectures).")
    )
    emit(result, as_json, make_table(title, ["model", "train", *_COLUMNS], cells), noise)
