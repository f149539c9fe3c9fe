"""Reader: AnalogNAS-Bench (Benmeziane et al., 2025), NAS-Bench-201's cells on simulated analog hardware.

The PyPI package analog-nasbench holds all of it in one pickle of its own objects. Neither is the package imported nor
are its classes used: two inert ones stand in for them.
"""

from __future__ import annotations

__all__ = ["installed", "read", "recognises"]

import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tauzero import spaces
from tauzero.benchmarks import _safe_pickle
from tauzero.benchmarks._table import Column, Table, in_index_order
from tauzero.benchmarks._wheels import ZIP_DAMAGE, installed_folder, member_names, package_version
from tauzero.spaces import BenchmarkFormatError, Progress

_NAME = "analog_nasbench201"
_DISTRIBUTION, _MODULE = "analog-nasbench", "analognasbench"
_FILE = "data.anb"
_MAX_BYTES = 64 * 2**20  # the file has 5.6 million
#: The package numbers NASLib's way: code of each of its operations, and the edge of each of its columns
#: ((0→1), (0→2), (0→3), (1→2), (1→3), (2→3)). See the test against NAS-Bench-201's own accuracies.
_CODES: Final = np.array([1, 0, 3, 2, 4], dtype=np.int8)
_EDGES: Final = (0, 1, 3, 2, 4, 5)

_AGES = {"60": "a minute", "3600": "an hour", "86400": "a day", "2592000": "30 days"}
#: Metric of the table, attribute of the package's objects, what it is.
_PLAIN = (
    ("test_accuracy", "baseline_accuracy", "digital, floating point"),
    ("ptq_accuracy", "ptq_accuracy", "quantised after training"),
    ("qat_accuracy", "qat_accuracy", "trained with quantisation"),
    ("noisy_accuracy", "noisy_accuracy", "the digital network on simulated analog hardware"),
    ("analog_accuracy", "analog_accuracy", "trained for analog hardware and run on it, simulated"),
)
_TRAINED = {"baseline": "the digital network", "analog": "the network trained for analog hardware"}
_DRIFTS = tuple(
    (f"{kind}_accuracy_after_{age}s", f"{kind}_drift_{age}", f"{who} on simulated analog hardware, {words} old")
    for kind, who in _TRAINED.items()
    for age, words in _AGES.items()
)


class _Inert:
    """Stands for an object of the package: holds what the pickle gives it and can do nothing."""

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise TypeError("a state must be a dictionary")
        self.state: dict[Any, Any] = state


class _Architecture(_Inert):
    pass


class _Drift(_Inert):
    pass


_INERT: Final = {
    (f"{_MODULE}.data", "Architecture"): _Architecture,
    (f"{_MODULE}.data", "DriftMeasurement"): _Drift,
}


def installed() -> Path | None:
    """Folder of the installed package, found without running any of its code; None if it is not installed."""
    return installed_folder(_MODULE, lambda place: (place / _FILE).is_file())


def _file(path: Path) -> Path | None:
    """The data file: a path itself, or within the package's folder or the one around it."""
    if path.is_dir():
        return next((p for p in (path / _FILE, path / _MODULE / _FILE) if p.is_file()), None)
    return path if path.is_file() and not zipfile.is_zipfile(path) else None


def recognises(path: Path) -> bool:
    """Whether a path is the package's wheel, its folder or its data file."""
    file = _file(path)
    if file is not None:
        with file.open("rb") as stream:
            head = stream.read(256)
        return head[:1] == b"\x80" and f"{_MODULE}.data".encode() in head
    return f"{_MODULE}/{_FILE}" in member_names(path)


def _content(path: Path) -> bytes:
    file = _file(path)
    try:
        if file is not None:
            with file.open("rb") as stream:
                data = stream.read(_MAX_BYTES + 1)
        else:
            with zipfile.ZipFile(path) as wheel, wheel.open(f"{_MODULE}/{_FILE}") as member:
                data = member.read(_MAX_BYTES + 1)
    except ZIP_DAMAGE as error:
        raise BenchmarkFormatError(f"'{path}' is no intact wheel of {_DISTRIBUTION} ({error}).") from error
    if len(data) > _MAX_BYTES:
        raise BenchmarkFormatError(f"'{path}': {_FILE} is too large, the limit is {_MAX_BYTES} bytes.")
    return data


def read(path: Path, progress: Progress) -> Table:
    """Read accuracies on CIFAR-10, digital, quantised and on simulated analog hardware, in percent."""
    progress(0, 2)
    data = _content(path)
    wrong = f"'{path}' is not the data of {_DISTRIBUTION}: "
    content = _safe_pickle.loads(data, str(path), inert=_INERT)
    if not isinstance(content, dict) or not content:
        raise BenchmarkFormatError(f"{wrong}expected a dictionary of architectures, got {type(content).__name__}.")
    progress(1, 2)
    space = spaces.get("nasbench201")
    order, index = in_index_order(space, _genotypes(list(content), wrong))
    states = [_state(value, _Architecture, f"{wrong}architecture {key} ") for key, value in content.items()]
    columns = tuple(_columns(states, order, wrong))
    progress(2, 2)
    return Table(
        name=_NAME,
        space=space.name,
        columns=columns,
        licence=f"none stated in {_DISTRIBUTION} (IBM's analog-nas, of which it is a part, is Apache-2.0)",
        provenance={
            "reader": "analog-nasbench",
            "package": f"{_DISTRIBUTION} {package_version(_DISTRIBUTION, path, installed())}".strip(),
            "files": [{"name": _FILE, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}],
        },
        index=index,
    )


def _genotypes(keys: list[object], wrong: str) -> npt.NDArray[np.int8]:
    for key in keys:
        if not (isinstance(key, tuple) and len(key) == 6 and all(type(v) is int and 0 <= v < 5 for v in key)):
            raise BenchmarkFormatError(f"{wrong}expected keys of six integers 0 to 4, got {key!r:.60}.")
    rows = np.empty((len(keys), 6), dtype=np.int8)
    rows[:, _EDGES] = _CODES[np.array(keys, dtype=np.int64)]
    return rows


def _state(value: object, kind: type[_Inert], where: str) -> dict[Any, Any]:
    state = getattr(value, "state", None) if isinstance(value, kind) else None
    if not isinstance(state, dict):
        raise BenchmarkFormatError(f"{where}must be an object with values, got {type(value).__name__}.")
    return state


def _columns(states: list[dict[Any, Any]], order: npt.NDArray[np.int64], wrong: str) -> Iterator[Column]:
    text = "as the package has it"

    def number(value: object, what: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not -1e6 < value < 1e6:
            raise BenchmarkFormatError(f"{wrong}{what} must be a number, got {value!r:.40}.")
        return float(value)

    def column(metric: str, unit: str, values: list[float], what: str) -> Column:
        return Column("cifar10", metric, None, None, unit, np.array(values, dtype=np.float32)[order], what)

    for metric, name, what in _PLAIN:
        yield column(metric, "percent", [number(state.get(name), name) for state in states], f"{what}; {text}")
    for metric, name, what in _DRIFTS:
        drifts = [_state(state.get(name), _Drift, f"{wrong}{name} ") for state in states]
        values = [number(drift.get("value"), f"{name}.value") for drift in drifts]
        yield column(metric, "percent", values, f"{what}; mean, {text}")
        spread = [number(drift.get("uncertainty"), f"{name}.uncertainty") for drift in drifts]
        yield column(f"{metric}_deviation", "percent", spread, f"{what}; its uncertainty, {text}")
