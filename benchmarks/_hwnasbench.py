"""Readers: HW-NAS-Bench (Li et al., ICLR 2021), what NAS-Bench-201's networks cost on six devices."""

from __future__ import annotations

__all__ = ["read_parquet", "read_pickle", "recognises_parquet", "recognises_pickle"]

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero import spaces
from tauzero.benchmarks import _safe_pickle
from tauzero.benchmarks._parquet import file_digest, find_parquet, read_columns, schema_names
from tauzero.benchmarks._table import Column, Table, in_index_order
from tauzero.spaces import BenchmarkFormatError, InvalidGenotypeError, Progress

_NAME = "hwnasbench201"
_SPACE = "nasbench201"
_SUFFIX = {"cifar10": "c10", "cifar100": "c100", "ImageNet16-120": "in16"}
_THOUSANDTH = 1e-3  # the files say milliseconds and millijoules

#: Metric, unit, factor to it and what it is.
_METRICS = (
    ("edgegpu_latency", "seconds", _THOUSANDTH, "NVIDIA Jetson TX2, measured"),
    ("edgegpu_energy", "joules", _THOUSANDTH, "NVIDIA Jetson TX2, measured"),
    ("raspi4_latency", "seconds", _THOUSANDTH, "Raspberry Pi 4, measured"),
    ("edgetpu_latency", "seconds", _THOUSANDTH, "Google Edge TPU, measured; NaN where the device cannot run it"),
    ("pixel3_latency", "seconds", _THOUSANDTH, "Pixel 3, measured"),
    ("eyeriss_latency", "seconds", _THOUSANDTH, "Eyeriss, an ASIC, estimated"),
    ("eyeriss_energy", "joules", _THOUSANDTH, "Eyeriss, an ASIC, estimated"),
    ("eyeriss_arithmetic_intensity", "score", 1.0, "Eyeriss: operations for each access to memory, estimated"),
    ("fpga_latency", "seconds", _THOUSANDTH, "Xilinx ZC706, an FPGA, estimated"),
    ("fpga_energy", "joules", _THOUSANDTH, "Xilinx ZC706, an FPGA, estimated"),
)
_LICENCE = "MIT (HW-NAS-Bench, GATECH-EIC)"
_UNSUPPORTED = -1.0
_BEGINNING = 4_096
_HELP = "help_ms_"


# -- the official pickle ----------------------------------------------------------------------


