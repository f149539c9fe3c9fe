"""Long readings in parts: what is done is kept, so that an interrupted import goes on where it stopped."""

from __future__ import annotations

__all__ = ["Parts", "parts_of", "remove_parts"]

import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.benchmarks._files import UnwritableFolderError, atomic_path
from tauzero.benchmarks._folder_lock import FolderInUseError, OneWriterFolder, digest
from tauzero.spaces import BenchmarkFormatError

_LOCK = "reading.lock"


class Parts:
    """An append-only list of parts, each a few named arrays; on disk if there is a folder, else in memory.

    A reader of a large source appends what it has read from time to time, together with where it stood. When it
    begins, it takes up the parts that there are:

        for part in parts: ...          # of an earlier, interrupted reading
        parts.append(rows=rows, offset=np.array(offset))

    Parameters
    ----------
    folder
        Where the parts are kept; it exists. None keeps them in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._parts: list[dict[str, npt.NDArray[Any]]] = []
        while folder is not None and (part := _read(self._path(len(self._parts)))) is not None:
            self._parts.append(part)

    def _path(self, number: int) -> Path:
        assert self._folder is not None
        return self._folder / f"{number:06d}.npz"

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[dict[str, npt.NDArray[Any]]]:
        return iter(self._parts)

    def __getitem__(self, number: int) -> dict[str, npt.NDArray[Any]]:
        return self._parts[number]

    def append(self, **arrays: npt.NDArray[Any]) -> None:
        """Keep a part; it is there as a whole or not at all, however the process ends."""
        if self._folder is not None:
            with atomic_path(self._path(len(self._parts))) as temporary, temporary.open("wb") as stream:
                np.savez(stream, allow_pickle=False, **arrays)
        self._parts.append(dict(arrays))

    def joined(self, name: str) -> npt.NDArray[Any]:
        """One array of all parts, put together along the first axis."""
        return np.concatenate([part[name] for part in self._parts])


def _read(path: Path) -> dict[str, npt.NDArray[Any]] | None:
    """Read a part; None where there is none, or one that cannot be read."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile):  # no context: a bare array
        return None


@contextmanager
def parts_of(target: Path, source: Path, kind: str) -> Iterator[Parts]:
    """Yield the parts of an import that may have been begun earlier.

    They lie beside the target, belong to one state of one source (files' names, sizes and times of change) and are
    removed at the end; also where the source turns out to be damaged, but not where the process is interrupted.

    Raises
    ------
    FolderInUseError
        If another process imports into the same table.
    """
    around = _around(target)
    mine = around / digest(kind, *_state(source))[:16]
    with OneWriterFolder(around, _LOCK, "import"):
        for other in around.iterdir():
            if other.is_dir() and other != mine:
                shutil.rmtree(other, ignore_errors=True)
        mine.mkdir(exist_ok=True)
        try:
            yield Parts(mine)
        except BenchmarkFormatError:
            shutil.rmtree(around, ignore_errors=True)
            raise
    shutil.rmtree(around, ignore_errors=True)


def remove_parts(target: Path) -> None:
    """Remove what interrupted imports into a table left, unless another process works on it."""
    around = _around(target)
    if around.is_dir():
        with suppress(FolderInUseError, UnwritableFolderError), OneWriterFolder(around, _LOCK, "import"):
            shutil.rmtree(around, ignore_errors=True)


def _around(target: Path) -> Path:
    return target.with_name(f".{target.stem}.reading")


def _state(source: Path) -> list[str]:
    files = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
    facts = ((p, p.stat()) for p in files)
    return [f"{p.absolute()} {stat.st_size} {stat.st_mtime_ns}" for p, stat in facts]
