"""NASWOT: how differently a network's ReLUs fire on different images."""

from __future__ import annotations

__all__ = ["NWOT"]

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tauzero.networks import CellNetwork
from tauzero.proxies.base import Proxy, Work

# A node feeds several operations; of its consumers the last this many distinct inputs are remembered.
_REMEMBERED = 4


class NWOT(Proxy):
    r"""NASWOT: log-determinant of the similarity of the images' binary activation codes.

    Mellor et al., "Neural architecture search without training", ICML 2021, equations (1) and (2): with
    :math:`c_i` the binary code of image i over all rectified units and :math:`d_H` the Hamming distance,

    .. math:: K_{ij} = N_A - d_H(c_i, c_j), \qquad s = \log \left| \det K \right|

    As the authors' code and NAS-Bench-Suite-Zero run it: PyTorch's default initialisation, training mode (batch
    norm with the batch's statistics), codes are ``input > 0`` of every ReLU module, a node that feeds k
    rectified operations counting k times. Only ReLUs between input and output count: the authors'
    code counts a unit when the backward pass visits it, which leaves out operations that do not reach the output;
    we leave out those that read constant zeros as well, as it is the same network (they add one constant to
    all of K there). Undefined (K is singular) for disconnected cells.
    """

    needs_images = True

    def check_images(self, images: Tensor) -> None:
        """Refuse a batch in which an image occurs twice: K would be singular for every network."""
        flat = images.flatten(1).cpu()
        _, inverse = torch.unique(flat, dim=0, return_inverse=True)
        label, times = inverse.unique(return_counts=True)
        if bool((times > 1).any()):
            first, second = (inverse == label[times > 1][0]).nonzero().flatten()[:2].tolist()
            raise ValueError(
                f"The images of the 'batch' argument must differ for nwot, as equal images make its kernel singular. "
                f"Images {first} and {second} are equal: drop one."
            )

    def score(self, work: Work) -> npt.NDArray[np.float64]:
        """Score each network by one forward pass, ``float64[n]``; −inf or NaN where K is singular."""
        kernels = work.once(activation_kernels)
        if not len(work):
            return np.empty(0)
        # Division by the number of units keeps the determinant in range and is added back as a logarithm.
        units = kernels.diagonal(dim1=1, dim2=2).amax(dim=1)
        _, logdet = torch.linalg.slogdet(kernels / units[:, None, None])
        score = logdet + kernels.shape[1] * units.log()
        # All images have one code in disconnected cells; rounding must not hide that K is singular.
        score[(kernels == kernels[:, :1, :1]).all(dim=(1, 2))] = -torch.inf
        return np.asarray(score.numpy(), dtype=np.float64)


def activation_kernels(work: Work) -> Tensor:
    """Kernel K of each network on the batch: numbers of units that agree, ``float64[n, b, b]`` on the CPU."""
    kernels = [_activation_kernel(network, work.images) for network in work.networks]
    size = len(work.images)
    return torch.stack(kernels).cpu() if kernels else torch.empty(0, size, size, dtype=torch.float64, device="cpu")


def _activation_kernel(network: CellNetwork, images: Tensor) -> Tensor:
    total = torch.zeros(len(images), len(images), dtype=torch.float64, device=images.device)
    recent: list[tuple[Tensor, Tensor]] = []

    def add(_: nn.Module, inputs: tuple[Tensor]) -> None:
        (x,) = inputs
        agreement = next((kernel for seen, kernel in recent if seen is x), None)
        if agreement is None:
            agreement = _agreement(x)
            recent.append((x, agreement))
            del recent[:-_REMEMBERED]
        total.add_(agreement)

    handles = [m.register_forward_pre_hook(add) for m in network.modules() if isinstance(m, nn.ReLU)]
    # Training mode moves the running statistics; other proxies share the network, so they are put back.
    statistics = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
        for buffer, before in statistics:
            buffer.copy_(before)
    return total


def _agreement(x: Tensor) -> Tensor:
    """Number of units on which two images agree, ``float64[b, b]``.

    With codes as ±1, ``c·c'`` is agreements minus disagreements: one product instead of the two of
    ``x xᵀ + (1 − x)(1 − x)ᵀ``. Sums of ±1 stay exact in float32 below 2^24 units.
    """
    # The order of units does not matter: reading them as they lie in memory saves a copy.
    laid_out = x.movedim(1, -1) if x.is_contiguous(memory_format=torch.channels_last) else x
    signs = (laid_out.flatten(1) > 0).float().mul_(2).sub_(1)
    return ((signs @ signs.T).double() + signs.shape[1]) / 2
