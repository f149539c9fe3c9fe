"""Writers of the official pickled files, from their documented layouts: NATS-Bench, NAS-Bench-201, TransNAS-Bench-101.

Layouts: the states of ArchResults and ResultsCount in NATS-Bench's nats_bench/api_utils.py, NAS-Bench-201's
nas_201_api/api_201.py, TransNASBench's README.md. Numbers are drawn; every one is different.
"""

from __future__ import annotations

__all__ = [
    "FUZZ",
    "arch_states",
    "nasbench201_pth",
    "nats_file",
    "nats_folder",
    "result",
    "space_names",
    "transnas_database",
    "transnas_pth",
]

import bz2
import pickle
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tauzero import spaces

SEEDS = {12: {"cifar10-valid": (111, 777)}, 90: {}, 1: {}, 200: {}}
DEFAULT_SEEDS = {12: (111,), 90: (777,), 1: (777,), 200: (777, 888, 999)}
SETS = {
    "cifar10-valid": ("x-valid", "ori-test"),
    "cifar10": ("ori-test",),
    "cifar100": ("x-valid", "x-test", "ori-test"),
    "ImageNet16-120": ("x-valid", "x-test", "ori-test"),
}
SCHEDULES = {"nasbench201": {"12": 12, "200": 200}, "natsbench_size": {"01": 1, "12": 12, "90": 90}}
#: Sets that the topology space has at the last of 200 epochs only.
LAST_ONLY = {
    ("cifar10-valid", "ori-test"),
    *((d, s) for d in ("cifar100", "ImageNet16-120") for s in ("x-valid", "x-test")),
}


def space_names(space: str, rows: Sequence[int]) -> list[str]:
    """Published names of architectures."""
    found = spaces.get(space)
    return found.to_string(found.enumerate()[list(rows)])


def result(
    dataset: str, seed: int, epochs: int, rng: np.random.Generator, *, sparse: bool, few: bool
) -> dict[str, Any]:
    """State of ResultsCount: one training; `sparse` as in the 200-epoch schedule, `few` epochs to make it small."""
    kept = sorted({0, epochs - 1}) if few else range(epochs)
    accuracies = {
        f"{images}@{e}": float(rng.uniform(1, 99))
        for images in SETS[dataset]
        for e in kept
        if e == epochs - 1 or not (sparse and (dataset, images) in LAST_ONLY)
    }
    return {
        "name": dataset,
        "train_acc1es": {e: float(rng.uniform(1, 99)) for e in kept},
        "train_acc5es": None,
        "train_losses": {e: float(rng.uniform(0, 3)) for e in kept},
        "train_times": OrderedDict((e, 1.5 + seed / 1000) for e in range(epochs)) if not few else None,
        "arch_config": {"channel": 16, "num_cells": 5, "class_num": 10},
        "params": np.float64(0.1),
        "flop": 15.6,
        "seed": f"{seed:04d}",
        "epochs": epochs,
        "latency": [np.float64(0.013), np.float64(0.015)],
        "eval_names": list(SETS[dataset]),
        "eval_acc1es": accuracies,
        "eval_times": {},
        "eval_losses": {},
        "net_state_dict": None,
    }


def arch_states(space: str, number: int, name: str, seed: int = 0, *, few: bool = False) -> dict[str, Any]:
    """States of ArchResults by schedule."""
    rng = np.random.default_rng([seed, number])
    found = OrderedDict()
    for key, epochs in SCHEDULES[space].items():
        seeds = {d: SEEDS[epochs].get(d, DEFAULT_SEEDS[epochs]) for d in SETS}
        if space == "natsbench_size" and epochs == 12:
            seeds = dict.fromkeys(SETS, (777, 888, 999))
        found[key] = {
            "arch_index": number,
            "arch_str": name,
            "all_results": {
                (d, s): result(d, s, epochs, rng, sparse=epochs == 200, few=few)
                for d in SETS
                for s in reversed(seeds[d])
            },
            "dataset_seed": {d: list(s) for d, s in seeds.items()},
            "clear_net_done": True,
        }
    return found


def _meta(names: Sequence[str], infos: Any) -> dict[str, Any]:
    return {"meta_archs": list(names), "total_archs": len(names), "arch2infos": infos, "evaluated_indexes": set()}


def _dump(path: Path, value: object) -> None:
    path.write_bytes(bz2.compress(pickle.dumps(value, 4)))


