"""Objectives: what a search maximises; given as arrays or looked up in a table."""

from __future__ import annotations

__all__ = ["ArrayObjective", "Evaluation", "Objective", "TableObjective"]

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tauzero.search.base import check_fidelities
from tauzero.spaces import Genotypes, SearchSpace, get

if TYPE_CHECKING:
    from tauzero.benchmarks import Benchmark


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What evaluating a batch gave.

    Attributes
    ----------
    values
        ``float64[n]``, finite; higher is better (accuracies in percent).
    seconds
        ``float64[n]``; what the evaluation costs: training seconds for looked-up and trained
        architectures, 0 for predictions.
    costs
        Further properties to be minimised, name → ``float64[n]``, finite: ``"params"``, ``"flops"`` (counts),
        ``"latency"`` (ms). The same names in every evaluation of one objective.
    """

    values: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]
    costs: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)


class Objective(ABC):
    """A function of architectures to be maximised, evaluated in batches.

    Attributes
    ----------
    space
        The search space whose genotypes it takes.
    label
        One line for reports: what is maximised.
    notes
        Statements that a reader of the results should see, such as a metric that stands in for another.
    instant
        Whether an evaluation takes next to no time, so that a checkpoint can be checked against it.
    fidelities
        Epochs, ascending, at which `evaluate` knows every architecture of the space; empty where training
        budgets mean nothing (predictions, proxies).
    full_epochs
        Epochs of an evaluation that names none; 0 where nothing is trained or it is not known.
    cost_names
        Names of `Evaluation.costs`, in the order in which a multi-objective algorithm gets them.
    """

    space: SearchSpace
    label: str
    notes: tuple[str, ...] = ()
    instant: bool = False
    fidelities: tuple[int, ...] = ()
    full_epochs: int = 0
    cost_names: tuple[str, ...] = ()

    @abstractmethod
    def evaluate(self, genotypes: npt.ArrayLike, epochs: npt.ArrayLike | None = None) -> Evaluation:
        """Evaluate ``int8[n, L]`` into n values and costs.

        Parameters
        ----------
        genotypes
            ``int8[n, L]``.
        epochs
            ``int64[n]``, training budget of each, one of `fidelities`; None for the objective's own. An
            objective without fidelities need not have this argument.
        """

    def evaluate_indexed(
        self,
        genotypes: Genotypes,
        index: npt.NDArray[np.int64],  # noqa: ARG002
        epochs: npt.NDArray[np.int64] | None = None,
    ) -> Evaluation:
        """Evaluate rows whose `tauzero.search.identity` the caller has already; objectives with tables use it."""
        return self.evaluate(genotypes) if epochs is None else self.evaluate(genotypes, epochs)

    def check_epochs(self, epochs: npt.ArrayLike, n: int) -> npt.NDArray[np.int64]:
        """Return epochs of n architectures as ``int64[n]``; `ValueError` if one is not among `fidelities`."""
        given = np.asarray(epochs)
        if given.shape != (n,) or given.dtype.kind not in "iu":
            raise ValueError(
                f"The 'epochs' argument must hold one integer per architecture, shape ({n},). "
                f"Got dtype {given.dtype} and shape {given.shape}."
            )
        if not np.isin(given, self.fidelities).all():
            bad = given[~np.isin(given, self.fidelities)][0]
            known = f"epochs {', '.join(map(str, self.fidelities))}" if self.fidelities else "no training budgets"
            raise ValueError(f"The objective '{self.label}' knows {known}. Got {bad}.")
        return given.astype(np.int64)


class ArrayObjective(Objective):
    """One number per enumerated architecture, given as an array: any score that was computed beforehand.

    Parameters
    ----------
    space
        A search space or its name.
    values
        ``float64[size]``, finite; higher is better. Or a mapping from epochs to such arrays, for multi-fidelity
        search; the longest training is the objective.
    seconds
        ``float64[size]``, the cost of each; by default 0. With several fidelities a mapping with the same epochs.
    label
        What the values are, for reports.
    """

    def __init__(
        self,
        space: SearchSpace | str,
        values: npt.ArrayLike | Mapping[int, npt.ArrayLike],
        seconds: npt.ArrayLike | Mapping[int, npt.ArrayLike] | None = None,
        *,
        label: str = "given values",
    ) -> None:
        self.space = get(space)
        if not self.space.enumerable:
            raise ValueError(
                f"ArrayObjective needs a number for every architecture, and {self.space.name} has about "
                f"{self.space.size:.1e}: use an objective that evaluates on demand (predictions, proxies, training)."
            )
        self.label = label
        self.instant = True
        several = isinstance(values, Mapping)
        if seconds is not None and isinstance(seconds, Mapping) != several:
            raise ValueError(
                "The 'values' and 'seconds' arguments of ArrayObjective must both be arrays or both be mappings "
                "from epochs to arrays."
            )
        by_epochs: dict[int, npt.ArrayLike] = dict(values) if isinstance(values, Mapping) else {0: values}
        if several:
            self.fidelities = check_fidelities(sorted(by_epochs), "ArrayObjective")
            self.full_epochs = self.fidelities[-1]
        self._tables = {e: self._values(v) for e, v in by_epochs.items()}
        self.table = self._tables[self.full_epochs]
        if seconds is None:
            self._seconds = dict.fromkeys(self._tables, np.zeros(self.space.size))
        else:
            given: dict[int, npt.ArrayLike] = dict(seconds) if isinstance(seconds, Mapping) else {0: seconds}
            if set(given) != set(self._tables):
                raise ValueError(
                    f"The 'seconds' argument of ArrayObjective must have the epochs {sorted(self._tables)}. "
                    f"Got {sorted(given)}."
                )
            self._seconds = {e: self._column("seconds", s) for e, s in given.items()}

    def _values(self, given: npt.ArrayLike) -> npt.NDArray[np.float64]:
        column = self._column("values", given)
        if not np.isfinite(column).all():
            bad = int(np.argmin(np.isfinite(column)))
            raise ValueError(
                f"The 'values' argument of ArrayObjective must be finite. Got {column[bad]} for architecture {bad}."
            )
        return column

    def _column(self, name: str, given: npt.ArrayLike) -> npt.NDArray[np.float64]:
        column = np.asarray(given, dtype=np.float64)
        if column.shape != (self.space.size,):
            raise ValueError(
                f"The '{name}' argument of ArrayObjective must hold one number per architecture of "
                f"{self.space.name}, shape ({self.space.size},). Got shape {column.shape}."
            )
        return column

    @property
    def optimum(self) -> float:
        """The best value of all architectures, at the objective's own training budget."""
        return float(self.table.max())

    @property
    def costs(self) -> npt.NDArray[np.float64]:
        """Seconds that one evaluation of each enumerated architecture costs, ``float64[size]``."""
        return self._seconds[self.full_epochs]

    def at(self, epochs: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Values and seconds of every architecture after so many epochs, two ``float64[size]``."""
        return self._tables[epochs], self._seconds[epochs]

    def evaluate(self, genotypes: npt.ArrayLike, epochs: npt.ArrayLike | None = None) -> Evaluation:
        """Look up ``int8[n, L]``."""
        rows = self.space.validate(genotypes)
        at = None if epochs is None else self.check_epochs(epochs, len(rows))
        return self.evaluate_indexed(rows, self.space.index(rows), at)

    def evaluate_indexed(
        self,
        genotypes: Genotypes,  # noqa: ARG002
        index: npt.NDArray[np.int64],
        epochs: npt.NDArray[np.int64] | None = None,
    ) -> Evaluation:
        """Look up by position in the enumeration."""
        if epochs is None:
            return Evaluation(self.table[index], self.costs[index])
        values, seconds = np.empty(len(index)), np.empty(len(index))
        for epoch in np.unique(self.check_epochs(epochs, len(index))).tolist():
            those = epochs == epoch
            table, cost = self.at(epoch)
            values[those], seconds[those] = table[index[those]], cost[index[those]]
        return Evaluation(values, seconds)


class TableObjective(ArrayObjective):
    """Looked-up accuracy of a benchmark: every evaluation stands for a real training.

    Parameters
    ----------
    benchmark
        A benchmark whose table holds the metric for every architecture of the space.
    dataset
        One of ``benchmark.datasets``; by default the first.
    metric
        By default ``"validation_accuracy"``, which is what a search may look at; where the table does
        not have it for every architecture, ``benchmark.default_metric`` stands in and `notes` says so.
        A metric that is asked for by name is never replaced.
    epoch, seed
        Training budget and run as in ``Benchmark.query``; by default the longest and the mean over runs.

    Notes
    -----
    `fidelities` are the epochs up to `epoch` for which the table has the metric (of that run) for every architecture:
    12 and 200 on NAS-Bench-201. The few thousand cells of NAS-Bench-101 with validation accuracies at four
    budgets are no fidelities of the whole space. A query at fewer epochs costs the training seconds of that many.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        dataset: str | None = None,
        metric: str | None = None,
        *,
        epoch: int | None = None,
        seed: int | None = None,
    ) -> None:
        self.benchmark = benchmark
        wanted = benchmark.datasets[0] if dataset is None else dataset
        # The benchmark takes names in any letter case; reports carry the official one.
        self.dataset = {name.lower(): name for name in benchmark.datasets}.get(wanted.lower(), wanted)
        self.epoch, self.seed = epoch, seed
        if not benchmark.space.enumerable:
            raise ValueError(
                f"A search by look-up needs a table of the whole space, and {benchmark.space.name} has about "
                f"{benchmark.space.size:.1e} architectures: search over predictions of a surrogate instead "
                "(SurrogateObjective, or BenchmarkObjective of a surrogate benchmark; on the command line "
                "--objective surrogate)."
            )
        self.metric, table, self.notes = _drive_table(benchmark, self.dataset, metric, epoch, seed)
        super().__init__(benchmark.space, table, label=self._describe())
        if benchmark.on_demand:
            self.notes += (f"{benchmark.name} predicts: what a search finds there was not trained.",)
        known = benchmark.epochs(self.dataset, self.metric)
        self.full_epochs = 0 if not known else int(known[-1] if epoch is None else epoch)
        self._tables, self._seconds = {self.full_epochs: self.table}, {}

    @cached_property
    def fidelities(self) -> tuple[int, ...]:  # type: ignore[override]
        """Epochs up to the objective's own at which the table has the metric for every architecture."""
        found = []
        for epoch in self.benchmark.epochs(self.dataset, self.metric):
            if epoch < self.full_epochs:
                runs = self.benchmark.runs(self.dataset, self.metric, epoch)
                if self.seed is not None and self.seed not in runs:
                    continue
                table = self.benchmark.table(self.dataset, self.metric, epoch=epoch, seed=self.seed)
                if not np.isfinite(table).all():
                    continue
                self._tables[epoch] = table
            if epoch <= self.full_epochs:
                found.append(int(epoch))
        return tuple(found)

    def _describe(self) -> str:
        details = "".join(
            f", {name} {value}" for name, value in (("epoch", self.epoch), ("run", self.seed)) if value is not None
        )
        verb = "predicted" if self.benchmark.on_demand else "looked-up"
        return f"{verb} {self.metric} on {self.dataset}{details}"

    @property
    def costs(self) -> npt.NDArray[np.float64]:
        """Training seconds of one query of each enumerated architecture, ``float64[size]``; NaN where unknown."""
        return self._training_seconds(self.full_epochs)

    def at(self, epochs: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Values and training seconds of every architecture after so many epochs, two ``float64[size]``."""
        if epochs not in self._tables and epochs not in self.fidelities:  # reading `fidelities` fills the tables
            self.check_epochs([epochs], 1)
        return self._tables[epochs], self._training_seconds(epochs)

    def _training_seconds(self, epochs: int) -> npt.NDArray[np.float64]:
        if epochs not in self._seconds:
            _, seconds = self.benchmark.query_index(
                np.arange(self.space.size), self.dataset, self.metric, epochs or None, self.seed, return_cost=True
            )
            self._seconds[epochs] = seconds
        return self._seconds[epochs]


def _drive_table(
    benchmark: Benchmark, dataset: str, metric: str | None, epoch: int | None, seed: int | None
) -> tuple[str, npt.NDArray[np.float64], tuple[str, ...]]:
    """Metric, whole-space table and notes of the accuracy that drives a search."""
    wanted, stand_in = metric or "validation_accuracy", benchmark.default_metric
    if metric is not None or wanted in benchmark.metrics(dataset):
        table = benchmark.table(dataset, wanted, epoch=epoch, seed=seed)
        missing = int((~np.isfinite(table)).sum())
        if not missing:
            return wanted, table, ()
        if metric is not None or wanted == stand_in:
            raise ValueError(
                f"The table of {benchmark.name} has no {wanted} on {dataset} (epoch={epoch}, seed={seed}) for "
                f"{missing:,} of {len(table):,} architectures; a search may ask for any. "
                "Use another metric, epoch or seed (`benchmark.info()['coverage']` lists what is complete)."
            )
    table = benchmark.table(dataset, stand_in, epoch=epoch, seed=seed)
    missing = int((~np.isfinite(table)).sum())
    if missing:
        raise ValueError(
            f"The table of {benchmark.name} has neither validation_accuracy nor {stand_in} on {dataset} for every "
            f"architecture ({missing:,} of {len(table):,} are missing); a search may ask for any."
        )
    note = (
        f"The table of {benchmark.name} does not have validation_accuracy on {dataset} for every architecture: "
        f"{stand_in} drives the search instead, so that it sees what it is judged by."
    )
    return stand_in, table, (note,)
