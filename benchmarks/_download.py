"""Fetching the official files of benchmarks."""

from __future__ import annotations

__all__ = ["Download", "DownloadError", "download", "import_downloaded"]

import datetime as dt
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from tauzero.benchmarks._files import data_folder
from tauzero.benchmarks._folder_lock import OneWriterFolder
from tauzero.benchmarks._library import import_table
from tauzero.benchmarks._origin import Origin, read_origin, write_origin
from tauzero.benchmarks._readers import benchmark_names
from tauzero.benchmarks._resume import DownloadError, ResumingDownloader
from tauzero.benchmarks._sources import SOURCES, Source, find_source, sources_of
from tauzero.spaces import BenchmarkFormatError, Progress, unknown_name
from tauzero.spaces._progress import silent

_LOCK = "download.lock"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HALF_A_DAY = 12 * 3600.0


@dataclass(frozen=True)
class Download:
    """What `download` did.

    Attributes
    ----------
    path
        The file.
    url
        Where it came from, without user and password.
    sha256
        Of its content.
    checked
        What that was compared with.
    fetched
        Whether anything was transferred; False if the file was there already.
    table
        The table that it was imported into; None if it was not.
    """

    path: Path
    url: str
    sha256: str
    checked: str
    fetched: bool
    table: Path | None = None


@dataclass(frozen=True)
class _Wanted:
    """A file to be fetched, once names and options are understood."""

    benchmark: str
    file: str
    url: str
    sha256: str | None
    checked: str
    size: int | None
    by_hand: str

    @property
    def shown(self) -> str:
        """The address without user and password."""
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=host))


def download(
    name: str,
    *,
    file: str | None = None,
    url: str | None = None,
    sha256: str | None = None,
    out: str | os.PathLike[str] | None = None,
    then_import: bool = True,
    timeout: float = _HALF_A_DAY,
    progress: Progress | None = None,
) -> Download:
    """Fetch an official file of a benchmark, and import it.

    Parameters
    ----------
    name
        The benchmark, such as ``"nasbench101"``.
    file
        Name of one of its known files (``docs/benchmarks.md``); None for the first.
    url
        Another address: a mirror of a known file, or any file that `import_table` reads.
    sha256
        Checksum that the file must have; None for the published one. Where none was published, that of the first
        download is kept beside the file, and a later download must be equal to it.
    out
        Folder for the file; None for ``downloads`` in the data folder.
    then_import
        Whether it is imported into the data folder as the table `name`.
    timeout
        Seconds for the transfer.
    progress
        Called with (bytes there, bytes in all).

    Returns
    -------
    Download
        Where it is. An interrupted download goes on where it stopped when it is asked for again; a file appears under
        its name only when it is whole and its checksum is right.

    Raises
    ------
    UnknownNameError
        If no file of that name or benchmark is known.
    DownloadError
        If the file cannot be fetched by a program, its server cannot be reached or refuses, or it is not what it
        should be; the message says how to get it by hand.
    FolderInUseError
        If another process downloads the same file.
    UnwritableFolderError
        If the folder cannot be written to, or the disk is full.
    """
    wanted = _wanted(name, file, url, sha256)
    if timeout <= 0:
        raise ValueError(f"The 'timeout' argument must be above 0 seconds. Got {timeout}.")
    folder = Path(out).expanduser() if out is not None else data_folder() / "downloads"
    final = folder / wanted.file
    with OneWriterFolder(folder / f".{wanted.file}.download", _LOCK, "download") as work:
        done = _already(wanted, final) or _fetch(wanted, final, work.path, timeout, progress or silent)
    shutil.rmtree(work.path, ignore_errors=True)
    if not then_import:
        return done
    return replace(done, table=import_downloaded(name, final))


def import_downloaded(name: str, file: Path, progress: Progress | None = None) -> Path:
    """Import a file that was downloaded; an error says where it lies."""
    if name not in benchmark_names():
        raise BenchmarkFormatError(f"'{file}' was downloaded, but this tauzero has no reader for {name!r}.")
    try:
        return import_table(name, file, progress=progress)
    except BenchmarkFormatError as error:
        raise BenchmarkFormatError(f"'{file}' was downloaded, but cannot be imported: {error}") from error


