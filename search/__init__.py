"""Search: algorithms by ask/tell, objectives, and the comparison of search on predictions with look-up.

`run` joins an algorithm (`create`, `names`) with an `Objective` and returns a `Trajectory`;
`study` compares algorithms over many trials, by look-up, on predictions and on scores; `compare_prediction_with_lookup`
spends one budget in two ways. `oneshot`, loaded when it is first used, trains supernets.
"""

from __future__ import annotations

__all__ = [
    "ASHA",
    "BOHB",
    "DEHB",
    "NPENAS",
    "NSGA2",
    "SMAC",
    "TPE",
    "Algorithm",
    "ArrayObjective",
    "Bananas",
    "BenchmarkObjective",
    "BuildPlan",
    "Comparison",
    "DifferentialEvolution",
    "Evaluation",
    "Evolution",
    "GraphGP",
    "Hyperband",
    "LocalSearch",
    "MassEvolution",
    "MultiFidelityAlgorithm",
    "Objective",
    "ParallelObjective",
    "ProxyEvolution",
    "ProxyObjective",
    "ProxyScore",
    "RandomSearch",
    "RegularizedEvolution",
    "Reinforce",
    "StudyResult",
    "SuccessiveHalving",
    "SurrogateObjective",
    "TableObjective",
    "TauZeroSearch",
    "TrainingObjective",
    "Trajectory",
    "WeakNAS",
    "WithCosts",
    "build_table",
    "compare_prediction_with_lookup",
    "create",
    "identity",
    "names",
    "oneshot",
    "plan_table",
    "register",
    "run",
    "study",
]

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tauzero.search._registry import create, names, register
from tauzero.search._run import run
from tauzero.search._study import study
from tauzero.search._study_result import StudyResult
from tauzero.search.asha import ASHA
from tauzero.search.bananas import Bananas
from tauzero.search.base import Algorithm, MultiFidelityAlgorithm, identity
from tauzero.search.benchmark_objective import BenchmarkObjective
from tauzero.search.bohb import BOHB
from tauzero.search.comparison import Comparison, compare_prediction_with_lookup
from tauzero.search.costed_objective import WithCosts
from tauzero.search.dehb import DEHB
from tauzero.search.differential_evolution import DifferentialEvolution
from tauzero.search.evolution import Evolution
from tauzero.search.graph_gp import GraphGP
from tauzero.search.hyperband import Hyperband, SuccessiveHalving
from tauzero.search.local_search import LocalSearch
from tauzero.search.mass_evolution import MassEvolution
from tauzero.search.npenas import NPENAS
from tauzero.search.nsga2 import NSGA2
from tauzero.search.objectives import ArrayObjective, Evaluation, Objective, TableObjective
from tauzero.search.parallel_objective import ParallelObjective
from tauzero.search.proxy_evolution import ProxyEvolution, ProxyScore
from tauzero.search.proxy_objective import ProxyObjective
from tauzero.search.random_search import RandomSearch
from tauzero.search.regularized_evolution import RegularizedEvolution
from tauzero.search.reinforce import Reinforce
from tauzero.search.smac import SMAC
from tauzero.search.surrogate_objective import SurrogateObjective
from tauzero.search.table_building import BuildPlan, build_table, plan_table
from tauzero.search.tauzero_search import TauZeroSearch
from tauzero.search.tpe import TPE
from tauzero.search.training_objective import TrainingObjective
from tauzero.search.trajectory import Trajectory
from tauzero.search.weaknas import WeakNAS

if TYPE_CHECKING:
    from tauzero.search import oneshot


def __getattr__(name: str) -> Any:
    if name == "oneshot":  # its import is that of torch
        return import_module("tauzero.search.oneshot")
    raise AttributeError(f"module 'tauzero.search' has no attribute {name!r}")
