"""ISTA-NAS in two stages."""

from __future__ import annotations

__all__ = ["ISTANAS"]

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tauzero.search.oneshot._gates import Gates
from tauzero.search.oneshot._sparse_code import SparseCode, SparseOptions
from tauzero.search.oneshot._supernet import Supernet
from tauzero.search.oneshot.base import Moment, OneShotMethod
from tauzero.spaces import Genotypes

if TYPE_CHECKING:
    from tauzero.search.oneshot._trainer import Training


class ISTANAS(OneShotMethod):
    """Search as sparse coding: the supernet only ever has the operations of a sparse vector (Yang et al., 2020).

    What is trained is a short vector b for each choice; once an epoch the sparse z is recovered from it and the s
    strongest operations stay (`SparseCode`). Weights and b are updated in turn on the two halves, and the network has
    the derived architecture's size at every step. On NAS-Bench-201's cells a choice is an edge, and ``none`` is no
    candidate unless the option `choose_none` says so: its output does not depend on b, which would never move again.

    The published search is of DARTS cells (arXiv 2010.06176, section 4.1, and the authors' README: 50 epochs, batches
    of 256, learning rates .1 and 6·10⁻⁴).
    """

    name = "ista-nas"
    Options = SparseOptions
    presets = MappingProxyType(
        {
            "paper": {
                "*": {
                    "epochs": 50,
                    "batch_size": 256,
                    "learning_rate": 0.1,
                    "architecture_learning_rate": 6e-4,
                },
                "darts": {"weight_decay": 3e-4, "nesterov": False, "none": False},
            },
            "smoke": {"*": {"architecture_learning_rate": 0.02, "initial": 0.1}, "darts": {"none": False}},
        }
    )
    options: SparseOptions
    code: SparseCode

    def begin(self, supernet: Supernet, generator: torch.Generator) -> None:
        """Draw A and b, and recover the first z."""
        super().begin(supernet, generator)
        self.code = SparseCode(supernet, self.options, generator)
        #: The farthest move of a z in the last recovery.
        self._moved = float("nan")

    def parameters(self) -> list[nn.Parameter]:
        """B alone."""
        return [self.code.b]

    def gates(self, moment: Moment) -> Gates:
        """The operations of the support, nothing else."""
        del moment
        return self.code.gates()

    def epoch_end(self, training: Training, epoch: int) -> None:
        """Recover z from b."""
        del training, epoch
        self._moved = float(self.code.recover(range(len(self.code.groups))).max())

    def favourite(self) -> Genotypes:
        """The architecture of the support."""
        return self.supernet.genotype(self.code.strengths())

    def figures(self) -> dict[str, float]:
        """The farthest move of a z in the last recovery, and the mean size of the gates."""
        with torch.no_grad():
            _, _, values = self.code.gate_values()
        return {"moved": self._moved, "mean_gate": float(values.abs().mean())}

    def derive(self, training: Training) -> Genotypes:
        """`favourite`."""
        del training
        return self.favourite()

    def value(self, training: Training, row: Genotypes) -> float:
        """With the gates, under which the weights have been trained: the found architecture is all that there is."""
        del row
        return self._accuracy_under_gates(training)

    def state_dict(self) -> dict[str, Any]:
        """The code."""
        return dict(self.code.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the code back."""
        self.code.load_state_dict(dict(state))
