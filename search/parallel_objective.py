"""Another objective, evaluated by several processes at a time."""

from __future__ import annotations

__all__ = ["ParallelObjective"]

from contextlib import closing
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from tauzero.search._measured import MeasuredObjective
from tauzero.search._one_thread import OneThread
from tauzero.search.objectives import Objective
from tauzero.spaces import Genotypes
from tauzero.spaces._engines import Engine, check_engine, local_count, open_engine


@dataclass(frozen=True)
class _Rows:
    """Architectures of one call, by their places in it."""

    places: npt.NDArray[np.int64]
    genotypes: Genotypes
    epochs: npt.NDArray[np.int64] | None
    tries: int = field(default=0, compare=False)

    def after_a_loss(self) -> list[_Rows]:
        """Halves, until one architecture remains."""
        if len(self.places) == 1:
            return [replace(self, tries=self.tries + 1)]
        half = len(self.places) // 2
        return [
            replace(
                self,
                places=self.places[part],
                genotypes=self.genotypes[part],
                epochs=None if self.epochs is None else self.epochs[part],
            )
            for part in (slice(None, half), slice(half, None))
        ]


_Measured = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


class _Evaluating(OneThread[_Rows, _Measured]):
    """Evaluates architectures with one thread."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    def __repr__(self) -> str:
        return f"the objective '{self._objective.label}'"

    def do(self, task: _Rows) -> _Measured:
        """Values and seconds."""
        if task.epochs is None:
            found = self._objective.evaluate(task.genotypes)
        else:
            found = self._objective.evaluate(task.genotypes, task.epochs)
        return found.values, found.seconds

    def given_up(self, task: _Rows) -> _Measured:
        """End the search: an architecture that cannot be evaluated has no value."""
        raise RuntimeError(
            f"The process that evaluated {self._objective.space.to_string(task.genotypes)[0]} ended abruptly twice, as "
            "it does when memory runs out: use fewer workers."
        )


class ParallelObjective(MeasuredObjective):
    """Divides each call of another objective among processes; the values do not depend on their number.

    A search profits as far as it asks for several architectures at a time: ``run(…, batch_size=8)``. Seconds are
    those that the workers measured, each with one thread, and so add up to more than the wall clock. The workers start
    with the first call and end with `close`, or at the end of a ``with`` block.

    Parameters
    ----------
    objective
        What is evaluated, such as a `TrainingObjective` or a `ProxyObjective`; it must pickle. Costs go around:
        ``WithCosts(ParallelObjective(objective))``.
    engine
        ``"local"``: processes of this machine. ``"ray"``: a Ray cluster (extra ``tauzero[ray]``).
    workers
        Processes; by default one per core, with Ray what the cluster has room for. 1 evaluates in this process.
    address
        Of a Ray cluster; None starts Ray on this machine.
    """

    def __init__(
        self,
        objective: Objective,
        engine: Literal["local", "ray"] = "local",
        workers: int | None = None,
        *,
        address: str | None = None,
    ) -> None:
        super().__init__()
        check_engine(engine, workers, address)
        if objective.cost_names:
            raise ValueError(
                f"ParallelObjective divides values only, and '{objective.label}' has costs as well: wrap the other way "
                "round, WithCosts(ParallelObjective(objective), …)."
            )
        self.objective = objective
        self.space, self.label, self.notes = objective.space, objective.label, objective.notes
        self.full_epochs = objective.full_epochs
        self.options = getattr(objective, "options", {})
        # What is not known to depend on the network alone is evaluated as it is written.
        self._as_written = getattr(objective, "_as_written", True)
        self._engine, self._workers, self._address = engine, workers, address
        self._opened: Engine[_Rows, _Measured] | None = None

    @property
    def fidelities(self) -> tuple[int, ...]:  # type: ignore[override]
        """Those of the objective."""
        return self.objective.fidelities

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers; a later call starts others."""
        if self._opened is not None:
            opened, self._opened = self._opened, None
            opened.close()

    def _measure(self, genotypes: Genotypes, epochs: npt.NDArray[np.int64]) -> _Measured:
        if self._opened is None:
            self._opened = open_engine(
                self._engine, _Evaluating(self.objective), workers=self._workers, address=self._address
            )
        at = epochs if self.objective.fidelities else None
        # A Ray cluster may have any size: it gets one task for each architecture.
        parts = len(genotypes) if self._engine == "ray" else local_count(self._workers)
        tasks = [
            _Rows(places, genotypes[places], None if at is None else at[places])
            for places in np.array_split(np.arange(len(genotypes)), min(parts, len(genotypes)))
        ]
        values, seconds = np.empty(len(genotypes)), np.empty(len(genotypes))
        with closing(self._opened.run(tasks)) as results:
            for task, (some_values, some_seconds) in results:
                values[task.places], seconds[task.places] = some_values, some_seconds
        return values, seconds
