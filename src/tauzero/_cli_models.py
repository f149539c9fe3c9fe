"""``tauzero fit`` and ``tauzero predict``: surrogates on files."""

from __future__ import annotations

__all__ = ["TuneOption", "fit", "predict"]

from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from tauzero._cli_support import (
    DatasetOption,
    JsonOption,
    ProxiesOption,
    ProxyColumnsOption,
    SeedOption,
    SourceOption,
    dataset_of,
    emit,
    fail,
    guarded,
    make_table,
    progress_bar,
    proxy_encoders,
)

TuneOption = Annotated[
    int | None,
    typer.Option("--tune", min=1, help="Choose parameters among so many candidates, on training rows (extra optuna)."),
]

_CHUNK = 32_768
#: What a value of a unit is called in tables for people.
_UNITS = {"percent": "predicted accuracy, %"}


@guarded("No model was written; run the same command again.")
def fit(
    benchmark: Annotated[str, typer.Argument(help="The table to learn from, such as nasbench201.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the model; it must not exist, or be a model.")],
    dataset: DatasetOption = None,
    train: Annotated[int, typer.Option("--train", min=1, help="Number of random training architectures.")] = 469,
    model: Annotated[str, typer.Option("--model", help="Surrogate; auto chooses one for the space.")] = "auto",
    metric: Annotated[str | None, typer.Option("--metric", help="By default the table's main accuracy.")] = None,
    proxies: ProxiesOption = None,
    proxy_columns: ProxyColumnsOption = None,
    tune: TuneOption = None,
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
    metric = metric if metric is not None else table.main_metric(dataset)
    space = table.space
    values, rows = table.table(dataset, metric), table.architectures
    known = np.isfinite(values)
    given = None if space.enumerable else rows
    chosen = protocol_split(space, "all", train, seed, available=known, architectures=given).train
    further = proxy_encoders(space, proxies, proxy_columns)

    start = perf_counter()
    params: dict[str, Any] = {"encoders": further} if further else {}
    with progress_bar("tuning" if tune is not None else "fitting") as progress:
        if tune is not None:  # a study reports its candidates, a fit reports nothing
            params["progress"] = progress
        surrogate = surrogates.create(model, space, tune=tune, random_state=seed, **params)
        surrogate.fit(rows[chosen], values[chosen])
    fit_s = perf_counter() - start
    origin: dict[str, Any] = {
        "benchmark": benchmark,
        "dataset": dataset,
        "metric": metric,
        "model": model,
        "train": train,
        "seed": seed,
    }
    if further:
        origin["proxies"] = further[0].columns
    if tune is not None:
        tuned: Any = surrogate
        origin |= {"tune": tune, "best_params": tuned.best_params_, "best_score": tuned.best_score_}
    surrogate.metadata_ = {**origin, "unit": table.unit(dataset, metric), "licence": table.info()["licence"]}
    surrogate.save(out)

    payload: dict[str, Any] = {**origin, "out": out, "fit_s": fit_s}
    if check:
        others = np.setdiff1d(np.flatnonzero(known), chosen)
        payload |= _judge(surrogate, rows[others], values[others])
    facts = [[name, value if isinstance(value, int | float) else _shown(value)] for name, value in payload.items()]
    emit(payload, as_json, make_table("Fitted surrogate", ["property", "value"], facts))


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={item}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


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


def _predict_in_chunks(surrogate: Any, genotypes: Any, level: float | None = None, ood: bool = False) -> list[Any]:
    """Mean and standard deviation, on demand interval ``float64[n, 2]`` and ood score, with a bar on a terminal."""
    import numpy as np

    parts = []
    interval = {} if level is None else {"return_interval": level}
    with progress_bar("predicting") as progress:
        for start in range(0, len(genotypes), _CHUNK):
            rows = genotypes[start : start + _CHUNK]
            answer = surrogate.predict(rows, return_std=True, **interval)
            parts.append([*answer, *([surrogate.ood_score(rows)] if ood else [])])
            if progress is not None:
                progress(min(start + _CHUNK, len(genotypes)), len(genotypes))
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


@guarded("No predictions were written; run the same command again.")
def predict(
    model: Annotated[str, typer.Argument(help="A folder that `tauzero fit` wrote, or a pretrained model's name.")],
    arch: Annotated[list[str] | None, typer.Option("--arch", help="An architecture; may be repeated.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Predict every architecture of the space.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Parquet file for the predictions.")] = None,
    interval: Annotated[
        float | None, typer.Option("--interval", help="Add the ends of an interval of this level, such as 0.9.")
    ] = None,
    ood: Annotated[
        bool, typer.Option("--ood", help="Add how unlike the training set each is: above 1, do not trust the rest.")
    ] = False,
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
    if interval is not None and not 0 < interval < 1:
        fail(f"--interval must be a level between 0 and 1, such as 0.9. Got {interval}.")
    surrogate = surrogates.load(model)
    if not isinstance(surrogate, surrogates.Surrogate):
        fail(f"{model} is a model of several spaces: load it in Python (`MultiSpaceGNN`) or start a surrogate from it.")
    space = surrogate.space_
    if everything and not space.enumerable:
        fail(
            f"--all needs a space that can be enumerated, and {space.name} has about {space.size:.1e} architectures: "
            "name the ones that you want by --arch."
        )
    genotypes = space.enumerate() if everything else space.from_string(arch or [])
    start = perf_counter()
    found = _predict_in_chunks(surrogate, genotypes, interval, ood)
    columns = {"mean": found[0], "std": found[1]}
    if interval is not None:
        columns |= {"lower": found[2][:, 0], "upper": found[2][:, 1]}
    if ood:
        columns["ood"] = found[-1]
    mean = columns["mean"]
    seconds = perf_counter() - start
    unit = str(surrogate.metadata_.get("unit", "percent"))
    if out is not None:
        _write_predictions(out, {"model": model, "space": space.name, "unit": unit}, space, genotypes, columns)
    best = np.argsort(-mean, kind="stable")[:top] if everything else np.arange(len(mean))
    strings = space.to_string(genotypes[best])
    index = space.index(genotypes[best]).tolist() if space.enumerable else [None] * len(best)
    rows = [
        {"arch": text, "index": i, **{name: float(column[k]) for name, column in columns.items()}}
        for text, i, k in zip(strings, index, best.tolist(), strict=True)
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
    shown = ["index", "arch", _UNITS.get(unit, "predicted")]
    cells = [[r["index"], r["arch"], f"{r['mean']:.3f} ± {r['std']:.3f}"] for r in rows]
    if interval is not None:
        shown.append(f"{interval:g} interval")
        cells = [[*cell, f"{r['lower']:.3f} to {r['upper']:.3f}"] for cell, r in zip(cells, rows, strict=True)]
    if ood:
        shown.append("ood")
        cells = [[*cell, r["ood"]] for cell, r in zip(cells, rows, strict=True)]
    notes = [f"Wrote {out}."] if out is not None else []
    emit(payload, as_json, make_table(title, shown, cells), *notes)


def _write_predictions(out: Path, facts: dict[str, str], space: Any, genotypes: Any, columns: dict[str, Any]) -> None:
    """Write one row per architecture; the file appears when it is complete."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tauzero.benchmarks import atomic_path

    index = {"index": space.index(genotypes)} if space.enumerable else {}
    table = pa.table({**index, "arch": space.to_string(genotypes), **columns}, metadata=facts)
    with atomic_path(out) as partial:
        pq.write_table(table, partial, compression="zstd")
