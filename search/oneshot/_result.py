"""What a one-shot search found, and what a table knows of it."""

from __future__ import annotations

__all__ = ["OneShotResult", "Ranking", "ranking_of", "truth_of"]

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tauzero.benchmarks import Benchmark, atomic_path
from tauzero.spaces import Genotypes

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """How a supernet ranks random architectures.

    Attributes
    ----------
    genotypes
        ``int8[n, L]``, different ones.
    scores
        The supernet's, ``float64[n]``; accuracies in percent for all methods but those that say otherwise.
    truth
        Test accuracies in percent of the table's first dataset, ``float64[n]``, None without a table.
    tau
        Kendall's tau-b of the two, None without a table.
    """

    genotypes: Genotypes
    scores: npt.NDArray[np.float64]
    truth: npt.NDArray[np.float64] | None
    tau: float | None


@dataclass(frozen=True, slots=True, eq=False)
class OneShotResult:
    """The architecture that a one-shot search found.

    Attributes
    ----------
    method, space
        Names.
    genotype
        ``int8[L]``.
    arch
        The same in the notation of the space's authors.
    value
        Accuracy in percent on the validation half, with the supernet's weights (ISTA-NAS: and its gates).
    search_accuracy
        The same of the network that the search has come to: the mixture of operations where the method has one, and
        for ISTA-NAS in one stage the network before the training that follows; else `value`.
    truth
        What the table knows, by dataset: ``validation_accuracy`` and ``test_accuracy`` in percent, and ``rank``, 1 for
        the best by test accuracy among ``of`` architectures. Empty without a table.
    ranking
        How the supernet ranks random architectures.
    history
        One entry for each epoch.
    options
        Every option of the run by name.
    seed
        Of everything random.
    description
        What the images were.
    seconds
        Wall clock of the training, over all sessions.
    """

    method: str
    space: str
    genotype: Genotypes
    arch: str
    value: float
    search_accuracy: float
    truth: Mapping[str, Mapping[str, float | int | None]]
    ranking: Ranking
    history: list[dict[str, Any]]
    options: Mapping[str, Any]
    seed: int
    description: str
    seconds: float

    @property
    def epochs(self) -> int:
        """Epochs that were trained."""
        return len(self.history)

    @property
    def supernet_tau(self) -> float | None:
        """Kendall's tau of the supernet's scores with the table's test accuracies."""
        return self.ranking.tau

    def frame(self) -> pd.DataFrame:
        """The history as a table, one row for each epoch."""
        import pandas as pd

        return pd.DataFrame(self.history)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; NaN does not occur."""
        first = next(iter(self.truth.values()), {})
        known = ("validation_accuracy", "test_accuracy", "rank")
        return {
            "method": self.method,
            "space": self.space,
            "best": {
                "arch": self.arch,
                "value": self.value,
                **{name: first.get(name) for name in known},
                "datasets": {name: dict(facts) for name, facts in self.truth.items()},
            },
            "search_accuracy": self.search_accuracy,
            "supernet_tau": self.supernet_tau,
            "ranked": len(self.ranking.genotypes),
            "epochs": self.epochs,
            "train_seconds": self.seconds,
            "peak_memory_mb": max((row["peak_memory_mb"] or 0.0 for row in self.history), default=None),
            "seed": self.seed,
            "data": self.description,
            "options": dict(self.options),
        }

    def save(self, folder: Path) -> None:
        """Write ``result.json``, ``history.parquet`` and ``ranking.parquet`` into a folder."""
        import pandas as pd

        with atomic_path(folder / "result.json") as partial:
            partial.write_text(json.dumps(self.as_dict(), ensure_ascii=False) + "\n", encoding="utf-8")
        with atomic_path(folder / "history.parquet") as partial:
            self.frame().to_parquet(partial)
        table = pd.DataFrame({"genotype": self.ranking.genotypes.tolist(), "score": self.ranking.scores})
        if self.ranking.truth is not None:
            table["test_accuracy"] = self.ranking.truth
        with atomic_path(folder / "ranking.parquet") as partial:
            table.to_parquet(partial)


def truth_of(table: Benchmark | None, genotype: Genotypes) -> dict[str, dict[str, float | int | None]]:
    """What a table knows of one architecture, by dataset."""
    found: dict[str, dict[str, float | int | None]] = {}
    if table is None:
        return found
    for dataset in table.datasets:
        facts: dict[str, float | int | None] = {
            metric: _look_up(table, genotype, dataset, metric) for metric in ("validation_accuracy", "test_accuracy")
        }
        judge = "test_accuracy" if "test_accuracy" in table.metrics(dataset) else table.default_metric
        value = _look_up(table, genotype, dataset, judge)
        everyone = table.table(dataset, judge)
        everyone = everyone[np.isfinite(everyone)]
        facts["rank"] = None if value is None else int((everyone > value).sum()) + 1
        facts["of"] = len(everyone)
        found[dataset] = facts
    return found


def _look_up(table: Benchmark, genotype: Genotypes, dataset: str, metric: str) -> float | None:
    if metric not in table.metrics(dataset):
        return None
    try:
        value = float(table.query(genotype[None], dataset=dataset, metric=metric)[0])
    except ValueError:  # a table of some rows of its space
        return None
    return value if math.isfinite(value) else None


def ranking_of(table: Benchmark | None, genotypes: Genotypes, scores: npt.NDArray[np.float64]) -> Ranking:
    """Join the supernet's scores with a table's test accuracies (its main metric where it has none)."""
    from scipy import stats

    if table is None or not len(genotypes):
        return Ranking(genotypes, scores, None, None)
    dataset = table.datasets[0]
    metric = "test_accuracy" if "test_accuracy" in table.metrics(dataset) else table.default_metric
    try:
        truth = np.asarray(table.query(genotypes, dataset=dataset, metric=metric), dtype=np.float64)
    except ValueError:  # a table of some rows of its space
        return Ranking(genotypes, scores, None, None)
    both = np.isfinite(truth) & np.isfinite(scores)
    tau = float(stats.kendalltau(scores[both], truth[both]).statistic) if both.sum() > 1 else math.nan
    return Ranking(genotypes, scores, truth, tau if math.isfinite(tau) else None)
