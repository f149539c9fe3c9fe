"""Surrogates: predictors of a metric from genotypes, with uncertainty.

`benchmarks.load("surrogate:…")` puts a fitted one in a table's place (`SurrogateBenchmark`).
`create` makes one by name, `names` lists them, `load` reads a saved or a pretrained one and
`pretrained_names` lists those that ship with tauzero. `extend`
lets one predict larger cells than those it was fitted on. `learning_curves` holds predictors that read the first
epochs of a training instead of the architecture, or beside it.
"""

from __future__ import annotations

__all__ = [
    "TARGETS",
    "CurvePredictor",
    "ModelFormatError",
    "MultiSpaceGNN",
    "PredictedColumn",
    "RunNoise",
    "Surrogate",
    "SurrogateBenchmark",
    "benchmark_names",
    "create",
    "extend",
    "fit_benchmark",
    "fit_run_noise",
    "learning_curves",
    "load",
    "names",
    "pretrained_names",
]

from tauzero.surrogates import learning_curves
from tauzero.surrogates._benchmark_files import benchmark_names
from tauzero.surrogates._benchmark_fit import fit_benchmark
from tauzero.surrogates._files import ModelFormatError
from tauzero.surrogates._noise import RunNoise, fit_run_noise
from tauzero.surrogates._pretrained import load, pretrained_names
from tauzero.surrogates._registry import create, names
from tauzero.surrogates._target import TARGETS
from tauzero.surrogates.base import Surrogate
from tauzero.surrogates.benchmark import PredictedColumn, SurrogateBenchmark
from tauzero.surrogates.extended import extend
from tauzero.surrogates.learning_curves import CurvePredictor
from tauzero.surrogates.multi_space import MultiSpaceGNN
