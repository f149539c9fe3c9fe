"""Reading the files of a report's sources: errors say which file, and what is recorded becomes plain text."""

from __future__ import annotations

__all__ = ["command", "commands", "json_head", "line", "parquet_metadata", "read_frame", "read_json", "seeds", "texts"]

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tauzero.spaces import BenchmarkFormatError

if TYPE_CHECKING:
    import pandas as pd

#: More is no JSON of tauzero; it is not read only to find that out.
_MOST = 200 * 1024 * 1024


def read_json(file: Path) -> dict[str, Any]:
    """Read an object.

    Raises
    ------
    BenchmarkFormatError
        If the file is not readable JSON, or no object.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BenchmarkFormatError(f"'{file}' is not readable JSON ({error}): run what wrote it again.") from error
    if not isinstance(found, dict):
        raise BenchmarkFormatError(f"'{file}' holds no JSON object. Got {type(found).__name__}.")
    return found


def json_head(file: Path) -> dict[str, Any]:
    """The object of a file, empty for everything else: to find out what a file is."""
    try:
        if not file.is_file() or file.stat().st_size > _MOST:
            return {}
        return read_json(file)
    except (BenchmarkFormatError, OSError):
        return {}


def parquet_metadata(file: Path) -> dict[str, str]:
    """Texts in the schema of a Parquet file; empty for everything else."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(file).metadata or {}
    except (pa.ArrowException, OSError):
        return {}
    return {k.decode(errors="replace"): v.decode(errors="replace") for k, v in metadata.items()}


def read_frame(file: Path, wanted: Sequence[str], *, optional: bool = False) -> pd.DataFrame:
    """Read a Parquet file that has at least these columns.

    Parameters
    ----------
    file
        The file.
    wanted
        Columns that it must have; others may be there.
    optional
        Whether an empty frame stands for a file that is not there.

    Raises
    ------
    BenchmarkFormatError
        If the file is missing or damaged, or lacks a column.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not file.is_file():
        if optional:
            return pd.DataFrame(columns=list(wanted))
        raise BenchmarkFormatError(f"'{file.parent}' lacks the file {file.name}: run what wrote the folder to its end.")
    try:
        frame: pd.DataFrame = pq.read_table(file, partitioning=None).to_pandas()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BenchmarkFormatError(f"'{file}' is not a readable Parquet file ({error}).") from error
    missing = [name for name in wanted if name not in frame]
    if missing:
        raise BenchmarkFormatError(f"'{file}' lacks the columns {', '.join(missing)}. Got {', '.join(frame.columns)}.")
    return frame


def command(recorded: Any) -> str | None:
    """A command line, recorded as a text or as its words."""
    if isinstance(recorded, list | tuple):
        return shlex.join(str(word) for word in recorded)
    return str(recorded) if recorded else None


def commands(recorded: Any) -> str | None:
    """One command line, or a list of those that made a source together, each on its line."""
    if isinstance(recorded, list) and all(isinstance(line_, str) and " " in line_ for line_ in recorded):
        return "\n          ".join(recorded) or None
    return command(recorded)


def texts(recorded: Any) -> dict[str, str]:
    """A mapping of versions as texts; empty for everything else."""
    return {str(k): str(v) for k, v in recorded.items() if v is not None} if isinstance(recorded, dict) else {}


def line(recorded: Any) -> str | None:
    """Anything recorded about a machine in one line."""
    if isinstance(recorded, dict):
        return ", ".join(f"{k} {v}" for k, v in recorded.items() if v is not None) or None
    return str(recorded) if recorded else None


def seeds(recorded: Any) -> str | None:
    """Seeds in words: ``0 to 19`` for a run of numbers."""
    if recorded is None or (isinstance(recorded, dict) and not recorded):
        return None
    if isinstance(recorded, list | tuple):
        if len(recorded) > 2 and all(isinstance(s, int) for s in recorded):
            first, last = recorded[0], recorded[-1]
            if list(recorded) == list(range(first, last + 1)):
                return f"{first} to {last}"
        return ", ".join(str(s) for s in recorded)
    if isinstance(recorded, dict):
        return ", ".join(f"{k} {seeds(v)}" for k, v in recorded.items())
    return str(recorded)
