"""Reader: NAS-Bench-101's own files, ``nasbench_only108.tfrecord`` and ``nasbench_full.tfrecord``, and their like."""

from __future__ import annotations

__all__ = ["read", "recognises", "resume"]

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero import spaces
from tauzero.benchmarks._nasbench101_records import VALUES, Records, read_block
from tauzero.benchmarks._parquet import file_digest
from tauzero.benchmarks._parts import Parts
from tauzero.benchmarks._table import Column, Table, mean_over_runs
from tauzero.benchmarks._tfrecord import Block, first_record, record_blocks
from tauzero.spaces import BenchmarkFormatError, NASBench101, Progress

_BEGINNING = re.compile(rb'\s*\[\s*"[0-9a-fA-F]{32}"\s*,')
_MOST_RUNS, _MOST_BUDGETS = 10, 8
_ASSEMBLY = 20  # one in so many steps comes after the reading
_HASHED = 50_000  # cells whose hashes are computed at a time: bounds the memory
#: SHA-256 of the module hashes of all cells, in the order of the space. That of a complete file says that every hash
#: in it is right; computing all would take longer than everything else. tests/test_benchmarks_tfrecord.py makes it.
_ALL_HASHES = "1f4a7db984f8bb44da50e51b6c7e830bd26a761a39d60997ef500b7610ef0449"
_LICENCE = "Apache-2.0 (NAS-Bench-101, Google LLC)"
_OTHER_LICENCE = "that of the file's source (NAS-Bench-101's own files: Apache-2.0, Google LLC)"
_TEXTS = {
    "training_seconds": "time until then, without evaluations",
    "train_accuracy": "on 10,000 training images",
    "validation_accuracy": "on the 10,000 images held out",
    "test_accuracy": "on the test images",
}


def recognises(path: Path) -> bool:
    """Whether a file is in TFRecord format and begins like a record of NAS-Bench-101."""
    sound, data = first_record(path)
    return bool(_BEGINNING.match(data)) or (sound and data.lstrip()[:1] == b"[")


def read(path: Path, progress: Progress) -> Table:
    """Read a whole file at once."""
    return resume(path, progress, Parts())


def resume(path: Path, progress: Progress, parts: Parts) -> Table:
    """Read a file in parts of 16 MB, going on after those that there are.

    The repeated trainings of a cell become runs, in the order in which they stand.

    Raises
    ------
    BenchmarkFormatError
        If the file is damaged or has anything but trainings of NAS-Bench-101's cells, naming the record.
    """
    space = spaces.get("nasbench101")
    assert isinstance(space, NASBench101)
    size = path.stat().st_size
    total = size + size // _ASSEMBLY + 1
    known = _Cells.of(space.size, parts)
    offset, first = (int(parts[-1]["offset"]), int(parts[-1]["first"])) if len(parts) else (0, 0)
    for block in record_blocks(path, offset, first):
        records = read_block(space, block)
        parts.append(
            cell=records.cell,
            epochs=records.epochs,
            values=records.values,
            elsewhere=np.array(np.count_nonzero(records.elsewhere)),
            offset=np.array(block.end),
            first=np.array(block.first + len(block)),
            **known.add(block, records),
        )
        progress(block.end, total)
    if not len(parts):
        raise BenchmarkFormatError(f"'{path}' has no records.")
    known.check(space)
    return _table(path, parts, known, space)


@dataclass
class _Cells:
    """What belongs to a cell and not to one of its trainings.

    Attributes
    ----------
    hash, parameters
        As stored, ``uint8[cells, 16]`` and ``int32[cells]``.
    record, offset
        Number of the first record of each cell, ``int64[cells]``, -1 for cells without one; and its place in bytes.
    """

    hash: npt.NDArray[np.uint8]
    parameters: npt.NDArray[np.int32]
    record: npt.NDArray[np.int64]
    offset: npt.NDArray[np.int64]

    @classmethod
    def of(cls, size: int, parts: Parts) -> _Cells:
        """Those of the parts that there are."""
        cells = cls(
            np.zeros((size, 16), np.uint8),
            np.zeros(size, np.int32),
            np.full(size, -1, np.int64),
            np.zeros(size, np.int64),
        )
        for part in parts:
            cells._put(part["new"], *(part[f"new_{name}"] for name in ("hash", "parameters", "record", "offset")))
        return cells

    def _put(self, new: npt.NDArray[Any], *values: npt.NDArray[Any]) -> None:
        arrays: tuple[npt.NDArray[Any], ...] = (self.hash, self.parameters, self.record, self.offset)
        for array, value in zip(arrays, values, strict=True):
            array[new] = value

    def add(self, block: Block, records: Records) -> dict[str, npt.NDArray[Any]]:
        """Take in the cells of a block; returns what was new, as arrays of a part.

        Raises
        ------
        BenchmarkFormatError
            If a record has another hash than an earlier one of the same cell.
        """
        cells, rows = np.unique(records.cell, return_index=True)
        rows = rows[self.record[cells] < 0]
        new = records.cell[rows]
        found = (records.hash[rows], records.parameters[rows], block.first + rows, block.offsets[rows])
        self._put(new, *found)
        other = (self.hash[records.cell] != records.hash).any(axis=1)
        if other.any():
            row = int(np.argmax(other))
            cell = records.cell[row]
            raise BenchmarkFormatError(
                f"{block.named(row)} has the module hash {bytes(records.hash[row]).hex()}, and record "
                f"{self.record[cell]} of the same cell has {bytes(self.hash[cell]).hex()}."
            )
        return {"new": new, **dict(zip(("new_hash", "new_parameters", "new_record", "new_offset"), found, strict=True))}

    @property
    def there(self) -> npt.NDArray[np.int64]:
        """Cells that have a record, ascending."""
        return np.flatnonzero(self.record >= 0)

    def check(self, space: NASBench101) -> None:
        """Check that every cell has its own module hash.

        Raises
        ------
        BenchmarkFormatError
            Naming the first record with another one.
        """
        there = self.there
        if len(there) == space.size and hashlib.sha256(self.hash.tobytes()).hexdigest() == _ALL_HASHES:
            return
        for some in np.split(there, range(_HASHED, len(there), _HASHED)):
            expected = space.hash(space.enumerate()[some])
            wrong = some[(expected != self.hash[some]).any(axis=1)]
            if len(wrong):
                cell = wrong[np.argmin(self.record[wrong])]
                right = bytes(space.hash(space.enumerate()[[cell]])[0]).hex()
                raise BenchmarkFormatError(
                    f"Record {self.record[cell]} (at byte {self.offset[cell]}) has the module hash "
                    f"{bytes(self.hash[cell]).hex()}, and its adjacency matrix and operations are those of {right}."
                )


