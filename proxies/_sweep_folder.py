"""The folder of a sweep: its settings, its lock, and one Parquet file for each finished chunk."""

from __future__ import annotations

__all__ = ["UNDEFINED", "FolderInUseError", "Scores", "SweepFolder", "describe", "describe_images", "digest"]

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from tauzero.benchmarks import atomic_path
from tauzero.benchmarks._folder_lock import FolderInUseError, OneWriterFolder, digest
from tauzero.proxies._engines import Result, Task
from tauzero.spaces import BenchmarkFormatError

_MANIFEST, _TABLE, _LOCK = "sweep.json", "scores.parquet", ".sweep.lock"
#: What a killed process leaves of a file that `atomic_path` was writing.
_LEFT_OVER = re.compile(r"\.(part-\d+-[0-9a-f]+|sweep|scores)\.[0-9a-f]{12}\.tmp\.(parquet|json)")
_KEY = b"tauzero.sweep"
#: How the reason of a score begins that was computed and has no value.
UNDEFINED = "undefined: "


class Scores:
    """Scores of the m different networks of a sweep, as far as they are known.

    Attributes
    ----------
    columns
        ``float64[m]`` for each proxy, NaN where there is none.
    done
        ``bool[m]`` for each proxy: which networks have been scored, be it without success.
    """

    def __init__(self, networks: int) -> None:
        self.columns: dict[str, npt.NDArray[np.float64]] = {}
        self.done: dict[str, npt.NDArray[np.bool_]] = {}
        self._networks = networks
        self._reasons: dict[int, set[tuple[str, tuple[str, ...]]]] = {}

    def add(self, names: Sequence[str], numbers: npt.NDArray[np.int64], result: Result) -> None:
        """Take in the scores of a task."""
        for column, name in enumerate(names):
            self.columns.setdefault(name, np.full(self._networks, np.nan))[numbers] = result.scores[:, column]
            self.done.setdefault(name, np.zeros(self._networks, dtype=np.bool_))[numbers] = True
        for row, reason in enumerate(result.reasons):
            if reason is not None:
                gone = tuple(n for n, value in zip(names, result.scores[row], strict=True) if np.isnan(value))
                self._reasons.setdefault(int(numbers[row]), set()).add((reason, gone))

    def missing(self, names: Sequence[str]) -> dict[tuple[str, ...], npt.NDArray[np.int64]]:
        """Numbers ``int64[k]`` of the networks that lack scores, by the proxies that they lack."""
        lacks = np.ones((self._networks, len(names)), dtype=np.bool_)
        for column, name in enumerate(names):
            if name in self.done:
                lacks[:, column] = ~self.done[name]
        patterns, inverse = np.unique(lacks, axis=0, return_inverse=True)
        found = {}
        for k, pattern in enumerate(patterns):
            if pattern.any():
                chosen = tuple(n for n, lack in zip(names, pattern, strict=True) if lack)
                found[chosen] = np.flatnonzero(inverse.reshape(-1) == k).astype(np.int64)
        return found

    def finished(self, names: Sequence[str]) -> int:
        """Number of networks that have been scored with all of `names`."""
        done = np.ones(self._networks, dtype=np.bool_)
        for name in names:
            done &= self.done.get(name, np.False_)
        return int(done.sum())

    def failures(self, names: Sequence[str]) -> dict[int, str]:
        """What kept some of `names` from being computed, for the networks where something did."""
        wanted = set(names)
        failed = {}
        for number, found in self._reasons.items():
            # Sorted, so that the text does not depend on how the work was divided.
            texts = sorted({text for text, gone in found if wanted & set(gone) and not text.startswith(UNDEFINED)})
            if texts:
                failed[number] = "; ".join(texts)
        return failed


