"""Reader: NAS-Bench-301's raw results, one JSON file for each trained network (Zela et al., ICLR 2022)."""

from __future__ import annotations

__all__ = ["read", "recognises", "resume"]

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from tauzero import spaces
from tauzero.benchmarks import _safe_json as safe
from tauzero.benchmarks._json_files import Members, beginnings, members
from tauzero.benchmarks._parts import Parts
from tauzero.benchmarks._table import Column, Table
from tauzero.spaces import BenchmarkFormatError, Genotypes, InvalidGenotypeError, Progress

if TYPE_CHECKING:
    from tauzero.spaces.darts import DARTS

_FILES = re.compile(r"results_.*\.json")
_CONFIG = "optimized_hyperparamater_config"  # so spelt in the files
_EXPECTED = "a result of NAS-Bench-301"
_MAX_BYTES = 2**20  # of one file; those with learning curves have some ten thousand bytes
_CHUNK = 1_000  # files that are kept together when an import is interrupted
_MAX_RUNS = 10
_MAX_EPOCHS = 10_000
_LICENCE = "as NAS-Bench-301's data release states (AutoML Freiburg; the code is Apache-2.0)"

_DARTS = "NetworkSelectorDatasetInfo:darts:"
#: What differs between the trainings of the release besides the cell (the authors' `get_config_without_architecture`).
_PROTOCOL = {
    "epochs": "",
    "channels": f"{_DARTS}init_channels",
    "layers": f"{_DARTS}layers",
    "learning_rate": "OptimizerSelector:sgd:learning_rate",
    "weight_decay": "OptimizerSelector:sgd:weight_decay",
}
#: Keys of a configuration that say what the cells are.
_CELL_KEYS = tuple(
    f"{_DARTS}{key}"
    for cell in ("normal", "reduce")
    for key in (*(f"edge_{cell}_{k}" for k in range(14)), *(f"inputs_node_{cell}_{k}" for k in (3, 4, 5)))
)
_LONGEST = 40  # characters of a value there

_VALUES = ("validation_accuracy", "test_accuracy", "training_seconds", "parameters")
_CURVES = {"validation_accuracy": "Train/val_accuracy", "train_accuracy": "Train/train_accuracy"}


def recognises(path: Path) -> bool:
    """Whether a file, or one in a folder tree or archive, is such a result."""
    _, beginning = next(beginnings(path, _FILES, _MAX_BYTES), ("", b""))
    return f'"{_CONFIG}"'.encode() in beginning


def read(path: Path, progress: Progress) -> Table:
    """Read all results; see `resume`."""
    return resume(path, progress, Parts())


def resume(path: Path, progress: Progress, parts: Parts) -> Table:
    """Read a folder tree or zip archive of ``results_*.json``, in parts of a thousand files.

    Trainings of one network become its runs. One table holds one way of training: the most frequent one of the
    source (epochs, channels, layers, learning rate, weight decay); results of others are counted in the provenance.
    """
    with members(path, _FILES) as files:
        names = files.names
        progress(min(len(parts) * _CHUNK, len(names)), len(names))
        for start in range(len(parts) * _CHUNK, len(names), _CHUNK):
            parts.append(**_read_chunk(files, names[start : start + _CHUNK]))
            progress(min(start + _CHUNK, len(names)), len(names))
        return _table(files, parts)


# -- one file ---------------------------------------------------------------------------------


def _read_chunk(files: Members, names: list[str]) -> dict[str, npt.NDArray[Any]]:
    """Configurations and numbers of some files."""
    digest = hashlib.sha256()
    size = 0
    configurations: list[dict[str, str]] = []
    numbers: list[list[float]] = []
    curves: list[dict[str, npt.NDArray[np.float32]]] = []
    for name in names:
        data = files.read(name, _MAX_BYTES)
        size += len(data)
        digest.update(data)
        source = files.where(name)
        content = safe.mapping(safe.loads(data, source, _EXPECTED), "the document", source, _EXPECTED)
        configuration = safe.mapping(content.get(_CONFIG), _CONFIG, source, _EXPECTED)
        configurations.append(_cells(configuration, source))
        numbers.append(_numbers(content, configuration, source))
        curves.append(_curves(content, source))
    lengths = [[len(curve[metric]) for metric in _CURVES] for curve in curves]
    return {
        "genotypes": _genotypes(files, names, configurations),
        "numbers": np.array(numbers),
        "lengths": np.array(lengths, dtype=np.int64),
        "sha256": np.frombuffer(digest.digest(), dtype=np.uint8),
        "bytes": np.array([size]),
        **{f"curve_{metric}": np.concatenate([curve[metric] for curve in curves]) for metric in _CURVES},
    }


def _cells(configuration: dict[str, Any], source: str) -> dict[str, str]:
    """What a configuration says of the cells."""
    found = {key: configuration[key] for key in _CELL_KEYS if key in configuration}
    for key, value in found.items():
        if not isinstance(value, str) or len(value) > _LONGEST:
            raise BenchmarkFormatError(
                f"'{source}' is not {_EXPECTED}: {key} must be a text of at most {_LONGEST} characters."
            )
    return found


