"""Readers: zero-cost proxies as NAS-Bench-Suite-Zero published them (Krishnakumar et al., NeurIPS 2022)."""

from __future__ import annotations

__all__ = ["TABLES", "reader_of"]

import hashlib
import math
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero import spaces
from tauzero.benchmarks import _safe_json as safe
from tauzero.benchmarks._json_files import beginnings, members
from tauzero.benchmarks._suitezero_names import TABLES, chunk_of, genotypes_of, tables_of
from tauzero.benchmarks._table import Column, Table
from tauzero.benchmarks._transnas_parquet import TASKS
from tauzero.spaces import BenchmarkFormatError, Progress

_FILES = re.compile(r"(?:zc_|benchmark--).*\.json")
_EXPECTED = "a file of NAS-Bench-Suite-Zero"
_BEGINNING = 2**16  # bytes that say what a file is
_LOOKED_AT = 64  # files
_LICENCE = "Apache-2.0 (NASLib, AutoML Freiburg)"
_NAME = re.compile(r"[A-Za-z0-9][-\w]{0,39}", re.ASCII)
_MOST = 128  # proxies, and data sets
_PASSED_OVER = frozenset({"id", "idx", "arch"})
_ACCURACY = "val_accuracy"
_MARK = -1e8  # what NASLib writes where a score is NaN or infinite
_EPOCHS = {"nasbench101": 108, "nasbench201": 200, "darts": 100}
_TEXT = {
    "nasbench101": "one run, as NASLib looks it up",
    "nasbench201": "one run, as NASLib looks it up (cifar10: ori-test of networks trained on cifar10-valid)",
    "darts": "predicted by the surrogate model of NAS-Bench-301, not trained",
}
_ORDER = ("cifar10", "cifar100", "ImageNet16-120", *(task for task, *_ in TASKS))


