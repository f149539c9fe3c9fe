"""Training of several graph networks at once, each on rows of its own."""

from __future__ import annotations

__all__ = ["Recipe", "train"]

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import functional_call

from tauzero.surrogates._gnn_losses import loss_per_member
from tauzero.surrogates._gnn_model import CellNetworks
from tauzero.surrogates._gnn_tensors import GraphTensors

_WARM = 0.15  # share of the steps in which the learning rate rises
_CLIP = 1.0  # largest norm of a member's gradient


class Recipe(NamedTuple):
    """How to train: name of the loss, weight of the further outputs, and what AdamW and its schedule take."""

    loss: str
    auxiliary_weight: float
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float

    def steps(self, n: int) -> int:
        """Batches of an epoch over n rows; a last batch of a single row, which has no pairs, is left out."""
        return max(1, math.ceil(n / self.batch_size) - (n % self.batch_size == 1))


def train(  # noqa: PLR0917
    networks: CellNetworks,
    data: GraphTensors,
    goal: Tensor,
    weights: Tensor,
    rows: list[npt.NDArray[np.int64]],
    recipe: Recipe,
    rngs: list[np.random.Generator],
    progress: Callable[[int, int], None] | None,
) -> None:
    """Train in place.

    Parameters
    ----------
    networks
        On the device to train on.
    data
        n cells.
    goal
        ``float32[n, outputs]``: the transformed target, then further metrics, NaN where unknown.
    weights
        ``float32[n]``: of the squared errors.
    rows
        For each member the rows that it learns from.
    rngs
        For each member a generator of its batches.
    progress
        Called with (steps done, steps in all).
    """
    device = networks.embedding.device
    # One tensor for all parameters: clipping and the optimiser take one call.
    flat = _flatten(networks)
    optimiser = torch.optim.AdamW([flat], lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    dropout = torch.Generator(device).manual_seed(int(rngs[0].integers(1 << 62)))
    n = min(len(r) for r in rows)  # folds may differ by a row: another one sits out in each epoch
    steps = recipe.steps(n)
    total = steps * recipe.epochs
    data, goal, weights = data.to(device), goal.to(device), weights.to(device)
    done = 0
    for _ in range(recipe.epochs):
        order = torch.from_numpy(np.stack([r[g.permutation(len(r))[:n]] for r, g in zip(rows, rngs, strict=True)]))
        for step in range(steps):
            chosen = order[:, step * recipe.batch_size : (step + 1) * recipe.batch_size].to(device)
            optimiser.param_groups[0]["lr"] = recipe.learning_rate * _one_cycle(done / total)
            predicted = functional_call(networks, _parts(networks, flat), (data.take(chosen), dropout))
            (gradient,) = torch.autograd.grad(_loss(recipe, predicted, goal[chosen], weights[chosen]), flat)
            flat.grad = gradient.mul_((_CLIP / (gradient.norm(dim=1, keepdim=True) + 1e-6)).clamp_(max=1.0))
            optimiser.step()
            done += 1
            if progress is not None:
                progress(done, total)
    with torch.no_grad():
        for name, value in _parts(networks, flat).items():
            networks.get_parameter(name).copy_(value)


def _loss(recipe: Recipe, predicted: Tensor, goal: Tensor, weights: Tensor) -> Tensor:
    """Sum over members: they share no parameter, so each has the gradient that it would have alone."""
    loss = loss_per_member(recipe.loss, predicted[..., 0], goal[..., 0], weights).sum()
    if goal.shape[-1] > 1:
        known = goal[..., 1:].isfinite()
        error = torch.where(known, predicted[..., 1:] - goal[..., 1:].nan_to_num(), 0.0) ** 2
        loss = loss + recipe.auxiliary_weight * (weights[..., None] * error).mean(dim=(1, 2)).sum()
    return loss


def _one_cycle(share: float) -> float:
    """Learning rate after a share of the steps, its peak being 1 (Smith and Topin, 2019; cosine up and down)."""
    if share < _WARM:
        return 0.52 - 0.48 * math.cos(math.pi * share / _WARM)
    return 0.5 + 0.5 * math.cos(math.pi * (share - _WARM) / (1.0 - _WARM))


def _flatten(networks: CellNetworks) -> Tensor:
    """Parameters of each member one after the other, ``float32[members, p]``: a leaf of the graph of gradients."""
    members = len(networks.embedding)
    flat = torch.cat([p.detach().reshape(members, -1) for p in networks.parameters()], dim=1)
    return flat.requires_grad_()


def _parts(networks: CellNetworks, flat: Tensor) -> dict[str, Tensor]:
    """Parts of `flat` by parameter name; some parameters have two entries for each member, one per direction."""
    named = dict(networks.named_parameters())
    pieces = torch.split(flat, [p.numel() // len(flat) for p in named.values()], dim=1)
    return {name: piece.reshape(p.shape) for (name, p), piece in zip(named.items(), pieces, strict=True)}
