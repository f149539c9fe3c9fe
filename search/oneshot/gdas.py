"""GDAS: one operation of each edge is sampled, and computed alone."""

from __future__ import annotations

__all__ = ["GDAS", "GDASOptions"]

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch

from tauzero.search.oneshot._gates import Gates
from tauzero.search.oneshot._supernet import Supernet
from tauzero.search.oneshot.base import AlphaMethod, Moment

if TYPE_CHECKING:
    from tauzero.search.oneshot._trainer import Training


@dataclass(frozen=True, slots=True)
class GDASOptions:
    """Hyper-parameters of GDAS."""

    tau_max: float = field(default=10.0, metadata={"least": 1e-6, "help": "Temperature of the first epoch."})
    tau_min: float = field(default=0.1, metadata={"least": 1e-6, "help": "Temperature of the last epoch."})


class GDAS(AlphaMethod):
    """Gumbel-softmax samples with a straight-through gradient (Dong and Yang, CVPR 2019, equations 3 to 6).

    With h = softmax((log softmax α + Gumbel noise) / τ) the operation of the largest h is computed with the weight 1;
    its gradient goes through h. τ falls linearly from epoch to epoch. Operations that are not sampled have no part in
    the gradient, as in the paper; AutoDL-Projects adds their weights, which are zero, to the feature map as numbers,
    and so gives them some.
    """

    name = "gdas"
    Options = GDASOptions
    #: AutoDL-Projects, ``configs/nas-benchmark/algos/GDAS.config`` and ``scripts-search/algos/GDAS.sh``.
    presets = MappingProxyType(
        {
            "paper": {"*": {"epochs": 240}, "darts": {"weight_decay": 3e-4, "nesterov": False}},
            "smoke": {"*": {"architecture_learning_rate": 0.05, "tau_max": 2.0}},
        }
    )
    architecture_first = False

    def begin(self, supernet: Supernet, generator: torch.Generator) -> None:
        """Draw α; hot."""
        super().begin(supernet, generator)
        self._tau = float(self.options.tau_max)

    def epoch_start(self, training: Training, epoch: int) -> None:
        """Set the temperature."""
        last = max(1, training.settings.epochs - 1)
        options = self.options
        self._tau = options.tau_max - (options.tau_max - options.tau_min) * min(1.0, epoch / last)

    def figures(self) -> dict[str, float]:
        """Those of α, and the temperature."""
        return super().figures() | {"tau": self._tau}

    def gates(self, moment: Moment) -> Gates:
        """One sampled operation on each edge."""
        del moment
        noise = torch.empty(self.supernet.shape).exponential_(generator=self.generator).clamp_min(1e-30).log().neg()
        tau = self._tau
        logits = (self.alpha.log_softmax(-1) + noise.to(self.alpha)) / tau
        soft = logits.softmax(-1)
        chosen = soft.detach().argmax(-1, keepdim=True)
        active = np.zeros(self.supernet.shape, dtype=np.bool_)
        np.put_along_axis(active, chosen.cpu().numpy(), values=True, axis=-1)
        if not torch.is_grad_enabled():
            return Gates(None, active)
        hard = torch.zeros_like(soft).scatter_(-1, chosen, 1.0)
        return Gates(hard - soft.detach() + soft, active)
