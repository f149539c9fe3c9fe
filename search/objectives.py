"""Objectives: what a search maximises, looked up in a table or predicted by a surrogate."""

from __future__ import annotations

__all__ = ["ArrayObjective", "Evaluation", "Objective", "SurrogateObjective", "TableObjective"]

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tauzero.spaces import Genotypes, Progress, SearchSpace, get, unknown_name

if TYPE_CHECKING:
    from tauzero.benchmarks import Benchmark

#: Spaces up to this size are predicted once and for all instead of architecture by architecture.
_WHOLE_SPACE_LIMIT = 1_000_000
_CHUNK = 65_536


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
    """

    values: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]


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
    """

    space: SearchSpace
    label: str
    notes: tuple[str, ...] = ()
    instant: bool = False

    @abstractmethod
    def evaluate(self, genotypes: npt.ArrayLike) -> Evaluation:
        """Evaluate ``int8[n, L]`` into n values and costs."""

    def evaluate_indexed(self, genotypes: Genotypes, index: npt.NDArray[np.int64]) -> Evaluation:  # noqa: ARG002
        """Evaluate rows whose `SearchSpace.index` the caller has already; objectives with tables use it."""
        return self.evaluate(genotypes)


class ArrayObjective(Objective):
    """One number per enumerated architecture, given as an array: any score that was computed beforehand.

    Parameters
    ----------
    space
        A search space or its name.
    values
        ``float64[size]``, finite; higher is better.
    seconds
        ``float64[size]``, the cost of each; by default 0.
    label
        What the values are, for reports.
    """

    def __init__(
        self,
        space: SearchSpace | str,
        values: npt.ArrayLike,
        seconds: npt.ArrayLike | None = None,
        *,
        label: str = "given values",
    ) -> None:
        self.space = get(space)
        self.label = label
        self.instant = True
        self.table = self._column("values", values)
        if not np.isfinite(self.table).all():
            bad = int(np.argmin(np.isfinite(self.table)))
            raise ValueError(
                f"The 'values' argument of ArrayObjective must be finite. Got {self.table[bad]} for architecture {bad}."
            )
        self._seconds = None if seconds is None else self._column("seconds", seconds)

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
        """The best value of all architectures."""
        return float(self.table.max())

    @cached_property
    def costs(self) -> npt.NDArray[np.float64]:
        """Seconds that one evaluation of each enumerated architecture costs, ``float64[size]``."""
        return np.zeros(self.space.size) if self._seconds is None else self._seconds

    def evaluate(self, genotypes: npt.ArrayLike) -> Evaluation:
        """Look up ``int8[n, L]``."""
        rows = self.space.validate(genotypes)
        return self.evaluate_indexed(rows, self.space.index(rows))

    def evaluate_indexed(self, genotypes: Genotypes, index: npt.NDArray[np.int64]) -> Evaluation:  # noqa: ARG002
        """Look up by position in the enumeration."""
        return Evaluation(self.table[index], self.costs[index])


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
        self.metric, table, self.notes = _drive_table(benchmark, self.dataset, metric, epoch, seed)
        super().__init__(benchmark.space, table, label=self._describe())

    def _describe(self) -> str:
        details = "".join(
            f", {name} {value}" for name, value in (("epoch", self.epoch), ("run", self.seed)) if value is not None
        )
        return f"looked-up {self.metric} on {self.dataset}{details}"

    @cached_property
    def costs(self) -> npt.NDArray[np.float64]:
        """Training seconds of one query of each enumerated architecture, ``float64[size]``; NaN where unknown."""
        _, seconds = self.benchmark.query_index(
            np.arange(self.space.size), self.dataset, self.metric, self.epoch, self.seed, return_cost=True
        )
        return seconds


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


