"""Reading tables of proxy scores: which columns are scores, and which architectures the rows are."""

from __future__ import annotations

__all__ = ["ScoreTable"]

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tauzero.benchmarks import Benchmark
from tauzero.benchmarks._nasbench301_naslib import cells_of_json
from tauzero.benchmarks._store import is_store, read_store
from tauzero.spaces import BenchmarkFormatError, Genotypes, InvalidGenotypeError, SearchSpace

if TYPE_CHECKING:
    from tauzero.encoders.proxy_scores import Scores

_FILE = "scores.parquet"  # within a folder of `tauzero score --out`
_SHOWN = 12

#: Names of what only a trained network has; as a feature it would give away what is to be predicted.
_TRAINED = re.compile(r"accuracy|ssim|(?:^|_)(?:best)?(?:val|valid|validation|test|train|acc|loss)(?=_|\d|$)")
#: Names of row numbers.
_NUMBER = re.compile(r"(?:^|_)(?:index|idx)$")


@dataclass(frozen=True)
class ScoreTable:
    """Proxy scores as they stand in a table.

    Attributes
    ----------
    names
        Names of the k chosen columns.
    genotypes
        ``int8[n, L]``: the architecture of each row; one may stand there several times.
    values
        ``float64[n, k]``: scores, NaN where there is none, infinities kept.
    """

    names: list[str]
    genotypes: Genotypes
    values: npt.NDArray[np.float64]

    @classmethod
    def read(cls, space: SearchSpace, scores: Scores, columns: str | Sequence[str] | None) -> ScoreTable:
        """Read a file, data frame or mapping (see `ProxyScores`).

        Raises
        ------
        ValueError
            If no column tells the architectures, one cannot be read, or `columns` matches nothing.
        BenchmarkFormatError
            If a file is missing, damaged or no Parquet file, or has scores of another space.
        """
        names, load, numeric = _open(space, scores)
        chosen = _choose(names, numeric, columns)
        genotypes = _architectures(space, names, load)
        if not len(genotypes):
            raise ValueError("The scores have no rows.")
        values = np.empty((len(genotypes), len(chosen)))
        for k, name in enumerate(chosen):
            values[:, k] = _numbers(name, load(name), len(genotypes))
        empty = np.asarray(np.isnan(values).all(axis=0), dtype=np.bool_)
        exact = {columns} if isinstance(columns, str) else set(columns or ())
        for name in (n for n, gone in zip(chosen, empty, strict=True) if gone and n in exact):
            raise ValueError(f"The column {name!r} of the scores has no value.")
        kept = np.flatnonzero(~empty)
        if not len(kept):
            raise ValueError(f"None of the columns {_list(chosen)} of the scores has a value.")
        return cls([chosen[k] for k in kept], genotypes, np.ascontiguousarray(values[:, kept]))


def _open(space: SearchSpace, scores: Scores) -> tuple[list[str], Callable[[str], Any], Callable[[str], bool]]:
    """Column names in order, a function that reads one, and one that tells whether it holds numbers."""
    if isinstance(scores, str | os.PathLike):
        path = Path(scores)
        return _open_benchmark(space, Benchmark(read_store(path))) if is_store(path) else _open_file(space, path)
    if isinstance(scores, Benchmark):
        return _open_benchmark(space, scores)
    if isinstance(scores, Mapping):
        content = {str(name): np.asarray(column) for name, column in scores.items()}
    elif hasattr(scores, "columns") and hasattr(scores, "to_numpy"):
        content = {str(name): _of_series(scores[name]) for name in scores.columns}
    else:
        raise ValueError(
            "The 'scores' parameter of ProxyScores must be a Parquet file, a DataFrame or a mapping of columns. "
            f"Got {type(scores).__name__}."
        )
    return list(content), content.__getitem__, lambda name: content[name].dtype.kind in "iuf"


def _open_benchmark(
    space: SearchSpace, table: Benchmark
) -> tuple[list[str], Callable[[str], Any], Callable[[str], bool]]:
    """Scores and counts of a table that need no training, named ``DATASET/METRIC``; its times are none."""
    if table.space.name != space.name:
        raise BenchmarkFormatError(f"{table!r} holds scores of the space {table.space.name!r}, not of {space.name!r}.")
    names = {
        f"{dataset}/{metric}": (dataset, metric)
        for dataset in table.datasets
        for metric in table.metrics(dataset)
        if table.unit(dataset, metric) in {"score", "count"} and not table.epochs(dataset, metric)
    }
    columns = {name: table.table(*key) for name, key in names.items()}
    there = np.zeros(len(table.architectures), dtype=np.bool_)  # in a table of a part of the space the others are NaN
    for column in columns.values():
        there |= ~np.isnan(column)
    rows = table.architectures[there]

    def load(name: str) -> Any:
        operation = re.fullmatch(r"op(\d+)", name)
        return rows[:, int(operation[1])] if operation else columns[name][there]

    keys = [f"op{k}" for k in range(space.length)]
    return [*keys, *names], load, lambda name: name in names


def _of_series(series: Any) -> npt.NDArray[Any]:
    """Values of a column of a data frame; the numbers of pandas' nullable types as floats, NaN where there is none."""
    kind = getattr(series.dtype, "kind", "O")
    if kind in "iuf":
        return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan) if series.isna().any() else series)
    return np.asarray(series.to_numpy(dtype=object))


