"""Reader: NAS-Bench-Graph as one Parquet file, and one of the data set proteins, which has fewer networks."""

from __future__ import annotations

__all__ = ["read", "recognises"]

from pathlib import Path

import numpy as np

from tauzero.benchmarks._nasbench_graph import DATASETS, LICENCE, Results, columns_of, space_of
from tauzero.benchmarks._parquet import file_digest, find_parquet, read_columns, schema_names
from tauzero.benchmarks._table import Column, Table, in_index_order
from tauzero.spaces import BenchmarkFormatError, InvalidGenotypeError, Progress

_KEY = "hash"


def _names(dataset: str) -> list[str]:
    return [f"{dataset}_{what}" for what in ("val", "test", "latency_s", "params_m")]


def _fits(names: frozenset[str]) -> bool:
    return _KEY in names and any(names.issuperset(_names(dataset)) for dataset in DATASETS)


def recognises(path: Path) -> bool:
    """Whether a file, or one in a folder, has networks by number and the four columns of one of the data sets."""
    try:
        return find_parquet(path, _fits) is not None
    except (BenchmarkFormatError, OSError):
        return False


def _sources(path: Path) -> list[Path]:
    """The file, and ``NAME_proteins.parquet`` beside ``NAME.parquet``."""
    found = find_parquet(path, _fits)
    if found is None:
        raise BenchmarkFormatError(f"'{path}' is no NAS-Bench-Graph Parquet file.")
    beside = found.with_name(f"{found.stem}_proteins.parquet")
    return [found, beside] if _fits(schema_names(beside)) else [found]


def read(path: Path, progress: Progress) -> Table:
    """Read validation and test accuracy, latency and parameters of the data sets that there are.

    Raises
    ------
    BenchmarkFormatError
        If a number names no network, a network stands there twice, or a data set is in both files.
    """
    space = space_of()
    sources = _sources(path)
    parts: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for step, source in enumerate(sources):
        progress(step, len(sources) + 1)
        there = [d for d in DATASETS if schema_names(source).issuperset(_names(d))]
        raw = read_columns(source, [_KEY, *(name for d in there for name in _names(d))])
        try:
            numbers = raw[_KEY].astype(np.int64) if raw[_KEY].dtype.kind in "iu" else raw[_KEY]
            genotypes = space.from_hash(numbers)
        except InvalidGenotypeError as error:
            raise BenchmarkFormatError(f"'{source}' is damaged. {error}") from error
        in_index_order(space, genotypes)  # refuses a network that stands there twice
        for dataset in there:
            if dataset in parts:
                raise BenchmarkFormatError(f"'{source}' has {dataset}, which '{sources[0]}' has too.")
            columns = [raw[name] for name in _names(dataset)]
            wrong = next((n for n, c in zip(_names(dataset), columns, strict=True) if c.dtype.kind not in "fiu"), None)
            if wrong is not None:
                raise BenchmarkFormatError(f"Column {wrong!r} of '{source}' must hold numbers.")
            parts[dataset] = space.index(genotypes), np.stack(columns).astype(np.float64)
    present = np.unique(np.concatenate([index for index, _ in parts.values()]))
    found: list[Column] = []
    for dataset, (index, values) in parts.items():
        spread = np.full((len(values), len(present)), np.nan)
        spread[:, np.searchsorted(present, index)] = values
        found += columns_of(dataset, Results(*spread))
    progress(len(sources) + 1, len(sources) + 1)
    return Table(
        name="nasbench_graph",
        space=space.name,
        columns=tuple(found),
        licence=LICENCE,
        provenance={"reader": "nasbench-graph-parquet", "files": [file_digest(source) for source in sources]},
        index=None if len(present) == space.size else present.astype(np.int64),
    )
