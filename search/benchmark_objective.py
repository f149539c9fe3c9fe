"""Objective: a benchmark that is asked on demand, architecture by architecture, in a space of any size."""

from __future__ import annotations

__all__ = ["BenchmarkObjective"]

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tauzero.search.objectives import Evaluation, Objective

if TYPE_CHECKING:
    from tauzero.benchmarks import Benchmark


class BenchmarkObjective(Objective):
    """Answers of a surrogate benchmark: every evaluation stands for a training, and costs its predicted seconds.

    As `TableObjective`, but nothing is looked up beforehand, so that the space may be too large to be written down (the
    cells of DARTS). Where the whole space is small, `TableObjective` takes a surrogate benchmark too and is quicker.

    Parameters
    ----------
    benchmark
        One that answers for every architecture (`Benchmark.on_demand`), as ``benchmarks.load("surrogate:…")`` gives.
    dataset
        One of ``benchmark.datasets``; by default the first.
    metric
        By default ``"validation_accuracy"`` where it is predicted, else the dataset's main metric.
    epoch, seed
        Training budget and run as in ``Benchmark.query``; by default the longest and the predicted mean.
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
        if not benchmark.on_demand:
            raise ValueError(
                f"BenchmarkObjective needs a benchmark that answers for every architecture, such as "
                f"benchmarks.load('surrogate:…'), and {benchmark.name} is a table of some: use TableObjective."
            )
        self.benchmark, self.space = benchmark, benchmark.space
        wanted = benchmark.datasets[0] if dataset is None else dataset
        self.dataset = {name.lower(): name for name in benchmark.datasets}.get(wanted.lower(), wanted)
        there = benchmark.metrics(self.dataset)  # an unknown dataset is refused here
        usual = "validation_accuracy" if "validation_accuracy" in there else benchmark.main_metric(self.dataset)
        self.metric = usual if metric is None else metric
        self.epoch, self.seed = epoch, seed
        benchmark.query(self.space.sample(1, 0), self.dataset, self.metric, epoch, seed)  # refuses what is not known
        known = benchmark.epochs(self.dataset, self.metric)
        self.full_epochs = 0 if not known else int(known[-1] if epoch is None else epoch)
        which = "" if seed is None else f", run {seed}"
        self.label = f"predicted {self.metric} on {self.dataset}{which}"
        self.notes = (f"{benchmark.name} predicts: what a search finds there was not trained.",)

    def evaluate(self, genotypes: npt.ArrayLike, epochs: npt.ArrayLike | None = None) -> Evaluation:
        """Predict ``int8[n, L]``; seconds are NaN where the benchmark has no model of costs."""
        rows = self.space.validate(genotypes)
        if epochs is not None:
            self.check_epochs(epochs, len(rows))
        values, seconds = self.benchmark.query(
            rows, self.dataset, self.metric, self.epoch, self.seed, return_cost=True
        )  # fmt: skip
        return Evaluation(np.asarray(values), np.asarray(seconds))
