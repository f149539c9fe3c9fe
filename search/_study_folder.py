"""The folder of a study: what it is, the trials in a few Parquet files, and the frames made of them."""

from __future__ import annotations

__all__ = ["FORMAT", "FRAMES", "Group", "StudyFolder", "read_facts", "read_frames", "read_group"]

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tauzero.benchmarks import atomic_path
from tauzero.benchmarks._folder_lock import OneWriterFolder, digest
from tauzero.search._study_trial import Outcome
from tauzero.spaces import BenchmarkFormatError

if TYPE_CHECKING:
    import pandas as pd

FORMAT, VERSION = "tauzero.study", 1
FRAMES = ("trials", "curves", "tests", "gains")
_FACTS, _TRIALS, _LOCK = "study.json", "trials", ".study.lock"
#: What a killed process leaves of a file that `atomic_path` was writing.
_LEFT_OVER = re.compile(r"\.[\w-]+\.[0-9a-f]{12}\.tmp\.(parquet|json)")
_KEY = b"tauzero.study"
#: Facts of a trial that are no columns of its queries.
_OF_TRIAL = ("trial", "trained", "queries", "repeats", "stopped", "choice", "wall")
_COLUMNS = ("index", "value", "seconds", "epochs")

#: An objective and an algorithm.
Pair = tuple[str, str]


@dataclass(frozen=True)
class Group:
    """All trials of one objective and algorithm, by rising number.

    Attributes
    ----------
    facts
        For each of t trials its `trial`, `trained`, `queries`, `repeats`, `stopped`, `choice` and `wall`.
    bounds
        ``int64[t + 1]``: trial k has the rows from bounds[k] to bounds[k + 1].
    index, value, seconds, epochs
        Columns of the true queries, one trial after the other.
    genotypes
        ``int8[q, L]`` of the same rows.
    """

    facts: list[dict[str, Any]]
    bounds: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]
    epochs: npt.NDArray[np.int64]
    genotypes: npt.NDArray[np.int8]


