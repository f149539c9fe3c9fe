"""The folder of a table that is being built: its settings, its lock, a file for each finished group of trainings."""

from __future__ import annotations

__all__ = ["BuildFolder", "Group", "Results"]

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tauzero.benchmarks._files import atomic_path
from tauzero.benchmarks._folder_lock import OneWriterFolder, digest
from tauzero.spaces import BenchmarkFormatError, Genotypes

if TYPE_CHECKING:
    from tauzero.search._table_training import Curves

_MANIFEST, _LOCK = "build.json", ".build.lock"
_PART = re.compile(r"part-s(\d{3,})-(\d{5,})\.npz")
_LEFT_OVER = re.compile(r"\.(part-s\d+-\d+|build)\.[0-9a-f]{12}\.tmp\.(npz|json)")
_COUNTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Group:
    """Trainings that are done together, always the same ones: only so are results independent of how work was divided.

    Attributes
    ----------
    number
        Of the group among those of its seed.
    first
        Number of its first network among the m of the table.
    rows
        ``int8[k, L]``: the networks.
    seed
        Of initial weights and the order of images.
    tries
        How often the group has ended its process.
    """

    number: int
    first: int
    rows: Genotypes
    seed: int
    tries: int = field(default=0)

    def after_a_loss(self) -> Sequence[Group]:
        """The group again, undivided."""
        return [replace(self, tries=self.tries + 1)]

    @property
    def name(self) -> str:
        """Of its file."""
        return f"part-s{self.seed:03d}-{self.number:05d}.npz"


class Results:
    """Curves of m networks and s seeds over E epochs, as far as they are known.

    Attributes
    ----------
    counts
        ``int64[s, m, E]`` right answers by name, ``"train"``, ``"validation"``, ``"test"``; -1 for divergence.
    loss
        ``float64[s, m, E]``.
    done
        ``bool[s, m]``.
    seconds
        Processor time of all trainings.
    """

    def __init__(self, seeds: int, networks: int, epochs: int) -> None:
        shape = (seeds, networks, epochs)
        self.counts = {name: np.full(shape, -1, dtype=np.int64) for name in _COUNTS}
        self.loss = np.full(shape, np.nan)
        self.done = np.zeros(shape[:2], dtype=np.bool_)
        self.seconds = 0.0

    def add(self, seed: int, first: int, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take in the curves of a group."""
        place = slice(first, first + len(arrays["loss"]))
        for name in _COUNTS:
            self.counts[name][seed, place] = arrays[name]
        self.loss[seed, place] = arrays["loss"]
        self.done[seed, place] = True
        self.seconds += float(arrays["seconds"])


class BuildFolder(OneWriterFolder):
    """The folder, locked while the context lasts; one process writes into it.

    Parameters
    ----------
    path
        The folder; made if need be.
    settings
        What must be the same for trainings to belong together; JSON values.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        super().__init__(path, _LOCK, "build of a table")
        self._settings: dict[str, Any] = json.loads(json.dumps(settings))

    def open(self, groups: Sequence[Group], results: Results) -> list[Group]:
        """Read what there is into `results`; returns the groups that are missing.

        Raises
        ------
        ValueError
            If the folder holds something else, or a build with other settings.
        BenchmarkFormatError
            If a file is damaged.
        """
        known = self._read_manifest()
        parts = sorted(p for p in self.path.iterdir() if _PART.fullmatch(p.name))
        for path in self.path.iterdir():
            if _LEFT_OVER.fullmatch(path.name):
                path.unlink(missing_ok=True)
        if not known:
            if parts:
                raise ValueError(
                    f"'{self.path}' holds {parts[0].name}, but no {_MANIFEST} that says how it was made: choose "
                    "another folder, or delete the file."
                )
            with atomic_path(self.path / _MANIFEST) as partial:
                content = {"what": "A folder of `tauzero benchmarks build`.", "settings": self._settings}
                partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        by_name = {group.name: group for group in groups}
        for part in parts:
            group = by_name.pop(part.name, None)
            if group is not None:
                results.add(group.seed, group.first, self._read_part(part, group, results.loss.shape[2]))
        return list(by_name.values())

    def append(self, group: Group, curves: Curves, results: Results) -> None:
        """Keep a group's curves in a file of its own; once this returns they survive a kill and a power cut."""
        arrays: dict[str, npt.NDArray[Any]] = {
            **{name: np.asarray(getattr(curves, name), dtype=np.int32) for name in _COUNTS},
            "loss": curves.loss,
            "seconds": np.array(curves.seconds),
            "rows": group.rows,
            "settings": np.frombuffer(bytes.fromhex(self._fingerprint), dtype=np.uint8),
        }
        with atomic_path(self.path / group.name) as partial, partial.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]  # names of arrays, none of which is an option
        results.add(group.seed, group.first, arrays)

    @property
    def _fingerprint(self) -> str:
        return digest(json.dumps(self._settings, sort_keys=True))

    def _read_manifest(self) -> bool:
        file = self.path / _MANIFEST
        if not file.exists():
            return False
        try:
            before = dict(json.loads(file.read_text(encoding="utf-8"))["settings"])
        except (ValueError, KeyError, TypeError) as error:
            raise BenchmarkFormatError(f"'{file}' is damaged ({error}): choose another folder.") from error
        different = sorted(n for n in {*before, *self._settings} if before.get(n) != self._settings.get(n))
        if different:
            text = "; ".join(
                f"{n} was {json.dumps(before.get(n))}, now it is {json.dumps(self._settings.get(n))}" for n in different
            )
            raise ValueError(
                f"'{self.path}' holds a build with other settings: {text}. Ask for the same again, or choose another "
                "folder."
            )
        return True

    def _read_part(self, file: Path, group: Group, epochs: int) -> dict[str, npt.NDArray[Any]]:
        try:
            # Opened here: of a damaged archive NumPy leaves the file open.
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in (*_COUNTS, "loss", "seconds", "rows", "settings")}
        except Exception as error:
            raise BenchmarkFormatError(
                f"'{file}' is not a readable part of a build ({error}): delete it, and its networks are trained again."
            ) from error
        fits = (
            arrays["settings"].tobytes().hex() == self._fingerprint
            and np.array_equal(arrays["rows"], group.rows)
            and all(arrays[name].shape == (len(group.rows), epochs) for name in (*_COUNTS, "loss"))
            and arrays["seconds"].shape == ()
        )
        if not fits:
            raise ValueError(f"'{file}' is a part of a build with other settings: move it elsewhere.")
        return arrays
