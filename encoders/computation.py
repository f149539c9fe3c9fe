"""Similarity of what cells compute to what landmark cells compute."""

from __future__ import annotations

__all__ = ["Computation"]

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.encoders._pretraining_flow import flow_vectors
from tauzero.encoders._pretraining_validation import check_integer
from tauzero.encoders.base import Encoder
from tauzero.spaces import Genotypes, SearchSpace

_BLOCK = 256  # rows compared at a time: their differences stay in the processor's cache


class Computation(Encoder):
    """Kernel similarity of an architecture's simulated flow to that of landmark architectures.

    The idea is that of CATE (Yan et al., ICML 2021): architectures whose computations are alike lie near each
    other, however differently they are written. Here nothing is learned: random vectors are sent through the
    cell in both directions, every operation being a fixed random map; two architectures are as far apart as
    what comes out (`tauzero.encoders._pretraining_flow`). Landmarks are chosen from an unlabelled sample of the space,
    each as far as possible from those before it (Gonzalez 1985); column k is ``exp(-d_k / s)``, d_k being
    the distance to landmark k and s the median distance in the sample.

    Parameters
    ----------
    landmarks
        How many; fewer if the sample has fewer different computations.
    heads
        Draws of random maps that distances are averaged over.
    sample
        Architectures that landmarks are chosen from.
    seed
        Of maps, vectors and sample.
    """

    name = "computation"

    def __init__(
        self,
        space: SearchSpace | str,
        *,
        landmarks: int = 64,
        heads: int = 4,
        sample: int = 2_000,
        seed: int = 0,
        canonical: bool = True,
    ) -> None:
        super().__init__(space, canonical=canonical)
        self.landmarks = check_integer(type(self).__name__, "landmarks", landmarks, 1)
        self.heads = check_integer(type(self).__name__, "heads", heads, 1)
        self.sample = check_integer(type(self).__name__, "sample", sample, 1)
        self.seed = check_integer(type(self).__name__, "seed", seed, 0)

    def get_params(self) -> dict[str, Any]:
        """The arguments that make an equal encoder, without the space."""
        own = {"landmarks": self.landmarks, "heads": self.heads, "sample": self.sample, "seed": self.seed}
        return super().get_params() | own

    def _flow(self, rows: Genotypes) -> npt.NDArray[np.float64]:
        """Flow vectors of all cells, squashed so that a few large components do not decide alone."""
        cells = self.space.cells(rows).values()
        flow = np.concatenate([flow_vectors(g, heads=self.heads, seed=self.seed) for g in cells], axis=1)
        return np.sign(flow) * np.log1p(np.abs(flow))

    @cached_property
    def _landmarks(self) -> tuple[npt.NDArray[np.float64], float]:
        """Flow vectors of the landmarks and the median distance of the sample."""
        size = self.space.size
        rows = self.space.sample(min(self.sample, size), self.seed, unique=self.space.enumerable)
        rows, _ = self.space.distinct(rows)
        flow = self._flow(rows)
        chosen = [int(np.random.default_rng(self.seed).integers(len(flow)))]
        nearest = _distances(flow, flow[chosen])[:, 0]
        while len(chosen) < self.landmarks and nearest.max() > 1e-9:
            chosen.append(int(nearest.argmax()))
            nearest = np.minimum(nearest, _distances(flow, flow[chosen[-1:]])[:, 0])
        distances = _distances(flow, flow[chosen])
        scale = float(np.median(distances[distances > 1e-9])) if len(chosen) > 1 else 1.0
        return flow[chosen], scale

    @cached_property
    def feature_names(self) -> list[str]:
        """``landmark<k>``."""
        return [f"landmark{k}" for k in range(len(self._landmarks[0]))]

    def _encode(self, rows: Genotypes) -> npt.NDArray[np.float64]:
        landmarks, scale = self._landmarks
        return np.exp(-_distances(self._flow(rows), landmarks) / scale)


def _distances(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Euclidean distances ``float64[len(a), len(b)]``, root mean square over components.

    Summed over differences, not expanded into products: equal vectors are exactly zero apart.
    """
    found = np.empty((len(a), len(b)))
    for start in range(0, len(a), _BLOCK):
        block = a[start : start + _BLOCK]
        for k, landmark in enumerate(b):
            difference = block - landmark
            found[start : start + _BLOCK, k] = np.einsum("ij,ij->i", difference, difference)
    return np.sqrt(found / a.shape[1])