def _numbers(content: dict[str, Any], configuration: dict[str, Any], source: str) -> list[float]:
    """`_VALUES` and `_PROTOCOL` of a result; NaN for a number of parameters that is not there."""
    infos = content.get("info")
    if not isinstance(infos, list) or not infos:
        raise BenchmarkFormatError(f"'{source}' is not {_EXPECTED}: info must be an array with an entry.")
    info = safe.mapping(infos[0], "info[0]", source, _EXPECTED)

    def positive(value: object, what: str, most: float = math.inf) -> float:
        found = safe.number(value, what, source, _EXPECTED)
        if not 0 <= found <= most:
            raise BenchmarkFormatError(f"'{source}' is not {_EXPECTED}: {what} must lie in 0 to {most}, got {found}.")
        return found

    parameters = info.get("model_parameters")
    epochs = positive(content.get("budget"), "budget (epochs)", _MAX_EPOCHS)
    if epochs < 1 or epochs != int(epochs):
        raise BenchmarkFormatError(f"'{source}' is not {_EXPECTED}: budget must be a number of epochs, got {epochs}.")
    return [
        positive(info.get("val_accuracy"), "val_accuracy", 100.0),
        positive(content.get("test_accuracy"), "test_accuracy", 100.0),
        positive(content.get("runtime"), "runtime"),
        math.nan if parameters is None else positive(parameters, "model_parameters", 2.0**53),
        epochs,
        *(positive(configuration.get(key), key) for key in _PROTOCOL.values() if key),
    ]


def _curves(content: dict[str, Any], source: str) -> dict[str, npt.NDArray[np.float32]]:
    """Accuracies after each epoch in percent, empty where the file has none."""
    given = content.get("learning_curves")
    tags = {} if given is None else safe.mapping(given, "learning_curves", source, _EXPECTED)
    found = {}
    for metric, tag in _CURVES.items():
        curve = tags.get(tag, [])
        if not isinstance(curve, list) or len(curve) > _MAX_EPOCHS:
            raise BenchmarkFormatError(
                f"'{source}' is not {_EXPECTED}: {tag} must be an array of at most {_MAX_EPOCHS} accuracies."
            )
        values = [safe.number(value, tag, source, _EXPECTED) for value in curve]
        if values and not 0 <= min(values) <= max(values) <= 100:
            raise BenchmarkFormatError(f"'{source}' is not {_EXPECTED}: {tag} must lie in 0 to 100 percent.")
        found[metric] = np.array(values, dtype=np.float32)
    return found


def _genotypes(files: Members, names: list[str], configurations: list[dict[str, str]]) -> Genotypes:
    """Cells of the configurations; an error names the file."""
    space = cast("DARTS", spaces.get("darts"))
    try:
        return space.from_configspace(configurations)
    except InvalidGenotypeError:
        for name, configuration in zip(names, configurations, strict=True):
            try:
                space.from_configspace([configuration])
            except InvalidGenotypeError as error:
                raise BenchmarkFormatError(f"'{files.where(name)}' is not {_EXPECTED}: {error}") from error
        raise


