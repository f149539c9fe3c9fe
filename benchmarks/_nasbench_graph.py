"""What the readers of NAS-Bench-Graph share: data sets, columns and the table."""

from __future__ import annotations

__all__ = ["DATASETS", "LICENCE", "Results", "columns_of", "space_of"]

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tauzero import spaces
from tauzero.benchmarks._table import Column
from tauzero.spaces import NASBenchGraph

#: Names of the nine data sets, as the package calls its files (without ``.bench``).
DATASETS = ("cora", "citeseer", "pubmed", "cs", "physics", "photo", "computers", "arxiv", "proteins")
LICENCE = "Apache-2.0 (NAS-Bench-Graph, Tsinghua University)"
_RUNS = "mean over three seeds, as published"


class Results(NamedTuple):
    """What a data set brings, one value for each network, ``float64[n]``; NaN where there is none.

    Shares of 1 (``valid_perf``, ``perf``), seconds (``latency``) and millions of parameters (``para``).
    """

    validation: npt.NDArray[np.float64]
    test: npt.NDArray[np.float64]
    latency: npt.NDArray[np.float64]
    parameters: npt.NDArray[np.float64]


def space_of() -> NASBenchGraph:
    """The search space."""
    space = spaces.get("nasbench_graph")
    if not isinstance(space, NASBenchGraph):  # pragma: no cover - for the type checker
        raise TypeError("The registry of spaces holds something else under the name 'nasbench_graph'.")
    return space


def columns_of(dataset: str, results: Results) -> list[Column]:
    """Columns of a data set: accuracies in percent, latency in seconds, parameters."""
    measured = "accuracy"
    if dataset == "proteins":
        measured = "the package's 'performance' (the metric of ogbn-proteins is ROC-AUC)"
    with np.errstate(over="ignore"):  # what does not fit is refused as infinite, like any other impossible value
        validation, test, latency = (
            values.astype(np.float32) for values in (100 * results.validation, 100 * results.test, results.latency)
        )
        parameters = np.rint(1e6 * results.parameters)  # NaN where there is no value, so no integers
    return [
        Column(dataset, "validation_accuracy", None, None, "percent", validation, f"{measured}; {_RUNS}"),
        Column(dataset, "test_accuracy", None, None, "percent", test, f"{measured}; {_RUNS}"),
        Column(dataset, "latency_seconds", None, None, "seconds", latency, "as published"),
        Column(
            dataset, "parameters", None, None, "count", parameters, "as published, in the data set's shape; rounded"
        ),
    ]
