"""The networks of the `mlp` surrogate: all members of the ensemble as one batched network."""

from __future__ import annotations

__all__ = ["MLPEnsemble", "train"]

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional


class MLPEnsemble(nn.Module):
    """Fully connected networks with the same layers and weights of their own, in one batched product per layer.

    Parameters
    ----------
    members
        M, how many networks.
    sizes
        Units of each layer, from the inputs to the last hidden one; the output is one number.
    seeds
        One for each member: its initial weights (He et al., ICCV 2015, eq. 10, uniform).
    """

    def __init__(self, members: int, sizes: tuple[int, ...], seeds: npt.NDArray[np.integer]) -> None:
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        for width, following in zip(sizes, (*sizes[1:], 1), strict=True):
            bound = math.sqrt((6.0 if following > 1 else 1.0) / width)
            drawn = [(2 * torch.rand(width, following, generator=g) - 1) * bound for g in generators]
            self.weights.append(nn.Parameter(torch.stack(drawn)))
            self.biases.append(nn.Parameter(torch.zeros(members, 1, following)))

    def forward(self, x: Tensor) -> Tensor:
        """Map float32[M, B, d] (or float32[B, d], the same for all members) to float32[M, B]."""
        h = x.expand(len(self.weights[0]), *x.shape[-2:])
        last = len(self.weights) - 1
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.baddbmm(bias, h, weight)
            if k < last:
                h = functional.relu(h)
        return h.squeeze(-1)


def train(
    network: MLPEnsemble,
    x: Tensor,
    goal: Tensor,
    importance: Tensor,
    inside: list[npt.NDArray[np.intp]],
    *,
    squared: bool,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    rng: np.random.Generator,
) -> None:
    """Fit every member to its own rows by AdamW with a cosine schedule.

    Parameters
    ----------
    network
        M members.
    x, goal, importance
        float32[n, d], float32[n], float32[n]: the loss is the mean of importance × error over a batch.
    inside
        The rows of each member, M arrays.
    squared
        Squared in place of absolute errors.
    epochs, batch_size, learning_rate, weight_decay
        Of the optimiser.
    rng
        Draws the order of the rows.
    """
    shortest = min(len(rows) for rows in inside)
    size = min(batch_size, shortest)
    steps = math.ceil(shortest / size)
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=learning_rate, total_steps=steps * epochs + 1, pct_start=0.1
    )
    network.train()
    for _ in range(epochs):
        # Members with a row more than others leave out another one in each epoch.
        order = np.stack([rng.permutation(rows)[:shortest] for rows in inside])
        for start in range(0, shortest, size):
            rows = torch.from_numpy(order[:, start : start + size])
            error = network(x[rows]) - goal[rows]
            loss = importance[rows] * (error**2 if squared else error.abs())
            optimiser.zero_grad(set_to_none=True)
            # Mean within, sum over members: each has the gradient that it would have alone.
            loss.mean(dim=1).sum().backward()
            optimiser.step()
            schedule.step()
    network.eval()
