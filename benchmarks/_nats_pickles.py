"""Readers: NATS-Bench and NAS-Bench-201 as their authors publish them, in pickles.

A folder ``NAME-simple`` has ``meta.pickle.pbz2`` and one ``NNNNNN.pickle.pbz2`` for each architecture; one file
``NAME.pickle.pbz2`` has all of them, and so have the older ``NAS-Bench-201-v1_x-*.pth``. The one-file forms are read as
a stream, an architecture at a time; an interrupted reading of a stream begins anew.
"""

from __future__ import annotations

__all__ = [
    "MAX_ONE",
    "read_size",
    "read_topology",
    "recognises_size",
    "recognises_topology",
    "resume_size",
    "resume_topology",
]

import bz2
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from tauzero import spaces
from tauzero.benchmarks import _safe_torch
from tauzero.benchmarks._nasbench201 import LICENCE
from tauzero.benchmarks._nats_results import SIZE, TOPOLOGY, Collected, Results, Scheme, columns, record
from tauzero.benchmarks._parquet import file_digest
from tauzero.benchmarks._parts import Parts
from tauzero.benchmarks._pickle_input import Limits
from tauzero.benchmarks._pickle_machine import Machine
from tauzero.benchmarks._safe_pickle import loads, read_guarded
from tauzero.benchmarks._table import Table, in_index_order
from tauzero.spaces import BenchmarkFormatError, Progress

#: Bytes of one architecture's pickle, decompressed; published ones have 0.1 to 0.4 MB.
MAX_ONE: Final = 8 * 2**20

_META, _SUFFIX = "meta.pickle.pbz2", ".pickle.pbz2"
_FILE = re.compile(r"\d{6}\.pickle\.pbz2")
_PART = 100  # architectures, some three seconds of work
_AHEAD = 8  # files that are decompressed before they are read
_HEAD = 2**16
_ONE_FILE = Limits(string=2**20, entry=2 * MAX_ONE, names=512 * 2**20)


def _decompressed(path: Path, limit: int) -> bytes:
    """Content of a bz2 file, at most so many bytes and one more."""
    try:
        # No bz2 file of that much content is longer. `read` takes all the memory that it is allowed to at once.
        most = min(path.stat().st_size, 4 * limit + 2**20)
        with path.open("rb") as raw:
            packed = raw.read(most)
        return _unpacked(packed, limit + 1)
    except (OSError, EOFError, ValueError) as error:
        raise BenchmarkFormatError(f"'{path}' is truncated or no bz2 file ({error}). Get it again.") from error


def _unpacked(packed: bytes, most: int) -> bytes:
    """The first bytes of what `bz2.open` reads, each stream in one call.

    In a thread, reading every few kilobytes would mean to wait for Python's lock each time.
    """
    streams: list[bytes] = []
    left = most
    while left and (packed or not streams):
        stream = bz2.BZ2Decompressor()
        try:
            streams.append(stream.decompress(packed, left))
        except OSError:
            if not streams:
                raise
            break  # what follows a stream and is none itself does not count
        left -= len(streams[-1])
        if left and not stream.eof:
            raise EOFError("it ends before the end of a stream")
        packed = stream.unused_data
    return b"".join(streams)


def _pickle(path: Path, limit: int) -> Any:
    return _object(_decompressed(path, limit), path, limit)


def _object(data: bytes, path: Path, limit: int) -> Any:
    if len(data) > limit:
        raise BenchmarkFormatError(
            f"'{path}' has more than {limit} bytes when decompressed. Folders named '-full' hold weights as well: get "
            "the one named '-simple'."
        )
    return loads(data, str(path))


