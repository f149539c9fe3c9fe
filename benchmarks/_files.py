"""Where tables live, and the one way in which tauzero writes files: all or nothing."""

from __future__ import annotations

__all__ = ["UnwritableFolderError", "atomic_path", "data_folder"]

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tauzero.spaces import TauzeroError

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


def _unwritable(path: Path, error: OSError) -> UnwritableFolderError:
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
    temporary = final.with_name(f".{final.stem}.{secrets.token_hex(6)}.tmp{final.suffix}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        # Created now, so that hours of work do not end with the news that the folder is read-only.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise _unwritable(final, error) from error
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(final)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _FULL:
            raise _unwritable(final, error) from error
        raise


def _flush(path: Path) -> None:
    """Have the content on the disk before the name points to it, so that a power cut leaves no empty file."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
