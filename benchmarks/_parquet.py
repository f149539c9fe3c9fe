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

#: Above the number of rows of every table that is read; run-length coding puts billions into a kilobyte.
_MAX_ROWS = 1_000_000

#: Bytes of all texts of a column; equal ones are stored once, and may become millions.
_MAX_TEXT = 2**28


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
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
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
        rows = pq.read_metadata(path).num_rows
        if rows > _MAX_ROWS:
            raise BenchmarkFormatError(f"'{path}' says that it has {rows} rows: more than {_MAX_ROWS} are not read.")
        types = pq.read_schema(path)
        texts = [name for name in names if _is_text(path, name, types.field(name).type)]
        table = pq.read_table(path, columns=names, read_dictionary=texts)
        _refuse_much_text(path, table, texts)
        arrays = {name: np.ascontiguousarray(_decoded(table[name]).to_numpy()) for name in names}
    except (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
        raise _damaged(path, error) from error
    if not table.num_rows:
        raise BenchmarkFormatError(f"'{path}' has no rows.")
    return arrays


def _is_text(path: Path, name: str, kind: Any) -> bool:
    """Whether a column holds texts; lists, of which a row may hold any number, are refused."""
    import pyarrow.types as is_type

    if is_type.is_nested(kind):
        raise BenchmarkFormatError(f"The column {name!r} of '{path}' must hold one value in a row. Got {kind}.")
    value = kind.value_type if is_type.is_dictionary(kind) else kind
    return any(
        is_it(value)
        for is_it in (is_type.is_string, is_type.is_binary, is_type.is_large_string, is_type.is_large_binary)
    )


def _refuse_much_text(path: Path, table: Any, names: list[str]) -> None:
    """Add up what texts would take, before they are written out row by row."""
    import pyarrow.compute as pc

    for name in names:
        total = 0
        for chunk in table[name].chunks:
            lengths = pc.take(pc.binary_length(chunk.dictionary), chunk.indices)
            total += pc.sum(pc.cast(lengths, "int64")).as_py() or 0
        if total > _MAX_TEXT:
            raise BenchmarkFormatError(
                f"The column {name!r} of '{path}' would hold {total} bytes of text: more than {_MAX_TEXT} are not read."
            )


def _decoded(column: Any) -> Any:
    import pyarrow.types as is_type

    return column.cast(column.type.value_type) if is_type.is_dictionary(column.type) else column


def file_digest(path: Path) -> dict[str, Any]:
    """Name, size (bytes) and SHA-256 of a source file, for the provenance of a table."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest}


def _damaged(path: Path, error: Exception) -> BenchmarkFormatError:
    reason = str(error).strip().split("\n")[0].rstrip(".")
    return BenchmarkFormatError(f"'{path}' is a truncated or damaged Parquet file ({reason}). Get the file again.")