def _wanted(name: str, file: str | None, url: str | None, sha256: str | None) -> _Wanted:
    if sha256 is not None:
        sha256 = sha256.strip().lower().removeprefix("sha256:")
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"The 'sha256' argument must be 64 hexadecimal digits. Got {sha256!r}.")
    if url is None:
        return _known(find_source(name, file), sha256)
    known = {source.benchmark for source in SOURCES} | set(benchmark_names())
    if name not in known:
        raise unknown_name("benchmark", name, known)
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"The 'url' argument must begin with https:// or http:// and name a host. Got {url!r}.")
    called = file or unquote(parts.path).rpartition("/")[2]
    if not called or called in {".", ".."} or called.startswith(".") or {"/", "\\", "\0"} & set(called):
        raise ValueError(f"The 'file' argument must name the file that {url!r} is. Got {called!r}.")
    twin = next((source for source in sources_of(name) if source.file == called), None)
    if twin is not None and sha256 is None:
        return _known(twin, None, url)
    page = f" Known files are described at {sources_of(name)[0].page}." if sources_of(name) else ""
    by_hand = f"Get the file by other means and import it: `tauzero benchmarks import {name} PATH`.{page}"
    return _Wanted(name, called, url, sha256, "the checksum that was given", None, by_hand)


def _known(source: Source, sha256: str | None, url: str | None = None) -> _Wanted:
    size = f" ({source.about})" if source.about else ""
    by_hand = (
        f"Get '{source.file}'{size} by hand from {source.page} ({source.content}), and import it: "
        f"`tauzero benchmarks import {source.benchmark} PATH`."
    )
    address = url or source.url
    if address is None:
        raise DownloadError(f"'{source.file}' cannot be fetched by a program. {by_hand}")
    checked = "the checksum that was given" if sha256 else f"the published checksum: {source.evidence}"
    return _Wanted(
        source.benchmark,
        source.file,
        address,
        sha256 or source.sha256,
        checked,
        None if sha256 else source.size,
        by_hand,
    )


def _already(wanted: _Wanted, final: Path) -> Download | None:
    """What is there and right."""
    if not final.is_file():
        return None
    origin = read_origin(final)
    expected = wanted.sha256 or (origin.sha256 if origin and origin.url == wanted.shown else None)
    if expected is None or _digest(final) != expected:
        return None
    checked = wanted.checked if wanted.sha256 else _first_use(origin)
    if origin is None or origin.sha256 != expected:
        write_origin(final, _origin(wanted, final, expected, checked))
    return Download(final, wanted.shown, expected, checked, fetched=False)


def _fetch(wanted: _Wanted, final: Path, work: Path, timeout: float, progress: Progress) -> Download:
    import pooch

    part = work / f"{wanted.file}.part"
    for left in work.iterdir():  # of pooch, when it was killed
        if left.name not in {_LOCK, part.name, f"{part.name}.json"}:
            left.unlink(missing_ok=True)
    earlier = read_origin(final)
    first = earlier.sha256 if earlier and earlier.url == wanted.shown else None
    expected = wanted.sha256 or first
    fetch = ResumingDownloader(part, checked=expected is not None, timeout=timeout, progress=progress, size=wanted.size)
    try:
        with _quiet(pooch.get_logger()):
            got = pooch.retrieve(
                wanted.url,
                known_hash=None if expected is None else f"sha256:{expected}",
                fname=wanted.file,
                path=work,
                downloader=fetch,
            )
    except DownloadError as error:
        raise DownloadError(
            f"Cannot download '{wanted.file}' from {wanted.shown}: {error}. {wanted.by_hand}"
            + (" The same download goes on where this one stopped." if part.exists() else "")
        ) from error
    except ValueError as error:
        found = re.search(r"but got ([0-9a-f]{64})", str(error))
        if found is None or isinstance(error, OSError):
            raise
        raise _wrong(wanted, str(expected), found[1], final) from error
    digest = expected or _digest(Path(got))
    checked = wanted.checked if wanted.sha256 else _first_use(earlier if first else None)
    Path(got).replace(final)
    write_origin(final, _origin(wanted, final, digest, checked))
    return Download(final, wanted.shown, digest, checked, fetched=True)


def _wrong(wanted: _Wanted, expected: str, got: str, final: Path) -> DownloadError:
    """Say what came instead of the file; pooch has deleted it."""
    if wanted.sha256:
        reason = f"{wanted.checked} is {expected}"
        remedy = "Try again, or another address (--url); if it stays so, do not use the file."
    else:
        reason = f"that of the first download was {expected}"
        remedy = (
            f"If the authors have replaced it, remove '{final.name}.origin.json' in '{final.parent}' and try again."
        )
    return DownloadError(
        f"'{wanted.file}' from {wanted.shown} has the SHA-256 {got}, but {reason}. What came was deleted. {remedy} "
        f"{wanted.by_hand}"
    )


def _origin(wanted: _Wanted, file: Path, digest: str, checked: str) -> Origin:
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    return Origin(wanted.shown, digest, file.stat().st_size, checked, today)


def _first_use(earlier: Origin | None) -> str:
    if earlier is None:
        return "nothing: no checksum is published; this one was taken at the first download"
    return f"the first download, {earlier.downloaded}; no checksum is published"


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _quiet(logger: Any) -> Iterator[None]:
    """Without pooch's messages, which would stand between ours and the progress bar."""
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
