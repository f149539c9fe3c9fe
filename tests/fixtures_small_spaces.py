"""Writers of the files of NAS-Bench-Macro and NAS-Bench-Graph, from their documented layouts."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tauzero import spaces

MACRO = spaces.get("nasbench_macro")
GRAPH = spaces.get("nasbench_graph")
assert isinstance(MACRO, spaces.NASBenchMacro)
assert isinstance(GRAPH, spaces.NASBenchGraph)
DATASETS = ("cora", "citeseer", "pubmed", "cs", "physics", "photo", "computers", "arxiv", "proteins")


def macro_records(rows: spaces.Genotypes, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Records as NAS-Bench-Macro's ``collect_benchmark.py`` writes them: float32 accuracies of three runs."""
    runs = np.random.default_rng(seed).uniform(80, 95, size=(len(rows), 3)).astype(np.float32).astype(float)
    parameters, flops = MACRO.costs(rows)
    return {
        arch: {"test_acc": list(accuracies), "mean_acc": mean, "std": std, "params": p, "flops": f}
        for arch, accuracies, mean, std, p, f in zip(
            MACRO.to_string(rows),
            runs.tolist(),
            runs.mean(axis=1).tolist(),
            runs.std(axis=1).tolist(),
            parameters.tolist(),
            flops.tolist(),
            strict=True,
        )
    }


def write_macro(path: Path, rows: spaces.Genotypes | None = None) -> Path:
    """NAS-Bench-Macro's JSON file, of some networks."""
    chosen = MACRO.sample(12, 0, unique=True) if rows is None else rows
    path.write_text(json.dumps(macro_records(chosen)), encoding="utf-8")
    return path


def graph_figures(dataset: str, n: int) -> dict[str, np.ndarray]:
    """Made-up shares of one, seconds and millions of parameters."""
    rng = np.random.default_rng(DATASETS.index(dataset))
    return {
        "valid_perf": rng.uniform(0.1, 0.9, n),
        "perf": rng.uniform(0.1, 0.9, n),
        "latency": rng.uniform(0.001, 0.1, n),
        "para": rng.integers(30_000, 9_000_000, n) / 1e6,
    }


def graph_pickle(dataset: str, rows: spaces.Genotypes) -> bytes:
    """A ``.bench`` file of the package: a pickle of protocol 3, three floats and a numpy float for each network."""
    figures = graph_figures(dataset, len(rows))
    content = {
        number: {
            name: np.float64(values[k]) if name == "para" else float(values[k]) for name, values in figures.items()
        }
        for k, number in enumerate(GRAPH.hash(rows).tolist())
    }
    return pickle.dumps(content, protocol=3)


def write_graph_folder(folder: Path, rows: spaces.Genotypes, datasets: tuple[str, ...] = ("cora", "arxiv")) -> Path:
    """A folder as the installed package has it."""
    light = folder / "nas_bench_graph" / "light"
    light.mkdir(parents=True)
    for dataset in datasets:
        (light / f"{dataset}.bench").write_bytes(graph_pickle(dataset, rows))
    return folder / "nas_bench_graph"


def write_graph_wheel(path: Path, rows: spaces.Genotypes, datasets: tuple[str, ...] = ("cora", "arxiv")) -> Path:
    """The package's wheel, without its code."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("nas_bench_graph/__init__.py", "")
        for dataset in datasets:
            wheel.writestr(f"nas_bench_graph/light/{dataset}.bench", graph_pickle(dataset, rows))
    return path


def write_graph_parquet(path: Path, rows: spaces.Genotypes, datasets: tuple[str, ...] = ("cora", "arxiv")) -> Path:
    """A Parquet file with a column for each data set and figure."""
    columns: dict[str, Any] = {"hash": GRAPH.hash(rows).astype(np.uint32)}
    for dataset in datasets:
        names = ("val", "test", "latency_s", "params_m")
        for name, values in zip(names, graph_figures(dataset, len(rows)).values(), strict=True):
            columns[f"{dataset}_{name}"] = values.astype(np.float32)
    pq.write_table(pa.table(columns), path, compression="zstd")
    return path


def _few() -> spaces.Genotypes:
    return GRAPH.sample(12, 0, unique=True)


#: Reader in `READERS` → a function that writes a small valid source into a folder and returns what to import.
FUZZ: dict[str, Callable[[Path], Path]] = {
    "nasbench-macro-json": lambda folder: write_macro(folder / "nas-bench-macro_cifar10.json"),
    "nasbench-graph-package": lambda folder: write_graph_wheel(
        folder / "nas_bench_graph-1.4.0-py3-none-any.whl", _few()
    ),
    "nasbench-graph-parquet": lambda folder: write_graph_parquet(folder / "nasbench_graph.parquet", _few()),
}
