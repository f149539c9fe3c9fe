"""A table in memory: what readers produce, what the store writes and what it gives back."""

from __future__ import annotations

__all__ = ["Column", "Table", "in_index_order", "mean_over_runs"]

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero import spaces
from tauzero.benchmarks._rows import RowFinder
from tauzero.spaces import BenchmarkFormatError, InvalidGenotypeError, SearchSpace

_UNITS = ("percent", "seconds", "joules", "count", "score")


@dataclass(frozen=True)
class Column:
    """One metric of every architecture of a table under fixed circumstances.

    Attributes
    ----------
    dataset
        Such as ``"cifar10"``.
    metric
        Such as ``"test_accuracy"``.
    epoch
        Epochs of training after which it was measured; None for what does not depend on training.
    run
        Number of the training run from 0; None for the mean over runs, or the only value there is.
    unit
        ``"percent"``, ``"seconds"``, ``"joules"``, ``"count"``, or ``"score"`` for any other finite number of which
        more is better (a structural similarity, a negative loss); the metric's name says what it is.
    values
        ``float32``, ``float64``, ``int32`` or ``int64``, ``[rows]``; NaN where there is no value.
    description
        One sentence for people: where the figure comes from.
    checksum
        CRC-32 of the values as they stand in the store that they are mapped from; None in memory, and for stores
        of older versions.
    """

    dataset: str
    metric: str
    epoch: int | None
    run: int | None
    unit: str
    values: npt.NDArray[Any] = field(repr=False)
    description: str = ""
    checksum: int | None = field(default=None, repr=False, compare=False)

    @property
    def key(self) -> tuple[str, str, int | None, int | None]:
        """Dataset, metric, epoch and run: unique within a table."""
        return self.dataset, self.metric, self.epoch, self.run

    @property
    def name(self) -> str:
        """Name within a store, such as ``cifar10/test_accuracy/200/mean`` or ``cifar10/flops``."""
        if self.epoch is None:
            return f"{self.dataset}/{self.metric}"
        return f"{self.dataset}/{self.metric}/{self.epoch}/{'mean' if self.run is None else f'run{self.run}'}"

    def verify(self) -> None:
        """Check that the values are those that were written, where there is a checksum.

        Raises
        ------
        BenchmarkFormatError
            If they are not; a value that is merely another one is found by nothing else.
        """
        if self.checksum is not None and zlib.crc32(self.values.data) != self.checksum:
            raise BenchmarkFormatError(
                f"Column {self.name!r} is damaged: its values are not those that were written (CRC-32). Import the "
                "table again: `tauzero benchmarks import NAME PATH`."
            )

    def check(self) -> None:
        """Check that all values are possible in their unit.

        Raises
        ------
        BenchmarkFormatError
            Naming the first row with an impossible value.
        """
        if self.unit not in _UNITS:
            raise BenchmarkFormatError(f"Column {self.name!r}: the unit must be one of {_UNITS}. Got {self.unit!r}.")
        if self.values.dtype.str[1:] not in {"f4", "f8", "i4", "i8"}:
            raise BenchmarkFormatError(
                f"Column {self.name!r} must hold 32- or 64-bit numbers. Got dtype {self.values.dtype}."
            )
        bad = np.isinf(self.values) | (self.values < (-np.inf if self.unit == "score" else 0.0))
        if self.unit == "percent":
            bad |= self.values > 100.0
        if bad.any():
            row = int(np.argmax(bad))
            allowed = {"percent": "lie in [0, 100] percent", "score": "be finite"}
            raise BenchmarkFormatError(
                f"Column {self.name!r} must {allowed.get(self.unit, f'lie in [0, ∞) {self.unit}')} "
                f"or be NaN for no value. Got {self.values[row]} in row {row}: is the file damaged?"
            )