# -- the table --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Runs:
    """Trainings of one protocol: file numbers, row of the table and number of the run of each."""

    files: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    number: npt.NDArray[np.int64]
    genotypes: Genotypes

    def mean(self, values: npt.NDArray[np.floating[Any]], some: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """Mean over the runs that have a value, ``float64[rows]``; NaN where none has."""
        count = np.bincount(self.rows[some], minlength=len(self.genotypes))
        total = np.bincount(self.rows[some], weights=values, minlength=len(self.genotypes))
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _runs(genotypes: Genotypes, numbers: npt.NDArray[np.float64]) -> tuple[_Runs, dict[str, Any], dict[str, int]]:
    """Choose the most frequent protocol and number the trainings of each network as the files come.

    Also returns the protocol and what was counted.
    """
    protocols, which, count = np.unique(numbers[:, len(_VALUES) :], axis=0, return_inverse=True, return_counts=True)
    chosen = int(np.argmax(count))
    inside = np.flatnonzero(which.reshape(-1) == chosen)
    # The same training in two files (a folder copied into another): equal to the second, in all numbers.
    canonical = spaces.get("darts").canonical(genotypes[inside])
    whole = np.concatenate([canonical.astype(np.float64), np.nan_to_num(numbers[inside], nan=-1.0)], axis=1)
    files = inside[np.sort(np.unique(whole, axis=0, return_index=True)[1])]
    cells, rows = spaces.get("darts").distinct(genotypes[files])
    rows = np.asarray(rows, dtype=np.int64).reshape(-1)
    order = np.argsort(rows, kind="stable")
    starts = np.searchsorted(rows[order], np.arange(len(cells)))
    number = np.empty(len(rows), dtype=np.int64)
    number[order] = np.arange(len(rows)) - starts[rows[order]]
    protocol = dict(zip(_PROTOCOL, protocols[chosen].tolist(), strict=True))
    counts = {
        "results": len(numbers),
        "results_of_other_protocols": len(numbers) - len(inside),
        "other_protocols": len(protocols) - 1,
        "copies": len(inside) - len(files),
        "trainings": len(files),
        "networks": len(cells),
        "most_runs_of_a_network": int(number.max()) + 1,
        "runs_kept_apart": min(int(number.max()) + 1, _MAX_RUNS),
    }
    return _Runs(files, rows, number, cells), protocol, counts


def _table(files: Members, parts: Parts) -> Table:
    numbers = parts.joined("numbers")
    runs, protocol, counts = _runs(parts.joined("genotypes"), numbers)
    epochs = int(protocol["epochs"])
    numbers = numbers[runs.files]
    columns = list(_final_columns(runs, numbers, epochs, counts["runs_kept_apart"]))
    columns += _curve_columns(runs, parts, epochs)
    results = Counter(files.folders)
    known = {name: k for k, name in enumerate(sorted(results))}
    first = runs.files[runs.number == 0], runs.rows[runs.number == 0]
    code = np.zeros(len(runs.genotypes), dtype=np.int32)
    code[first[1]] = [known[files.folders[k]] for k in first[0].tolist()]
    columns.append(
        Column("cifar10", "source_code", None, None, "count", code, "folder of run 0: its number in `sources`")
    )
    digest = hashlib.sha256(np.concatenate([part["sha256"] for part in parts]).tobytes()).hexdigest()
    trained = Counter(files.folders[k] for k in runs.files.tolist())
    provenance = {
        "reader": "nasbench301-results",
        "accuracy": "of trained networks",
        "protocol": protocol,
        **counts,
        "sources": [
            {"code": k, "folder": name, "results": results[name], "trainings": trained[name]}
            for name, k in known.items()
        ],
        "files": [
            {
                "name": f"{len(files.names)} files",
                "bytes": int(parts.joined("bytes").sum()),
                "sha256": digest,
                "sha256_of": f"the SHA-256 of every {_CHUNK} files in order",
            }
        ],
    }
    return Table("nasbench301", "darts", tuple(columns), _LICENCE, provenance, genotypes=runs.genotypes)


def _final_columns(runs: _Runs, numbers: npt.NDArray[np.float64], epochs: int, kept: int) -> Iterator[Column]:
    """Accuracies after the last epoch, times and parameters."""
    for k, metric in enumerate(_VALUES):
        there = ~np.isnan(numbers[:, k])
        if not there.any():
            continue
        mean = runs.mean(numbers[there, k], there)
        if metric == "parameters":
            yield Column("cifar10", metric, None, None, "count", mean, "as the files say, auxiliary head included")
            continue
        unit = "seconds" if metric == "training_seconds" else "percent"
        text = {
            "validation_accuracy": "of the network trained on 40,000 images",
            "test_accuracy": "of the network trained on 40,000 images",
            "training_seconds": "as measured, of the whole training",
        }[metric]
        yield Column("cifar10", metric, epochs, None, unit, mean, f"mean over trainings, {text}")
        for run in range(kept if kept > 1 else 0):
            values = np.full(len(runs.genotypes), np.nan, dtype=np.float32)
            some = runs.number == run
            values[runs.rows[some]] = numbers[some, k]
            yield Column("cifar10", metric, epochs, run, unit, values, f"training {run}, {text}")


def _curve_columns(runs: _Runs, parts: Parts, epochs: int) -> Iterator[Column]:
    """Mean accuracies after each epoch before the last, and the share of the time that those took."""
    lengths = parts.joined("lengths")
    longest = 0
    for k, metric in enumerate(_CURVES):
        flat = parts.joined(f"curve_{metric}")
        start = (np.cumsum(lengths[:, k]) - lengths[:, k])[runs.files]
        length = lengths[runs.files, k]
        # The full training has its own figure for validation; a longer curve than the training is not believed.
        last = min(int(length.max()), epochs - (metric == "validation_accuracy"))
        longest = max(longest, min(last, epochs - 1))
        for epoch in range(1, last + 1):
            some = length >= epoch
            values = runs.mean(flat[start[some] + epoch - 1].astype(np.float64), some).astype(np.float32)
            yield Column("cifar10", metric, epoch, None, "percent", values, "mean over trainings, from their curves")
    if longest:
        seconds = parts.joined("numbers")[runs.files, _VALUES.index("training_seconds")]
        whole = runs.mean(seconds, np.ones(len(seconds), dtype=np.bool_))
        for epoch in range(1, longest + 1):
            share = (whole * (epoch / epochs)).astype(np.float32)
            text = f"{epoch}/{epochs} of the whole training"
            yield Column("cifar10", "training_seconds", epoch, None, "seconds", share, text)
