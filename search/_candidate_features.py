"""Features of candidates for the default search, those of a whole space computed once per process."""

from __future__ import annotations

__all__ = ["CandidateFeatures"]

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from tauzero.encoders import create
from tauzero.spaces import Genotypes, SearchSpace, get
from tauzero.surrogates._features import FeatureMap, feature_map

if TYPE_CHECKING:
    from tauzero.encoders.proxy_scores import Scores

Singles = npt.NDArray[np.float32]


class WholeSpace(NamedTuple):
    """Every architecture of a space.

    Attributes
    ----------
    rows
        ``int8[size, L]`` in the order of `SearchSpace.index`.
    network
        ``int64[size]``: which different network each is.
    features
        ``float32[m, d]`` of the different networks.
    """

    rows: Genotypes
    network: npt.NDArray[np.int64]
    features: Singles


class CandidateFeatures:
    """Standardised features of architectures, in families that a kernel weighs; never changed once made.

    Parameters
    ----------
    space
        The search space.
    proxies
        Zero-cost scores of the space's architectures that join as further features, as the encoder
        ``proxy_scores`` reads them.
    transfer
        A fitted surrogate whose predictions join as a feature.
    """

    def __init__(self, space: SearchSpace, proxies: Scores | None = None, transfer: Any = None) -> None:
        self.space = space
        self.plain = proxies is None and transfer is None
        extra = () if proxies is None else (create("proxy_scores", space, scores=proxies),)
        self.map = FeatureMap(space, extra) if extra else feature_map(space)
        self.groups = list(self.map.groups)
        self.transfer = transfer
        if transfer is not None:
            reference = self.predicted(space.sample(2_000, 0))
            self._centre, self._scale = float(reference.mean()), float(reference.std()) or 1.0
            self.groups.append(np.array([sum(len(group) for group in self.groups)]))
        self._whole: WholeSpace | None = None

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_whole": None}
        if self.plain:
            state["map"] = None  # every process has it
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.plain:
            self.map = feature_map(self.space)

    def predicted(self, rows: Genotypes) -> npt.NDArray[np.float64]:
        """What `transfer` predicts for architectures, ``float64[n]``, checked."""
        values = np.asarray(self.transfer.predict(rows), dtype=np.float64)
        if values.shape != (len(rows),) or not np.isfinite(values).all():
            raise ValueError(
                "The 'transfer' parameter of TauZeroSearch must predict one finite number per architecture of "
                f"{self.space.name}. Got shape {values.shape} for {len(rows)} architectures."
            )
        return values

    def __call__(self, rows: Genotypes) -> Singles:
        """Features of architectures, ``float32[n, d]``."""
        features = self.map(rows)
        if self.transfer is None:
            return features
        column = ((self.predicted(rows) - self._centre) / self._scale).astype(np.float32)
        return np.concatenate([features, column[:, None]], axis=1)

    def whole(self) -> WholeSpace:
        """All architectures of the space; computed on the first call."""
        if self.plain:
            return _whole(self.space.name)
        if self._whole is None:
            self._whole = _all_of(self)
        return self._whole


def _all_of(features: CandidateFeatures) -> WholeSpace:
    rows = features.space.enumerate()
    networks, network = features.space.distinct(rows)
    return WholeSpace(rows, network, features(networks))


@cache
def _whole(name: str) -> WholeSpace:
    return _all_of(CandidateFeatures(get(name)))