@dataclass(frozen=True)
class Table:
    """Columns over architectures of a space, in the order of ``space.index`` where the space has one.

    Attributes
    ----------
    name
        Name of the benchmark, such as ``"nasbench201"``.
    space
        Name of the search space.
    columns
        The columns; for each (dataset, metric, epoch) with runs also their mean (run None).
    index
        ``int64[rows]``, strictly ascending: ``space.index`` of each row; None if every architecture
        of the space has a row, or the space cannot be enumerated.
    licence
        Licence of the data.
    provenance
        JSON-able: where the figures come from.
    path
        File that the columns are mapped from; None in memory.
    genotypes
        ``int8[rows, L]``: the architecture of each row, no network twice; only for spaces that cannot be
        enumerated, which have no ``index``.
    """

    name: str
    space: str
    columns: tuple[Column, ...]
    licence: str
    provenance: dict[str, Any]
    index: npt.NDArray[np.int64] | None = None
    path: Path | None = None
    genotypes: npt.NDArray[np.int8] | None = field(default=None, repr=False)

    @property
    def rows(self) -> int:
        """Number of architectures in the table."""
        return len(self.columns[0].values) if self.columns else 0

    def check_shape(self) -> None:
        """Check what can be seen without reading the values: names, lengths, the space and the index.

        Raises
        ------
        BenchmarkFormatError
            Saying what does not fit.
        """
        if not self.columns:
            raise BenchmarkFormatError(f"The table {self.name!r} has no columns.")
        if self.space not in spaces.names():
            raise BenchmarkFormatError(
                f"The table {self.name!r} is over the search space {self.space!r}, which this tauzero does not "
                f"know. Known: {', '.join(spaces.names())}."
            )
        keys = [c.key for c in self.columns]
        if len(set(keys)) < len(keys):
            twice = next(k for k in keys if keys.count(k) > 1)
            raise BenchmarkFormatError(f"The table {self.name!r} has two columns for {twice}.")
        for column in self.columns:
            if column.values.shape != (self.rows,):
                raise BenchmarkFormatError(
                    f"Column {column.name!r} must have {self.rows} values. Got shape {column.values.shape}."
                )
        space = spaces.get(self.space)
        if not space.enumerable:
            self._check_genotypes(space)
            return
        if self.genotypes is not None:
            raise BenchmarkFormatError(
                f"The table {self.name!r} must not have genotypes: {self.space} can be enumerated, its rows are named "
                "by `index`."
            )
        size = space.size
        if self.index is None:
            if self.rows != size:
                raise BenchmarkFormatError(
                    f"The table {self.name!r} must have {size} rows, one for each architecture of {self.space}, or "
                    f"an index. Got {self.rows}."
                )
            return
        steps = np.diff(self.index)
        if len(self.index) != self.rows or (steps <= 0).any() or self.index[0] < 0 or self.index[-1] >= size:
            raise BenchmarkFormatError(
                f"The index of table {self.name!r} must rise strictly within 0 to {size - 1}, one value for each of "
                f"the {self.rows} rows."
            )

    def _check_genotypes(self, space: SearchSpace) -> None:
        if self.index is not None or self.genotypes is None:
            raise BenchmarkFormatError(
                f"The table {self.name!r} must name its rows by genotypes and have no index: {self.space} cannot be "
                "enumerated."
            )
        if self.genotypes.dtype != np.int8 or self.genotypes.shape != (self.rows, space.length):
            raise BenchmarkFormatError(
                f"The genotypes of table {self.name!r} must be int8 of shape ({self.rows}, {space.length}). "
                f"Got {self.genotypes.dtype} of shape {self.genotypes.shape}."
            )
        try:
            rows = space.validate(self.genotypes)
        except InvalidGenotypeError as error:
            raise BenchmarkFormatError(f"The genotypes of table {self.name!r} are damaged. {error}") from error
        RowFinder(space, rows)  # refuses a network that stands there twice


def in_index_order(
    space: SearchSpace, genotypes: npt.NDArray[np.int8]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64] | None]:
    """Order in which rows of a file have to be stored.

    Returns
    -------
    order
        ``int64[rows]``: row of the file for each row of the store.
    index
        `Table.index`: None if the rows are the whole space.

    Raises
    ------
    BenchmarkFormatError
        If two rows are the same architecture, naming both.
    """
    index = space.index(genotypes)
    order = np.argsort(index, kind="stable").astype(np.int64)
    ascending = index[order]
    same = ascending[1:] == ascending[:-1]
    if same.any():
        first = int(np.argmax(same))
        raise BenchmarkFormatError(
            f"Rows {order[first]} and {order[first + 1]} of the file are the same {space.name} architecture "
            f"(index {ascending[first]}): each may stand there once."
        )
    return order, None if len(order) == space.size else ascending.astype(np.int64)


def mean_over_runs(runs: Sequence[npt.NDArray[np.floating[Any]]]) -> npt.NDArray[np.float64]:
    """Mean of the runs that there are, ``float64[rows]``; NaN where no run has a value."""
    stacked = np.stack([np.asarray(r, dtype=np.float64) for r in runs])
    there = ~np.isnan(stacked)
    count = there.sum(axis=0)
    total = np.where(there, stacked, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