class StudyFolder(OneWriterFolder):
    """The folder of a study, locked while the context lasts; one process writes into it.

    Parameters
    ----------
    path
        The folder; made if need be.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _LOCK, "study")
        self._settings = ""

    def open(self, facts: Mapping[str, Any]) -> tuple[dict[str, Any], dict[Pair, set[int]]]:
        """Join what is asked for with what there is, and note it.

        Parameters
        ----------
        facts
            Content of ``study.json``: ``settings`` and ``objectives`` (settings of each) must agree with the folder's,
            ``plan`` (pairs and numbers of trials, parameters of each algorithm) is added to it.

        Returns
        -------
        facts
            The joined content, as it was written.
        done
            Which trials of each pair are finished.

        Raises
        ------
        ValueError
            If the folder holds something else, or a study with other settings.
        BenchmarkFormatError
            If a file is damaged.
        """
        new: dict[str, Any] = json.loads(json.dumps(facts))
        before = read_facts(self.path) if (self.path / _FACTS).exists() else None
        if before is None:
            strangers = [path.name for path in self.path.iterdir() if path.name != _LOCK]
            if any(name == _TRIALS or name.startswith(FRAMES) for name in strangers):
                raise ValueError(
                    f"'{self.path}' holds {min(strangers)}, but no {_FACTS} that says how it was made: choose another "
                    "folder, or delete the file."
                )
        else:
            new = _joined(self.path, before, new)
        self._settings = digest(json.dumps(new["settings"], sort_keys=True))
        for folder in (self.path, *(p for p in self.path.glob(f"{_TRIALS}/*") if p.is_dir())):
            for path in folder.iterdir():
                if _LEFT_OVER.fullmatch(path.name):
                    path.unlink(missing_ok=True)
        done: dict[Pair, set[int]] = {}
        for file in sorted(self.path.glob(f"{_TRIALS}/*/trials-*.parquet")):
            known = self._read_key(file)
            pair = (known["objective"], known["algorithm"])
            done.setdefault(pair, set()).update(fact["trial"] for fact in known["facts"])
        if new != before:
            with atomic_path(self.path / _FACTS) as partial:
                partial.write_text(json.dumps(new, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return new, done

    def _read_key(self, file: Path) -> dict[str, Any]:
        known = _key_of(file)
        if known["settings"] != self._settings:
            raise ValueError(f"'{file}' is a part of a study with other settings: move it elsewhere.")
        return known

    def append(self, outcomes: Iterable[Outcome]) -> None:
        """Keep finished trials; once this returns they survive a kill and a power cut."""
        groups: dict[Pair, list[Outcome]] = {}
        for outcome in outcomes:
            groups.setdefault((outcome.objective, outcome.algorithm), []).append(outcome)
        for pair, some in groups.items():
            some.sort(key=lambda outcome: outcome.trial)
            facts = [{name: getattr(outcome, name) for name in _OF_TRIAL} for outcome in some]
            sizes = np.array([len(outcome.index) for outcome in some])
            columns = {name: np.concatenate([getattr(outcome, name) for outcome in some]) for name in _COLUMNS}
            genotypes = np.concatenate([outcome.genotypes for outcome in some])
            self._write(pair, facts, sizes, columns, genotypes)

    def _write(
        self,
        pair: Pair,
        facts: list[dict[str, Any]],
        sizes: npt.NDArray[np.int64],
        columns: Mapping[str, npt.NDArray[Any]],
        genotypes: npt.NDArray[np.int8],
    ) -> Path:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rows = int(sizes.sum())
        numbers = np.array([fact["trial"] for fact in facts], dtype=np.int32)
        order = np.arange(rows) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        trained = order < np.repeat([fact["trained"] for fact in facts], sizes)
        named: dict[str, Any] = {
            "objective": pa.DictionaryArray.from_arrays(np.zeros(rows, np.int8), [pair[0]]),
            "algorithm": pa.DictionaryArray.from_arrays(np.zeros(rows, np.int8), [pair[1]]),
            "trial": np.repeat(numbers, sizes),
            "phase": pa.DictionaryArray.from_arrays(
                trained.astype(np.int8), ["search" if pair[0] == "table" else "verify", "train"]
            ),
            **{f"g{k}": np.ascontiguousarray(column) for k, column in enumerate(genotypes.T)},
            "index": columns["index"],
            "epochs": columns["epochs"],
            "value": columns["value"],
            "seconds": columns["seconds"],
        }
        known = {"settings": self._settings, "objective": pair[0], "algorithm": pair[1], "facts": facts}
        table = pa.table(named).replace_schema_metadata({_KEY: json.dumps(known)})
        name = f"trials-{numbers[0]:05d}-{numbers[-1]:05d}-{digest(numbers)[:8]}.parquet"
        target = self.path / _TRIALS / "-".join(pair) / name
        with atomic_path(target) as partial:
            pq.write_table(table, partial, compression="zstd")
        return target

    def merge(self, pair: Pair) -> Group:
        """Read the trials of a pair; several files become one."""
        files = sorted((self.path / _TRIALS / "-".join(pair)).glob("trials-*.parquet"))
        group = read_group(files)
        if len(files) > 1:
            columns = {name: getattr(group, name) for name in _COLUMNS}
            kept = self._write(pair, group.facts, np.diff(group.bounds), columns, group.genotypes)
            for file in files:  # a kill in between leaves trials that stand there twice, which is no harm
                if file != kept:
                    file.unlink(missing_ok=True)
        return group

    def finish(self, frames: Mapping[str, pd.DataFrame], plan: Any) -> None:
        """Write the frames; `plan` says which trials they are of."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        key = json.dumps({"plan": plan}, sort_keys=True)
        for name in FRAMES:
            table = pa.Table.from_pandas(frames[name], preserve_index=False).replace_schema_metadata({_KEY: key})
            with atomic_path(self.path / f"{name}.parquet") as partial:
                pq.write_table(table, partial, compression="zstd")


