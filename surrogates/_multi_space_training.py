"""Training of one set of graph networks on several data sets over different spaces."""

from __future__ import annotations

__all__ = ["Group", "Recipe", "latent_and_hidden", "train_groups"]

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tauzero.surrogates._gnn_losses import loss_per_member
from tauzero.surrogates._gnn_model import CellNetworks
from tauzero.surrogates._gnn_tensors import GraphTensors

_WARM = 0.1  # share of the steps in which the learning rate rises
_CLIP = 1.0  # largest norm of the gradient, per member on average
_CHUNK = 512  # cells predicted at a time: their activations fit into the cache of one core


class Group(NamedTuple):
    """Data sets over the same networks of one space.

    ``data`` n cells, ``goal`` float32[n, k] transformed targets of k sources, ``heads`` int64[k] the networks' output
    of each of them, ``rows`` for each member the positions that it learns from.
    """

    data: GraphTensors
    goal: Tensor
    heads: Tensor
    rows: list[npt.NDArray[np.int64]]


class Recipe(NamedTuple):
    """How to train: name of the loss, steps, cells of a batch, and what AdamW takes."""

    loss: str
    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float


def train_groups(
    networks: CellNetworks,
    groups: list[Group],
    recipe: Recipe,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Train in place.

    A batch holds cells of one group, drawn in proportion to the square root of its size: ranking losses
    compare within a space only, as targets of different spaces are not comparable, and small cells are not padded
    to the size of large ones. Output 0 learns the mean of the group's targets, output 1 + s those of source s.
    """
    rng = np.random.default_rng(seed)
    dropout = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
    members = len(networks.embedding)
    optimiser = torch.optim.AdamW(
        networks.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    share = np.sqrt([len(g.goal) for g in groups])
    turns = rng.choice(len(groups), recipe.steps, p=share / share.sum())
    queues: list[list[npt.NDArray[np.int64]]] = [[] for _ in groups]
    for step, turn in enumerate(turns.tolist()):
        group = groups[turn]
        if not queues[turn]:
            queues[turn] = _epoch(group.rows, recipe.batch_size, rng)
        chosen = torch.from_numpy(queues[turn].pop())
        optimiser.param_groups[0]["lr"] = recipe.learning_rate * _one_cycle(step / recipe.steps)
        predicted = networks(group.data.take(chosen), dropout)
        loss = _loss(recipe.loss, predicted, group.goal[chosen], group.heads)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(networks.parameters(), _CLIP * math.sqrt(members))
        optimiser.step()
        if progress is not None:
            progress(step + 1, recipe.steps)
    for parameter in networks.parameters():
        parameter.grad = None


def _epoch(rows: list[npt.NDArray[np.int64]], batch_size: int, rng: np.random.Generator) -> list[npt.NDArray[np.int64]]:
    """Batches ``int64[members, b]`` that show every member (almost) all its rows once, of equal size."""
    n = min(map(len, rows))  # folds may differ by a row: another one sits out each time
    order = np.stack([r[rng.permutation(len(r))[:n]] for r in rows])
    return np.array_split(order, math.ceil(n / batch_size), axis=1)


def _loss(kind: str, predicted: Tensor, goal: Tensor, heads: Tensor) -> Tensor:
    """Sum over members of the loss of the shared output and the mean loss of the sources' own."""
    members, b, k = goal.shape
    one = goal.new_ones(1)
    shared = loss_per_member(kind, predicted[..., 0], goal.mean(dim=2), one).sum()
    own = predicted[..., heads].movedim(2, 1).reshape(members * k, b)
    each = loss_per_member(kind, own, goal.movedim(2, 1).reshape(members * k, b), one).sum()
    return shared + each / k


def _one_cycle(share: float) -> float:
    """Learning rate after a share of the steps, its peak being 1 (cosine up and down)."""
    if share < _WARM:
        return 0.52 - 0.48 * math.cos(math.pi * share / _WARM)
    return 0.5 + 0.5 * math.cos(math.pi * (share - _WARM) / (1.0 - _WARM))


def latent_and_hidden(
    networks: CellNetworks, data: GraphTensors, *, hidden: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Outputs of n ≥ 1 cells ``float32[members, n, outputs]`` and, if asked for, what the last map reads ``[…, h]``."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, given: tuple[Any, ...]) -> None:
        del module
        kept.append(given[0])

    handle = networks.head.register_forward_pre_hook(keep) if hidden else None
    try:
        with torch.inference_mode():
            parts = (slice(start, start + _CHUNK) for start in range(0, len(data.ops), _CHUNK))
            outputs = [networks(data.take(part)) for part in parts]
    finally:
        if handle is not None:
            handle.remove()
    latent = torch.cat(outputs, dim=1).numpy()
    return latent, torch.cat(kept, dim=1).numpy() if hidden else latent[..., :0]
