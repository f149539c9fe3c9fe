"""The result of a search: what was queried, in order, at what cost."""

from __future__ import annotations

__all__ = ["Trajectory"]

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tauzero.benchmarks import atomic_path
from tauzero.spaces import BenchmarkFormatError, Genotypes, SearchSpace, get

_FORMAT = "tauzero.trajectory"
_VERSION = 1
_FACTS = ("space", "algorithm", "objective", "seed", "budget", "stopped", "repeats", "notes", "wall_seconds")


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The true queries of one search in the order in which they were paid for.

    Asking for an architecture again (one with the same `SearchSpace.index`) is no query: it costs
    nothing, has no row here and is counted in `repeats`.

    Attributes
    ----------
    space
        Name of the search space.
    genotypes
        ``int8[q, L]``.
    index
        ``int64[q]``; `SearchSpace.index` of each, all different.
    values
        ``float64[q]``; higher is better (accuracies in percent).
    seconds
        ``float64[q]``; cost of each query, NaN where the table does not know it.
    algorithm, objective
        What searched and what was maximised, for reports.
    seed
        The integer seed of the search, or None if it was given a generator or an algorithm instance.
    budget
        Queries that were allowed.
    stopped
        ``"budget"``, ``"exhausted"`` (every architecture of the space has been queried, or the
        algorithm has no more to propose) or ``"stalled"`` (the algorithm only repeated itself).
    repeats
        How often an architecture was asked for again, free of charge.
    notes
        Statements of the objective that a reader should see.
    wall_seconds
        Time that the search itself took on this machine.
    """

    space: str
    genotypes: Genotypes
    index: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]
    algorithm: str = ""
    objective: str = ""
    seed: int | None = None
    budget: int = 0
    stopped: str = "budget"
    repeats: int = 0
    notes: tuple[str, ...] = field(default=())
    wall_seconds: float = 0.0

    def __post_init__(self) -> None:
        n = len(self.values)
        if not (len(self.genotypes) == len(self.index) == len(self.seconds) == n):
            raise ValueError(
                "The arrays of a Trajectory must have the same length. Got "
                f"{len(self.genotypes)} genotypes, {len(self.index)} indices, {n} values, {len(self.seconds)} seconds."
            )

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        best = f", best {self.best_value:.4g}" if len(self) else ""
        return f"Trajectory({self.algorithm} on {self.space}: {len(self)} queries{best}, stopped: {self.stopped})"

    # -- the best -----------------------------------------------------------------------------

    @property
    def queries(self) -> int:
        """How many architectures were paid for."""
        return len(self)

    @cached_property
    def incumbents(self) -> npt.NDArray[np.float64]:
        """Best value after each query, ``float64[q]``."""
        return np.maximum.accumulate(self.values)

    @property
    def best_position(self) -> int:
        """Query (from 0) that found the best value; the first of equals."""
        if not len(self):
            raise ValueError("This Trajectory is empty: it has no best architecture.")
        return int(self.values.argmax())

    @property
    def best_value(self) -> float:
        """Highest value found."""
        return float(self.values[self.best_position])

    @property
    def best(self) -> Genotypes:
        """The best architecture, ``int8[L]``."""
        row: Genotypes = self.genotypes[self.best_position]
        return row

    @property
    def simulated_seconds(self) -> float:
        """Cost of all queries together; NaN if the cost of one is unknown."""
        return float(self.seconds.sum())

    def regret(self, optimum: float) -> npt.NDArray[np.float64]:
        """Optimum minus best value after each query, ``float64[q]``, never negative.

        Parameters
        ----------
        optimum
            The best value that can be reached, such as ``TableObjective.optimum``.
        """
        if not np.isfinite(optimum) or (len(self) and optimum < self.best_value):
            raise ValueError(
                f"The 'optimum' argument must be the highest value of the objective, at least "
                f"{self.best_value if len(self) else 'finite'}. Got {optimum!r}: is it from another metric or run?"
            )
        return np.asarray(optimum - self.incumbents, dtype=np.float64)

    # -- files --------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write a Parquet file (one row per query; facts in the schema's metadata); all of it or nothing."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        facts: dict[str, Any] = {name: getattr(self, name) for name in _FACTS}
        columns: dict[str, Any] = {f"g{k}": column for k, column in enumerate(np.asarray(self.genotypes).T)}
        columns |= {"index": self.index, "value": self.values, "seconds": self.seconds}
        columns["incumbent"] = self.incumbents
        header = {"format": _FORMAT, "version": str(_VERSION), "facts": json.dumps(facts)}
        table = pa.table({name: np.ascontiguousarray(column) for name, column in columns.items()})
        target = Path(path)
        with atomic_path(target) as partial:
            pq.write_table(table.replace_schema_metadata(header), partial)
        return target

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file that `save` wrote.

        Raises
        ------
        BenchmarkFormatError
            If the file is truncated, not Parquet, or not a trajectory.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        source = Path(path)
        if not source.is_file():
            raise FileNotFoundError(f"There is no trajectory file {source}: check the path.")
        try:
            table = pq.read_table(source, partitioning=None)
        except (pa.ArrowInvalid, OSError) as error:
            raise BenchmarkFormatError(
                f"{source} is not a readable Parquet file ({error}): run the search again."
            ) from error
        meta = {
            key.decode(): value.decode()
            for key, value in (table.schema.metadata or {}).items()
            if key != b"ARROW:schema"
        }
        if meta.get("format") != _FORMAT or meta.get("version") != str(_VERSION):
            raise BenchmarkFormatError(
                f"{source} is not a trajectory of version {_VERSION}. Got format {meta.get('format')!r}, "
                f"version {meta.get('version')!r}: pass a file that Trajectory.save wrote."
            )
        try:
            facts = json.loads(meta["facts"])
            space: SearchSpace = get(facts["space"])
            rows = np.stack([table[f"g{k}"].to_numpy() for k in range(space.length)], axis=1)
            facts["notes"] = tuple(facts["notes"])
            return cls(
                genotypes=space.check_range(rows),
                index=table["index"].to_numpy().astype(np.int64),
                values=table["value"].to_numpy().astype(np.float64),
                seconds=table["seconds"].to_numpy().astype(np.float64),
                **facts,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BenchmarkFormatError(f"{source} is a damaged trajectory ({error}): run the search again.") from error