def _joined(path: Path, before: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What the folder holds and what is asked for, together."""
    pairs = [("", before["settings"], new["settings"])]
    shared = [name for name in new["objectives"] if name in before["objectives"]]
    pairs += [(f"{name}: ", before["objectives"][name], new["objectives"][name]) for name in shared]
    known = [name for name in new["params"] if name in before["params"]]
    pairs += [("parameters of ", {n: before["params"][n] for n in known}, {n: new["params"][n] for n in known})]
    differences = [
        f"{prefix}{name} was {json.dumps(old.get(name))}, now it is {json.dumps(now.get(name))}"
        if name != "values"
        else "the table had other values"
        for prefix, old, now in pairs
        for name in sorted({*old, *now})
        if old.get(name) != now.get(name)
    ]
    if differences:
        raise ValueError(
            f"'{path}' holds a study with other settings: {'; '.join(differences)}. Ask for the same again, or choose "
            "another folder."
        )
    plan = {(entry["objective"], entry["algorithm"]): entry["trials"] for entry in before["plan"]}
    for entry in new["plan"]:
        pair = (entry["objective"], entry["algorithm"])
        plan[pair] = max(plan.get(pair, 0), entry["trials"])
    reasons = {(e["objective"], e["algorithm"]): e for e in [*before["left_out"], *new["left_out"]]}
    grown = any(entry not in before["plan"] for entry in _entries(plan))
    return {
        **(new if grown else before),
        "objectives": {**before["objectives"], **new["objectives"]},
        "params": {**before["params"], **new["params"]},
        "plan": _entries(plan),
        "left_out": [entry for pair, entry in reasons.items() if pair not in plan],
        "notes": list(dict.fromkeys([*before["notes"], *new["notes"]])),
        "transfer": {**before["transfer"], **new["transfer"]},
        "commands": list(dict.fromkeys([*before["commands"], *new["commands"]])),
    }


def _entries(plan: Mapping[Pair, int]) -> list[dict[str, Any]]:
    return [{"objective": o, "algorithm": a, "trials": t} for (o, a), t in plan.items()]


# -- reading ----------------------------------------------------------------------------------


def read_facts(path: Path) -> dict[str, Any]:
    """Content of ``study.json``; `BenchmarkFormatError` if it is damaged or of another version."""
    file = path / _FACTS
    if not file.is_file():
        raise FileNotFoundError(f"'{path}' is no folder of a study: it has no {_FACTS}. `tauzero study` makes one.")
    try:
        found = dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise BenchmarkFormatError(f"'{file}' is damaged ({error}): choose another folder.") from error
    if found.get("format") != FORMAT or found.get("version") != VERSION:
        raise BenchmarkFormatError(
            f"'{file}' is not a study of version {VERSION}. Got format {found.get('format')!r}, version "
            f"{found.get('version')!r}."
        )
    return found


def read_frames(path: Path) -> tuple[dict[str, pd.DataFrame], list[dict[str, Any]]]:
    """The four frames, and which trials they are of."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    frames, plans = {}, []
    for name in FRAMES:
        file = path / f"{name}.parquet"
        try:
            table = pq.read_table(file, partitioning=None)
            plans.append(json.loads((table.schema.metadata or {})[_KEY])["plan"])
        except FileNotFoundError as error:
            raise BenchmarkFormatError(
                f"The study in '{path}' has not been finished: run the same command again, and it goes on."
            ) from error
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise BenchmarkFormatError(f"'{file}' is damaged ({error}): run the study's command again.") from error
        frames[name] = table.to_pandas()
    if any(plan != plans[0] for plan in plans):
        raise BenchmarkFormatError(
            f"The files in '{path}' are of different moments, since a study was interrupted while it wrote them: run "
            "the same command again."
        )
    return frames, plans[0]


def _key_of(file: Path) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found: dict[str, Any] = json.loads((pq.read_schema(file).metadata or {})[_KEY])
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise _damaged(file, error) from error
    return found


def _damaged(file: Path, error: Exception) -> BenchmarkFormatError:
    return BenchmarkFormatError(
        f"'{file}' is not a readable Parquet file of a study ({error}): delete it, and its trials are run again."
    )


def read_group(files: Iterable[Path]) -> Group:
    """All trials in some files of one objective and algorithm; of a trial that stands there twice, the first."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts: list[tuple[dict[str, Any], dict[str, npt.NDArray[Any]], int, int]] = []
    seen: set[int] = set()
    for file in files:
        facts = _key_of(file)["facts"]
        try:
            table = pq.read_table(file, partitioning=None)
            names = [name for name in table.column_names if re.fullmatch(r"g\d+", name)]
            columns = {
                name: table[name].to_numpy() for name in (*names, "trial", "index", "epochs", "value", "seconds")
            }
        except (pa.ArrowException, OSError, KeyError) as error:
            raise _damaged(file, error) from error
        columns = {
            "genotypes": np.stack([columns[name] for name in names], axis=1).astype(np.int8),
            **{name: columns[name] for name in ("trial", "index", "epochs", "value", "seconds")},
        }
        for fact in facts:
            first, last = np.searchsorted(columns["trial"], [fact["trial"], fact["trial"] + 1])
            if fact["trial"] not in seen:
                seen.add(fact["trial"])
                parts.append((fact, columns, int(first), int(last)))
    parts.sort(key=lambda part: part[0]["trial"])

    def column(name: str) -> npt.NDArray[Any]:
        return np.concatenate([columns[name][first:last] for _, columns, first, last in parts])

    return Group(
        facts=[part[0] for part in parts],
        bounds=np.cumsum([0, *(last - first for _, _, first, last in parts)]).astype(np.int64),
        index=column("index").astype(np.int64),
        value=column("value").astype(np.float64),
        seconds=column("seconds").astype(np.float64),
        epochs=column("epochs").astype(np.int64),
        genotypes=column("genotypes"),
    )