def _table(path: Path, parts: Parts, known: _Cells, space: NASBench101) -> Table:
    there = known.there
    row_of = np.full(space.size, -1, dtype=np.int32)
    row_of[there] = np.arange(len(there), dtype=np.int32)
    columns = [column for budget in _measured(parts, row_of, len(there)) for column in budget]
    parameters = known.parameters[there]
    columns.append(Column("cifar10", "parameters", None, None, "count", parameters, "trainable parameters, as stored"))
    whole = len(there) == space.size
    elsewhere = sum(int(part["elsewhere"]) for part in parts)
    return Table(
        name=space.name,
        space=space.name,
        columns=tuple(columns),
        licence=_LICENCE if whole else _OTHER_LICENCE,
        provenance={
            "reader": "nasbench101-tfrecord",
            "files": [file_digest(path)],
            "records": int(parts[-1]["first"]),
            "records_without_halfway_evaluation": elsewhere,
        },
        index=None if whole else there.astype(np.int64),
    )


def _measured(parts: Parts, row_of: npt.NDArray[np.int32], rows: int) -> Iterator[list[Column]]:
    """Columns of each number of epochs, ascending."""
    epochs, cells = parts.joined("epochs"), parts.joined("cell")
    budgets, which = np.unique(epochs, return_inverse=True)
    if len(budgets) > _MOST_BUDGETS:
        raise BenchmarkFormatError(
            f"There are trainings of {len(budgets)} different numbers of epochs, at most {_MOST_BUDGETS} are expected."
        )
    run = _run_numbers(which.reshape(-1).astype(np.int64) * len(row_of) + cells)
    if run.max() >= _MOST_RUNS:
        record = int(np.argmax(run >= _MOST_RUNS))
        raise BenchmarkFormatError(
            f"Record {record} is training {run[record] + 1} of {epochs[record]} epochs of one cell, at most "
            f"{_MOST_RUNS} are expected."
        )
    ends = np.cumsum([len(part["cell"]) for part in parts])
    for k, budget in enumerate(budgets.tolist()):
        runs = 1 + int(run[which == k].max())
        # A part after the other: all records once more in one array would be the largest thing in memory.
        values = np.full((len(VALUES), runs, rows), np.nan, dtype=np.float32)
        for part, numbers in zip(parts, np.split(run, ends[:-1]), strict=True):
            some = part["epochs"] == budget
            values[:, numbers[some], row_of[part["cell"][some]]] = part["values"][some].T
        yield [column for name, data in zip(VALUES, values, strict=True) for column in _columns(name, budget, data)]


def _run_numbers(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
    """How many times each value has been there before, ``int8[n]``; 127 stands for any more."""
    order = np.argsort(keys, kind="stable")
    ascending = keys[order]
    begins = np.concatenate([[True], ascending[1:] != ascending[:-1]])
    place = np.arange(len(keys))
    number = place - np.maximum.accumulate(np.where(begins, place, 0))
    run = np.empty(len(keys), dtype=np.int8)
    run[order] = np.minimum(number, 127)
    return run


def _columns(name: str, epochs: int, values: npt.NDArray[np.float32]) -> Iterator[Column]:
    """Mean and runs of a metric, ``float32[runs, rows]``; none if there is no value at all."""
    if np.isnan(values).all():
        return
    base = name.removesuffix("_halfway")
    unit = "seconds" if base == "training_seconds" else "percent"
    text = f"{_TEXTS[base]}{', halfway through the training' if name != base else ''}"
    mean = f"{text}; mean of {len(values)} run{'s' * (len(values) > 1)}"
    yield Column("cifar10", name, epochs, None, unit, mean_over_runs(list(values)), mean)
    for number, run in enumerate(values):
        yield Column("cifar10", name, epochs, number, unit, run, f"{text}; run {number}")
