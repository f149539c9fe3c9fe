"""Where a downloaded file came from: a note beside it, which the provenance of its table repeats."""

from __future__ import annotations

__all__ = ["Origin", "origin_for", "read_origin", "write_origin"]

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tauzero.benchmarks._files import atomic_path


@dataclass(frozen=True)
class Origin:
    """What is known of a downloaded file.

    Attributes
    ----------
    url
        Where it came from, without user and password.
    sha256
        Of its content.
    bytes
        Its size.
    checked
        What the checksum was compared with; or that it was not, because there was nothing to compare it with.
    downloaded
        Day, as ``YYYY-MM-DD``.
    """

    url: str
    sha256: str
    bytes: int
    checked: str
    downloaded: str


def _note(file: Path) -> Path:
    return file.with_name(f"{file.name}.origin.json")


def write_origin(file: Path, origin: Origin) -> None:
    """Write the note of a file."""
    with atomic_path(_note(file)) as temporary:
        temporary.write_text(json.dumps(asdict(origin), indent=1) + "\n", encoding="utf-8")


def read_origin(file: Path) -> Origin | None:
    """Read the note of a file; None if there is none, or it cannot be read."""
    try:
        found = Origin(**json.loads(_note(file).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return found if all(isinstance(v, str) for v in (found.url, found.sha256, found.checked)) else None


def origin_for(source: Path, provenance: dict[str, Any]) -> dict[str, str] | None:
    """What the provenance of a table says of the download of its source; None if that is not this very file."""
    origin = read_origin(source) if source.is_file() else None
    if origin is None or origin.bytes != source.stat().st_size:
        return None
    files = provenance.get("files", [])
    known = [f.get("sha256") for f in files if isinstance(f, dict) and f.get("name") == source.name]
    if known and origin.sha256 not in known:
        return None
    return {"url": origin.url, "sha256": origin.sha256, "checked": origin.checked}
