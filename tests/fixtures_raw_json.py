"""Writers of the formats of raw results: NAS-Bench-301, NAS-Bench-Suite-Zero, HW-NAS-Bench and AnalogNAS-Bench.

From the layouts that the authors' own readers expect. Numbers follow from the rows, so that tests can say what a table
must hold.
"""

from __future__ import annotations

import json
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tauzero import spaces

DARTS = spaces.get("darts")
NB101 = spaces.get("nasbench101")
NB201 = spaces.get("nasbench201")

# -- NAS-Bench-301 ----------------------------------------------------------------------------

_PREFIX = "NetworkSelectorDatasetInfo:darts:"


def nasbench301_result(row: np.ndarray, value: float, *, curve: int = 0, **changes: Any) -> dict[str, Any]:
    """One ``results_*.json`` of a DARTS cell; `changes` are protocol keys (epochs, channels, layers)."""
    epochs = changes.get("epochs", 100)
    configuration: dict[str, Any] = {
        "ImageAugmentation:cutout_length": 16,
        "NetworkSelectorDatasetInfo:network": "darts",
        f"{_PREFIX}init_channels": changes.get("channels", 32),
        f"{_PREFIX}layers": changes.get("layers", 8),
        "OptimizerSelector:sgd:learning_rate": 0.025,
        "OptimizerSelector:sgd:weight_decay": 0.0003,
        **DARTS.to_configspace(row[None])[0],  # type: ignore[attr-defined]
    }
    info = {"val_accuracy": value, "epochs": epochs - 2, "model_parameters": 1_000_000 + int(value * 1000)}
    result = {
        "optimized_hyperparamater_config": configuration,
        "budget": epochs,
        "info": [info],
        "test_accuracy": value - 0.5,
        "runtime": 1000.0 + value,
        "final_metric_score": -value,
    }
    if curve:
        result["learning_curves"] = {
            "Train/val_accuracy": [value * (e + 1) / curve for e in range(curve)],
            "Train/train_accuracy": [(value + 1) * (e + 1) / curve for e in range(curve)],
            "Train/lr": [0.025] * curve,
        }
    return result


def nasbench301_folder(folder: Path, results: dict[str, dict[str, Any]]) -> Path:
    """Write results by their names within a folder, such as ``rs/results_3.json``."""
    root = folder / "nb_301"
    for name, result in results.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps(result), encoding="utf-8")
    return root


def _nasbench301(folder: Path) -> Path:
    rows = DARTS.sample(2, seed=0)
    names = ("rs/results_0.json", "de/results_1_ti.json")
    return nasbench301_folder(
        folder, {n: nasbench301_result(r, 90.0, curve=3) for n, r in zip(names, rows, strict=True)}
    )


# -- NAS-Bench-Suite-Zero ---------------------------------------------------------------------

#: NASLib's operations of NAS-Bench-201 and its edges, which are ordered by where they begin.
_NASLIB_201 = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
_NASLIB_EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))


def suitezero_key(space: str, row: np.ndarray) -> str:
    """Architecture as NASLib writes it, by way of the published notations."""
    text = spaces.get(space).to_string(row[None])[0]
    if space == "nasbench201":
        ops = {}
        for target, node in enumerate(text.split("+"), start=1):
            for edge in node.strip("|").split("|"):
                name, source = edge.split("~")
                ops[int(source), target] = _NASLIB_201.index(name)
        return str(tuple(ops[edge] for edge in _NASLIB_EDGES))
    if space == "nasbench101":
        graph = NB101.pruned_graphs(row[None])  # type: ignore[attr-defined]
        n = int(graph.num_nodes[0])
        matrix = np.zeros((7, 7), dtype=int)
        places = [*range(n - 1), 6]
        matrix[np.ix_(places, places)] = graph.adjacency[0, :n, :n]
        names = {spaces.operation_code(name): k for k, name in ((4, "conv_3x3"), (3, "conv_1x1"), (2, "max_pool_3x3"))}
        shared = [names[int(code)] for code in graph.ops[0, 1 : n - 1]]
        ops101 = [0, *shared, *([4] * (5 - len(shared))), 1]
        return str((*matrix.ravel().tolist(), *ops101))
    if space == "darts":
        cells = row.reshape(2, 4, 4).tolist()
        return str([[pair for a, b, x, y in cell for pair in ((a, x), (b, y))] for cell in cells])
    if space == "transnas_macro":
        return str(tuple(int(c) for c in row if c))
    return str(tuple(int(c) for c in row))


