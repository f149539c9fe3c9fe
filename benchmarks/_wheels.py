"""Data that comes in Python packages: found, named and told from other archives without running any of the package."""

from __future__ import annotations

__all__ = ["ZIP_DAMAGE", "installed_folder", "member_names", "package_version"]

import struct
import zipfile
import zlib
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Final

#: What `zipfile` and `zlib` raise for damaged, encrypted or strangely compressed archives, besides BadZipFile.
ZIP_DAMAGE: Final = (
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,  # an unknown way of compression
    OSError,
    OverflowError,
    RuntimeError,  # encrypted, or a damaged header that says so
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def member_names(path: Path) -> frozenset[str]:
    """Names within a wheel or other zip archive; none for any other path, or if its directory is damaged."""
    try:
        if not (path.is_file() and zipfile.is_zipfile(path)):  # which raises on some damage
            return frozenset()
        with zipfile.ZipFile(path) as archive:
            return frozenset(archive.namelist())
    except ZIP_DAMAGE:
        return frozenset()


def installed_folder(module: str, holds: Callable[[Path], bool]) -> Path | None:
    """Folder of an installed package that holds the data, found without importing it; None if there is none.

    Parameters
    ----------
    module
        A top-level name.
    holds
        Whether a folder has the data.
    """
    spec = util.find_spec(module)  # of a top-level name: looks for the file, imports nothing
    places = (Path(place) for place in (spec.submodule_search_locations or [])) if spec else iter(())
    return next((place for place in places if holds(place)), None)


def package_version(distribution: str, path: Path, installed: Path | None) -> str:
    """Version that stands in a wheel's name, or of the installed package if that is the path; else empty."""
    if path.suffix == ".whl":
        parts = path.name.split("-")
        return parts[1] if len(parts) > 1 else ""
    if path != installed:
        return ""
    from importlib import metadata  # slow to import, and needed once

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
