"""Where tables live, and the one way in which tauzero writes files: all or nothing."""

from __future__ import annotations

__all__ = ["UnwritableFolderError", "atomic_path", "data_folder", "remove_stale", "unwritable"]

import errno
import glob
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tauzero.spaces import TauzeroError

_TOKEN = 6  # random bytes in the name of a temporary file
_FULL = {errno.ENOSPC, errno.EDQUOT}


class UnwritableFolderError(TauzeroError, OSError, ValueError):
    """An output file that cannot be written where it was asked for; the message names the folder."""


def data_folder() -> Path:
    """Folder of the imported tables: ``$TAUZERO_DATA``, else the platform's user data folder ``tauzero``.

    The folder need not exist yet.
    """
    chosen = os.environ.get("TAUZERO_DATA", "").strip()
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_data_path

    return user_data_path("tauzero", appauthor=False)


def unwritable(path: Path, error: OSError) -> UnwritableFolderError:
    """Build the error for a file that cannot be written: no permission, no space, a folder that is a file."""
    reason = error.strerror or str(error)
    default = data_folder()
    inside = default == path.parent or default in path.parents
    remedy = (
        "Set the environment variable TAUZERO_DATA to a folder that you may write to."
        if inside
        else "Choose a folder that you may write to and that has space left."
    )
    return UnwritableFolderError(f"Cannot write {path.name!r} into the folder '{path.parent}': {reason}. {remedy}")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; put it in place of `path` at success, delete it on any exception.

    Readers of `path` see the old file or the complete new one, never a part; Ctrl-C leaves the old one.
    The parent folder is created. The temporary file exists already (empty) and has the suffix of `path`,
    so that libraries which choose a format by suffix do the right thing.

    Parameters
    ----------
    path
        The file to be written.

    Raises
    ------
    UnwritableFolderError
        Before anything is computed inside the block, if the folder cannot be created or written to;
        after it, if the disk is full.
    """
    final = Path(path)
    if final.is_dir():
        raise UnwritableFolderError(f"Cannot write the file '{final}': there is a folder of that name.")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        # Created now, so that hours of work do not end with the news that the folder is read-only.
        temporary, handle = _create(final)
    except OSError as error:
        raise unwritable(final, error) from error
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(final)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _FULL:
            raise unwritable(final, error) from error
        raise
    finally:
        if handle is not None:
            os.close(handle)


def _create(final: Path) -> tuple[Path, int | None]:
    """Make a new temporary file beside `final`; where there are locks, it is locked while the handle is open."""
    while True:
        temporary = final.with_name(f".{final.stem}.{secrets.token_hex(_TOKEN)}.tmp{final.suffix}")
        handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        locked = _lock(handle)
        if locked is None:  # Windows also does not rename files that are open
            os.close(handle)
            return temporary, None
        # Between the two steps another process may have taken the file for a dead one's and removed it.
        if locked and _is_at(handle, temporary):
            return temporary, handle
        os.close(handle)


def remove_stale(path: Path) -> list[str]:
    """Remove the temporary files of `atomic_path` for `path` whose writers died; return their names.

    A writer that lives holds a lock on its file, which the operating system drops when it dies. Where there are no
    locks (Windows, some network file systems) nothing is removed.
    """
    pattern = f".{glob.escape(path.stem)}.{'[0-9a-f]' * 2 * _TOKEN}.tmp{glob.escape(path.suffix)}"
    removed = []
    for temporary in path.parent.glob(pattern):
        try:
            handle = os.open(temporary, os.O_RDWR)
        except OSError:  # gone, or somebody else's
            continue
        try:
            if _lock(handle):
                temporary.unlink(missing_ok=True)
                removed.append(temporary.name)
        except OSError:
            continue
        finally:
            os.close(handle)
    return removed


def _lock(handle: int) -> bool | None:
    """Lock an open file; False if another process has it, None where there are no locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _flush(path: Path) -> None:
    """Have the content on the disk before the name points to it, so that a power cut leaves no empty file."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
