"""What a space knows of its networks in closed form, such as their size."""

from __future__ import annotations

__all__ = ["Descriptors"]

from functools import cached_property

import numpy as np
import numpy.typing as npt

from tauzero.encoders.base import Encoder
from tauzero.spaces import Genotypes


class Descriptors(Encoder):
    """`SearchSpace.descriptors` as features: logarithms of parameters and multiply-adds, and what else there is."""

    name = "descriptors"

    @cached_property
    def feature_names(self) -> list[str]:
        """`SearchSpace.descriptor_names`."""
        return list(self.space.descriptor_names)

    def _encode(self, rows: Genotypes) -> npt.NDArray[np.float64]:
        return self.space.descriptors(rows)
