"""Synaptic flow."""

from __future__ import annotations

__all__ = ["SynFlow"]

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tauzero import networks
from tauzero.networks import CellNetwork
from tauzero.proxies.base import Proxy, Work


class SynFlow(Proxy):
    r"""Logarithm of the synaptic flow through all weights.

    Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic flow",
    NeurIPS 2020, equation (2) and algorithm 1: with all parameters replaced by their absolute values and an
    image of ones, :math:`R = \sum_k f_k(\mathbb{1}; |\theta|)` and the score is

    .. math:: \log \sum_w \left| w \, \frac{\partial R}{\partial w} \right|

    over the weights w of all convolutions and the classifier. As NAS-Bench-Suite-Zero runs it (Krishnakumar et
    al., NeurIPS 2022): double precision (all-3×3 reaches 1e47, beyond float32), batch norm as the
    identity, and the logarithm. Without batch norm the network is linear on this path, so operations
    off every input-output path have zero gradient: they change nothing. Undefined (the sum is 0)
    for disconnected cells. Needs no images; the image of ones has the data set's resolution.
    """

    def score(self, work: Work) -> npt.NDArray[np.float64]:
        """Score each network by one forward and one backward pass in double precision, ``float64[n]``."""
        flows = [_synflow(work, row, network) for row, network in zip(work.genotypes, work.networks, strict=True)]
        with np.errstate(divide="ignore"):
            return np.log(np.array(flows, dtype=np.float64))


def _synflow(work: Work, row: npt.NDArray[np.int8], network: CellNetwork) -> float:
    bare = networks.family(work.space).build(row, work.shape.num_classes, batch_norm=False, dtype=torch.float64)
    kept = bare.state_dict().keys()
    weights = {name: value.double().abs() for name, value in network.state_dict().items() if name in kept}
    bare.load_state_dict(weights, assign=True)
    layers = [m.weight for m in bare.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    size = work.shape.image_size
    ones = torch.ones(1, 3, size, size, dtype=torch.float64, device=work.device)
    gradients = torch.autograd.grad(bare(ones).sum(), layers, allow_unused=True)
    terms = [(w.detach() * g).abs().sum() for w, g in zip(layers, gradients, strict=True) if g is not None]
    return float(torch.stack(terms).sum())
