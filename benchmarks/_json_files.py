"""Sources of many JSON files: a folder tree, a zip archive of one, or a single file."""

from __future__ import annotations

__all__ = ["MAX_FILES", "Members", "beginnings", "members"]

import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Final

from tauzero.benchmarks._safe_json import read_bytes
from tauzero.benchmarks._wheels import ZIP_DAMAGE
from tauzero.spaces import BenchmarkFormatError

#: Most files of one source.
MAX_FILES: Final = 200_000

_LOOKED_AT = 10_000  # entries of a folder tree, to see whether there is a file of a format


@dataclass(frozen=True)
class Members:
    """Files of a source, in a fixed order.

    Attributes
    ----------
    names
        Paths within the source with ``/``: by folder, then by the numbers in their names.
    read
        Bytes of a name, at most as many as given; `BenchmarkFormatError` if it is larger or damaged.
    where
        What to call a name in messages.
    folders
        The folder of each name; the source's own name where it has none.
    """

    names: list[str]
    read: Callable[[str, int], bytes]
    where: Callable[[str], str]
    folders: list[str]


@contextmanager
def members(path: Path, pattern: re.Pattern[str]) -> Iterator[Members]:
    """Yield the files whose names (without folders) match, of a folder tree, a zip archive or a single file.

    A single file is taken whatever its name is.

    Raises
    ------
    BenchmarkFormatError
        If there is none or are more than `MAX_FILES`, or the archive is damaged.
    """
    if path.is_dir():
        found = _sorted(_bounded(path, (p.relative_to(path).as_posix() for p in _walk(path, None)), pattern))
        yield Members(
            found,
            lambda name, limit: read_bytes(path / name, limit),
            lambda name: str(path / name),
            [PurePosixPath(name).parent.name or path.name for name in found],
        )
        return
    if not zipfile.is_zipfile(path):
        yield Members([path.name], lambda _, limit: read_bytes(path, limit), lambda _: str(path), [path.parent.name])
        return
    try:
        archive = zipfile.ZipFile(path)
    except ZIP_DAMAGE as error:
        raise _damaged(path, error) from error
    with archive:
        found = _sorted(_bounded(path, archive.namelist(), pattern))

        def where(name: str) -> str:
            return f"{path}/{name}"

        def read(name: str, limit: int) -> bytes:
            try:
                with archive.open(name) as stream:
                    data = stream.read(limit + 1)  # whatever the directory says of its size
            except ZIP_DAMAGE as error:
                raise _damaged(path, error, name) from error
            if len(data) > limit:
                raise BenchmarkFormatError(f"'{where(name)}' is too large: more than {limit} bytes, the limit.")
            return data

        yield Members(found, read, where, [PurePosixPath(name).parent.name or path.stem for name in found])


def beginnings(path: Path, pattern: re.Pattern[str], limit: int) -> Iterator[tuple[str, bytes]]:
    """Name and beginning of files that `members` would yield, in no order: to see whether a source is of a format.

    Looks at a bounded number of entries of a folder tree, and raises nothing: what cannot be read ends it.
    """
    with suppress(*ZIP_DAMAGE):
        if path.is_dir():
            for file in _walk(path, _LOOKED_AT):
                if pattern.fullmatch(file.name):
                    yield file.name, _beginning(file, limit)
        elif path.is_file() and not zipfile.is_zipfile(path):
            yield path.name, _beginning(path, limit)
        elif path.is_file():
            facts = path.stat()
            names = _names(str(path), facts.st_size, facts.st_mtime_ns)
            for name in (n for n in names if pattern.fullmatch(PurePosixPath(n).name)):
                with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
                    yield name, stream.read(limit)


@lru_cache(maxsize=1)  # each of several readers asks for the same archive
def _names(path: str, size: int, changed: int) -> tuple[str, ...]:
    del size, changed  # they make a changed file another one
    with zipfile.ZipFile(path) as archive:
        return tuple(archive.namelist()[:MAX_FILES])


def _beginning(path: Path, limit: int) -> bytes:
    with path.open("rb") as stream:
        return stream.read(limit)


def _walk(path: Path, most: int | None) -> Iterator[Path]:
    """Plain files below a folder, whose links are not followed; at most so many entries are looked at."""
    waiting, seen = [path], 0
    while waiting:
        folder = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                seen += 1
                if most is not None and seen > most:
                    return
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif stat.S_ISREG(entry.stat().st_mode):
                    yield Path(entry.path)


def _bounded(path: Path, names: Iterator[str] | list[str], pattern: re.Pattern[str]) -> list[str]:
    found: list[str] = []
    try:
        for name in names:
            if pattern.fullmatch(PurePosixPath(name).name):
                found.append(name)
                if len(found) > MAX_FILES:
                    raise BenchmarkFormatError(f"'{path}' has more than {MAX_FILES} files, which is the limit.")
    except OSError as error:
        raise BenchmarkFormatError(f"Cannot look through '{path}': {error.strerror or error}.") from error
    if not found:
        raise BenchmarkFormatError(f"'{path}' has no file whose name matches {pattern.pattern!r}.")
    if len(set(found)) < len(found):
        raise BenchmarkFormatError(f"'{path}' has two files of one name.")
    return found


def _sorted(names: list[str]) -> list[str]:
    def key(name: str) -> tuple[str, list[tuple[int, str]], str]:
        path = PurePosixPath(name)
        parts = re.split(r"(\d+)", path.name)
        # Numbers by length, then by digits: no conversion, which has a limit.
        return str(path.parent), [(len(p.lstrip("0")) if p.isdigit() else -1, p.lstrip("0")) for p in parts], name

    return sorted(names, key=key)


def _damaged(path: Path, error: Exception, name: str = "") -> BenchmarkFormatError:
    what = f"'{path}': its member {name!r}" if name else f"'{path}'"
    return BenchmarkFormatError(f"{what} is truncated or damaged ({type(error).__name__}: {error}). Get it again.")
