"""Readers: both tables of TransNAS-Bench-101 from its official file ``transnas-bench_v10141024.pth``.

``data[space][arch][task]`` has ``metrics``, a list over epochs for each of ``train_top1``, ``valid_top1``, …, and
``model_info`` (yawen-d/TransNASBench: README.md and the class TransNASBenchAPI). Architectures are read one at a time.
"""

from __future__ import annotations

__all__ = ["read_macro", "read_micro", "recognises"]

import math
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tauzero import spaces
from tauzero.benchmarks import _safe_torch
from tauzero.benchmarks._nats_results import number
from tauzero.benchmarks._parquet import file_digest
from tauzero.benchmarks._pickle_input import Limits
from tauzero.benchmarks._table import Column, Table, in_index_order
from tauzero.benchmarks._transnas_parquet import LICENCE, TASKS
from tauzero.spaces import BenchmarkFormatError, Progress

_SIZES: Final = {"micro": 4_096, "macro": 3_256}
_LIMITS = Limits(string=2**20, entry=32 * 2**20, names=256 * 2**20)
_KEYS = (b"metrics_dict", b"info_names", b"task_list", b"model_info")

#: Their name of our metric (after ``train_``, ``valid_``, ``test_``).
_METRICS: Final = {
    "class_scene": "top1",
    "class_object": "top1",
    "jigsaw": "top1",
    "room_layout": "neg_loss",
    "segmentsemantic": "acc",
    "normal": "ssim",
    "autoencoder": "ssim",
}
_SPLITS: Final = (("validation", "valid"), ("test", "test"), ("train", "train"))

#: Our name of a figure about the network, theirs, unit and text.
_FACTS: Final = (
    ("parameters", "model_params", "count", "backbone and decoder, as published"),
    ("encoder_parameters", "encoder_params", "count", "backbone, as published"),
    ("flops", "model_FLOPs", "count", "backbone and decoder, as published (multiply-adds of thop)"),
    ("encoder_flops", "encoder_FLOPs", "count", "backbone, as published (multiply-adds of thop)"),
    ("latency_seconds", "inference_time", "seconds", "one image of 720 × 1080 on a GPU, as published"),
)
_MOST_EPOCHS = max(epochs for *_, epochs, _ in TASKS)


def recognises(path: Path) -> bool:
    """Whether a file is one of torch.save whose object begins like TransNAS-Bench-101's; it has both tables."""
    head = _safe_torch.head(path)
    return any(key in head for key in _KEYS) and b"meta_archs" not in head


def read_micro(path: Path, progress: Progress) -> Table:
    """Read the table of cells."""
    return _read(path, progress, "micro")


def read_macro(path: Path, progress: Progress) -> Table:
    """Read the table of chains."""
    return _read(path, progress, "macro")


def _damaged(where: str, what: str) -> BenchmarkFormatError:
    return BenchmarkFormatError(f"{where}: {what}: is the file damaged?")


def _number(value: object, where: str) -> float:
    return math.nan if value is None or value == "" else number(value, where)


def _seconds(value: object, where: str) -> float:
    """Seconds since the training began; their timer writes HH:MM:SS."""
    if isinstance(value, str) and value.count(":") == 2 and len(value) < 20:
        hours, minutes, seconds = (part.strip() for part in value.split(":"))
        if hours.isdecimal() and minutes.isdecimal() and seconds.isdecimal():
            return 3600.0 * int(hours) + 60.0 * int(minutes) + int(seconds)
    return _number(value, where)


