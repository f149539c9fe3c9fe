"""The store of a table: one Arrow IPC file, uncompressed, so that columns are views on the mapped file."""

from __future__ import annotations

__all__ = ["SCHEMA_VERSION", "is_store", "read_store", "write_store"]

import hashlib
import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.benchmarks._files import atomic_path
from tauzero.benchmarks._table import Column, Table
from tauzero.spaces import BenchmarkFormatError

#: Version of the layout; a reader refuses any other.
SCHEMA_VERSION = 1

_MAGIC = b"ARROW1"
_FORMAT = "tauzero benchmark table"
_KEY = b"tauzero"
_INDEX, _GENOTYPES = "index", "genotypes"
_DTYPES: dict[str, np.dtype[Any]] = {
    "float": np.dtype("<f4"),
    "double": np.dtype("<f8"),
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
}
_REMEDY = "Import the table again: `tauzero benchmarks import NAME PATH`."


def is_store(path: Path) -> bool:
    """Whether a file begins like an Arrow IPC file (it may still be truncated or foreign)."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC


def write_store(table: Table, path: str | os.PathLike[str]) -> Path:
    """Write a table as a store, all or nothing.

    Parameters
    ----------
    table
        What to write; its shape and values are checked first.
    path
        The file; its folder is created.

    Raises
    ------
    BenchmarkFormatError
        If the table has impossible values or does not fit its space.
    UnwritableFolderError
        If the file cannot be written there.
    """
    import pyarrow as pa

    target = Path(path)
    table.check_shape()
    for column in table.columns:
        column.check()
    arrays = {c.name: np.ascontiguousarray(c.values, dtype=c.values.dtype.newbyteorder("<")) for c in table.columns}
    if table.index is not None:
        arrays = {_INDEX: np.ascontiguousarray(table.index), **arrays}
    types = {name: pa.from_numpy_dtype(a.dtype) for name, a in arrays.items()}
    if table.genotypes is not None:
        arrays = {_GENOTYPES: np.ascontiguousarray(table.genotypes), **arrays}
        types[_GENOTYPES] = pa.binary(table.genotypes.shape[1])  # a row is a cell of L bytes
    checksums = {name: zlib.crc32(a.data) for name, a in arrays.items()}
    header: dict[str, Any] = {
        "format": _FORMAT,
        "version": SCHEMA_VERSION,
        "name": table.name,
        "space": table.space,
        "rows": table.rows,
        "licence": table.licence,
        "provenance": table.provenance,
        "columns": [
            {
                "name": c.name,
                "dataset": c.dataset,
                "metric": c.metric,
                "epoch": c.epoch,
                "run": c.run,
                "unit": c.unit,
                "description": c.description,
                "crc32": checksums[c.name],
            }
            for c in table.columns
        ],
        "crc32": {name: checksums[name] for name in (_INDEX, _GENOTYPES) if name in arrays},
    }
    header["sha256"] = _header_digest(header)
    fields = [pa.field(name, types[name], nullable=False) for name in arrays]
    schema = pa.schema(fields, metadata={_KEY: json.dumps(header, sort_keys=True).encode()})
    # `pa.array` and `to_numpy` would import pandas, which takes half a second; buffers need neither.
    columns = [pa.Array.from_buffers(f.type, table.rows, [None, pa.py_buffer(arrays[f.name])]) for f in fields]
    batch = pa.record_batch(columns, schema=schema)
    with (
        atomic_path(target) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema) as out,
    ):
        out.write_batch(batch)
    return target


def read_store(path: str | os.PathLike[str]) -> Table:
    """Map a store into memory; columns are read when they are first used.

    Raises
    ------
    BenchmarkFormatError
        If the file is truncated, foreign, of another version or does not fit its space, or if its description,
        index or genotypes are not what was written; the message names the file and the remedy. The values of a
        column are read, and can be compared with their checksum, when they are used (`Column.verify`).
    """
    import pyarrow as pa

    # Absolute, because a benchmark that is sent to another process is reopened there.
    file = Path(path).absolute()
    try:
        with pa.memory_map(str(file)) as source:
            reader = pa.ipc.open_file(source)
            header = _header(file, reader.schema)
            if reader.num_record_batches != 1:
                raise _foreign(file, f"it has {reader.num_record_batches} record batches instead of 1")
            batch = reader.get_batch(0)
            batch.validate()
            arrays = {name: _view(file, name, batch.column(i)) for i, name in enumerate(reader.schema.names)}
    except BenchmarkFormatError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError) as error:
        raise BenchmarkFormatError(
            f"Cannot read the table '{file}': it is truncated, damaged or no Arrow file ({_first_line(error)}). "
            f"{_REMEDY}"
        ) from error
    table = _assemble(file, header, arrays)
    try:
        table.check_shape()
    except BenchmarkFormatError as error:
        raise BenchmarkFormatError(f"Cannot use the table '{file}': {error} {_REMEDY}") from error
    if table.rows != header.get("rows"):
        raise _foreign(file, f"it has {table.rows} rows where its header says {header.get('rows')}")
    _check_sums(file, header, arrays)
    return table


def _view(path: Path, name: str, column: Any) -> npt.NDArray[Any]:
    """Look at a column without copying it, as an array that cannot be written to."""
    if name == _GENOTYPES and str(column.type).startswith("fixed_size_binary") and not column.null_count:
        width = column.type.byte_width
        cells = np.frombuffer(
            memoryview(column.buffers()[1]), np.int8, count=len(column) * width, offset=column.offset * width
        )
        return cells.reshape(-1, width)
    dtype = _DTYPES.get(str(column.type))
    if dtype is None or column.null_count:
        raise _foreign(path, f"its column {name!r} has the type {column.type} or empty cells")
    start = column.offset * dtype.itemsize
    return np.frombuffer(memoryview(column.buffers()[1]), dtype=dtype, count=len(column), offset=start)


def _assemble(path: Path, header: dict[str, Any], arrays: dict[str, Any]) -> Table:
    try:
        return Table(
            name=str(header["name"]),
            space=str(header["space"]),
            columns=tuple(
                Column(
                    dataset=str(c["dataset"]),
                    metric=str(c["metric"]),
                    epoch=None if c["epoch"] is None else int(c["epoch"]),
                    run=None if c["run"] is None else int(c["run"]),
                    unit=str(c["unit"]),
                    values=arrays[c["name"]],
                    description=str(c["description"]),
                    checksum=c.get("crc32"),
                )
                for c in header["columns"]
            ),
            licence=str(header["licence"]),
            provenance=dict(header["provenance"]),
            index=arrays.get(_INDEX),
            path=path,
            genotypes=arrays.get(_GENOTYPES),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _foreign(path, f"its description is incomplete ({error!r})") from error


def _header(path: Path, schema: Any) -> dict[str, Any]:
    raw = (schema.metadata or {}).get(_KEY)
    if raw is None:
        raise _foreign(path, "it is an Arrow file of another program")
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _foreign(path, "its description is not JSON") from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise _foreign(path, f"its description is not that of a {_FORMAT}")
    version = header.get("version")
    if version != SCHEMA_VERSION:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        raise BenchmarkFormatError(
            f"The table '{path}' has schema version {version!r}; this tauzero reads version {SCHEMA_VERSION}. "
            + ("Update tauzero (`pip install -U tauzero`), or import the table again." if newer else _REMEDY)
        )
    return header


def _check_sums(path: Path, header: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Refuse a description, index or genotypes in which a bit has changed; the first stores had no checksums."""
    known = header.pop("sha256", None)
    if known is None and "crc32" not in header and not any("crc32" in c for c in header["columns"]):
        return
    if known != _header_digest(header):
        raise _foreign(path, "its description is damaged (SHA-256)")
    for name, checksum in header["crc32"].items():
        if zlib.crc32(arrays[name].data) != checksum:
            raise _foreign(path, f"its column {name!r} is damaged (CRC-32)")


def _header_digest(header: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode()).hexdigest()


def _foreign(path: Path, reason: str) -> BenchmarkFormatError:
    return BenchmarkFormatError(f"'{path}' is not a table of tauzero: {reason}. {_REMEDY}")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
