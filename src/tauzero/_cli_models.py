"""``tauzero fit`` and ``tauzero predict``: surrogates on files."""

from __future__ import annotations

__all__ = ["fit", "predict"]

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

_CHUNK = 32_768


@guarded("No model was written; run the same command again.")
def fit(
    benchmark: Annotated[str, typer.Argument(help="The table to learn from, such as nasbench201.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the model; it must not exist, or be a model.")],
    dataset: DatasetOption = None,
    train: Annotated[int, typer.Option("--train", min=1, help="Number of random training architectures.")] = 469,
    model: Annotated[str, typer.Option("--model", help="Surrogate; auto chooses one for the space.")] = "auto",
    metric: Annotated[str | None, typer.Option("--metric", help="By default the table's main accuracy.")] = None,
    source: SourceOption = None,
    seed: SeedOption = 0,
    check: Annotated[bool, typer.Option(help="Judge the model on all other architectures.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Fit a surrogate on a few architectures of a table and save it.

    Example: `tauzero fit nasbench201 --dataset cifar10 --train 469 --seed 0 --out model`
    """
    import numpy as np

    from tauzero import benchmarks, surrogates
    from tauzero.evaluation import protocol_split

    table = benchmarks.load(benchmark, source)
    dataset = dataset_of(table, dataset)
    metric = metric if metric is not None else table.default_metric
    space = table.space
    values = table.table(dataset, metric)
    known = np.isfinite(values)
    chosen = protocol_split(space, "all", train, seed, available=known).train

    start = perf_counter()
    surrogate = surrogates.create(model, space, random_state=seed)
    surrogate.fit(space.enumerate()[chosen], values[chosen])
    fit_s = perf_counter() - start
    origin = {
        "benchmark": benchmark,
        "dataset": dataset,
        "metric": metric,
        "model": model,
        "train": train,
        "seed": seed,
    }
    surrogate.metadata_ = {**origin, "licence": table.info()["licence"]}
    surrogate.save(out)

    payload: dict[str, Any] = {**origin, "out": out, "fit_s": fit_s}
    if check:
        others = np.setdiff1d(np.flatnonzero(known), chosen)
        payload |= _judge(surrogate, space.enumerate()[others], values[others])
    facts = [[name, str(value) if isinstance(value, Path) else value] for name, value in payload.items()]
    emit(payload, as_json, make_table("Fitted surrogate", ["property", "value"], facts))


def _judge(surrogate: Any, genotypes: Any, values: Any) -> dict[str, Any]:
    """Rank correlation with the table on architectures that the model has not seen."""
    from tauzero.evaluation import kendall_tau, spearman

    if len(values) < 2:
        return {}
    start = perf_counter()
    prediction = _predict_in_chunks(surrogate, genotypes)[0]
    return {
        "held_out": len(values),
        "tau": kendall_tau(values, prediction),
        "spearman": spearman(values, prediction),
        "predict_s": perf_counter() - start,
    }


def _predict_in_chunks(surrogate: Any, genotypes: Any) -> tuple[Any, Any]:
    """Mean and standard deviation, ``float64[n]`` each, with a progress bar on a terminal."""
    import numpy as np

    parts = []
    with progress_bar("predicting") as progress:
        for start in range(0, len(genotypes), _CHUNK):
            parts.append(surrogate.predict(genotypes[start : start + _CHUNK], return_std=True))
            if progress is not None:
                progress(min(start + _CHUNK, len(genotypes)), len(genotypes))
    return np.concatenate([mean for mean, _ in parts]), np.concatenate([std for _, std in parts])


@guarded("No predictions were written; run the same command again.")
def predict(
    model: Annotated[str, typer.Argument(help="A folder that `tauzero fit` wrote, or a pretrained model's name.")],
    arch: Annotated[list[str] | None, typer.Option("--arch", help="An architecture; may be repeated.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Predict every architecture of the space.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Parquet file for the predictions.")] = None,
    top: Annotated[int, typer.Option("--top", min=0, help="With --all, how many of the best to show.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Predict the accuracy of some or of all architectures with a saved or pretrained surrogate.

    Example: `tauzero predict nasbench201-cifar10 --all --out predictions.parquet`
    """
    import numpy as np

    from tauzero import surrogates

    if bool(arch) == everything:
        fail("give either --arch STRING (one or more times) or --all.")
    if out is not None and out.suffix != ".parquet":
        fail(f"--out must name a file that ends in .parquet. Got {out}.")
    surrogate = surrogates.load(model)
    space = surrogate.space_
    genotypes = space.enumerate() if everything else space.from_string(arch or [])
    start = perf_counter()
    mean, std = _predict_in_chunks(surrogate, genotypes)
    seconds = perf_counter() - start
    if out is not None:
        _write_predictions(out, model, space, genotypes, mean, std)
    best = np.argsort(-mean, kind="stable")[:top] if everything else np.arange(len(mean))
    strings = space.to_string(genotypes[best])
    index = space.index(genotypes[best])
    rows = [
        {"arch": text, "index": i, "mean": m, "std": s}
        for text, i, m, s in zip(strings, index.tolist(), mean[best].tolist(), std[best].tolist(), strict=True)
    ]
    payload = {
        "model": model,
        "space": space.name,
        "count": len(mean),
        "seconds": seconds,
        "out": out,
        "rows": rows,
    }
    title = f"{model}: {len(mean):,} architectures in {seconds:.2f} s" + (
        f", the best {len(rows)}" if everything else ""
    )
    cells = [[r["index"], r["arch"], f"{r['mean']:.3f} ± {r['std']:.3f}"] for r in rows]
    notes = [f"Wrote {out}."] if out is not None else []
    emit(payload, as_json, make_table(title, ["index", "arch", "predicted accuracy, %"], cells), *notes)


def _write_predictions(out: Path, model: str, space: Any, genotypes: Any, mean: Any, std: Any) -> None:
    """Write one row per architecture; the file appears when it is complete."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tauzero.benchmarks import atomic_path

    table = pa.table(
        {"index": space.index(genotypes), "arch": space.to_string(genotypes), "mean": mean, "std": std},
        metadata={"model": model, "space": space.name, "unit": "percent"},
    )
    with atomic_path(out) as partial:
        pq.write_table(table, partial, compression="zstd")
