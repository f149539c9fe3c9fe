"""A made-up table of NAS-Bench-201's space for tests of studies: two budgets, two runs, training seconds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tauzero import spaces
from tauzero.benchmarks import Benchmark, Column, Table

SPACE = spaces.get("nasbench201")
ROWS = SPACE.enumerate()
LINEAR = 40 + ROWS @ np.array([1.0, 2.0, 3.0, 4.0, 0.5, 0.25])
#: Known to the judge only.
TEST = 100 - LINEAR + np.sin(np.arange(SPACE.size))
SECONDS = 100.0 + np.arange(SPACE.size) % 50
NOISE = np.random.default_rng(0).normal(0, 2, SPACE.size)


def toy_benchmark(
    test: npt.NDArray[np.float64] = TEST, *, dataset: str = "toy", name: str = "toy", short: bool = True
) -> Benchmark:
    """Validation accuracy as a mean and in run 0 (noisy), at full training and (if `short`) after 12 epochs."""
    columns = [
        Column(dataset, "validation_accuracy", 200, None, "percent", LINEAR),
        Column(dataset, "validation_accuracy", 200, 0, "percent", LINEAR + NOISE),
        Column(dataset, "test_accuracy", 200, None, "percent", test),
        Column(dataset, "training_seconds", 200, None, "seconds", SECONDS),
    ]
    if short:
        columns += [
            Column(dataset, "validation_accuracy", 12, None, "percent", LINEAR / 2 + NOISE),
            Column(dataset, "training_seconds", 12, None, "seconds", SECONDS / 10),
        ]
    return Benchmark(Table(name, "nasbench201", tuple(columns), "CC0-1.0", {}))
