"""Tabular benchmarks: what was measured of the architectures of a space.

`load` opens one by name, `Benchmark.query` looks up whole batches, `import_table` turns the files in
which benchmarks come into one memory-mapped table each.
"""

from __future__ import annotations

__all__ = [
    "READERS",
    "Benchmark",
    "Column",
    "Download",
    "DownloadError",
    "MissingTableError",
    "Progress",
    "Reader",
    "Source",
    "Table",
    "UnwritableFolderError",
    "atomic_path",
    "available",
    "data_folder",
    "download",
    "has_scheme",
    "import_table",
    "load",
    "names",
    "read_store",
    "sources",
    "write_store",
]

from tauzero.benchmarks._benchmark import Benchmark
from tauzero.benchmarks._download import Download, DownloadError, download
from tauzero.benchmarks._files import UnwritableFolderError, atomic_path, data_folder
from tauzero.benchmarks._library import MissingTableError, available, import_table, load, names
from tauzero.benchmarks._readers import READERS, Reader
from tauzero.benchmarks._schemes import has_scheme
from tauzero.benchmarks._sources import Source, sources
from tauzero.benchmarks._store import read_store, write_store
from tauzero.benchmarks._table import Column, Table
from tauzero.spaces import Progress
