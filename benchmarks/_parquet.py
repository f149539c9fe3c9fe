"""What the Parquet readers share."""

from __future__ import annotations

__all__ = ["file_digest", "find_parquet", "read_columns", "schema_names"]

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.spaces import BenchmarkFormatError

_MAGIC = b"PAR1"


def schema_names(path: Path) -> frozenset[str]:
    """Names of the columns of a Parquet file; empty if it is none.

    Raises
    ------
    BenchmarkFormatError
        If the file begins like Parquet but is truncated or damaged.
    """
    if not path.is_file():
        return frozenset()
    with path.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            return frozenset()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return frozenset(pq.read_schema(path).names)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # a damaged name is no UTF-8
        raise _damaged(path, error) from error


def find_parquet(path: Path, fits: Callable[[frozenset[str]], bool]) -> Path | None:
    """Return the Parquet file whose column names fit: `path` itself, or the first within the folder `path`."""
    candidates = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    return next((p for p in candidates if fits(schema_names(p))), None)


def read_columns(path: Path, names: list[str]) -> dict[str, npt.NDArray[Any]]:
    """Read columns as arrays, missing values as NaN.

    Raises
    ------
    BenchmarkFormatError
        If the file is truncated or damaged, lacks a column or has no rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    missing = sorted(set(names) - schema_names(path))
    if missing:
        raise BenchmarkFormatError(f"'{path}' lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}.")
    try:
        table = pq.read_table(path, columns=names)
        arrays = {name: np.ascontiguousarray(table[name].to_numpy()) for name in names}
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # a damaged name is no UTF-8
        raise _damaged(path, error) from error
    if not table.num_rows:
        raise BenchmarkFormatError(f"'{path}' has no rows.")
    return arrays


def file_digest(path: Path) -> dict[str, Any]:
    """Name, size (bytes) and SHA-256 of a source file, for the provenance of a table."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest}


def _damaged(path: Path, error: Exception) -> BenchmarkFormatError:
    reason = str(error).strip().split("\n")[0].rstrip(".")
    return BenchmarkFormatError(f"'{path}' is a truncated or damaged Parquet file ({reason}). Get the file again.")
