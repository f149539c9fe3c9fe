"""SETN: uniform sampling for the weights, a template network that judges, and a choice among its candidates."""

from __future__ import annotations

__all__ = ["SETN", "SETNOptions"]

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from tauzero.search.oneshot._gates import Gates
from tauzero.search.oneshot._supernet import at_least
from tauzero.search.oneshot.base import AlphaMethod, Batch, Moment
from tauzero.spaces import Genotypes

if TYPE_CHECKING:
    from tauzero.search.oneshot._trainer import Training

#: How many architectures are drawn for each candidate where a space cannot be written down.
_DRAWN = 20


@dataclass(frozen=True, slots=True)
class SETNOptions:
    """Hyper-parameters of SETN."""

    candidates: int = at_least(1, 100, "Most probable architectures, among which the best one is found.")
    candidate_images: int = at_least(2, 512, "Validation images on which they are compared.")


class SETN(AlphaMethod):
    """Self-evaluated template network (Dong and Yang, ICCV 2019), as AutoDL-Projects runs it on NAS-Bench-201.

    Weights are trained under architectures drawn uniformly, one a step. α, the evaluator, follows the gradient of the
    validation loss of the network in which all operations are mixed by the softmax of α. Of the most probable
    architectures under α the one of the highest accuracy with the shared weights is taken.
    """

    name = "setn"
    Options = SETNOptions
    #: AutoDL-Projects, ``configs/nas-benchmark/algos/SETN.config`` and ``exps/algos/SETN.py``, which does not clip.
    presets = MappingProxyType(
        {
            "paper": {"*": {"epochs": 250, "clip": 0.0}, "darts": {"weight_decay": 3e-4, "nesterov": False}},
            "smoke": {"*": {"architecture_learning_rate": 0.05, "candidates": 10, "candidate_images": 128}},
        }
    )
    architecture_first = False

    def gates(self, moment: Moment) -> Gates:
        """One-hot gates of a random architecture, for the weights."""
        del moment
        return self.supernet.one_hot(self.supernet.sample(1, self.generator)[0])

    def architecture_step(self, training: Training, moment: Moment, train: Batch, validation: Batch) -> Tensor:
        """One step of Adam on the loss of the mixed network."""
        del train, moment
        loss = training.loss(validation, self.supernet.all_active(self.alpha.softmax(-1)))
        training.update_architecture(loss)
        return loss.detach()

    def derive(self, training: Training) -> Genotypes:
        """The best of the most probable architectures."""
        space = self.supernet.space
        if space.enumerable:
            rows = space.enumerate()
        else:
            drawn = self.supernet.sample(_DRAWN * self.options.candidates, self.generator, self.alpha)
            rows = np.unique(drawn, axis=0)
        order = np.argsort(-self.supernet.log_probability(rows, self.alpha), kind="stable")
        return training.best(rows[order[: self.options.candidates]], self.options.candidate_images)
