"""Accuracy and what it costs to run: an objective with further columns to be minimised."""

from __future__ import annotations

__all__ = ["WithCosts"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tauzero.search.objectives import Evaluation, Objective
from tauzero.spaces import Genotypes, unknown_name

#: From ``int8[n, L]`` to ``float64[n]``, to be minimised.
Cost: TypeAlias = Callable[[Genotypes], npt.ArrayLike]
#: What a cost may be given as: a function, a number for each architecture in the order of the space, or a known name.
GivenCost: TypeAlias = Cost | npt.ArrayLike

_COUNTED = ("params", "flops")


class WithCosts(Objective):
    """Another objective with costs beside its values, for multi-objective algorithms and Pareto fronts.

    Parameters
    ----------
    objective
        What gives values and seconds.
    costs
        Names of costs, or a mapping from names to functions of genotypes, arrays ``float64[size]`` with a number for
        each architecture in the order of the space (latencies that were measured elsewhere: ``{"latency": column}``),
        or known names. ``"params"`` (trainable parameters) and ``"flops"`` (multiply-adds of one image, counted once)
        are known for every space with networks, in closed form; ``"TABLE:METRIC"`` is a metric of another table that
        `tauzero.benchmarks.load` finds, such as ``"hwnasbench201:pixel3_latency"``, on the objective's data set
        where that table has it; other names are metrics of the objective's table.
    dataset
        Data set that networks are counted for (`tauzero.networks.count_flops`); by default that of the
        objective's table where it is known, else the benchmark's.
    options
        Shape of the networks that are counted, such as ``{"channels": 8}``; by default the published one, or that of a
        `TrainingObjective`.
    """

    def __init__(
        self,
        objective: Objective,
        costs: Sequence[str] | Mapping[str, GivenCost] = _COUNTED,
        *,
        dataset: str | int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.objective = objective
        self.space, self.label, self.notes = objective.space, objective.label, objective.notes
        self.instant, self.full_epochs = objective.instant, objective.full_epochs
        self.dataset = dataset
        self.options = dict(getattr(objective, "options", {}) if options is None else options)
        names = [costs] if isinstance(costs, str) else list(costs)
        self.cost_names = (*objective.cost_names, *names)
        if not names or len(set(self.cost_names)) < len(self.cost_names):
            raise ValueError(
                f"The 'costs' argument of WithCosts must name costs, each once. Got {names} beside those that the "
                f"objective has, {list(objective.cost_names)}."
            )
        given = costs if isinstance(costs, Mapping) else {name: name for name in names}
        self._functions: dict[str, Cost] = {name: self._read(name, cost) for name, cost in given.items()}

    @property
    def fidelities(self) -> tuple[int, ...]:  # type: ignore[override]
        """Those of the objective."""
        return self.objective.fidelities

    def evaluate(self, genotypes: npt.ArrayLike, epochs: npt.ArrayLike | None = None) -> Evaluation:
        """Evaluate ``int8[n, L]`` into n values and costs."""
        rows = self.space.validate(genotypes)
        found = self.objective.evaluate(rows) if epochs is None else self.objective.evaluate(rows, epochs)
        return self._with_costs(found, rows)

    def evaluate_indexed(
        self, genotypes: Genotypes, index: npt.NDArray[np.int64], epochs: npt.NDArray[np.int64] | None = None
    ) -> Evaluation:
        """Evaluate rows whose `identity` is known."""
        if epochs is None:  # an objective without fidelities need not have the argument
            return self._with_costs(self.objective.evaluate_indexed(genotypes, index), genotypes)
        return self._with_costs(self.objective.evaluate_indexed(genotypes, index, epochs), genotypes)

    def _with_costs(self, found: Evaluation, rows: Genotypes) -> Evaluation:
        more = {name: np.asarray(f(rows), dtype=np.float64) for name, f in self._functions.items()}
        return replace(found, costs={**found.costs, **more})

    def _read(self, name: str, cost: GivenCost) -> Cost:
        """The function of a cost however it was given."""
        if isinstance(cost, str):
            return self._function(cost)
        if callable(cost):
            return cost
        values = np.array(cost, dtype=np.float64)
        if not self.space.enumerable or values.shape != (self.space.size,):
            size = f"an array of shape ({self.space.size},), " if self.space.enumerable else ""
            raise ValueError(
                f"The cost {name!r} of WithCosts must be {size}a function of genotypes on {self.space.name} or a known "
                f"name. Got shape {values.shape}."
            )
        return lambda rows: values[self.space.index(rows)]

    def _function(self, name: str) -> Cost:
        """The function of a cost that is known by its name."""
        table, dataset = getattr(self.objective, "benchmark", None), getattr(self.objective, "dataset", None)
        if name in _COUNTED:
            from tauzero import networks

            counted = {"params": networks.count_parameters, "flops": networks.count_flops}[name]
            networks.family(self.space)  # a space without networks is refused now
            known = dataset if dataset in networks.datasets() else None
            shape = known if self.dataset is None else self.dataset
            return lambda rows: counted(self.space, rows, shape, **self.options)
        if table is not None and name in table.metrics(dataset):
            return lambda rows: table.query(rows, dataset=dataset, metric=name)
        if ":" in name:
            return self._of_table(name, dataset)
        known_names = [*_COUNTED, *(table.metrics(dataset) if table is not None else ())]
        raise unknown_name("cost", name, known_names)

    def _of_table(self, name: str, dataset: str | None) -> Cost:
        """The function of a metric of another table, ``TABLE:METRIC``."""
        from tauzero import benchmarks

        source, _, metric = name.partition(":")
        other = benchmarks.load(source)
        if other.space.name != self.space.name:
            raise ValueError(
                f"The cost {name!r} of WithCosts must be of a table over {self.space.name}. Got one over "
                f"{other.space.name}."
            )
        on = dataset if dataset in other.datasets else other.datasets[0]
        if metric not in other.metrics(on):
            raise unknown_name("cost", name, [f"{source}:{known}" for known in other.metrics(on)])
        missing = int(np.isnan(other.table(on, metric)).sum())
        if missing:
            raise ValueError(
                f"The cost {name!r} of WithCosts must be known of every architecture. {on}/{metric} of {source!r} "
                f"lacks {missing} of {len(other.architectures)}: choose another, or pass an array."
            )
        return lambda rows: other.query(rows, dataset=on, metric=metric)
