"""Reader: NAS-Bench-Macro's ``nas-bench-macro_cifar10.json``."""

from __future__ import annotations

__all__ = ["read", "recognises"]

import json
import re
from pathlib import Path
from typing import Any, Final

import numpy as np

from tauzero import spaces
from tauzero.benchmarks._parquet import file_digest
from tauzero.benchmarks._table import Column, Table, in_index_order
from tauzero.spaces import BenchmarkFormatError, NASBenchMacro, Progress

_MAX_BYTES: Final = 16 * 2**20  # the published file has 1.2 million
_EPOCHS, _RUNS = 50, 3  # ``train.py``
_FIELDS = ("test_acc", "mean_acc", "std", "params", "flops")
_START = re.compile(rb'\s*\{\s*"[012]{8}"\s*:\s*\{\s*"(?:test_acc|mean_acc|std|params|flops)"')
_TOLERANCE = 1e-3  # percent; the file's means are of float32 values
_LICENCE = "Apache-2.0 (NAS-Bench-Macro, Xiu Su)"


def recognises(path: Path) -> bool:
    """Whether a file begins with a record of eight digits that has one of the published fields."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return _START.match(stream.read(256)) is not None
    except OSError:
        return False


def read(path: Path, progress: Progress) -> Table:
    """Read test accuracies (percent) of three runs, their mean, parameters and multiply-adds.

    Raises
    ------
    BenchmarkFormatError
        If the file is damaged, too large or foreign, names a network twice, or holds means or sizes that are not
        those of its runs and networks.
    """
    space = spaces.get("nasbench_macro")
    if not isinstance(space, NASBenchMacro):  # pragma: no cover - for the type checker
        raise TypeError("The registry of spaces holds something else under the name 'nasbench_macro'.")
    progress(0, 2)
    records = _records(path)
    progress(1, 2)
    runs = np.array([record["test_acc"] for record in records.values()], dtype=np.float64)
    genotypes = space.from_string(list(records))
    for name, computed in zip(("params", "flops"), space.costs(genotypes), strict=True):
        for (arch, record), expected in zip(records.items(), computed.tolist(), strict=True):
            if record[name] != expected:
                raise BenchmarkFormatError(
                    f"'{path}': {name} of {arch} must be those of the network, {expected}. Got {record[name]}: is the "
                    "file damaged?"
                )
    for name, figures in (("mean_acc", runs.mean(axis=1)), ("std", runs.std(axis=1))):
        for (arch, record), expected in zip(records.items(), figures.tolist(), strict=True):
            if abs(record[name] - expected) > _TOLERANCE:
                raise BenchmarkFormatError(
                    f"'{path}': {name} of {arch} must be that of its three runs, {expected:.4f}. Got {record[name]}: "
                    "is the file damaged?"
                )
    order, index = in_index_order(space, genotypes)
    parameters, flops = space.costs(genotypes[order])
    text = f"the best of {_EPOCHS} epochs on the test set"
    mean = runs[order].mean(axis=1).astype(np.float32)
    columns = [Column("cifar10", "test_accuracy", _EPOCHS, None, "percent", mean, f"mean over three runs; {text}")]
    for k in range(_RUNS):
        values = runs[order, k].astype(np.float32)
        columns.append(Column("cifar10", "test_accuracy", _EPOCHS, k, "percent", values, f"run {k}; {text}"))
    counted = "multiply-adds of convolutions and classifier, counted once, as published"
    columns += [
        Column("cifar10", "parameters", None, None, "count", parameters.astype(np.int32), "as published"),
        Column("cifar10", "flops", None, None, "count", flops.astype(np.int32), counted),
    ]
    progress(2, 2)
    return Table(
        name="nasbench_macro",
        space=space.name,
        columns=tuple(columns),
        licence=_LICENCE,
        provenance={"reader": "nasbench-macro-json", "files": [file_digest(path)]},
        index=index,
    )


def _records(path: Path) -> dict[str, dict[str, Any]]:
    """Records by architecture, each with three accuracies, two figures of them and two counts."""
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise BenchmarkFormatError(f"'{path}' is too large: {size} bytes, the limit is {_MAX_BYTES}.")
        content = json.loads(path.read_bytes(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except OSError as error:
        raise BenchmarkFormatError(f"Cannot read '{path}': {error.strerror or error}.") from error
    except (ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, BenchmarkFormatError):
            raise
        raise BenchmarkFormatError(f"'{path}' is truncated or damaged JSON ({error}). Get the file again.") from error
    if not isinstance(content, dict) or not content:
        raise BenchmarkFormatError(f"'{path}' must be a JSON object of architectures. Got {type(content).__name__}.")
    for arch, record in content.items():
        if len(arch) != 8 or not set(arch) <= set("012"):
            raise BenchmarkFormatError(f"'{path}': architectures are eight digits 0 to 2. Got {arch!r:.40}.")
        if not (isinstance(record, dict) and record.keys() >= set(_FIELDS)):
            raise BenchmarkFormatError(f"'{path}': {arch} must have {', '.join(_FIELDS)}. Got {record!r:.80}.")
        accuracies = record["test_acc"]
        if not (isinstance(accuracies, list) and len(accuracies) == _RUNS and all(map(_is_percent, accuracies))):
            raise BenchmarkFormatError(
                f"'{path}': test_acc of {arch} must be three accuracies in percent. Got {accuracies!r:.80}."
            )
        for name in ("mean_acc", "std"):
            if not _is_percent(record[name]):
                raise BenchmarkFormatError(f"'{path}': {name} of {arch} must be in percent. Got {record[name]!r:.40}.")
    return content


def _is_percent(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r:.40} stands there twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")
