"""One-shot search: a supernet holds all cells of a space, and its shared weights judge them.

`run` trains a supernet with one of the methods (`names`) and returns the architecture that was found. A method is one
file and one line in the registry; the contract stands in `tauzero.search.oneshot.base`. Importing this imports torch.
"""

from __future__ import annotations

__all__ = [
    "AlphaMethod",
    "Gates",
    "MixedEdge",
    "Moment",
    "NonFiniteLossError",
    "OneShotMethod",
    "OneShotResult",
    "Ranking",
    "Recovery",
    "Settings",
    "StepCost",
    "Supernet",
    "Training",
    "find",
    "names",
    "recover",
    "resolve",
    "run",
    "sparsify",
    "step_cost",
    "supernet_class",
]

from tauzero.search.oneshot._gates import Gates
from tauzero.search.oneshot._measure import StepCost, step_cost
from tauzero.search.oneshot._operations import MixedEdge
from tauzero.search.oneshot._registry import find, names, supernet_class
from tauzero.search.oneshot._result import OneShotResult, Ranking
from tauzero.search.oneshot._run import run
from tauzero.search.oneshot._settings import Settings, resolve
from tauzero.search.oneshot._supernet import Supernet
from tauzero.search.oneshot._trainer import NonFiniteLossError, Training
from tauzero.search.oneshot.base import AlphaMethod, Moment, OneShotMethod
from tauzero.search.oneshot.sparse_recovery import Recovery, recover, sparsify
