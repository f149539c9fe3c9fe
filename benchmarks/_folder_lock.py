"""Folders with one writer: a lock, and what tells whether two contents are equal."""

from __future__ import annotations

__all__ = ["FolderInUseError", "FolderLock", "OneWriterFolder", "digest"]

import hashlib
import os
import socket
import sys
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tauzero.benchmarks._files import UnwritableFolderError
from tauzero.spaces import TauzeroError


class FolderInUseError(TauzeroError, OSError):
    """Another process writes into the folder; the message names it."""


def digest(*values: npt.NDArray[Any] | str) -> str:
    """SHA-256 of texts and arrays, their dtypes and shapes."""
    found = hashlib.sha256()
    for value in values:
        if isinstance(value, str):
            found.update(f"text {len(value)} {value}".encode())
        else:
            found.update(f"array {value.dtype.str} {value.shape}".encode())
            found.update(np.ascontiguousarray(value).tobytes())
    return found.hexdigest()


class FolderLock:
    """A lock that the operating system drops when its owner dies, however it dies.

    Parameters
    ----------
    path
        The lock's file, in the folder.
    what
        What the folder holds, for messages: ``"sweep"``.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path, self._what = path, what
        self._handle: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises
        ------
        FolderInUseError
            If another process, or this one already, has it.
        """
        while True:
            try:
                handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            except OSError as error:
                raise UnwritableFolderError(
                    f"Cannot write into the folder '{self._path.parent}': {error.strerror}. "
                    "Choose a folder that you may write to."
                ) from error
            try:
                _lock(handle)
            except (BlockingIOError, PermissionError) as error:
                owner = os.pread(handle, 200, 0).decode(errors="replace").strip() if hasattr(os, "pread") else ""
                os.close(handle)
                raise FolderInUseError(
                    f"Another {self._what} writes into '{self._path.parent}' ({owner or 'owner unknown'}): "
                    "wait for it, end it, or choose another folder."
                ) from error
            except OSError as error:
                warnings.warn(
                    f"The file system of '{self._path.parent}' has no locks ({error}): "
                    f"see to it that no second {self._what} writes there.",
                    stacklevel=4,
                )
            if _same_file(handle, self._path):
                break
            os.close(handle)  # its owner finished and removed the file between our two steps
        os.ftruncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        self._handle = handle

    def release(self) -> None:
        """Remove the file and drop the lock."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            if os.name != "nt":  # Windows does not remove open files
                self._path.unlink(missing_ok=True)
            os.close(handle)


class OneWriterFolder:
    """A folder that is made and locked on entering, and given free on leaving.

    Parameters
    ----------
    path
        The folder.
    lock
        Name of the lock's file in it.
    what
        What the folder holds, for messages: ``"sweep"``.
    """

    def __init__(self, path: Path, lock: str, what: str) -> None:
        self.path = path
        self._lock = FolderLock(path / lock, what)

    def __enter__(self) -> Self:
        if self.path.exists() and not self.path.is_dir():
            raise UnwritableFolderError(f"The 'out' argument must be a folder. Got the file '{self.path}'.")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnwritableFolderError(f"Cannot make the folder '{self.path}': {error.strerror}.") from error
        self._lock.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(handle, 1 << 20, os.SEEK_SET)  # beyond the text, which others may then read
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        os.lseek(handle, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
