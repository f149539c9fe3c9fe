"""Standardised features of a space: what the kernel and linear models read."""

from __future__ import annotations

__all__ = ["FeatureMap", "feature_map"]

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed

from tauzero.encoders import Encoder, create
from tauzero.spaces import SearchSpace

_SAMPLE = 5_000
_UNLABELLED = 500
_CHUNK = 8_192  # rows a thread encodes at a time
_RARE = 1e-3
_MANY = 5  # spaces of more operations have hundreds of sequences of length three
_LONGEST_PATH = 3  # longer ones of NAS-Bench-101 triple the time and did not change tau

#: Feature families: encoders and prefixes of feature names. Each gets a relevance of its own in a kernel.
_FAMILIES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("graph_features",), ("count[", "from_input[", "to_output[")),
    (("graph_features",), ("min_path[", "least_on_path[")),
    (("graph_features",), ("max_path[", "most_on_path[")),
    (("graph_features",), ("edges[",)),
    (("graph_features",), ("vertices", "edges", "paths", "direct")),
    (("paths",), ("",)),
    (("adjacency",), ("",)),
    (("signal_propagation", "descriptors"), ("",)),
)


class FeatureMap:
    """Graph features, path counts, adjacency, signal propagation and descriptors of a space, sorted into families.

    All standardised.

    Means and scales come from a fixed, unlabelled sample of the space, so they do not depend on any
    training set. Features that hardly vary there (fewer than 1 in 1,000 rows) are left out.

    Parameters
    ----------
    space
        The search space.
    extra
        Encoders of it whose features join the space's own.

    Attributes
    ----------
    groups
        Column indices of each family, ``intp[...]``.
    names
        Feature names.
    unlabelled
        ``float32[m, d]``: standardised features of 500 random architectures of the space.
    """

    def __init__(self, space: SearchSpace, extra: Sequence[Encoder] = ()) -> None:
        self.space = space
        self.extra = tuple(extra)
        longest = _LONGEST_PATH if len(space.graph_operations) <= _MANY else _LONGEST_PATH - 1
        self._encoders: list[Encoder] = [
            create("graph_features", space),
            create("paths", space, contract_skips=True, counts=True, max_length=longest),
            create("adjacency", space),
            create("signal_propagation", space),
            *([create("descriptors", space)] if space.descriptor_names else []),
            *self.extra,
        ]
        names = [(k, n) for k, e in enumerate(self._encoders) for n in e.feature_names]
        own = {e.name: k for k, e in enumerate(self._encoders[: len(self._encoders) - len(self.extra)])}
        sample = self.raw(space.sample(min(_SAMPLE, space.size), 0, unique=space.enumerable))
        for start, part in self._extra_columns():
            # A table of scores knows few architectures of a large space, a random sample may hold none of them.
            if part.known is not None and len(part.known):
                chosen = np.random.default_rng(0).choice(len(part.known), len(sample))
                sample[:, start : start + part.dimension] = part.transform(part.known[chosen])
        varies = (sample != np.median(sample, axis=0)).mean(axis=0) >= _RARE
        self._mean = sample.mean(axis=0)
        self._scale = np.where(varies, sample.std(axis=0), 1.0)
        taken = np.zeros(len(names), dtype=np.bool_)
        members: list[list[int]] = []
        for encoders, prefixes in _FAMILIES:
            columns = [
                k
                for k, (e, n) in enumerate(names)
                if any(e == own.get(encoder) for encoder in encoders)
                and varies[k]
                and not taken[k]
                and n.startswith(prefixes)
            ]
            taken[columns] = True
            members.append(columns)
        for start, part in self._extra_columns():
            members += [[start + k for k in family.tolist() if varies[start + k]] for family in part.families]
        self._keep = np.concatenate([np.array(m, dtype=np.intp) for m in members])
        self.unlabelled = self._standardise(sample[:_UNLABELLED])
        bounds = np.cumsum([0, *(len(m) for m in members)])
        self.groups = [np.arange(a, b) for a, b in pairwise(bounds.tolist()) if b > a]
        self.names = [f"{self._encoders[names[k][0]].name}:{names[k][1]}" for k in self._keep]

    def _extra_columns(self) -> Iterator[tuple[int, Encoder]]:
        """First column of each further encoder among all features, and the encoder."""
        start = sum(e.dimension for e in self._encoders) - sum(e.dimension for e in self.extra)
        for part in self.extra:
            yield start, part
            start += part.dimension

    @property
    def digest(self) -> str:
        """Fingerprint of the features and their order: a saved model is only of use with the same ones."""
        return hashlib.sha256("\n".join(self.names).encode()).hexdigest()

    def raw(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """All features, not standardised, ``float32[n, d0]``."""
        return np.concatenate([e.transform(genotypes) for e in self._encoders], axis=1)

    def _standardise(self, raw: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        mean, scale = self._mean[self._keep].astype(np.float32), self._scale[self._keep].astype(np.float32)
        standard: npt.NDArray[np.float32] = (raw[:, self._keep] - mean) / scale
        return standard

    def __call__(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Standardised features, ``float32[n, d]``."""
        rows = self.space.validate(genotypes)
        features = np.empty((len(rows), len(self._keep)), dtype=np.float32)

        def fill(start: int) -> None:
            features[start : start + _CHUNK] = self._standardise(self.raw(rows[start : start + _CHUNK]))

        starts = range(0, len(rows), _CHUNK)
        if len(starts) < 4:
            for start in starts:
                fill(start)
        else:  # NumPy lets go of the interpreter for most of the work; one thread inside another pool's worker
            Parallel(n_jobs=-1, prefer="threads")(delayed(fill)(start) for start in starts)
        return features


@cache
def feature_map(space: SearchSpace) -> FeatureMap:
    """Return the feature map of a space without further encoders, made once per process."""
    return FeatureMap(space)
