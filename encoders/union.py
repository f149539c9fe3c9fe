"""Several encoders side by side."""

from __future__ import annotations

__all__ = ["Union", "union"]

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.encoders.base import Encoder, EncoderLike, Features
from tauzero.spaces import Genotypes, SearchSpace


class Union(Encoder):
    """Concatenation of encoders of one space.

    Parameters
    ----------
    encoders
        Encoder names, ``(name, parameters)`` pairs, or encoders of the same space.
    """

    name = "union"

    def __init__(
        self,
        space: SearchSpace | str,
        *,
        encoders: Sequence[EncoderLike] = ("graph_features", "paths"),
        canonical: bool = True,
    ) -> None:
        super().__init__(space, canonical=canonical)
        from tauzero.encoders._registry import resolve

        self.parts = [resolve(item, self.space, canonical=canonical) for item in encoders]
        if not self.parts:
            raise ValueError("The 'encoders' parameter of Union must name at least one encoder. Got none.")

    def get_params(self) -> dict[str, Any]:
        """The arguments that make an equal encoder, without the space."""
        return super().get_params() | {"encoders": [(p.name, p.get_params()) for p in self.parts]}

    @cached_property
    def feature_names(self) -> list[str]:
        """``<encoder>:<feature>``."""
        return [f"{p.name}:{f}" for p in self.parts for f in p.feature_names]

    def _encode(self, rows: Genotypes) -> npt.NDArray[Any]:
        return np.concatenate([p._encode(rows) for p in self.parts], axis=1, dtype=np.float32)

    def transform(self, genotypes: npt.ArrayLike) -> Features:
        """Encode a batch with every part and concatenate, ``float32[n, d]``."""
        if all(p.canonical == self.canonical for p in self.parts):
            return super().transform(genotypes)
        return np.concatenate([p.transform(genotypes) for p in self.parts], axis=1)


def union(*encoders: Encoder) -> Union:
    """Concatenate encoders of one space: ``union(create("onehot", s), create("paths", s))``."""
    if not encoders:
        raise ValueError("`union` needs at least one encoder. Got none.")
    return Union(encoders[0].space, encoders=encoders, canonical=encoders[0].canonical)
