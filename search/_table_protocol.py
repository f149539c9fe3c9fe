"""How the networks of a table are trained."""

from __future__ import annotations

__all__ = ["Protocol"]

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Protocol:
    """SGD with Nesterov momentum and a rate that falls like half a cosine: NAS-Bench-201's recipe, made shorter.

    Dong and Yang, ICLR 2020, table 1.

    Attributes
    ----------
    epochs
        Passes over the training images, ≥ 1.
    batch_size
        Images of a step, ≥ 2; what is left at the end of an epoch is left out.
    learning_rate, momentum, weight_decay
        Of SGD, each ≥ 0, momentum below 1; all parameters decay.
    augment
        Random crops and mirror images.
    options
        Shape of the networks, such as ``{"channels": 4, "cells_per_stage": 1}``.

    Raises
    ------
    ValueError
        If a value is not possible.
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: bool = False
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 2)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise ValueError(f"The '{name}' argument must be an integer ≥ {least}. Got {value!r}.")
        for name, below in (("learning_rate", math.inf), ("momentum", 1.0), ("weight_decay", math.inf)):
            value = getattr(self, name)
            if not isinstance(value, int | float | np.number) or not 0 <= value < below:
                raise ValueError(f"The '{name}' argument must be a number in [0, {below:g}). Got {value!r}.")

    def rate(self, progress: float) -> float:
        """Learning rate after a share of all steps: from the first to (nearly) zero."""
        return self.learning_rate * (1 + math.cos(math.pi * progress)) / 2

    def describe(self) -> dict[str, Any]:
        """JSON-able values of everything."""
        return {
            "epochs": int(self.epochs),
            "batch_size": int(self.batch_size),
            "learning_rate": float(self.learning_rate),
            "momentum": float(self.momentum),
            "weight_decay": float(self.weight_decay),
            "augment": bool(self.augment),
            "options": dict(sorted(self.options.items())),
        }
