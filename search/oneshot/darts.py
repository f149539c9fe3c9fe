"""DARTS, first order."""

from __future__ import annotations

__all__ = ["DARTSV1", "DARTS_PRESETS"]

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tauzero.search.oneshot._gates import Gates
from tauzero.search.oneshot.base import AlphaMethod, Moment

#: AutoDL-Projects, ``configs/nas-benchmark/algos/DARTS.config``; quark0/darts, ``cnn/train_search.py``.
DARTS_PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "paper": {"*": {"epochs": 50}, "darts": {"weight_decay": 3e-4, "nesterov": False}},
        "smoke": {"*": {"architecture_learning_rate": 0.05}},
    }
)


class DARTSV1(AlphaMethod):
    """Every operation is computed, weighted by the softmax of α on its edge (Liu et al., ICLR 2019, equation 2).

    α follows the gradient of the validation loss at the current weights (ξ = 0 of equation 6).
    """

    name = "darts-v1"
    presets = DARTS_PRESETS
    searches_with_gates = True

    def gates(self, moment: Moment) -> Gates:
        """Softmax over the operations of each edge."""
        del moment
        return self.supernet.all_active(self.alpha.softmax(-1))
