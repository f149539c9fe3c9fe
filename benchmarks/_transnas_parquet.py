"""Readers: both tables of TransNAS-Bench-101 (Duan et al., CVPR 2021), one Parquet file each."""

from __future__ import annotations

__all__ = ["LICENCE", "TASKS", "read_macro", "read_micro", "recognises_macro", "recognises_micro"]

from pathlib import Path

import numpy as np

from tauzero import spaces
from tauzero.benchmarks._parquet import file_digest, find_parquet, read_columns, schema_names
from tauzero.benchmarks._table import Column, Table, in_index_order
from tauzero.spaces import BenchmarkFormatError, Progress

_OPS = [f"op{k}" for k in range(6)]
LICENCE = "MIT (TransNAS-Bench-101, Yawen Duan et al.); collected in NASLib (Apache-2.0)"

#: Task, metric, unit, epochs of training and what was measured; the first task is the default dataset.
TASKS = (
    ("class_scene", "accuracy", "percent", 25, "top-1 accuracy of scene classification"),
    ("class_object", "accuracy", "percent", 25, "top-1 accuracy of object classification"),
    ("jigsaw", "accuracy", "percent", 10, "top-1 accuracy of solving jigsaw puzzles"),
    ("room_layout", "negative_loss", "score", 25, "negative L2 loss of room layout estimation"),
    ("segmentsemantic", "accuracy", "percent", 30, "pixel accuracy of semantic segmentation"),
    ("normal", "ssim", "score", 30, "structural similarity of surface normals, at most 1"),
    ("autoencoder", "ssim", "score", 30, "structural similarity of reconstructed images, at most 1"),
)
_FINAL = [f"val_accuracy_{task}" for task, *_ in TASKS]
_MODULES = 4  # a macro network has at least four modules, so these columns have no zero in its table


def _fits(names: frozenset[str]) -> bool:
    return names.issuperset([*_OPS, *_FINAL])


def _is_macro(path: Path) -> bool:
    """Whether the codes are those of modules: none of the first four is 0, which every table of cells has."""
    raw = read_columns(path, _OPS[:_MODULES])
    return all(values.dtype.kind in "iu" and bool((values > 0).all()) for values in raw.values())


def _find(path: Path, macro: bool) -> Path | None:
    candidates = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    return next((p for p in candidates if find_parquet(p, _fits) and _is_macro(p) == macro), None)


def recognises_micro(path: Path) -> bool:
    """Whether a file, or one in a folder, has the cells of TransNAS-Bench-101 and its seven tasks."""
    return _find(path, macro=False) is not None


def recognises_macro(path: Path) -> bool:
    """Whether a file, or one in a folder, has the chains of TransNAS-Bench-101 and its seven tasks."""
    return _find(path, macro=True) is not None


def read_micro(path: Path, progress: Progress) -> Table:
    """Read the table of cells."""
    return _read("transnas_micro", path, progress)


def read_macro(path: Path, progress: Progress) -> Table:
    """Read the table of chains."""
    return _read("transnas_macro", path, progress)


def _read(name: str, path: Path, progress: Progress) -> Table:
    """Read the validation metric of every task, after the last epoch and, where the file has it, the best epoch."""
    found = _find(path, macro=name == "transnas_macro")
    if found is None:
        raise BenchmarkFormatError(f"'{path}' is no {name} Parquet file.")
    space = spaces.get(name)
    progress(0, 1)
    best = [f"bestval_{task}" for task, *_ in TASKS if f"bestval_{task}" in schema_names(found)]
    raw = read_columns(found, [*_OPS, *_FINAL, *best])
    order, index = in_index_order(space, space.validate(np.stack([raw[op] for op in _OPS], axis=1)))
    columns = []
    for task, metric, unit, epochs, text in TASKS:
        for source, prefix, when in (
            (f"val_accuracy_{task}", "validation", "after the last epoch"),
            (f"bestval_{task}", "best_validation", "at the best epoch on the validation set"),
        ):
            if source in raw:
                values = raw[source][order].astype(np.float32)
                columns.append(
                    Column(task, f"{prefix}_{metric}", epochs, None, unit, values, f"{text}, {when}; one run")
                )
    progress(1, 1)
    return Table(
        name=name,
        space=space.name,
        columns=tuple(columns),
        licence=LICENCE,
        provenance={"reader": name.replace("_", "-") + "-parquet", "files": [file_digest(found)]},
        index=index,
    )
