"""Tables that come with the package: right answers of each network, spread over its members at loading."""

from __future__ import annotations

__all__ = ["embedded", "pack", "unpack"]

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero import spaces
from tauzero.benchmarks._files import atomic_path
from tauzero.benchmarks._table import Column, Table, mean_over_runs
from tauzero.spaces import BenchmarkFormatError

_FOLDER = Path(__file__).parent / "embedded"
_SUFFIX = ".npz"
_FORMAT = "tauzero packed table 1"
#: Most images that a count of right answers can be of.
_MOST = 65_534


def embedded() -> dict[str, Path]:
    """Packed tables of the package: name → file."""
    return {path.stem: path for path in sorted(_FOLDER.glob(f"*{_SUFFIX}"))} if _FOLDER.is_dir() else {}


def pack(table: Table, path: Path, images: Mapping[str, int]) -> Path:
    """Write a table over a whole space in little room.

    Parameters
    ----------
    table
        A row for every architecture; equal networks have equal figures except for counts.
    path
        The file.
    images
        For each accuracy metric the number of images that its right answers are of, at most 65,534. Their runs are
        kept as whole numbers, exactly; means over runs are computed again from these. Other figures are kept as they
        are; scores are rounded to half precision.

    Raises
    ------
    ValueError
        If the table is partial or an accuracy is no number of right answers of so many images.
    """
    space = spaces.get(table.space)
    if table.index is not None or table.genotypes is not None:
        raise ValueError(f"Only tables of a whole space are packed. Got {table.rows} rows of {table.name!r}.")
    first = _first_members(space)
    kinds: dict[str, list[npt.NDArray[Any]]] = {"answers": [], "numbers": [], "scores": [], "members": []}
    columns = []
    for column in table.columns:
        meta = {key: getattr(column, key) for key in ("dataset", "metric", "epoch", "run", "unit", "description")} | {
            "dtype": column.values.dtype.str[1:]
        }
        several = any(c.key[:3] == column.key[:3] and c.run is not None and c.run > 0 for c in table.columns)
        if column.metric in images or column.unit == "score":
            if column.run is None:
                columns.append({**meta, "kind": "mean" if several else "only run"})
                continue
            kind = "answers" if column.metric in images else "scores"
            values: npt.NDArray[Any] = column.values[first]
            if kind == "answers":
                values = _answers(column, values, images[column.metric])
                meta["images"] = images[column.metric]
            else:
                values = values.astype(np.float16)
        elif column.unit == "count":
            kind, values = "members", column.values.astype(np.int64)
        else:
            kind, values = "numbers", column.values[first].astype(np.float32)
        columns.append({**meta, "kind": kind, "place": len(kinds[kind])})
        kinds[kind].append(values)
    header = {
        "format": _FORMAT, "name": table.name, "space": table.space, "licence": table.licence,
        "provenance": table.provenance, "columns": columns,
    }  # fmt: skip
    arrays = {kind: np.stack(found) for kind, found in kinds.items() if found}
    with atomic_path(path) as partial, partial.open("wb") as stream:
        np.savez_compressed(stream, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays)  # type: ignore[arg-type]
    return path


def _answers(column: Column, values: npt.NDArray[Any], of: int) -> npt.NDArray[np.uint16]:
    if not 0 < of <= _MOST:
        raise ValueError(f"Right answers of at most {_MOST} images can be packed. Got {of} for {column.metric!r}.")
    counts = np.rint(values.astype(np.float64) * of / 100)
    again = (100.0 * counts / of).astype(values.dtype)
    if not np.array_equal(again, values):
        row = int(np.argmax(again != values))
        raise ValueError(f"Column {column.name!r} is no share of {of} images: {values[row]} percent in row {row}.")
    return counts.astype(np.uint16)


def unpack(path: Path) -> Table:
    """Read a packed table.

    Raises
    ------
    BenchmarkFormatError
        If the file is damaged.
    """
    try:
        # Opened here: of a damaged archive NumPy leaves the file open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(arrays["header"].tobytes())
        if header["format"] != _FORMAT:
            raise ValueError(f"its format is {header['format']!r}")  # noqa: TRY301 - one message for all damage
        space = spaces.get(header["space"])
        network_of = _network_of(space)
        found: dict[tuple[Any, ...], list[Column]] = {}
        columns = [_column(meta, arrays, network_of, found) for meta in _means_last(header["columns"])]
        table = Table(header["name"], space.name, tuple(columns), header["licence"], header["provenance"])
        table.check_shape()
    except Exception as error:
        raise BenchmarkFormatError(f"The packed table '{path}' is damaged ({error}): install tauzero again.") from error
    return table


def _means_last(columns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(columns, key=lambda meta: meta["kind"] in {"mean", "only run"})


def _column(
    meta: dict[str, Any],
    arrays: Mapping[str, npt.NDArray[Any]],
    network_of: npt.NDArray[np.int64],
    found: dict[tuple[Any, ...], list[Column]],
) -> Column:
    key = (meta["dataset"], meta["metric"], meta["epoch"])
    kind, dtype = meta["kind"], np.dtype(meta["dtype"])
    if kind == "mean":
        values = mean_over_runs([run.values for run in found[key]]).astype(dtype)
    elif kind == "only run":
        values = found[key][0].values
    elif kind == "members":
        values = arrays[kind][meta["place"]].astype(dtype)
    else:
        packed = arrays[kind][meta["place"]].astype(np.float64)
        of_networks = 100.0 * packed / meta["images"] if kind == "answers" else packed
        values = of_networks.astype(dtype)[network_of]
    column = Column(
        meta["dataset"], meta["metric"], meta["epoch"], meta["run"], meta["unit"], values, meta["description"]
    )
    found.setdefault(key, []).append(column)
    return column


def _network_of(space: spaces.SearchSpace) -> npt.NDArray[np.int64]:
    """Number of each architecture's network, ``int64[n]``."""
    return space.distinct(space.enumerate())[1]


def _first_members(space: spaces.SearchSpace) -> npt.NDArray[np.int64]:
    """The first architecture of each network, ``int64[m]``."""
    return np.unique(_network_of(space), return_index=True)[1].astype(np.int64)