class SurrogateObjective(Objective):
    """Accuracy predicted by a fitted surrogate: evaluations cost nothing.

    Enumerable spaces of up to a million architectures are predicted once, in chunks, when the first
    value is needed; later evaluations are look-ups. Larger ones are predicted batch by batch.

    Parameters
    ----------
    surrogate
        A fitted surrogate: ``predict(genotypes, return_std=False)``.
    kind
        ``"mean"`` maximises the prediction, ``"ucb"`` the upper confidence bound mean + κ·std
        (Srinivas et al., ICML 2010), which favours architectures that the surrogate is unsure about.
    kappa
        κ ≥ 0 of the upper confidence bound.
    space
        The search space; by default ``surrogate.space``.
    whole_space
        Predict the whole space at once; by default where it is enumerable and not too large.
    progress
        Called with (done, total) architectures while the whole space is being predicted.
    """

    def __init__(
        self,
        surrogate: Any,
        kind: str = "mean",
        *,
        kappa: float = 1.0,
        space: SearchSpace | str | None = None,
        whole_space: bool | None = None,
        progress: Progress | None = None,
    ) -> None:
        if kind not in ("mean", "ucb"):
            raise unknown_name("kind of surrogate objective", kind, ("mean", "ucb"))
        if not np.isfinite(kappa) or kappa < 0:
            raise ValueError(f"The 'kappa' argument of SurrogateObjective must be a number ≥ 0. Got {kappa!r}.")
        if not callable(getattr(surrogate, "predict", None)):
            raise ValueError(  # noqa: TRY004 - every bad argument of tauzero is a ValueError
                "The 'surrogate' argument of SurrogateObjective must be a fitted surrogate with a `predict` method. "
                f"Got {surrogate!r}."
            )
        owner = space if space is not None else getattr(surrogate, "space", None)
        if owner is None:
            raise ValueError(f"{type(surrogate).__name__} does not say which space it predicts: pass space=….")
        self.surrogate, self.kind, self.kappa = surrogate, kind, float(kappa)
        self.space = get(owner)
        self.progress = progress
        self.label = "predicted accuracy" if kind == "mean" else f"predicted accuracy + {kappa:g} std"
        if whole_space is None:
            size = getattr(self.space, "size", None)
            whole_space = size is not None and size <= _WHOLE_SPACE_LIMIT
        self.whole_space = self.instant = whole_space
        self._all: npt.NDArray[np.float64] | None = None

    def predictions(self) -> npt.NDArray[np.float64]:
        """Value of every enumerated architecture, ``float64[size]`` (read-only; computed once)."""
        if self._all is None:
            rows = self.space.enumerate()
            parts = []
            for start in range(0, len(rows), _CHUNK):
                parts.append(self._predict(rows[start : start + _CHUNK]))
                if self.progress is not None:
                    self.progress(min(start + _CHUNK, len(rows)), len(rows))
            self._all = np.concatenate(parts)
            self._all.setflags(write=False)
        return self._all

    def evaluate(self, genotypes: npt.ArrayLike) -> Evaluation:
        """Predict ``int8[n, L]``."""
        rows = self.space.validate(genotypes)
        if self.whole_space:
            return self.evaluate_indexed(rows, self.space.index(rows))
        return Evaluation(self._predict(rows), np.zeros(len(rows)))

    def evaluate_indexed(self, genotypes: Genotypes, index: npt.NDArray[np.int64]) -> Evaluation:
        """Look predictions up by position in the enumeration, where they were computed for the whole space."""
        if not self.whole_space:
            return Evaluation(self._predict(genotypes), np.zeros(len(genotypes)))
        return Evaluation(self.predictions()[index], np.zeros(len(index)))

    def _predict(self, rows: Genotypes) -> npt.NDArray[np.float64]:
        if self.kind == "mean":
            values = np.asarray(self.surrogate.predict(rows), dtype=np.float64)
        else:
            mean, std = self.surrogate.predict(rows, return_std=True)
            values = np.asarray(mean, dtype=np.float64) + self.kappa * np.asarray(std, dtype=np.float64)
        if values.shape != (len(rows),) or not np.isfinite(values).all():
            raise ValueError(
                f"{type(self.surrogate).__name__}.predict must return {len(rows)} finite numbers. "
                f"Got shape {values.shape} with {int((~np.isfinite(values)).sum())} NaN or infinite."
            )
        return values