class SweepFolder(OneWriterFolder):
    """The folder of a sweep, locked while the context lasts; one process writes into it.

    Parameters
    ----------
    path
        The folder; made if need be.
    settings
        What must be the same for scores to belong together; plain JSON values.
    networks
        m, the number of different networks.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], networks: int) -> None:
        super().__init__(path, _LOCK, "sweep")
        self._settings: dict[str, Any] = json.loads(json.dumps(settings))
        self._networks = networks
        self._proxies: list[str] = []
        self._scores = Scores(networks)

    def open(self, names: Sequence[str]) -> Scores:
        """Read what there is, clear away what a kill left, and note the settings.

        Raises
        ------
        ValueError
            If the folder holds something else, or a sweep with other settings.
        BenchmarkFormatError
            If a file is damaged.
        """
        before = self._read_manifest()
        for path in self.path.iterdir():
            if _LEFT_OVER.fullmatch(path.name):
                path.unlink(missing_ok=True)
        parts = sorted(self.path.glob("part-*.parquet"))
        if before is None:
            strangers = [p.name for p in (*parts, self.path / _TABLE) if p.exists()]
            if strangers:
                raise ValueError(
                    f"'{self.path}' holds {strangers[0]}, but no {_MANIFEST} that says how it was made: "
                    "choose another folder, or delete the file."
                )
        for part in parts:
            self._read_part(part)
        self._proxies = list(dict.fromkeys([*(before or {}).get("proxies", []), *names]))
        if before is None or before.get("proxies") != self._proxies:
            self._write_manifest()
        return self._scores

    def append(self, task: Task, result: Result, archs: Sequence[str]) -> None:
        """Keep the scores of a task in a file of its own; once this returns they survive a kill and a power cut."""
        columns = {
            "network": pa.array(task.numbers, pa.int64()),
            "arch": pa.array(archs, pa.string()),
            **{name: pa.array(result.scores[:, k], pa.float64()) for k, name in enumerate(task.names)},
            "reason": pa.array(result.reasons, pa.string()),
        }
        known = json.dumps({"settings": self._fingerprint, "proxies": task.names})
        table = pa.table(columns).replace_schema_metadata({_KEY: known})
        name = f"part-{int(task.numbers[0]):07d}-{digest(task.numbers, *task.names)[:12]}.parquet"
        with atomic_path(self.path / name) as partial:
            pq.write_table(table, partial, compression="zstd")
        self._scores.add(task.names, task.numbers, result)

    def finish(self, frame: pd.DataFrame, names: Sequence[str]) -> Path:
        """Write the table of all rows, ``scores.parquet``, and return its path."""
        kinds = {"index": pa.int64(), "arch": pa.string(), "reason": pa.string()}
        schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in frame.columns])
        table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
        table = table.replace_schema_metadata({"tauzero.score": json.dumps({**self._settings, "proxies": list(names)})})
        with atomic_path(self.path / _TABLE) as partial:
            pq.write_table(table, partial, compression="zstd")
        return self.path / _TABLE

    # -- manifest and parts -------------------------------------------------------------------

    @property
    def _fingerprint(self) -> str:
        return digest(json.dumps(self._settings, sort_keys=True))

    def _read_manifest(self) -> dict[str, Any] | None:
        file = self.path / _MANIFEST
        if not file.exists():
            return None
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            before = found["settings"]
        except (ValueError, KeyError, TypeError) as error:
            raise BenchmarkFormatError(f"'{file}' is damaged ({error}): choose another folder.") from error
        names = sorted(n for n in {*before, *self._settings} if before.get(n) != self._settings.get(n))
        if names:
            differences = "; ".join(
                "genotypes was another list of architectures"  # of which the settings hold a digest
                if n == "genotypes"
                else f"{n} was {json.dumps(before.get(n))}, now it is {json.dumps(self._settings.get(n))}"
                for n in names
            )
            raise ValueError(
                f"'{self.path}' holds a sweep with other settings: {differences}. "
                "Ask for the same again, or choose another folder."
            )
        return dict(found)

    def _write_manifest(self) -> None:
        content = {
            "what": "A folder of `tauzero score --out`: all rows in scores.parquet, finished chunks in part-*.parquet.",
            "settings": self._settings,
            "networks": self._networks,
            "proxies": self._proxies,
        }
        with atomic_path(self.path / _MANIFEST) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def _read_part(self, file: Path) -> None:
        try:
            table = pq.read_table(file, partitioning=None)
            known = json.loads((table.schema.metadata or {})[_KEY])
            names: list[str] = known["proxies"]
            numbers = table["network"].to_numpy()
            values = np.column_stack([table[name].to_numpy() for name in names])
            reasons = table["reason"].to_pylist()
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise BenchmarkFormatError(
                f"'{file}' is not a readable Parquet file of a sweep ({error}): delete it, "
                "and its networks are scored again."
            ) from error
        if known["settings"] != self._fingerprint or not ((numbers >= 0) & (numbers < self._networks)).all():
            raise ValueError(f"'{file}' is a part of a sweep with other settings: move it elsewhere.")
        self._scores.add(names, numbers, Result(values, reasons))


# -- what decides about going on --------------------------------------------------------------


def describe(value: Any) -> Any:
    """A JSON value that is equal for equal settings: names and numbers themselves, data as their digest."""
    found: Any
    if value is None or isinstance(value, bool | int | float | str):
        found = value
    elif isinstance(value, np.generic):
        found = value.item()
    elif isinstance(value, os.PathLike):
        found = _describe_file(Path(value))
    elif isinstance(value, torch.Tensor):
        found = describe(value.detach().cpu().numpy())
    elif isinstance(value, np.ndarray):
        found = f"{value.dtype}{list(value.shape)} of sha256 {digest(value)}"
    elif isinstance(value, Mapping):
        found = {str(key): describe(item) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        found = [describe(item) for item in value]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {field.name: describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
    else:
        import joblib

        found = f"{type(value).__qualname__} of hash {joblib.hash(value)}"
    return found


def describe_images(batch: Any) -> Any:
    """`describe` the images of a sweep: texts other than the known names are paths."""
    if isinstance(batch, str) and Path(batch).exists() and batch not in {"noise", "digits"}:
        return _describe_file(Path(batch))
    return describe(batch)


def _describe_file(path: Path) -> str:
    """By content, so that a sweep goes on after its data have moved; folders by the names and sizes in them."""
    if path.is_file():
        with path.open("rb") as stream:
            return f"file of sha256 {hashlib.file_digest(stream, 'sha256').hexdigest()}"
    inside = sorted((p.relative_to(path).as_posix(), p.stat().st_size) for p in path.rglob("*") if p.is_file())
    return f"folder of {len(inside)} files, sha256 {digest(json.dumps(inside))}"
