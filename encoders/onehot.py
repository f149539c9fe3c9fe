"""One-hot encoding of genotype columns."""

from __future__ import annotations

__all__ = ["OneHot"]

from functools import cached_property

import numpy as np
import numpy.typing as npt

from tauzero.encoders.base import Encoder
from tauzero.spaces import Genotypes


class OneHot(Encoder):
    """Each genotype column as one indicator per value (a single one for columns of two values)."""

    name = "onehot"

    @cached_property
    def _columns(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int8]]:
        pairs = [
            (column, value)
            for column, values in enumerate(self.space.cardinalities)
            for value in (range(1, 2) if values == 2 else range(values))
        ]
        return np.array([c for c, _ in pairs]), np.array([v for _, v in pairs], dtype=np.int8)

    @cached_property
    def feature_names(self) -> list[str]:
        """``g<column>=<value>``."""
        return [f"g{c}={v}" for c, v in zip(*(a.tolist() for a in self._columns), strict=True)]

    def _encode(self, rows: Genotypes) -> npt.NDArray[np.bool_]:
        column, value = self._columns
        return rows[:, column] == value
