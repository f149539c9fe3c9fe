"""Reader: NAS-Bench-201 as one Parquet file, with test accuracies and two training budgets."""

from __future__ import annotations

__all__ = ["read", "recognises"]

from pathlib import Path

import numpy as np

from tauzero import spaces
from tauzero.benchmarks._nasbench201 import DATASETS, LICENCE, size_columns, time_columns
from tauzero.benchmarks._parquet import file_digest, find_parquet, read_columns, schema_names
from tauzero.benchmarks._table import Column, Table, in_index_order, mean_over_runs
from tauzero.spaces import BenchmarkFormatError, Progress

_OPS = [f"op{k}" for k in range(6)]
_RUNS = range(3)

# (metric, epoch, one column) or (metric, epoch, one column per run), with {d} the short dataset name.
_SINGLE = (
    (
        "test_accuracy",
        200,
        "test200_{d}_mean",
        "mean over runs, NATS-tss-v1_0-3ffb9 (cifar10: ori-test, others x-test)",
    ),
    ("validation_accuracy", 12, "val12_{d}", "12-epoch schedule (cifar10: mean of 2 runs, others 1 run)"),
    ("test_accuracy", 12, "test12_{d}", "12-epoch schedule (cifar10: mean of 2 runs, others 1 run)"),
    ("train_accuracy_1run", 200, "train200_{d}_1run", "one run, not the same seed in all rows"),
    ("test_accuracy_1run", 200, "test200_{d}_1run", "one run, not the same seed in all rows"),
    ("test_accuracy_c10valid_v10", 200, "c10valid_test200_v10_mean", "trained on half of the data, v1.0 file, mean"),
)
_PER_RUN = (
    ("validation_accuracy", 200, "val200_{d}_r{k}", "x-valid (cifar10: trained on the cifar10-valid half)"),
    ("test_accuracy_v10", 200, "test200_{d}_v10_r{k}", "ori-test of the older v1.0/v1.1 files, 1 to 3 runs"),
)


def _fits(names: frozenset[str]) -> bool:
    return names.issuperset(_OPS) and not names.isdisjoint({"val200_c10_r0", "test200_c10_mean"})


def recognises(path: Path) -> bool:
    """Whether a file, or one in a folder, has the operations and accuracies of NAS-Bench-201."""
    return find_parquet(path, _fits) is not None


def read(path: Path, progress: Progress) -> Table:
    """Read the table; accuracies are in percent as they stand in the file."""
    found = find_parquet(path, _fits)
    if found is None:
        raise BenchmarkFormatError(f"'{path}' is no NAS-Bench-201 Parquet file.")
    names = schema_names(found)
    space = spaces.get("nasbench201")
    progress(0, 2)
    raw = read_columns(found, [n for n in sorted(names) if n in _OPS or n in _wanted()])
    genotypes = space.validate(np.stack([raw[name] for name in _OPS], axis=1))
    order, index = in_index_order(space, genotypes)
    data = {name: values[order] for name, values in raw.items()}
    progress(1, 2)
    columns: list[Column] = []
    for d, dataset, _, _ in DATASETS:
        for metric, epoch, pattern, text in _PER_RUN:
            there = [k for k in _RUNS if pattern.format(d=d, k=k) in data]
            runs = [data[pattern.format(d=d, k=k)].astype(np.float32) for k in there]
            if runs:
                mean = mean_over_runs(runs)
                columns.append(Column(dataset, metric, epoch, None, "percent", mean, f"mean over runs; {text}"))
            columns += [
                Column(dataset, metric, epoch, k, "percent", values, f"run {k}; {text}")
                for k, values in zip(there, runs, strict=True)
            ]
        for metric, epoch, pattern, text in _SINGLE:
            name = pattern.format(d=d)
            if name in data and (dataset == "cifar10" or "{d}" in pattern):
                columns.append(Column(dataset, metric, epoch, None, "percent", data[name].astype(np.float32), text))
        if f"latency_s_{d}" in data:
            columns.append(
                Column(
                    dataset,
                    "latency_seconds",
                    None,
                    None,
                    "seconds",
                    data[f"latency_s_{d}"].astype(np.float32),
                    "one batch, as published",
                )
            )
        if f"train_time_s_{d}" in data:
            budgets = tuple(sorted({c.epoch for c in columns if c.dataset == dataset and c.epoch is not None}))
            columns += time_columns(dataset, data[f"train_time_s_{d}"].astype(np.float32), budgets)
    columns += size_columns(genotypes[order])
    return Table(
        name="nasbench201",
        space=space.name,
        columns=tuple(columns),
        licence=LICENCE,
        provenance={"reader": "nasbench201-parquet", "files": [file_digest(found)]},
        index=index,
    )


def _wanted() -> frozenset[str]:
    patterns = [p for _, _, p, _ in (*_SINGLE, *_PER_RUN)] + ["latency_s_{d}", "train_time_s_{d}"]
    return frozenset(p.format(d=d, k=k) for p in patterns for d, *_ in DATASETS for k in _RUNS)