def _contents(files: Sequence[Path], limit: int) -> Iterator[tuple[Path, bytes]]:
    """Decompress files in their order, some ahead in threads: bz2 takes a third of the time, and no lock of Python.

    It asks for the lock a few times in a file, and may wait for it longer than it works; so several are at it.
    """
    with ThreadPoolExecutor(_AHEAD // 2) as ahead:
        waiting = deque(ahead.submit(_decompressed, file, limit) for file in files[:_AHEAD])
        try:
            for k, file in enumerate(files):
                data = waiting.popleft().result()
                if k + _AHEAD < len(files):
                    waiting.append(ahead.submit(_decompressed, files[k + _AHEAD], limit))
                yield file, data
        finally:
            ahead.shutdown(cancel_futures=True)


def _head(path: Path) -> bytes:
    """First bytes of the pickle in a folder's meta file, a bz2 file or a file of torch.save; empty for others."""
    meta = path / _META if path.is_dir() else path
    if not meta.is_file():
        return b""
    try:
        with meta.open("rb") as stream:
            begin = stream.read(3)
        if begin == b"BZh":
            with bz2.open(meta) as unpacked:
                return unpacked.read(_HEAD)
    except (OSError, EOFError, ValueError):
        return b""
    return b"" if path.is_dir() else _safe_torch.head(path)


def _fits(path: Path, scheme: Scheme) -> bool:
    head = _head(path)
    return b"meta_archs" in head and re.search(scheme.pattern, head) is not None


def recognises_topology(path: Path) -> bool:
    """Whether a folder or file is NATS-Bench's topology space or NAS-Bench-201."""
    return _fits(path, TOPOLOGY)


def recognises_size(path: Path) -> bool:
    """Whether a folder or file is NATS-Bench's size space."""
    return _fits(path, SIZE)


def read_topology(path: Path, progress: Progress) -> Table:
    """Read the topology space."""
    return _read(path, progress, Parts(), TOPOLOGY)


def resume_topology(path: Path, progress: Progress, parts: Parts) -> Table:
    """Read the topology space, going on after the parts that there are."""
    return _read(path, progress, parts, TOPOLOGY)


def read_size(path: Path, progress: Progress) -> Table:
    """Read the size space."""
    return _read(path, progress, Parts(), SIZE)


def resume_size(path: Path, progress: Progress, parts: Parts) -> Table:
    """Read the size space, going on after the parts that there are."""
    return _read(path, progress, parts, SIZE)


def _read(path: Path, progress: Progress, parts: Parts, scheme: Scheme) -> Table:
    if path.is_dir():
        sources = _read_folder(path, progress, parts, scheme)
    else:
        parts = Parts()  # a stream has to be read from its beginning anyway
        sources = _read_file(path, progress, parts, scheme)
    if not len(parts):
        raise BenchmarkFormatError(f"'{path}' has no architecture's results.")
    return _table(parts, scheme, sources)


def _table(parts: Parts, scheme: Scheme, sources: list[dict[str, Any]]) -> Table:
    space = spaces.get(scheme.name)
    genotypes = parts.joined("genotypes")
    order, index = in_index_order(space, genotypes)
    results = Results(**{field.name: parts.joined(field.name)[order] for field in fields(Results)})
    return Table(
        name=scheme.name,
        space=space.name,
        columns=tuple(columns(scheme, genotypes[order], results)),
        licence=LICENCE,
        provenance={"reader": "nats-bench-pickles", "architectures": len(order), "files": sources},
        index=index,
    )


def _architectures(meta: Any, path: Path) -> list[str]:
    """Check the list of all architectures' names."""
    names = meta.get("meta_archs") if isinstance(meta, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BenchmarkFormatError(f"'{path}' has no list of architectures (meta_archs): is it damaged?")
    return names


def _read_folder(path: Path, progress: Progress, parts: Parts, scheme: Scheme) -> list[dict[str, Any]]:
    names = _architectures(_pickle(path / _META, MAX_ONE), path / _META)
    files = sorted(p for p in path.iterdir() if _FILE.fullmatch(p.name))
    done = sum(len(part["genotypes"]) for part in parts)
    collected = Collected(scheme)
    for k, (file, data) in enumerate(_contents(files[done:], MAX_ONE), start=done):
        progress(k, len(files))
        number = int(file.name[:6])
        name, results = record(scheme, _object(data, file, MAX_ONE), f"'{file}'")
        if number >= len(names) or names[number] != name:
            raise BenchmarkFormatError(f"'{file}' holds another architecture than {_META} says: {name!r:.100}.")
        collected.add(name, results)
        if len(collected) == _PART or k + 1 == len(files):
            parts.append(**collected.arrays())
    progress(len(files), len(files))
    return [file_digest(path / _META)]


class _Consumer:
    """Takes architectures from a stream."""

    def __init__(self, path: Path, parts: Parts, scheme: Scheme, told: Callable[[int], None]) -> None:
        self._path, self._parts, self._told = path, parts, told
        self.collected = Collected(scheme)
        self.by_number: dict[int, str] = {}

    def watches(self, key: str) -> bool:
        return key == "arch2infos"

    def entry(self, parent: str, key: object, value: object) -> None:
        if type(key) is not int or key in self.by_number:
            raise BenchmarkFormatError(f"'{self._path}': {parent} has the entry {key!r:.40}: is it damaged?")
        name, results = record(self.collected.scheme, value, f"'{self._path}', architecture {key}")
        self.by_number[key] = name
        self.collected.add(name, results)
        if len(self.collected) == _PART:
            self._parts.append(**self.collected.arrays())
        self._told(len(self.by_number))


def _read_file(path: Path, progress: Progress, parts: Parts, scheme: Scheme) -> list[dict[str, Any]]:
    total = spaces.get(scheme.name).size
    consumer = _Consumer(path, parts, scheme, lambda done: progress(min(done, total), total))
    progress(0, total)
    with path.open("rb") as raw:
        packed = raw.read(3) == b"BZh"
    read = _from_bz2 if packed else _from_torch
    names = _architectures(read(path, consumer), path)
    for number, name in consumer.by_number.items():
        if not 0 <= number < len(names) or names[number] != name:
            raise BenchmarkFormatError(f"'{path}': architecture {number} is another one in meta_archs: {name!r:.100}.")
    if len(consumer.collected):
        parts.append(**consumer.collected.arrays())
    progress(total, total)
    return [file_digest(path)]


def _from_torch(path: Path, consumer: _Consumer) -> Any:
    return _safe_torch.load(path, consumer, _ONE_FILE)


def _from_bz2(path: Path, consumer: _Consumer) -> Any:
    def read() -> Any:
        try:
            with bz2.open(path) as stream:
                return Machine(stream, _ONE_FILE, consumer=consumer).load()
        except OSError as error:
            raise EOFError(str(error)) from error

    return read_guarded(read, str(path))