def nats_folder(folder: Path, space: str, states: dict[int, Any], names: Sequence[str]) -> Path:
    """A ``-simple`` folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _dump(folder / "meta.pickle.pbz2", _meta(names, None))
    for number, state in states.items():
        _dump(folder / f"{number:06d}.pickle.pbz2", state)
    return folder


def nats_file(path: Path, states: dict[int, Any], names: Sequence[str]) -> Path:
    """A one-file ``.pickle.pbz2``."""
    _dump(path, _meta(names, OrderedDict(states)))
    return path


def nasbench201_pth(path: Path, states: dict[int, Any], names: Sequence[str], *, legacy: bool = True) -> Path:
    """``NAS-Bench-201-v1_x.pth``: schedules are called less and full."""
    import torch

    infos = {n: {"less": s["12"], "full": s["200"]} for n, s in states.items()}
    whole = {"meta_archs": list(names), "arch2infos": infos, "evaluated_indexes": set(infos)}
    torch.save(whole, path, _use_new_zipfile_serialization=not legacy)
    return path


TASKS = {
    "class_scene": (25, ("top1", "top5", "loss")),
    "class_object": (25, ("top1", "top5", "loss")),
    "room_layout": (25, ("loss", "neg_loss")),
    "jigsaw": (10, ("top1", "top5", "loss")),
    "segmentsemantic": (30, ("loss", "acc", "mIoU")),
    "normal": (30, ("ssim", "l1_loss")),
    "autoencoder": (30, ("ssim", "l1_loss")),
}
FACTS = ("inference_time", "encoder_params", "model_params", "model_FLOPs", "encoder_FLOPs")


def transnas_database(names: dict[str, Sequence[str]], tasks: Sequence[str] = tuple(TASKS)) -> dict[str, Any]:
    """The object in TransNAS-Bench-101's file, of some architectures of both spaces."""
    rng = np.random.default_rng(0)

    def values(metric: str, epochs: int) -> list[float]:
        if metric in {"top1", "top5", "acc", "mIoU"}:
            return rng.uniform(1, 99, epochs).tolist()
        return (-rng.uniform(0, 1, epochs) if metric == "neg_loss" else rng.uniform(0, 1, epochs)).tolist()

    def training(task: str) -> dict[str, Any]:
        epochs, metrics = TASKS[task]
        found: dict[str, Any] = {
            f"{split}_{metric}": values(metric, epochs) for split in ("train", "valid", "test") for metric in metrics
        }
        found["time_elapsed"] = [f"{e // 60:02d}:{e % 60:02d}:07" for e in range(epochs)]
        facts = dict(zip(FACTS, rng.uniform(0.01, 9e6, len(FACTS)).tolist(), strict=True))
        return {"metrics": found, "model_info": facts, "total_epochs": epochs}

    return {
        "metrics_dict": {
            task: [f"{s}_{m}" for s in ("train", "valid", "test") for m in metrics] + ["time_elapsed"]
            for task, (_, metrics) in TASKS.items()
        },
        "info_names": list(FACTS),
        "task_list": list(TASKS),
        "data": {
            space: {name: {task: training(task) for task in tasks} for name in given} for space, given in names.items()
        },
    }


def transnas_pth(path: Path, database: dict[str, Any], *, legacy: bool = True) -> Path:
    """``transnas-bench_v10141024.pth``."""
    import torch

    torch.save(database, path, _use_new_zipfile_serialization=not legacy)
    return path


def _small_folder(folder: Path) -> Path:
    names = space_names("nasbench201", range(3))
    states = {n: arch_states("nasbench201", n, name, few=True) for n, name in enumerate(names)}
    return nats_folder(folder / "NATS-tss-simple", "nasbench201", states, names)


def _small_file(folder: Path) -> Path:
    names = space_names("natsbench_size", range(3))
    states = {n: arch_states("natsbench_size", n, name, few=True) for n, name in enumerate(names)}
    return nats_file(folder / "NATS-sss.pickle.pbz2", states, names)


def _small_transnas(folder: Path) -> Path:
    names = {"macro": space_names("transnas_macro", range(2)), "micro": space_names("transnas_micro", range(2))}
    return transnas_pth(folder / "transnas.pth", transnas_database(names, ["jigsaw"]))


#: Name in READERS → writer of a small valid source.
FUZZ: dict[str, Callable[[Path], Path]] = {
    "nats-bench-size": _small_file,
    "nats-bench-topology": _small_folder,
    "transnas-macro-pth": _small_transnas,
    "transnas-micro-pth": _small_transnas,
}