def _open_file(space: SearchSpace, path: Path) -> tuple[list[str], Callable[[str], Any], Callable[[str], bool]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = path / _FILE if path.is_dir() else path
    if not file.is_file():
        raise BenchmarkFormatError(f"There is no file of scores '{file}'.")
    try:
        schema = pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise BenchmarkFormatError(f"'{file}' is no readable Parquet file ({error}).") from error
    settings = json.loads((schema.metadata or {}).get(b"tauzero.score", b"{}"))
    if settings.get("space", space.name) != space.name:
        raise BenchmarkFormatError(f"'{file}' holds scores of the space {settings['space']!r}, not of {space.name!r}.")

    def load(name: str) -> Any:
        try:
            return pq.read_table(file, columns=[name], partitioning=None)[name].to_numpy()
        except (pa.ArrowException, OSError) as error:
            raise BenchmarkFormatError(f"'{file}' is a damaged Parquet file ({error}).") from error

    def numeric(name: str) -> bool:
        kind = schema.field(name).type
        return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))

    return list(schema.names), load, numeric


def _choose(names: list[str], numeric: Callable[[str], bool], columns: str | Sequence[str] | None) -> list[str]:
    """Columns that are scores, in the order of the table."""
    keys = {n for n in names if n in {"arch", "normal", "reduce"} or re.fullmatch(r"op\d+", n)}
    offered = [
        n for n in names if n not in keys and numeric(n) and not _TRAINED.search(n.lower()) and not _NUMBER.search(n)
    ]
    if columns is None:
        if not offered:
            raise ValueError(f"The scores have no column of proxies. Got {_list(names)}.")
        return offered
    patterns = [columns] if isinstance(columns, str) else list(columns)
    if not patterns or any(not isinstance(pattern, str) for pattern in patterns):
        raise ValueError(
            f"The 'columns' parameter of ProxyScores must be names or patterns such as 'nbsz_*_c10'. Got {columns!r}."
        )
    chosen: set[str] = set()
    for pattern in patterns:
        if pattern in names:
            if not numeric(pattern):
                raise ValueError(f"The column {pattern!r} of the scores does not hold numbers.")
            chosen.add(pattern)
            continue
        found = [n for n in offered if fnmatchcase(n, pattern)]
        if not found:
            left_out = [n for n in names if n not in keys and n not in offered and fnmatchcase(n, pattern)]
            hint = f" ({_list(left_out)} would have to be named in full.)" if left_out else ""
            raise ValueError(f"No column of the scores fits {pattern!r}.{hint} Known: {_list(offered)}.")
        chosen.update(found)
    return [n for n in names if n in chosen]


def _architectures(space: SearchSpace, names: list[str], load: Callable[[str], Any]) -> Genotypes:
    operations = [f"op{k}" for k in range(space.length)]
    try:
        if "arch" in names:
            return space.from_string([str(text) for text in load("arch")])
        if set(operations) <= set(names):
            return space.validate(np.stack([np.asarray(load(op)) for op in operations], axis=1))
    except InvalidGenotypeError as error:
        raise ValueError(f"The scores have an architecture that is none of {space.name}: {error}") from error
    if space.name == "darts" and {"normal", "reduce"} <= set(names):
        cells = [[_text(cell) for cell in load(name)] for name in ("normal", "reduce")]
        return cells_of_json(cells[0], cells[1], np.arange(len(cells[0])))
    if "index" in names and space.enumerable:
        return _at(space, np.asarray(load("index")))
    wanted = ["'arch'", f"{operations[0]!r} to {operations[-1]!r}"]
    wanted += ["'index' (space.index)"] if space.enumerable else []
    wanted += ["'normal' and 'reduce'"] if space.name == "darts" else []
    raise ValueError(
        f"The scores do not say which architecture of {space.name} each row is: they need {', or '.join(wanted)}. "
        f"Got {_list(names)}."
    )


def _text(cell: Any) -> str:
    """A cell as JSON, also where it came as nested lists or arrays."""
    return cell if isinstance(cell, str) else json.dumps(_plain(cell))


def _plain(value: Any) -> Any:
    """Nested lists of what may be arrays of arrays, which is how Parquet's lists come."""
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _at(space: SearchSpace, index: npt.NDArray[Any]) -> Genotypes:
    if index.dtype.kind not in "iu" or index.ndim != 1:
        raise ValueError(f"The column 'index' of the scores must hold integers. Got dtype {index.dtype}.")
    wrong = (index < 0) | (index >= space.size)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"The column 'index' of the scores must lie in 0 to {space.size - 1}, the positions in {space.name}. "
            f"Got {index[row]} in row {row}."
        )
    return np.ascontiguousarray(space.enumerate()[index.astype(np.int64)])


def _numbers(name: str, column: Any, rows: int) -> npt.NDArray[np.float64]:
    values = np.asarray(column)
    if values.shape != (rows,):
        raise ValueError(f"The column {name!r} of the scores must have {rows} values. Got shape {values.shape}.")
    return values.astype(np.float64)


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_SHOWN]))
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "") if names else "no columns"
