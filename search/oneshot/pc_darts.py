"""PC-DARTS: operations see a part of the channels, and edges have weights."""

from __future__ import annotations

__all__ = ["PCDARTS"]

from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tauzero.search.oneshot._gates import Gates
from tauzero.search.oneshot._supernet import Supernet
from tauzero.search.oneshot.base import AlphaMethod, Moment


class PCDARTS(AlphaMethod):
    """First-order DARTS on one in K channels, with edge normalisation (Xu et al., ICLR 2020, section 3).

    The other channels bypass the operations (`MixedEdge`, option ``partial``); the output of an edge, bypass included,
    is multiplied by the softmax of β over the edges that enter its node. Operations are chosen by the product of both.
    """

    name = "pc-darts"
    #: yuhuixu1993/PC-DARTS, ``train_search.py``, on both spaces; α and β are first updated after 15 of 50 epochs.
    presets = MappingProxyType(
        {
            "paper": {
                "*": {
                    "epochs": 50,
                    "batch_size": 256,
                    "learning_rate": 0.1,
                    "weight_decay": 3e-4,
                    "nesterov": False,
                    "architecture_learning_rate": 6e-4,
                    "partial": 4,
                    "warmup": 0.3,
                }
            },
            "smoke": {"*": {"architecture_learning_rate": 0.05, "partial": 2}},
        }
    )
    searches_with_gates = True
    beta: nn.Parameter

    def begin(self, supernet: Supernet, generator: torch.Generator) -> None:
        """Draw α and β."""
        super().begin(supernet, generator)
        self.beta = self._draw(supernet.shape[:2])

    def parameters(self) -> list[nn.Parameter]:
        """α and β."""
        return [self.alpha, self.beta]

    def edge_weights(self) -> Tensor:
        """Softmax of β over the edges of each node, ``[kinds, edges]``."""
        return torch.cat([self.beta[:, list(node)].softmax(-1) for node in self.supernet.nodes], dim=1)

    def gates(self, moment: Moment) -> Gates:
        """Everything is computed."""
        del moment
        return self.supernet.all_active(self.alpha.softmax(-1), self.edge_weights())

    def strengths(self) -> npt.NDArray[np.float64]:
        """Softmax of α times the weight of the edge."""
        edges: npt.NDArray[np.float64] = self.edge_weights().detach().double().cpu().numpy()
        return super().strengths() * edges[:, :, None]
