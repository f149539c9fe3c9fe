"""How a command's output came about: the command line, versions and the machine, for reports."""

from __future__ import annotations

__all__ = ["provenance", "record", "stamp"]

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("numpy", "scipy", "scikit-learn", "lightgbm", "torch")
_KEY = "tauzero.provenance"


def provenance() -> dict[str, Any]:
    """The command as it was typed, versions of what decides about numbers, and the machine; plain JSON values."""
    from tauzero import __version__

    versions = {"tauzero": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "command": shlex.join(["tauzero", *sys.argv[1:]]),
        "versions": versions,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def record(folder: Path, more: Mapping[str, Any]) -> None:
    """Write the provenance, and `more`, into a file of its own: however others came about, their bytes are the same."""
    from tauzero.benchmarks import atomic_path

    with atomic_path(folder / "provenance.json") as partial:
        partial.write_text(json.dumps({**provenance(), **more}, ensure_ascii=False) + "\n", encoding="utf-8")


def stamp(path: Path) -> None:
    """Add the provenance to the metadata of a finished Parquet file; its columns stay as they are."""
    import pyarrow.parquet as pq

    from tauzero.benchmarks import atomic_path

    table = pq.read_table(path, partitioning=None)
    text = json.dumps(provenance(), ensure_ascii=False)
    metadata = {**(table.schema.metadata or {}), _KEY.encode(): text.encode()}
    with atomic_path(path) as partial:
        pq.write_table(table.replace_schema_metadata(metadata), partial, compression="zstd")
