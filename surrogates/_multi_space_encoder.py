"""What a multi-space model says of the architectures of one space, as features beside the space's own."""

from __future__ import annotations

__all__ = ["JoinedFeatures", "TransferEncoder"]

from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tauzero.encoders import Encoder
from tauzero.spaces import Genotypes, SearchSpace
from tauzero.surrogates._features import FeatureMap

if TYPE_CHECKING:
    from tauzero.surrogates.multi_space import MultiSpaceGNN

_UNLABELLED = 500
_FAR = 6.0  # standard deviations at which features are cut off


class TransferEncoder(Encoder):
    """Predictions of a multi-space model, and what its heads read, of every architecture.

    Not in the registry of encoders: it belongs to one fitted model, and `Transfer` saves it.

    Parameters
    ----------
    space
        The search space of the rows.
    model
        A fitted `MultiSpaceGNN`.
    embedding
        Join what the heads read.
    """

    name = "transfer"

    def __init__(self, space: SearchSpace | str, *, model: MultiSpaceGNN, embedding: bool = False) -> None:
        super().__init__(space)
        self._model = model
        self.embedding = embedding

    @cached_property
    def feature_names(self) -> list[str]:
        """The shared head, the source's heads, then the embedding's columns."""
        hidden = 2 * self._model.width * self._model.members if self.embedding else 0
        return ["shared", *self._model.sources_, *(f"hidden[{k}]" for k in range(hidden))]

    @cached_property
    def families(self) -> list[npt.NDArray[np.intp]]:
        """The shared head, the sources' heads, the embedding."""
        bounds = [0, 1, 1 + len(self._model.sources_), self.dimension]
        return [np.arange(a, b) for a, b in pairwise(bounds) if b > a]

    def _encode(self, rows: Genotypes) -> npt.NDArray[Any]:
        latent, hidden = self._model._outputs(self.space, rows, hidden=self.embedding)
        return np.concatenate([latent.mean(axis=0), *(hidden if self.embedding else [])], axis=1)


class JoinedFeatures(FeatureMap):
    """A feature map with the columns of one more encoder, standardised on 500 random architectures.

    `FeatureMap` takes 5,000 to find rare features; a network's outputs have none, and cost more.

    Parameters
    ----------
    base
        The space's features, with those of the user's encoders.
    encoder
        What joins them.
    """

    def __init__(self, base: FeatureMap, encoder: Encoder) -> None:
        self.space = base.space
        self.extra = (*base.extra, encoder)
        self._base, self._encoder = base, encoder
        space = base.space
        sample = space.sample(min(_UNLABELLED, space.size), 0, unique=space.enumerable)
        raw = encoder.transform(sample)
        self._mean, scale = raw.mean(axis=0), raw.std(axis=0)
        self._scale = np.where(scale > 1e-6, scale, 1.0)
        start = len(base.names)
        self.groups = [*base.groups, *(start + family for family in encoder.families)]
        self.names = [*base.names, *(f"{encoder.name}:{name}" for name in encoder.feature_names)]
        self._sample = sample

    @cached_property
    def unlabelled(self) -> npt.NDArray[np.float32]:  # type: ignore[override] # computed when asked for
        """``float32[m, d]``: features of the random architectures."""
        return self(self._sample)

    def raw(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Only the joined encoder's features, not standardised."""
        return self._encoder.transform(genotypes)

    def __call__(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Standardised features, ``float32[n, d]``."""
        joined = (self._encoder.transform(genotypes) - self._mean) / self._scale
        return np.concatenate([self._base(genotypes), np.clip(joined, -_FAR, _FAR)], axis=1, dtype=np.float32)
