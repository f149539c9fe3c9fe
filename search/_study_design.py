"""What a study is: its table, signal, budgets and ways of spending them, checked once and sent to every worker."""

from __future__ import annotations

__all__ = [
    "OBJECTIVES",
    "Design",
    "Judge",
    "described",
]

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tauzero.benchmarks._folder_lock import digest
from tauzero.search._studies import surrogate_label
from tauzero.search.objectives import TableObjective
from tauzero.spaces import SearchSpace

if TYPE_CHECKING:
    from tauzero.benchmarks import Benchmark

OBJECTIVES = ("table", "surrogate", "proxy")
_ACCURACIES = ("validation_accuracy", "test_accuracy")


@dataclass(frozen=True)
class Design:
    """Everything that decides about the result of a trial; the arguments of `tauzero.search.study`.

    Attributes
    ----------
    scores
        ``float64[size]``, what the objective ``proxy`` maximises where it is read from a table; else None.
    score_label
        What that is, for reports.
    """

    benchmark: Benchmark
    dataset: str
    metric: str | None
    run: int | None
    epoch: int | None
    budget: int | None
    seconds: float | None
    batch_size: int
    train: int
    predicted_budget: int
    surrogate: Any
    surrogate_params: Mapping[str, Any]
    kind: str
    proxies: tuple[str, ...]
    proxy_options: Mapping[str, Any]
    scores: npt.NDArray[np.float64] | None = None
    score_label: str = ""
    params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def space(self) -> SearchSpace:
        """The space that is searched."""
        return self.benchmark.space

    @property
    def scorers(self) -> tuple[str, ...]:
        """Proxies by which `proxy_evolution` chooses where there is no table of scores."""
        return self.proxies or ("synflow", "nwot")

    def check(self, objectives: Sequence[str]) -> None:
        """Refuse numbers that make no study of these objectives; names are checked by those who own them."""
        _check_count("batch_size", self.batch_size, 1)
        _check_count("predicted_budget", self.predicted_budget, 1)
        if self.budget is not None:
            _check_count("budget", self.budget, 1)
        if self.budget is None and self.seconds is None:
            raise ValueError("A study needs a budget: pass budget=300 (true queries), seconds=12_000, or both.")
        if self.seconds is not None and (
            isinstance(self.seconds, bool) or not math.isfinite(self.seconds) or self.seconds <= 0
        ):
            raise ValueError(f"The 'seconds' argument must be a number > 0. Got {self.seconds!r}.")
        if "surrogate" in objectives:
            _check_count("train", self.train, 2)
            if self.budget is not None and self.train > self.budget:
                raise ValueError(
                    f"The 'train' argument must leave the budget of {self.budget} true queries room: training rows "
                    f"are looked up, and count. Got {self.train}."
                )
            if self.train > self.space.size:
                raise ValueError(
                    f"The 'train' argument must be at most the {self.space.size:,} architectures of {self.space.name}. "
                    f"Got {self.train}."
                )
        if self.budget is not None:
            for name, spent in (("surrogate", self.train), ("proxy", 0)):
                if name in objectives and self.predicted_budget < self.budget - spent:
                    raise ValueError(
                        f"The 'predicted_budget' argument must be at least {self.budget - spent}, the true queries "
                        f"that are left to verify what the objective {name!r} found. Got {self.predicted_budget}."
                    )

    def table(self) -> TableObjective:
        """The objective of true queries."""
        return TableObjective(self.benchmark, self.dataset, self.metric, epoch=self.epoch, seed=self.run)

    def settings(self, table: TableObjective) -> dict[str, Any]:
        """What must be equal for trials to belong to one folder, as plain JSON values."""
        from tauzero import __version__

        return {
            "benchmark": self.benchmark.name,
            "space": self.space.name,
            "dataset": self.dataset,
            "metric": table.metric,
            "signal": "mean" if self.run is None else self.run,
            "epoch": self.epoch,
            "values": f"sha256 {digest(table.table, table.costs)}",
            "budget": self.budget,
            "seconds": self.seconds,
            "batch_size": self.batch_size,
            "tauzero": __version__,
        }

    def objective_settings(self, objective: str) -> dict[str, Any]:
        """What must be equal for the trials of one objective to belong together."""
        if objective == "surrogate":
            return {
                "train": self.train,
                "surrogate": surrogate_label(self.surrogate),
                "surrogate_params": described(
                    dict(self.surrogate_params)
                    if isinstance(self.surrogate, str)
                    else {**self.surrogate.get_params(deep=False), **self.surrogate_params}
                ),
                "kind": self.kind,
                "predicted_budget": self.predicted_budget,
            }
        if objective == "proxy":
            source = {"options": described(dict(self.proxy_options))} if self.scores is None else {
                "scores": f"sha256 {digest(self.scores)}"
            }  # fmt: skip
            return {"proxies": list(self.proxies), "predicted_budget": self.predicted_budget, **source}
        return {}


class Judge:
    """What is known of the chosen architectures afterwards; no search sees it.

    Attributes
    ----------
    truth
        ``float64[size]``: the driving metric as a mean over runs after full training, which regrets are taken in.
    validation, test
        ``float64[size]``, percent; NaN where the table has none.
    optimum, test_optimum
        Their best (NaN for a test accuracy that is not known).
    """

    def __init__(self, design: Design, metric: str) -> None:
        table, dataset = design.benchmark, design.dataset
        nothing = np.full(design.space.size, np.nan)
        known = table.metrics(dataset)
        self.truth = np.asarray(table.table(dataset, metric), dtype=np.float64)
        self.validation, self.test = (
            np.asarray(table.table(dataset, name), dtype=np.float64) if name in known else nothing
            for name in _ACCURACIES
        )
        self.optimum = float(np.nanmax(self.truth))
        self.test_optimum = float(np.nanmax(self.test)) if np.isfinite(self.test).any() else math.nan


def _check_count(name: str, number: object, least: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
        raise ValueError(f"The '{name}' argument of a study must be an integer ≥ {least}. Got {number!r}.")


def described(value: Any) -> Any:
    """A JSON value that is equal for equal parameters: plain values themselves, others as a hash."""
    if isinstance(value, Mapping):
        return {str(key): described(item) for key, item in sorted(value.items(), key=lambda pair: str(pair[0]))}
    if isinstance(value, list | tuple):
        return [described(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        import joblib

        return f"{type(value).__qualname__} of hash {joblib.hash(value)}"
