"""Standardised features of a space: what the kernel and linear models read."""

from __future__ import annotations

__all__ = ["FeatureMap", "feature_map"]

import hashlib
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed

from tauzero.encoders import Encoder, create
from tauzero.spaces import SearchSpace, get

_SAMPLE = 5_000
_CHUNK = 8_192  # rows a thread encodes at a time
_RARE = 1e-3
_LONGEST_PATH = 3  # longer ones of NAS-Bench-101 triple the time and did not change tau

#: Feature families: (encoder, prefixes of feature names). Each gets a relevance of its own in a kernel.
_FAMILIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("graph_features", ("count[", "from_input[", "to_output[")),
    ("graph_features", ("min_path[", "least_on_path[")),
    ("graph_features", ("max_path[", "most_on_path[")),
    ("graph_features", ("edges[",)),
    ("graph_features", ("vertices", "edges", "paths", "direct")),
    ("paths", ("",)),
    ("adjacency", ("",)),
)


class FeatureMap:
    """Graph features, path counts and adjacency of a space, standardised and sorted into families.

    Means and scales come from a fixed, unlabelled sample of the space, so they do not depend on any
    training set. Features that hardly vary there (fewer than 1 in 1,000 rows) are left out.

    Attributes
    ----------
    groups
        Column indices of each family, ``intp[...]``.
    names
        Feature names.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._encoders: list[Encoder] = [
            create("graph_features", space),
            create("paths", space, contract_skips=True, counts=True, max_length=_LONGEST_PATH),
            create("adjacency", space),
        ]
        names = [(e.name, n) for e in self._encoders for n in e.feature_names]
        sample = self.raw(space.sample(min(_SAMPLE, space.size), 0, unique=True))
        varies = (sample != np.median(sample, axis=0)).mean(axis=0) >= _RARE
        self._mean = sample.mean(axis=0)
        self._scale = np.where(varies, sample.std(axis=0), 1.0)
        taken = np.zeros(len(names), dtype=np.bool_)
        members: list[list[int]] = []
        for encoder, prefixes in _FAMILIES:
            columns = [
                k
                for k, (e, n) in enumerate(names)
                if e == encoder and varies[k] and not taken[k] and n.startswith(prefixes)
            ]
            taken[columns] = True
            members.append(columns)
        self._keep = np.concatenate([np.array(m, dtype=np.intp) for m in members])
        bounds = np.cumsum([0, *(len(m) for m in members)])
        self.groups = [np.arange(a, b) for a, b in pairwise(bounds.tolist()) if b > a]
        self.names = [f"{names[k][0]}:{names[k][1]}" for k in self._keep]

    @property
    def digest(self) -> str:
        """Fingerprint of the features and their order: a saved model is only of use with the same ones."""
        return hashlib.sha256("\n".join(self.names).encode()).hexdigest()

    def raw(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """All features, not standardised, ``float32[n, d0]``."""
        return np.concatenate([e.transform(genotypes) for e in self._encoders], axis=1)

    def __call__(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Standardised features, ``float32[n, d]``."""
        rows = self.space.validate(genotypes)
        features = np.empty((len(rows), len(self._keep)), dtype=np.float32)
        mean = self._mean[self._keep].astype(np.float32)
        scale = self._scale[self._keep].astype(np.float32)

        def fill(start: int) -> None:
            part = self.raw(rows[start : start + _CHUNK])[:, self._keep]
            np.divide(part - mean, scale, out=features[start : start + _CHUNK])

        starts = range(0, len(rows), _CHUNK)
        if len(starts) < 4:
            for start in starts:
                fill(start)
        else:  # NumPy lets go of the interpreter for most of the work; one thread inside another pool's worker
            Parallel(n_jobs=-1, prefer="threads")(delayed(fill)(start) for start in starts)
        return features


@cache
def _of(name: str) -> FeatureMap:
    return FeatureMap(get(name))


def feature_map(space: SearchSpace) -> FeatureMap:
    """Return the feature map of a space, made once per process."""
    return _of(space.name)
