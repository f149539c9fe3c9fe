"""Losses of the `gnn` surrogate: squared error, plus a term that ranks."""

from __future__ import annotations

__all__ = ["LOSSES", "loss_per_member"]

import torch
from torch import Tensor
from torch.nn import functional

#: Names of the losses.
LOSSES = ("mse", "hinge", "bce", "listwise", "warp")

_PARTNERS = 8  # architectures of a batch that each one is compared with
_MARGIN = 0.1
_SHARPNESS = 4.0  # logits per unit of the target
_TIED = 1e-6


def loss_per_member(kind: str, predicted: Tensor, goal: Tensor, weights: Tensor) -> Tensor:
    """Loss of each member of an ensemble on its batch, ``float[members]``.

    Parameters
    ----------
    kind
        One of `LOSSES`; see `GNN`.
    predicted, goal, weights
        ``float[members, b]``; `weights` belong to the squared error.
    """
    loss = (weights * (predicted - goal) ** 2).mean(dim=1)
    if kind == "mse" or goal.shape[1] < 2:
        return loss
    if kind == "listwise":
        return loss + _listwise(predicted, goal)
    if kind == "warp":
        return loss + _warp(predicted, goal)
    b = goal.shape[1]
    # Each architecture against eight others of the batch, in place of b² pairs.
    here = torch.arange(b, device=goal.device)
    other = (here - torch.arange(1, min(b, _PARTNERS + 1), device=goal.device)[:, None]) % b
    gap = predicted[:, None] - predicted[:, other]
    truth = goal[:, None] - goal[:, other]
    if kind == "hinge":
        pairs = functional.relu(_MARGIN - gap * truth.sign()) * (truth.abs() > _TIED)
    else:
        probable = (truth > 0).to(gap.dtype)
        pairs = functional.binary_cross_entropy_with_logits(_SHARPNESS * gap, probable, reduction="none")
    return loss + pairs.mean(dim=(1, 2))


def _listwise(predicted: Tensor, goal: Tensor) -> Tensor:
    """Mean over places of the true order of -log P(the best of those left is first): ListMLE."""
    order = goal.argsort(dim=1, descending=True, stable=True)
    score = _SHARPNESS * predicted.gather(1, order)
    left = score.flip(1).logcumsumexp(dim=1).flip(1)
    return (left - score).mean(dim=1)


def _warp(predicted: Tensor, goal: Tensor) -> Tensor:
    """Mean over architectures of their mean hinge over violated pairs, times what the violations and the place cost."""
    b = goal.shape[1]
    better = goal[:, :, None] - goal[:, None, :] > _TIED
    hinge = functional.relu(_MARGIN - (predicted[:, :, None] - predicted[:, None, :])) * better
    violations = (hinge > 0).sum(dim=2)
    harmonic = torch.cat(
        [goal.new_zeros(1), goal.new_ones(b).div(torch.arange(1, b + 1, device=goal.device)).cumsum(0)]
    )
    place = 1 + (goal[:, None, :] - goal[:, :, None] > _TIED).sum(dim=2)
    discount = 1.0 / torch.log2(1.0 + place)
    discount = discount / discount.mean(dim=1, keepdim=True)
    cost = harmonic[violations] * hinge.sum(dim=2) / violations.clamp(min=1)
    return (discount * cost).mean(dim=1)
