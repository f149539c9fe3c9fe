"""Evaluation: rank measures, named protocols that keep copies apart, plots, and the report.

`evaluate` judges surrogates under a protocol; the measures take plain arrays and judge anything that
ranks architectures; `hypervolume` judges Pareto fronts. Plots are in `tauzero.evaluation.plots`; `report` turns what
studies, evaluations, sweeps and searches wrote into one page.
"""

from __future__ import annotations

__all__ = [
    "PROTOCOLS",
    "EvaluationResult",
    "Predictions",
    "Split",
    "ValidityReport",
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
    "report",
    "save_predictions",
    "spearman",
    "validity",
]

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tauzero.evaluation._validity import ValidityReport, validity
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
from tauzero.evaluation.predictions import Predictions, save_predictions
from tauzero.evaluation.protocols import EvaluationResult, evaluate
from tauzero.evaluation.splits import PROTOCOLS, Split, coarsest_classes, holdout_mask, protocol_split

if TYPE_CHECKING:
    import tauzero.evaluation.plots as plots  # noqa: PLR0402 - mypy does not find it in "from"
    from tauzero.evaluation._report import report


def __getattr__(name: str) -> Any:
    # Matplotlib takes a second to import, and the report is for those who want one: only they pay for it.
    if name == "plots":
        return import_module("tauzero.evaluation.plots")
    if name == "report":
        return import_module("tauzero.evaluation._report").report
    raise AttributeError(f"module 'tauzero.evaluation' has no attribute {name!r}")