def recognises_pickle(path: Path) -> bool:
    """Whether a file begins like a pickle that names the benchmark's spaces and metrics; nothing is unpickled."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        head = stream.read(_BEGINNING)
    spaces_there = any(name in head for name in (_SPACE.encode(), b"fbnet"))
    contents = (b"arch_str", *(name.encode() for name, *_ in _METRICS))  # the first stands before the first numbers
    return head[:1] == b"\x80" and spaces_there and any(name in head for name in contents)


def read_pickle(path: Path, progress: Progress) -> Table:
    """Read the part of ``HW-NAS-Bench-v1_0.pickle`` that is about NAS-Bench-201.

    The other part, look-up tables of FBNet's blocks, is of a space that this library does not have.
    """
    progress(0, 2)
    content = _safe_pickle.load(path)
    wrong = f"'{path}' is not HW-NAS-Bench-v1_0.pickle: "
    part = content.get(_SPACE) if isinstance(content, dict) else None
    if not isinstance(part, dict) or not part:
        raise BenchmarkFormatError(f"{wrong}expected a dictionary with the key {_SPACE!r}.")
    unknown = [name for name in part if name not in _SUFFIX]
    if unknown:
        raise BenchmarkFormatError(f"{wrong}expected the datasets {', '.join(_SUFFIX)}, got {unknown[0]!r:.40}.")
    progress(1, 2)
    columns: list[Column] = []
    first: npt.NDArray[np.int8] | None = None
    order = np.zeros(0, dtype=np.int64)
    index = None
    for dataset in (name for name in _SUFFIX if name in part):
        where = f"{wrong}{dataset} "
        entries = part[dataset]
        if not isinstance(entries, dict):
            raise BenchmarkFormatError(f"{where}must be a dictionary of metrics.")
        genotypes = _architectures(entries.get("config"), where)
        if first is None:
            first = genotypes
            order, index = in_index_order(spaces.get(_SPACE), genotypes)
        elif not np.array_equal(first, genotypes):
            raise BenchmarkFormatError(f"{where}has other architectures than the dataset before it.")
        columns += _of_dataset(dataset, entries, order, where)
    progress(2, 2)
    provenance = {"reader": "hwnasbench-pickle", "files": [file_digest(path)]}
    if isinstance(content, dict) and "fbnet" in content:
        provenance["left_out"] = "fbnet: look-up tables of blocks of a space that tauzero does not have"
    return Table(_NAME, _SPACE, tuple(columns), _LICENCE, provenance, index)


def _architectures(configs: object, where: str) -> npt.NDArray[np.int8]:
    """Rows of the configurations, by their ``arch_str``."""
    if isinstance(configs, dict):
        configs = [configs.get(k) for k in range(len(configs))]
    if not isinstance(configs, list) or not configs:
        raise BenchmarkFormatError(f"{where}must have 'config', a list of an architecture for each row.")
    strings = [config.get("arch_str") if isinstance(config, dict) else None for config in configs]
    if not all(isinstance(text, str) for text in strings):
        raise BenchmarkFormatError(f"{where}must have 'arch_str', a text, in each entry of 'config'.")
    try:
        return spaces.get(_SPACE).from_string([str(text) for text in strings])
    except InvalidGenotypeError as error:
        raise BenchmarkFormatError(f"{where}has an architecture that cannot be read: {error}") from error


def _of_dataset(dataset: str, entries: dict[Any, Any], order: npt.NDArray[np.int64], where: str) -> Iterator[Column]:
    missing = [name for name, *_ in _METRICS if name not in entries]
    if len(missing) == len(_METRICS):
        raise BenchmarkFormatError(f"{where}has none of the metrics {', '.join(name for name, *_ in _METRICS)}.")
    for name, unit, factor, text in _METRICS:
        if name in missing:
            continue
        given = entries[name]
        plain = isinstance(given, np.ndarray) or (
            isinstance(given, list | tuple)
            and all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in given)
        )
        try:
            values = np.asarray(given, dtype=np.float64) if plain else np.zeros(0)
        except (OverflowError, TypeError, ValueError):
            values = np.zeros(0)
        if values.shape != (len(order),):
            raise BenchmarkFormatError(f"{where}must have {len(order)} numbers for {name}, as many as architectures.")
        yield _column(dataset, name, values[order], unit=unit, factor=factor, text=text)


def _column(
    dataset: str, name: str, values: npt.NDArray[np.floating[Any]], *, unit: str, factor: float, text: str
) -> Column:
    with np.errstate(invalid="ignore"):  # a damaged file may hold signalling NaN
        converted = np.where(values == _UNSUPPORTED, np.nan, values.astype(np.float64) * factor)
    return Column(dataset, name, None, None, unit, converted, text)


# -- a condensed table ------------------------------------------------------------------------


def _fits(names: frozenset[str]) -> bool:
    return "index" in names and any(f"hwnb_{m}_{s}" in names for m, *_ in _METRICS for s in _SUFFIX.values())


def recognises_parquet(path: Path) -> bool:
    """Whether a file, or one in a folder, has the column ``index`` and columns ``hwnb_METRIC_DATASET``."""
    return find_parquet(path, _fits) is not None


def read_parquet(path: Path, progress: Progress) -> Table:
    """Read a condensed table: ``hwnb_*`` in ms and mJ, and ``help_ms_*`` (HELP, Lee et al., NeurIPS 2021) in ms."""
    found = find_parquet(path, _fits)
    if found is None:
        raise BenchmarkFormatError(f"'{path}' is no Parquet file of HW-NAS-Bench.")
    progress(0, 1)
    there = schema_names(found)
    wanted = [
        (dataset, f"hwnb_{name}_{suffix}", name, unit, factor, text)
        for dataset, suffix in _SUFFIX.items()
        for name, unit, factor, text in _METRICS
    ]
    more = sorted(name for name in there if name.startswith(_HELP))
    text = "HELP, measured or estimated on NAS-Bench-201's networks for CIFAR-10"
    wanted += [("cifar10", n, f"help_{n[len(_HELP) :]}_latency", "seconds", _THOUSANDTH, text) for n in more]
    wanted = [entry for entry in wanted if entry[1] in there]
    raw = read_columns(found, ["index", *(entry[1] for entry in wanted)])
    space = spaces.get(_SPACE)
    rows = raw["index"]
    if rows.dtype.kind not in "iu" or int(rows.min()) < 0 or int(rows.max()) >= space.size:
        raise BenchmarkFormatError(f"'{found}': the column index must hold integers of 0 to {space.size - 1}.")
    for _, source, *_ in wanted:
        if raw[source].dtype.kind not in "iuf":
            raise BenchmarkFormatError(f"'{found}': the column {source} must hold numbers.")
    order, index = in_index_order(space, space.enumerate()[rows.astype(np.int64)])
    columns = tuple(
        _column(dataset, name, raw[source][order], unit=unit, factor=factor, text=text)
        for dataset, source, name, unit, factor, text in wanted
    )
    progress(1, 1)
    provenance = {"reader": "hwnasbench-parquet", "files": [file_digest(found)]}
    licence = f"{_LICENCE}; help_*: MIT (HELP, Hayeon Lee et al.)" if more else _LICENCE
    return Table(_NAME, _SPACE, columns, licence, provenance, index)