class _Consumer:
    """Takes the architectures of one space from the stream, and drops those of the other."""

    def __init__(self, path: Path, space: str, progress: Progress) -> None:
        self._path, self._space, self._progress = path, space, progress
        self.names: list[str] = []
        self.curves: list[npt.NDArray[np.float32]] = []  # [tasks, splits and seconds, epochs]
        self.facts: list[npt.NDArray[np.float64]] = []  # [tasks, facts]

    def watches(self, key: str) -> bool:
        return key in _SIZES

    def entry(self, parent: str, key: object, value: object) -> None:
        if parent != self._space:
            return
        where = f"'{self._path}', architecture {key!r:.80}"
        if not isinstance(key, str) or not isinstance(value, dict):
            raise _damaged(where, "expected a name and a dictionary of tasks")
        curves = np.full((len(TASKS), len(_SPLITS) + 1, _MOST_EPOCHS), np.nan, np.float32)
        facts = np.full((len(TASKS), len(_FACTS)), np.nan)
        for t, (task, _, _, epochs, _) in enumerate(TASKS):
            if task in value:
                self._task(value[task], f"{where}, {task}", task, curves[t, :, :epochs], facts[t])
        self.names.append(key)
        self.curves.append(curves)
        self.facts.append(facts)
        size = _SIZES[self._space]
        self._progress(min(len(self.names), size), size)

    def _task(
        self,
        result: Any,
        where: str,
        task: str,
        curves: npt.NDArray[np.float32],
        facts: npt.NDArray[np.float64],
    ) -> None:
        metrics = result.get("metrics") if isinstance(result, dict) else None
        if not isinstance(metrics, dict):
            raise _damaged(where, "expected metrics")
        for s, (_, split) in enumerate(_SPLITS):
            name = f"{split}_{_METRICS[task]}"
            values = self._list(metrics, name, curves.shape[1], where)
            curves[s, : len(values)] = [_number(v, where) for v in values]
        values = self._list(metrics, "time_elapsed", curves.shape[1], where)
        curves[-1, : len(values)] = [_seconds(v, where) for v in values]
        info = result.get("model_info")
        if isinstance(info, dict):
            facts[:] = [_number(info.get(theirs), where) for _, theirs, _, _ in _FACTS]

    def _list(self, metrics: dict[Any, Any], name: str, most: int, where: str) -> list[Any]:
        values = metrics.get(name, [])
        if not isinstance(values, list) or len(values) > most:
            raise _damaged(where, f"{name} must be a list of at most {most} values, one for each epoch")
        return values


def _read(path: Path, progress: Progress, kind: str) -> Table:
    consumer = _Consumer(path, kind, progress)
    progress(0, _SIZES[kind])
    _safe_torch.load(path, consumer, _LIMITS)
    name = f"transnas_{kind}"
    if not consumer.names:
        raise BenchmarkFormatError(f"'{path}' has no results of {name}: is it TransNAS-Bench-101's file?")
    space = spaces.get(name)
    try:
        order, index = in_index_order(space, space.from_string(consumer.names))
    except ValueError as error:
        raise BenchmarkFormatError(f"'{path}' names an architecture that {name} has not: {error}") from error
    curves, facts = np.stack(consumer.curves)[order], np.stack(consumer.facts)[order]
    progress(_SIZES[kind], _SIZES[kind])
    return Table(
        name=name,
        space=space.name,
        columns=tuple(c for t in range(len(TASKS)) for c in _columns(t, curves[:, t], facts[:, t])),
        licence=LICENCE,
        provenance={"reader": f"transnas-{kind}-pth", "architectures": len(order), "files": [file_digest(path)]},
        index=index,
    )


def _columns(t: int, curves: npt.NDArray[np.float32], facts: npt.NDArray[np.float64]) -> list[Column]:
    """Columns of a task from ``float32[n, splits and seconds, epochs]`` and ``float64[n, facts]``."""
    task, metric, unit, epochs, text = TASKS[t]
    found = []
    for s, (ours, _) in enumerate(_SPLITS):
        for e in range(epochs):
            when = "after the last epoch" if e + 1 == epochs else f"after {e + 1} of {epochs} epochs"
            found.append((f"{ours}_{metric}", e + 1, unit, curves[:, s, e], f"{text}, {when}; one run"))
    known = np.where(np.isnan(curves[:, 0, :epochs]), -np.inf, curves[:, 0, :epochs]).max(axis=1)
    best = np.where(np.isneginf(known), np.nan, known).astype(np.float32)
    when = "at the best epoch on the validation set"
    found.append((f"best_validation_{metric}", epochs, unit, best, f"{text}, {when}; one run"))
    seconds = curves[:, -1, :epochs]
    if (np.diff(seconds, axis=1) < 0).any():  # not since the beginning, but of each epoch
        seconds = np.cumsum(seconds, axis=1, dtype=np.float64).astype(np.float32)
    text = "since the training began, as published"
    found += [("training_seconds", e + 1, "seconds", seconds[:, e], text) for e in range(epochs)]
    columns = [
        Column(task, name, epoch, None, unit, np.ascontiguousarray(values), text)
        for name, epoch, unit, values, text in found
    ]
    columns += [Column(task, n, None, None, u, facts[:, f].copy(), d) for f, (n, _, u, d) in enumerate(_FACTS)]
    return [column for column in columns if not np.isnan(column.values).all()]
