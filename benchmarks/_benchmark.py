"""A tabular benchmark: vectorised look-up of what was measured."""

from __future__ import annotations

__all__ = ["Benchmark"]

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from tauzero import spaces
from tauzero.benchmarks._rows import RowFinder
from tauzero.benchmarks._store import SCHEMA_VERSION, read_store
from tauzero.benchmarks._table import Column, Table
from tauzero.spaces import Genotypes, NotEnumerableError, SearchSpace, UnknownNameError, unknown_name

_Key = tuple[str, str, int | None, int | None]

_SECONDS = "training_seconds"
#: Ends the names of metrics that were measured halfway through a training, which costs the seconds until then.
_HALFWAY = "_halfway"
_PREFERRED = ("test_accuracy", "validation_accuracy", "validation_ssim", "validation_negative_loss")


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _reopen(path: Path) -> Benchmark:
    return Benchmark(read_store(path))


class Benchmark:
    """What was measured of the architectures of a search space; made by `tauzero.benchmarks.load`.

    Queries take whole batches and return ``float64``. Columns are views on the mapped file, so a
    process holds in memory only what it asked for; a benchmark sent to another process is reopened there.

    Parameters
    ----------
    table
        The columns.
    """

    #: Whether every architecture of the space can be asked for, be it in `architectures` or not: nothing is looked
    #: up, a model predicts (``benchmarks.load("surrogate:…")``).
    on_demand: bool = False

    def __init__(self, table: Table) -> None:
        self._table = table
        self._columns: dict[_Key, Column] = {c.key: c for c in table.columns}
        self._space = spaces.get(table.space)
        self._verified: set[_Key] = set()

    def __repr__(self) -> str:
        where = f" from '{self._table.path}'" if self._table.path else ""
        return f"<Benchmark {self.name}: {self._table.rows} architectures × {len(self._columns)} columns{where}>"

    def __reduce__(self) -> tuple[Callable[..., Benchmark], tuple[Any, ...]]:
        if self._table.path is not None:
            return _reopen, (self._table.path,)
        return Benchmark, (self._table,)

    # -- what there is ------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the benchmark."""
        return self._table.name

    @property
    def origins(self) -> tuple[str, ...]:
        """Names of the tables that the figures come from: its own, or those that a surrogate was fitted on."""
        return (self.name,)

    @property
    def space(self) -> SearchSpace:
        """The search space whose genotypes the queries take."""
        return self._space

    @property
    def path(self) -> Path | None:
        """The store that the columns are mapped from; None for a table in memory."""
        return self._table.path

    @cached_property
    def architectures(self) -> Genotypes:
        """What `table` is aligned with, ``int8[m, L]`` (read-only).

        The whole space in the order of ``space.index`` where it can be enumerated, else the table's own rows.
        """
        if self._table.genotypes is None:
            return self._space.enumerate()
        rows = self._table.genotypes.view()
        rows.setflags(write=False)
        return rows

    @cached_property
    def datasets(self) -> tuple[str, ...]:
        """Names of the datasets, the default first."""
        return tuple(dict.fromkeys(c.dataset for c in self._table.columns))

    @cached_property
    def default_metric(self) -> str:
        """`main_metric` of the first dataset."""
        return self.main_metric()

    def main_metric(self, dataset: str | None = None) -> str:
        """What ranks the architectures of a dataset (None: of the first one).

        ``"test_accuracy"`` where the table has it, else ``"validation_accuracy"``, else the validation score of
        tasks without an accuracy (``"validation_ssim"``, ``"validation_negative_loss"``), else the first metric.
        """
        there = self.metrics(dataset)
        return next((m for m in _PREFERRED if m in there), there[0])

    def unit(self, dataset: str | None = None, metric: str | None = None) -> str:
        """Unit of a metric (None: of `main_metric`): percent, seconds, joules, count or score."""
        return self._columns[self._resolve(dataset, metric, None, None)].unit

    def metrics(self, dataset: str | None = None) -> tuple[str, ...]:
        """Names of the metrics of a dataset (None: of the first one), sorted."""
        chosen = self._dataset(dataset)
        return tuple(sorted({c.metric for c in self._table.columns if c.dataset == chosen}))

    def epochs(self, dataset: str | None = None, metric: str | None = None) -> tuple[int, ...]:
        """Training budgets in epochs for which a metric is known, ascending; empty if it needs no training."""
        chosen = self._dataset(dataset)
        wanted = self._metric(chosen, metric)
        return tuple(sorted({e for d, m, e, _ in self._columns if d == chosen and m == wanted and e is not None}))

    def runs(self, dataset: str | None = None, metric: str | None = None, epoch: int | None = None) -> tuple[int, ...]:
        """Numbers of the single runs that can be asked for by `seed`; empty if there is only one value.

        `epoch` None stands for the full budget.
        """
        chosen = self._dataset(dataset)
        wanted = self._metric(chosen, metric)
        budget = self._epoch(chosen, wanted, epoch)
        return tuple(
            sorted(r for d, m, e, r in self._columns if (d, m, e) == (chosen, wanted, budget) and r is not None)
        )

    def verify(self) -> int:
        """Read all values; return the number of columns that are known to be what was written.

        Columns of tables in memory, and of stores from before there were checksums, are looked at for impossible
        values only, and not counted.

        Raises
        ------
        BenchmarkFormatError
            Naming the first column that is damaged.
        """
        for column in self._table.columns:
            column.verify()
            column.check()
        return sum(column.checksum is not None for column in self._table.columns)

    def info(self) -> dict[str, Any]:
        """Return everything about the table except its values, as a JSON-able dictionary.

        ``coverage`` is the share of the space that has a value; where the space cannot be enumerated, the share
        of the table's own rows.
        """
        table = self._table
        whole = self._space.size if self._space.enumerable else table.rows
        names = {d: self.metrics(d) for d in self.datasets}
        coverage: dict[str, dict[str, dict[str, float]]] = {}
        for column in table.columns:
            budget = "any" if column.epoch is None else str(column.epoch)
            if column.run is None:
                there = int(np.count_nonzero(~np.isnan(column.values)))
                coverage.setdefault(column.dataset, {}).setdefault(column.metric, {})[budget] = there / whole
        return {
            "name": table.name,
            "space": table.space,
            "space_size": self._space.size,
            "enumerable": self._space.enumerable,
            "rows": table.rows,
            "datasets": list(self.datasets),
            "default_metric": self.default_metric,
            "metrics": {d: list(m) for d, m in names.items()},
            "epochs": {d: {m: list(self.epochs(d, m)) for m in ms} for d, ms in names.items()},
            "runs": {
                d: {m: {str(e): list(self.runs(d, m, e)) for e in self.epochs(d, m)} for m in ms}
                for d, ms in names.items()
            },
            "coverage": coverage,
            "columns": [
                {"name": c.name, "unit": c.unit, "dtype": str(c.values.dtype), "description": c.description}
                for c in table.columns
            ],
            "licence": table.licence,
            "provenance": table.provenance,
            "schema_version": SCHEMA_VERSION,
            "path": None if table.path is None else str(table.path),
            "bytes": None if table.path is None else table.path.stat().st_size,
        }

    # -- look-up ------------------------------------------------------------------------------

    @overload
    def query(
        self,
        genotypes: npt.ArrayLike,
        dataset: str | None = None,
        metric: str = "test_accuracy",
        epoch: int | None = None,
        seed: int | None = None,
        *,
        return_cost: Literal[False] = False,
    ) -> npt.NDArray[np.float64]: ...

    @overload
    def query(
        self,
        genotypes: npt.ArrayLike,
        dataset: str | None = None,
        metric: str = "test_accuracy",
        epoch: int | None = None,
        seed: int | None = None,
        *,
        return_cost: Literal[True],
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]: ...

    def query(
        self,
        genotypes: npt.ArrayLike,
        dataset: str | None = None,
        metric: str = "test_accuracy",
        epoch: int | None = None,
        seed: int | None = None,
        *,
        return_cost: bool = False,
    ) -> npt.NDArray[np.float64] | tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Look up a metric of architectures.

        Parameters
        ----------
        genotypes
            ``int8[n, L]``.
        dataset
            One of `datasets` (letter case does not matter); None for the first.
        metric
            One of `metrics`. Accuracies are in percent, times in seconds, parameters and
            multiply-adds (counted once) are counts.
        epoch
            One of `epochs`; None for the longest training.
        seed
            None for the mean over runs; a number of `runs` for that training run. Runs are numbered
            from 0 as the files order them; the number is not the seed that the authors trained with.
        return_cost
            Also return the training seconds that the query would have taken: those of `epoch` epochs
            (a proportional part of the full training where only that was published), 0 for metrics
            that need no training, NaN where no time is known.

        Returns
        -------
        values
            ``float64[n]``; NaN where the table has no value for an architecture.
        seconds
            ``float64[n]``, with `return_cost` only.

        Raises
        ------
        UnknownNameError
            For a dataset, metric, epoch or run that the table does not have; the message lists those it has.
        ValueError
            If the table does not have an architecture, naming its row.
        """
        rows = self._find(genotypes)
        key = self._resolve(dataset, metric, epoch, seed)
        return self._look_up(rows, key, return_cost)

    @overload
    def query_index(
        self,
        index: npt.ArrayLike,
        dataset: str | None = None,
        metric: str = "test_accuracy",
        epoch: int | None = None,
        seed: int | None = None,
        *,
        return_cost: Literal[False] = False,
    ) -> npt.NDArray[np.float64]: ...

    @overload
    def query_index(
        self,
        index: npt.ArrayLike,
        dataset: str | None = None,
        metric: str = "test_accuracy",
        epoch: int | None = None,
        seed: int | None = None,
        *,
        return_cost: Literal[True],
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]: ...

    def query_index(
        self,
        index: npt.ArrayLike,
        dataset: str | None = None,
        metric: str = "test_accuracy",
        epoch: int | None = None,
        seed: int | None = None,
        *,
        return_cost: bool = False,
    ) -> npt.NDArray[np.float64] | tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Look up a metric of architectures given by ``space.index``, ``int[n]``; otherwise as `query`.

        Raises
        ------
        NotEnumerableError
            If the architectures of the space have no positions.
        """
        if not self._space.enumerable:
            raise NotEnumerableError(
                f"`query_index` needs positions in the space, which {self._space.name} is too large for: use `query` "
                "with genotypes, such as rows of `benchmark.architectures`."
            )
        rows = np.asarray(index)
        size = self._space.size
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise ValueError(
                f"The 'index' argument must be a vector of integers, positions in the {self._space.name} space. "
                f"Got dtype {rows.dtype} and shape {rows.shape}."
            )
        if len(rows) and (rows.min() < 0 or rows.max() >= size):
            bad = int(np.argmax((rows < 0) | (rows >= size)))
            raise ValueError(f"The 'index' argument must lie in 0 to {size - 1}. Got {rows[bad]} in row {bad}.")
        rows = rows if self._table.index is None else self._rows_of(rows)
        return self._look_up(rows, self._resolve(dataset, metric, epoch, seed), return_cost)

    def table(
        self,
        dataset: str | None = None,
        metric: str = "test_accuracy",
        epoch: int | None = None,
        seed: int | None = None,
    ) -> npt.NDArray[np.float64]:
        """Return one column, a value for each row of `architectures`.

        Shape ``float64[m]``: the whole space in the order of ``space.index``, NaN for architectures that the
        table does not have; for spaces that cannot be enumerated the table's rows. The array is the caller's own.
        """
        values = self._values(self._resolve(dataset, metric, epoch, seed))
        if self._table.index is None:
            return values.astype(np.float64)
        whole = np.full(self._space.size, np.nan)
        whole[self._table.index] = values
        return whole

    # -- inside -------------------------------------------------------------------------------

    def _look_up(
        self, rows: npt.NDArray[Any], key: _Key, return_cost: bool
    ) -> npt.NDArray[np.float64] | tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        values = self._values(key)[rows].astype(np.float64, copy=False)
        if not return_cost:
            return values
        dataset, metric, epoch, _ = key
        if epoch is None:
            return values, np.zeros(len(rows))
        seconds = (dataset, f"{_SECONDS}{_HALFWAY}" if metric.endswith(_HALFWAY) else _SECONDS, epoch, None)
        if seconds not in self._columns:
            return values, np.full(len(rows), np.nan)
        return values, self._values(seconds)[rows].astype(np.float64, copy=False)

    def _values(self, key: _Key) -> npt.NDArray[Any]:
        """Values of a column; when they are first used, they are compared with their checksum (1 ms per MB)."""
        column = self._columns[key]
        if key not in self._verified:
            column.verify()
            self._verified.add(key)
        return column.values

    def _find(self, genotypes: npt.ArrayLike) -> npt.NDArray[Any]:
        """Row of the table for each architecture."""
        if self._space.enumerable:
            index = self._space.index(genotypes)
            return index if self._table.index is None else self._rows_of(index)
        rows = self._finder.find(genotypes)
        if len(rows) and rows.min() < 0:
            raise self._absent(int(np.argmax(rows < 0)), "")
        return rows

    @cached_property
    def _finder(self) -> RowFinder:
        return RowFinder(self._space, self.architectures)

    def _absent(self, row: int, index: str) -> ValueError:
        remedy = "is NaN where it has none" if self._space.enumerable else "has a value for each row of `architectures`"
        return ValueError(
            f"The table {self.name!r} does not have the architecture in row {row}{index}; it has {self._table.rows} "
            f"of {self._space.size}. `benchmark.table(…)` {remedy}."
        )

    @cached_property
    def _row_of_index(self) -> npt.NDArray[np.int32]:
        row_of = np.full(self._space.size, -1, dtype=np.int32)
        if self._table.index is not None:
            row_of[self._table.index] = np.arange(self._table.rows, dtype=np.int32)
        return row_of

    def _rows_of(self, index: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        rows: npt.NDArray[np.int32] = self._row_of_index[index]
        if len(rows) and rows.min() < 0:
            bad = int(np.argmax(rows < 0))
            raise self._absent(bad, f" (index {index[bad]} of {self._space.name})")
        return rows

    def _resolve(self, dataset: str | None, metric: str | None, epoch: int | None, seed: int | None) -> _Key:
        """Key of the column that a query means."""
        chosen = self._dataset(dataset)
        wanted = self._metric(chosen, metric)
        budget = self._epoch(chosen, wanted, epoch)
        if seed is not None and not (_is_integer(seed) and (chosen, wanted, budget, seed) in self._columns):
            runs = self.runs(chosen, wanted, budget)
            at = "" if budget is None else f" after {budget} epochs"
            what = f"{wanted} on {chosen}{at}"
            if not runs:
                raise UnknownNameError(f"There are no single runs of {what}: leave seed=None. Got seed={seed!r}.")
            raise UnknownNameError(
                f"Unknown run {seed!r} of {what}. Known: {', '.join(map(str, runs))}; seed=None for their mean."
            )
        return chosen, wanted, budget, None if seed is None else int(seed)

    def _dataset(self, dataset: str | None) -> str:
        if dataset is None:
            return self.datasets[0]
        found = self._by_lower_case.get(str(dataset).lower())
        if found is None:
            raise unknown_name(f"dataset of {self.name}", dataset, self.datasets)
        return found

    @cached_property
    def _by_lower_case(self) -> dict[str, str]:
        return {d.lower(): d for d in self.datasets}

    def _metric(self, dataset: str, metric: str | None) -> str:
        if metric is None:
            return self.main_metric(dataset)
        if not isinstance(metric, str) or (dataset, metric) not in self._metric_epochs:
            error = unknown_name(f"metric of {self.name} on {dataset}", metric, self.metrics(dataset))
            if metric != "test_accuracy":
                raise error
            origin = self._table.provenance.get("package") or self._table.path or "in memory"
            raise UnknownNameError(
                f"This table of {self.name} (from {origin}) has no test accuracy: ask for "
                f"metric={self.main_metric(dataset)!r} (`benchmark.main_metric({dataset!r})`), or import a table that "
                f"has it. {error}"
            )
        return metric

    @cached_property
    def _metric_epochs(self) -> dict[tuple[str, str], int | None]:
        """Longest training of each dataset's metrics; None where there is no training."""
        longest: dict[tuple[str, str], int | None] = {}
        for dataset, metric, epoch, _ in self._columns:
            known = longest.get((dataset, metric))
            longest[dataset, metric] = epoch if known is None or epoch is None else max(known, epoch)
        return longest

    def _epoch(self, dataset: str, metric: str, epoch: int | None) -> int | None:
        longest = self._metric_epochs[dataset, metric]
        if epoch is None:
            return longest
        known = self.epochs(dataset, metric)
        if not known:
            raise UnknownNameError(f"{metric} needs no training: leave epoch=None. Got epoch={epoch!r}.")
        if not _is_integer(epoch) or epoch not in known:
            raise UnknownNameError(
                f"Unknown epoch {epoch!r} of {metric} on {dataset}. Known: {', '.join(map(str, known))}."
            )
        return int(epoch)
