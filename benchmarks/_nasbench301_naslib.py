"""Reader: DARTS cells with NAS-Bench-301's predictions, as NASLib's zero-cost benchmark lists them."""

from __future__ import annotations

__all__ = ["cells_of_json", "read", "recognises"]

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from tauzero import spaces
from tauzero.benchmarks._parquet import file_digest, find_parquet, read_columns
from tauzero.benchmarks._table import Column, Table
from tauzero.spaces import BenchmarkFormatError, Genotypes, InvalidGenotypeError, Progress

if TYPE_CHECKING:
    from tauzero.spaces.darts import DARTS

_CELLS = ("normal", "reduce")
_VALUE = "val_accuracy"
_EPOCHS = 100  # of the trainings that the surrogate learned from
_LICENCE = "Apache-2.0 (NASLib and NAS-Bench-301, AutoML Freiburg)"
_TEXT = "predicted by the surrogate model of NAS-Bench-301, not trained"


def _fits(names: frozenset[str]) -> bool:
    return names.issuperset([*_CELLS, _VALUE])


def recognises(path: Path) -> bool:
    """Whether a file, or one in a folder, has normal and reduction cells with an accuracy."""
    return find_parquet(path, _fits) is not None


def cells_of_json(normal: Iterable[Any], reduce: Iterable[Any], rows: npt.NDArray[np.int64]) -> Genotypes:
    """Read cells that are written as JSON, eight pairs ``[input, operation code]`` each.

    Parameters
    ----------
    normal, reduce
        A text for each architecture.
    rows
        ``int64[n]``: number of each in its file, for messages.

    Returns
    -------
    ``int8[n, 32]``: rows of the space ``darts``.

    Raises
    ------
    BenchmarkFormatError
        If a text is no JSON, or not of that form.
    """
    space = cast("DARTS", spaces.get("darts"))
    pairs = []
    for row, texts in zip(rows.tolist(), zip(normal, reduce, strict=True), strict=True):
        try:
            pairs.append([json.loads(text) for text in texts])
        except (TypeError, ValueError) as error:
            raise BenchmarkFormatError(f"Row {row} has a cell that is no JSON ({error}). Got {texts}.") from error
    try:
        return space.from_naslib([cell for cell, _ in pairs], [cell for _, cell in pairs])
    except InvalidGenotypeError as error:
        raise BenchmarkFormatError(f"The cells cannot be read: {error}") from error


def read(path: Path, progress: Progress) -> Table:
    """Read the cells that have an accuracy (percent); rows that are the same network are merged into their mean."""
    found = find_parquet(path, _fits)
    if found is None:
        raise BenchmarkFormatError(f"'{path}' is no Parquet file of DARTS cells.")
    space = spaces.get("darts")
    progress(0, 2)
    raw = read_columns(found, [*_CELLS, _VALUE])
    accuracy = raw[_VALUE].astype(np.float64)
    there = np.flatnonzero(~np.isnan(accuracy))
    if not len(there):
        raise BenchmarkFormatError(f"'{found}' has no value in its column {_VALUE}.")
    genotypes = cells_of_json(raw["normal"][there].tolist(), raw["reduce"][there].tolist(), there)
    progress(1, 2)
    rows, inverse = space.distinct(genotypes)
    mean = np.bincount(inverse, weights=accuracy[there]) / np.bincount(inverse)
    progress(2, 2)
    provenance = {
        "reader": "nasbench301-naslib",
        "files": [file_digest(found)],
        "accuracy": _TEXT,
        "rows_with_accuracy": len(there),
        "rows_merged": len(there) - len(rows),
        "merged": "rows that are the same network, into the mean of their accuracies",
    }
    column = Column(
        "cifar10", "validation_accuracy", _EPOCHS, None, "percent", mean, f"after {_EPOCHS} epochs, {_TEXT}"
    )
    return Table("nasbench301", space.name, (column,), _LICENCE, provenance, genotypes=rows)
