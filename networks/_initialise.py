"""PyTorch's default initialisation, drawn from a generator of one's own instead of the global one."""

from __future__ import annotations

__all__ = ["generator_from", "initialise"]

import math
import secrets

import numpy as np
import torch
from torch import nn


def generator_from(seed: int | torch.Generator | None) -> torch.Generator:
    """Turn a seed into a CPU generator; None draws a fresh seed from the operating system.

    Raises
    ------
    ValueError
        If `seed` is neither None, a non-negative integer below 2^64 nor a CPU generator.
    """
    if seed is None:
        return torch.Generator("cpu").manual_seed(secrets.randbits(63))
    if isinstance(seed, torch.Generator) and seed.device.type == "cpu":
        return seed
    if isinstance(seed, int | np.integer) and not isinstance(seed, bool) and 0 <= seed < 2**64:
        return torch.Generator("cpu").manual_seed(int(seed))
    raise ValueError(
        f"The 'seed' argument must be None, an integer in [0, 2^64) or a torch.Generator on the CPU. Got {seed!r}."
    )


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Initialise all convolutions, linear layers and batch norms in place as their constructors do.

    Weights are uniform in ±1/√fan_in (``kaiming_uniform_`` with a = √5), biases likewise, batch norm
    is the identity. Draws happen in the order of ``module.modules()``, that is the order in which the
    layers were made, so that the values equal those of building under ``torch.manual_seed`` of the same
    seed, without that global generator being touched.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5), generator=generator)
            if layer.bias is not None:
                bound = 1 / math.sqrt(layer.weight[0].numel())
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()  # draws nothing
        elif next(layer.parameters(recurse=False), None) is not None:
            raise TypeError(f"No initialisation is written for {type(layer).__name__}: add it to {__name__}.")
