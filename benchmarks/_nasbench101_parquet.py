"""Reader: NAS-Bench-101 as one Parquet file, with a second one of other training budgets beside it."""

from __future__ import annotations

__all__ = ["genotypes_of_codes", "read", "recognises"]

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero import spaces
from tauzero.benchmarks._parquet import file_digest, find_parquet, read_columns
from tauzero.benchmarks._table import Column, Table, in_index_order
from tauzero.spaces import BenchmarkFormatError, Progress

_CELL = ["n_vertices", "adj_bits", "ops_base3"]
_MAIN = [*_CELL, "params", "test_acc108_mean"]
_EPOCHS = (4, 12, 36, 108)
_FULL = 108
_SIDE = ["index", *(f"val_acc_e{e}" for e in _EPOCHS), "train_time_s_e108"]
_LICENCE = "Apache-2.0 (NAS-Bench-101, Google LLC)"


def _fits(names: frozenset[str]) -> bool:
    return names.issuperset(_MAIN)


def recognises(path: Path) -> bool:
    """Whether a file, or one in a folder, has the cells and accuracies of NAS-Bench-101."""
    return find_parquet(path, _fits) is not None


def genotypes_of_codes(
    vertices: npt.NDArray[Any], bits: npt.NDArray[Any], operations: npt.NDArray[Any]
) -> npt.NDArray[np.int8]:
    """Turn packed cells of 2 to 7 vertices into genotypes of the space, ``int8[n, 26]``.

    Parameters
    ----------
    vertices
        ``[n]``, 2 to 7; the last vertex is the output, which in a genotype is always vertex 6.
    bits
        ``[n]``: bit y(y-1)/2 + x is the edge x→y.
    operations
        ``[n]``: base-3 digits, the least significant for vertex 1.
    """
    wrong = (vertices < 2) | (vertices > 7) | (bits.astype(np.int64) >= 2**21) | (operations >= 3**5)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise BenchmarkFormatError(
            f"Row {row} is no NAS-Bench-101 cell: n_vertices {vertices[row]} (2 to 7), adj_bits {bits[row]} "
            f"(below 2^21), ops_base3 {operations[row]} (below 3^5)."
        )
    edges = (bits.astype(np.int64)[:, None] >> np.arange(21) & 1).astype(np.int8)
    codes = (operations.astype(np.int64)[:, None] // 3 ** np.arange(5) % 3).astype(np.int8)
    for v in range(2, 7):
        small = np.flatnonzero(vertices == v)
        start = (v - 1) * (v - 2) // 2
        into_output = edges[small, start : start + v - 1]
        edges[small, start:] = 0
        edges[small, 15 : 15 + v - 1] = into_output
        codes[small, v - 2 :] = 0
    return np.concatenate([edges, codes], axis=1)


def read(path: Path, progress: Progress) -> Table:
    """Read the table; accuracies in [0, 1] become percent, in float64 so that no two values fall together."""
    found = find_parquet(path, _fits)
    if found is None:
        raise BenchmarkFormatError(f"'{path}' is no NAS-Bench-101 Parquet file.")
    space = spaces.get("nasbench101")
    progress(0, 10)
    raw = read_columns(found, _MAIN)
    progress(2, 10)  # most of the time goes into finding each cell in the space
    genotypes = space.validate(genotypes_of_codes(*(raw[name] for name in _CELL)))
    order, index = in_index_order(space, genotypes)
    progress(8, 10)
    columns = [
        Column(
            "cifar10",
            "test_accuracy",
            _FULL,
            None,
            "percent",
            100.0 * raw["test_acc108_mean"][order].astype(np.float64),
            "mean of 3 runs",
        ),
        Column(
            "cifar10",
            "parameters",
            None,
            None,
            "count",
            raw["params"][order].astype(np.int32),
            "trainable parameters",
        ),
    ]
    files = [file_digest(found)]
    side = found.with_name(f"{found.stem}_fidelity.parquet")
    if side.is_file():
        columns += _fidelities(side, order)
        files.append(file_digest(side))
    return Table(
        name="nasbench101",
        space=space.name,
        columns=tuple(columns),
        licence=_LICENCE,
        provenance={"reader": "nasbench101-parquet", "files": files},
        index=index,
    )


def _fidelities(path: Path, order: npt.NDArray[np.int64]) -> list[Column]:
    """Columns of the second file, whose ``index`` counts rows of the first; NaN for the cells it lacks."""
    data = read_columns(path, _SIDE)
    rows = data["index"].astype(np.int64)
    if (rows >= len(order)).any() or len(np.unique(rows)) < len(rows):
        raise BenchmarkFormatError(f"The column 'index' of '{path}' must name each row of the main file at most once.")

    def spread(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        whole = np.full(len(order), np.nan)
        whole[rows] = values
        return whole[order]

    columns = []
    for epoch in _EPOCHS:
        values = 100.0 * spread(data[f"val_acc_e{epoch}"])
        columns.append(Column("cifar10", "validation_accuracy", epoch, None, "percent", values, "one run"))
    for epoch in _EPOCHS:
        seconds = spread(data["train_time_s_e108"]) * epoch / _FULL
        text = "one run" if epoch == _FULL else f"{epoch}/{_FULL} of the {_FULL}-epoch time"
        columns.append(Column("cifar10", "training_seconds", epoch, None, "seconds", seconds, text))
    return columns