@dataclass
class _Cells:
    """Values by dataset and name, one for each architecture key, NaN where there is none."""

    rows: dict[str, int] = field(default_factory=dict)
    columns: dict[tuple[str, str], array[float]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def put(self, dataset: str, name: str, key: str, value: float, where: str) -> None:
        """Keep a value; where there is one already, that one."""
        column = self.columns.get((dataset, name))
        if column is None:
            if len(self.columns) >= _MOST * 2 * 16:
                raise BenchmarkFormatError(f"'{where}' is not {_EXPECTED}: it has too many proxies and data sets.")
            column = self.columns[dataset, name] = array("d")
        row = self.rows.setdefault(key, len(self.rows))
        column.extend([math.nan] * (row + 1 - len(column)))
        if math.isnan(column[row]):
            column[row] = value
        else:
            self.counts["values_repeated"] += 1

    def whole(self, dataset: str, name: str) -> npt.NDArray[np.float64]:
        """One column, ``float64[rows]``."""
        found = np.full(len(self.rows), np.nan)
        column = self.columns[dataset, name]
        found[: len(column)] = column
        return found


def reader_of(table: str) -> tuple[Callable[[Path], bool], Callable[[Path, Progress], Table]]:
    """`recognises` and `read` of one of `TABLES`."""

    def recognises(path: Path) -> bool:
        some = islice(beginnings(path, _FILES, _BEGINNING), _LOOKED_AT)
        return any(table in tables_of(name, head) for name, head in some)

    def read(path: Path, progress: Progress) -> Table:
        return _read(table, path, progress)

    return recognises, read


def _read(table: str, path: Path, progress: Progress) -> Table:
    """Read whole documents and the chunks that NASLib writes; several files are put together."""
    cells = _Cells()
    digests: list[dict[str, Any]] = []
    total = 0
    with members(path, _FILES) as files:
        for step, name in enumerate(files.names):
            progress(step, len(files.names) + 1)
            data = files.read(name, safe.MAX_BYTES)
            if len(files.names) > 1 and table not in tables_of(name, data[:_BEGINNING]):
                continue
            total += len(data)
            if total > 4 * safe.MAX_BYTES:
                raise BenchmarkFormatError(
                    f"'{path}' is too large: its files have more than {4 * safe.MAX_BYTES} bytes."
                )
            source = files.where(name)
            for dataset, key, record in _records(table, name, data, source):
                _keep(cells, dataset, key, record, source)
            digests.append({"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    if not cells.rows:
        raise BenchmarkFormatError(f"'{path}' is not {_EXPECTED}: it has no architecture of {TABLES[table][0]}.")
    made = _table(table, cells, digests, str(path))
    progress(1, 1)
    return made


# -- files ------------------------------------------------------------------------------------


def _records(table: str, name: str, data: bytes, source: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Data set, architecture and what is known of it."""
    content = safe.loads(data, source, _EXPECTED, constants=True)
    if isinstance(content, list):
        chunk = chunk_of(name)
        if chunk is None or chunk[0] != table:
            raise BenchmarkFormatError(
                f"'{source}' is not {_EXPECTED}: a list of results must be named benchmark--SPACE--DATASET--START.json."
            )
        for k, entry in enumerate(content):
            record = safe.mapping(entry, f"entry {k}", source, _EXPECTED)
            yield chunk[1], _text(record.get("arch"), f"arch of entry {k}", source), record
        return
    datasets = safe.mapping(content, "the document", source, _EXPECTED)
    if len(datasets) == 1 and next(iter(datasets)) in TABLES[table][1]:  # early files have the space around
        datasets = safe.mapping(next(iter(datasets.values())), "the space", source, _EXPECTED)
    for dataset, archs in datasets.items():
        _text(dataset, "the name of a data set", source)
        for key, record in safe.mapping(archs, dataset, source, _EXPECTED).items():
            yield dataset, key, safe.mapping(record, key[:80], source, _EXPECTED)


def _text(value: object, what: str, source: str) -> str:
    if not isinstance(value, str) or (what.startswith("the name") and not _NAME.fullmatch(value)):
        raise BenchmarkFormatError(f"'{source}' is not {_EXPECTED}: {what} must be a text, got {value!r:.80}.")
    return value


def _keep(cells: _Cells, dataset: str, key: str, record: dict[str, Any], source: str) -> None:
    """Keep the scores, times and accuracy of one architecture."""
    where = f"of {key[:40]}"
    cells.rows.setdefault(key, len(cells.rows))
    for name, entry in record.items():
        if name in _PASSED_OVER:
            continue
        if not _NAME.fullmatch(name):
            raise BenchmarkFormatError(f"'{source}' is not {_EXPECTED}: {name!r:.60} is no name of a proxy.")
        if name == _ACCURACY:
            cells.put(dataset, name, key, safe.number(entry, f"{name} {where}", source, _EXPECTED), source)
            continue
        score, seconds = (entry.get("score"), entry.get("time")) if isinstance(entry, dict) else (entry, None)
        cells.put(dataset, f"{name} score", key, _score(cells, score, f"{dataset}/{name}", source), source)
        if seconds is not None:
            found = safe.number(seconds, f"time of {name} {where}", source, _EXPECTED)
            cells.put(dataset, f"{name} time", key, found, source)


def _score(cells: _Cells, value: object, what: str, source: str) -> float:
    """A score; NaN for what is none, counted."""
    if isinstance(value, float) and not math.isfinite(value):
        cells.counts[f"{what} {'NaN' if math.isnan(value) else 'infinite'}"] += 1
        return math.nan
    found = safe.number(value, f"score of {what}", source, _EXPECTED)
    if found == _MARK:
        cells.counts[f"{what} {_MARK:g}"] += 1
        return math.nan
    return found


# -- the table --------------------------------------------------------------------------------


def _table(table: str, cells: _Cells, digests: list[dict[str, Any]], source: str) -> Table:
    space = spaces.get(TABLES[table][0])
    genotypes, member = genotypes_of(table, list(cells.rows), source)
    index: npt.NDArray[np.int64] | None = None
    rows: npt.NDArray[np.int8] | None = None
    if space.enumerable:
        at, group = np.unique(space.index(genotypes), return_inverse=True)
        networks = len(at)
        index = None if networks == space.size else at.astype(np.int64)
    else:
        rows, group = space.distinct(genotypes)
        networks = len(rows)
    group = np.asarray(group, dtype=np.int64).reshape(-1)

    def mean(dataset: str, name: str) -> npt.NDArray[np.float64]:
        values = cells.whole(dataset, name)[member]
        there = ~np.isnan(values)
        count = np.bincount(group[there], minlength=networks)
        total = np.bincount(group[there], weights=values[there], minlength=networks)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    datasets = sorted({d for d, _ in cells.columns}, key=lambda d: (_ORDER.index(d) if d in _ORDER else len(_ORDER), d))
    columns = []
    for dataset in datasets:
        for name in sorted(name for d, name in cells.columns if d == dataset):
            values = mean(dataset, name)
            if not np.isnan(values).all():
                columns.append(_column(space.name, dataset, name, values))
    if not columns:
        raise BenchmarkFormatError(f"'{source}' is not {_EXPECTED}: it has no score that is a number.")
    repeated = cells.counts.pop("values_repeated", 0)
    provenance = {
        "reader": table.replace("_", "-"),
        "files": digests[:_LOOKED_AT],
        "files_in_all": len(digests),
        "architectures": len(cells.rows),
        "left_out": int((~member).sum()),
        "merged": int(member.sum()) - networks,
        "values_repeated": repeated,
        "no_score": dict(sorted(cells.counts.items())),
        "no_score_means": f"scores that were NaN, infinite or {_MARK:g}, which NASLib writes for both; NaN here",
    }
    return Table(table, space.name, tuple(columns), _LICENCE, provenance, index, genotypes=rows)


def _column(space: str, dataset: str, name: str, values: npt.NDArray[np.float64]) -> Column:
    proxy, _, what = name.partition(" ")
    if what == "time":
        return Column(dataset, f"{proxy}_seconds", None, None, "seconds", values, f"time that {proxy} took, on a CPU")
    if what == "score":
        text = "as NASLib counts, in millions" if proxy in {"flops", "params"} else "as published"
        return Column(dataset, proxy, None, None, "score", values, text)
    for task, metric, unit, epochs, text in TASKS:
        if task == dataset:
            return Column(dataset, f"validation_{metric}", epochs, None, unit, values, f"{text}; one run")
    text = _TEXT.get(space, "one run, as NASLib looks it up")
    return Column(dataset, "validation_accuracy", _EPOCHS.get(space), None, "percent", values, text)
