"""Train the multi-space model that ships with tauzero, and write its card.

    python examples/train_multi_space.py --out surrogates/pretrained/multi-space

It learns from NAS-Bench-101 (a sample), NAS-Bench-201 (three data sets) and TransNAS-Bench-101's cells (seven tasks).
The rows of `tauzero.evaluation.holdout_mask(space)` (a fifth of each space, whole classes of equal networks) are kept
apart, and DARTS altogether: the card's figures are measured on these alone. Tables are those that were imported;
``--table NAME=PATH`` reads another file.
"""

from __future__ import annotations

import argparse
import datetime as dt
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tauzero as tz
from tauzero.surrogates import MultiSpaceGNN

PARAMS: dict[str, Any] = {"members": 3, "width": 48, "layers": 3, "steps": 8_000, "batch_size": 256}
#: Rows, at most, that are learnt from; a table of 423,624 cells says little more than a tenth of it does.
SOURCES: dict[str, int | None] = {"nasbench101": 30_000, "nasbench201": None, "transnas_micro": None}
TARGET = "nasbench301"


def read(tables: dict[str, str], name: str) -> Any:
    """A table: the one that was named, or the imported one."""
    return tz.benchmarks.load(name, tables.get(name))


def metric_of(benchmark: Any, dataset: str) -> str:
    """What ranks a data set's architectures: test accuracy where there is one."""
    return str(benchmark.main_metric(dataset))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--out", type=Path, default=Path("surrogates/pretrained/multi-space"))
    parser.add_argument("--steps", type=int, default=PARAMS["steps"])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    tables = dict(entry.split("=", 1) for entry in arguments.table)
    benchmarks = {name: read(tables, name) for name in (*SOURCES, TARGET)}

    sources, names, held_out, used = [], [], {}, {}
    for name, most in SOURCES.items():
        benchmark = benchmarks[name]
        held_out[name] = tz.evaluation.holdout_mask(benchmark.space)
        rows = np.flatnonzero(~held_out[name])
        if most is not None and most < len(rows):
            rows = np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
        used[name] = len(rows)
        for dataset in benchmark.datasets:
            y = benchmark.table(dataset, metric_of(benchmark, dataset))[rows]
            known = np.isfinite(y)
            sources.append((benchmark.space, benchmark.architectures[rows][known], y[known]))
            names.append(f"{name}/{dataset}")

    start = time.perf_counter()

    def report(done: int, total: int) -> None:
        if done % 500 == 0 or done == total:
            print(f"step {done} of {total}, {time.perf_counter() - start:.0f} s", flush=True)

    params = PARAMS | {"steps": arguments.steps}
    model = MultiSpaceGNN(**params, progress=report, random_state=0).fit(sources, names)
    seconds = time.perf_counter() - start

    figures = []
    for name in SOURCES:
        benchmark = benchmarks[name]
        cells = benchmark.architectures[held_out[name]]
        shared = model.predict(cells, benchmark.space)
        for dataset in benchmark.datasets:
            metric = metric_of(benchmark, dataset)
            y = benchmark.table(dataset, metric)[held_out[name]]
            own, std = model.predict(cells, benchmark.space, f"{name}/{dataset}", return_std=True)
            known = np.isfinite(y)
            figures.append(
                {
                    "source": f"{name}/{dataset}",
                    "metric": metric,
                    "training_rows": used[name],
                    "held_out_rows": int(known.sum()),
                    "kendall_tau": round(tz.evaluation.kendall_tau(y[known], own[known]), 4),
                    "kendall_tau_shared_head": round(tz.evaluation.kendall_tau(y[known], shared[known]), 4),
                    "within_1_std": round(float((np.abs(y - own)[known] <= std[known]).mean()), 4),
                }
            )
    target = benchmarks[TARGET]
    y = target.table("cifar10", metric_of(target, "cifar10"))
    zero_shot = tz.evaluation.kendall_tau(y, model.predict(target.architectures, target.space))
    model.metadata_ = {
        "name": "multi-space",
        "params": params,
        "seed": 0,
        "fit_seconds": round(seconds),
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "held_out": "tauzero.evaluation.holdout_mask(space) of each space: a fifth by class of equal networks, seed 0",
        "sources": figures,
        "transfer_target": {
            "benchmark": TARGET,
            "rows": len(y),
            "labels": "predicted by NAS-Bench-301's surrogate, not trained",
            "zero_shot_kendall_tau": round(zero_shot, 4),
        },
        "data_source": [
            {"benchmark": name, "name": f["name"], "sha256": f["sha256"]}
            for name, benchmark in benchmarks.items()
            for f in benchmark.info()["provenance"]["files"]
        ],
        "data_licences": {name: benchmark.info()["licence"] for name, benchmark in benchmarks.items()},
        "command": "python examples/train_multi_space.py --out surrogates/pretrained/multi-space",
    }
    folder = model.set_params(progress=None).save(arguments.out)
    (folder / "card.md").write_text(card(model.metadata_), encoding="utf-8")
    print((folder / "card.md").read_text(encoding="utf-8"))
    print(f"Saved in {folder}")


def card(metadata: dict[str, Any]) -> str:
    """The card as a page, from what was measured."""
    rows = "\n".join(
        f"| `{f['source']}` | {f['metric']} | {f['training_rows']:,} | {f['held_out_rows']:,} | {f['kendall_tau']:.3f} "
        f"| {f['kendall_tau_shared_head']:.3f} | {f['within_1_std']:.0%} |"
        for f in metadata["sources"]
    ).replace("%", " %")
    licences = "\n".join(f"- `{name}`: {licence}" for name, licence in metadata["data_licences"].items())
    target = metadata["transfer_target"]
    return f"""# multi-space

One ensemble of {metadata["params"]["members"]} graph networks (`tauzero.surrogates.MultiSpaceGNN`) for the cells of
several search spaces, with a head for each data set and a shared one. Made by
`{metadata["command"]}` on {metadata["date"]}
in {metadata["fit_seconds"]} s on one thread of a busy machine, seed {metadata["seed"]}.

    model = tauzero.surrogates.MultiSpaceGNN.load("multi-space")

## What it is for
- Few-shot transfer: `model.adapt(space, genotypes, y)`, or the surrogate `transfer`, with some dozens of trained
  networks of another data set over one of its spaces, or of a space like them.
- A first order of the cells of a space before anything was trained, where nothing better is at hand.

## What it is not for
- Predicting accuracies of a space that it did not learn from: without rows of that space it gives an order, no
  percentages, and its deviations promise nothing there.
- Replacing the models that are trained on one table: they are better on it (`docs/surrogates.md`).
- Other operations, training protocols or numbers of cells than those of its tables, or whole networks (macro spaces).
`docs/transfer.md` says how good it is and where it fails.

## Protocol
Rows of `tauzero.evaluation.holdout_mask(space)` (a fifth of each space, whole classes of equal networks) were never
learnt from; the figures are Kendall's tau on them by row (copies of a network counted as often as they occur), of the
source's own head and of the shared head, and the share within one predicted deviation. Of NAS-Bench-101 a random
sample of the other rows was learnt from. DARTS was left out altogether.

| source | metric | training rows | held-out rows | tau, own head | tau, shared head | within 1 deviation |
|---|---|---|---|---|---|---|
{rows}

Zero-shot on DARTS ({target["rows"]:,} cells, labels {target["labels"]}): tau {target["zero_shot_kendall_tau"]:.3f}.

## Data and licences
{licences}

`multi_space.json` names the files that were read, with their SHA-256. DARTS labels were used to measure only.
"""


if __name__ == "__main__":
    main()