def suitezero_record(number: int, key: str) -> dict[str, Any]:
    """What is known of the architecture with a number; its synflow is the number, its snip minus the number."""
    return {
        "id": str(number),
        "arch": key,
        "synflow": {"score": float(number), "time": 0.5},
        "snip": {"score": -float(number), "time": 0.25 + number},
        "val_accuracy": 50.0 + number,
    }


def suitezero_document(space: str, rows: np.ndarray, datasets: tuple[str, ...]) -> dict[str, Any]:
    """``{dataset: {architecture: record}}``."""
    keys = [suitezero_key(space, row) for row in rows]
    return {d: {key: suitezero_record(k, key) for k, key in enumerate(keys)} for d in datasets}


def _suitezero(space: str, name: str, *datasets: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        rows = spaces.get(space).sample(3, seed=1)
        path = folder / name
        path.write_text(json.dumps(suitezero_document(space, rows, datasets)), encoding="utf-8")
        return path

    return write


def suitezero_chunks(folder: Path, space: str, naslib: str, dataset: str, rows: np.ndarray, size: int) -> Path:
    """A folder of NASLib's chunks of `size` architectures each."""
    root = folder / "chunks"
    root.mkdir(parents=True)
    for start in range(0, len(rows), size):
        records = []
        for number, row in enumerate(rows[start : start + size], start=start):
            record = suitezero_record(number, suitezero_key(space, row))
            records.append({"idx": record.pop("id"), **record})
        (root / f"benchmark--{naslib}--{dataset}--{start}.json").write_text(json.dumps(records), encoding="utf-8")
    return root


def _macro_chunks(folder: Path) -> Path:
    rows = spaces.get("transnas_macro").enumerate()[[0, 300, 2000]]
    return suitezero_chunks(folder, "transnas_macro", "transbench101_macro", "class_scene", rows, 2)


# -- HW-NAS-Bench -----------------------------------------------------------------------------

HW_METRICS = (
    "edgegpu_latency",
    "edgegpu_energy",
    "raspi4_latency",
    "edgetpu_latency",
    "pixel3_latency",
    "eyeriss_latency",
    "eyeriss_energy",
    "eyeriss_arithmetic_intensity",
    "fpga_latency",
    "fpga_energy",
)
HW_DATASETS = ("cifar10", "cifar100", "ImageNet16-120")


def hwnasbench_content(rows: np.ndarray) -> dict[str, Any]:
    """``HW-NAS-Bench-v1_0.pickle``: value of metric m, dataset d, row i is 100 d + 10 m + i + 1 (ms, mJ)."""
    strings = NB201.to_string(rows)
    part: dict[str, Any] = {}
    for d, dataset in enumerate(HW_DATASETS):
        entries: dict[str, Any] = {
            "config": [{"name": "infer.tiny", "C": 16, "N": 5, "arch_str": s, "num_classes": 10} for s in strings]
        }
        for m, metric in enumerate(HW_METRICS):
            values = [float(100 * d + 10 * m + i + 1) for i in range(len(rows))]
            entries[metric] = [np.float64(v) for v in values] if m == 0 else values
        entries["edgetpu_latency"][0] = -1
        part[dataset] = entries
    return {"nasbench201": part, "fbnet": {"edgegpu_latency": {"FC_Cin1504_Cout100": 0.1}}}


def hwnasbench_pickle(folder: Path, content: dict[str, Any], protocol: int = 4) -> Path:
    """Write the content as the official file."""
    path = folder / "HW-NAS-Bench-v1_0.pickle"
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def _hwnasbench_pickle(folder: Path) -> Path:
    return hwnasbench_pickle(folder, hwnasbench_content(NB201.enumerate()[[7, 3, 9]]))


def hwnasbench_parquet(folder: Path, index: np.ndarray) -> Path:
    """A condensed table with columns of two datasets and one of HELP."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {"index": index.astype(np.uint16)}
    for m, metric in enumerate(HW_METRICS):
        for d, suffix in enumerate(("c10", "c100")):
            columns[f"hwnb_{metric}_{suffix}"] = (100 * d + 10 * m + index + 1.0).astype(np.float32)
    columns["hwnb_edgetpu_latency_c10"][0] = -1.0
    columns["help_ms_titan_rtx_32"] = (index + 2.0).astype(np.float32)
    path = folder / "hardware.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def _hwnasbench_parquet(folder: Path) -> Path:
    return hwnasbench_parquet(folder, np.array([7, 3, 9]))


# -- AnalogNAS-Bench --------------------------------------------------------------------------

ANALOG_PLAIN = ("baseline_accuracy", "ptq_accuracy", "qat_accuracy", "noisy_accuracy", "analog_accuracy")
ANALOG_DRIFT = tuple(f"{k}_drift_{age}" for k in ("baseline", "analog") for age in (60, 3600, 86400, 2592000))


def analog_data(keys: list[tuple[int, ...]], change: Callable[[dict[Any, Any]], None] = lambda _: None) -> bytes:
    """The package's pickle; architecture i has the accuracy 10 k + i for the k-th plain and drifting metric."""
    module = types.ModuleType("analognasbench.data")
    made = {}
    for name in ("Architecture", "DriftMeasurement"):
        made[name] = type(name, (), {"__module__": module.__name__})
        setattr(module, name, made[name])
    content: dict[Any, Any] = {}
    for i, key in enumerate(keys):
        entry = made["Architecture"]()
        entry.architecture = key
        for k, name in enumerate(ANALOG_PLAIN):
            setattr(entry, name, float(10 * k + i))
        for k, name in enumerate(ANALOG_DRIFT):
            drift = made["DriftMeasurement"]()
            drift.value, drift.uncertainty = float(10 * k + i), 0.5
            setattr(entry, name, drift)
        content[key] = entry
    change(content)
    there = {name: sys.modules.get(name) for name in ("analognasbench", module.__name__)}
    try:  # pickle writes classes that it can import only
        sys.modules.update({"analognasbench": types.ModuleType("analognasbench"), module.__name__: module})
        return pickle.dumps(content, 4)
    finally:
        for name, before in there.items():
            if before is None:
                del sys.modules[name]
            else:
                sys.modules[name] = before


def _analog(folder: Path) -> Path:
    root = folder / "analognasbench"
    root.mkdir(parents=True)
    (root / "__init__.py").write_text("raise RuntimeError('the package was imported')\n", encoding="utf-8")
    (root / "data.anb").write_bytes(analog_data([(0, 1, 2, 3, 4, 0), (4, 4, 0, 2, 1, 3)]))
    return root


#: Reader → writer of a small valid source into a folder.
FUZZ: dict[str, Callable[[Path], Path]] = {
    "analog-nasbench": _analog,
    "hwnasbench-parquet": _hwnasbench_parquet,
    "hwnasbench-pickle": _hwnasbench_pickle,
    "nasbench301-results": _nasbench301,
    "suitezero-nasbench101": _suitezero("nasbench101", "zc_nasbench101.json", "cifar10"),
    "suitezero-nasbench201": _suitezero("nasbench201", "zc_nasbench201.json", "cifar10", "cifar100"),
    "suitezero-nasbench301": _suitezero("darts", "zc_nasbench301.json", "cifar10"),
    "suitezero-transnas-macro": _macro_chunks,
    "suitezero-transnas-micro": _suitezero("transnas_micro", "zc_transbench101_micro.json", "class_scene", "normal"),
}
