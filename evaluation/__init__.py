"""Evaluation: rank measures, named protocols that keep copies apart, and plots.

`evaluate` judges surrogates under a protocol; the measures take plain arrays and judge anything that
ranks architectures; `hypervolume` judges Pareto fronts. Plots are in `tauzero.evaluation.plots`.
"""

from __future__ import annotations

__all__ = [
    "PROTOCOLS",
    "EvaluationResult",
    "Split",
    "coarsest_classes",
    "coverage",
    "evaluate",
    "holdout_mask",
    "hypervolume",
    "kendall_tau",
    "mae",
    "n_at_k",
    "negative_log_likelihood",
    "noise_ceiling",
    "pearson",
    "plots",
    "precision_at_k",
    "protocol_split",
    "r2",
    "regret",
    "spearman",
]

from typing import TYPE_CHECKING, Any

from tauzero.evaluation.metrics import (
    coverage,
    kendall_tau,
    mae,
    n_at_k,
    negative_log_likelihood,
    noise_ceiling,
    pearson,
    precision_at_k,
    r2,
    regret,
    spearman,
)
from tauzero.evaluation.pareto import hypervolume
from tauzero.evaluation.protocols import EvaluationResult, evaluate
from tauzero.evaluation.splits import PROTOCOLS, Split, coarsest_classes, holdout_mask, protocol_split

if TYPE_CHECKING:
    import tauzero.evaluation.plots as plots  # noqa: PLR0402 - mypy does not find it in "from"


def __getattr__(name: str) -> Any:
    # Matplotlib takes a second to import: only those who plot pay for it.
    if name == "plots":
        from importlib import import_module

        return import_module("tauzero.evaluation.plots")
    raise AttributeError(f"module 'tauzero.evaluation' has no attribute {name!r}")
