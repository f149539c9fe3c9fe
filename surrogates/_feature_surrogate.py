"""Surrogates that read the space's standardised graph features."""

from __future__ import annotations

__all__ = ["FeatureSurrogate"]

from abc import abstractmethod

import numpy as np
import numpy.typing as npt

from tauzero.spaces import Genotypes
from tauzero.surrogates.base import Floats, Surrogate

_CHUNK = 65_536  # architectures encoded at a time: some tens of megabytes of features


class FeatureSurrogate(Surrogate):
    """A surrogate whose prediction depends on the feature vector only, so that a stack encodes once for all."""

    @abstractmethod
    def _predict_features(self, x: npt.NDArray[np.float32], *, with_std: bool) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the transformed target for features ``float32[n, d]``."""

    def _predict(self, rows: Genotypes, *, with_std: bool) -> tuple[Floats, Floats]:
        mean, std = np.empty(len(rows)), np.empty(len(rows))
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, start + _CHUNK)
            mean[part], std[part] = self._predict_features(self._features(rows[part]), with_std=with_std)
        return mean, std
