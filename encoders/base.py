"""The contract of an encoder: genotypes in, a feature matrix out."""

from __future__ import annotations

__all__ = ["Encoder", "EncoderLike", "Features"]

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from tauzero.spaces import Genotypes, SearchSpace, get

#: A feature matrix ``float32[n, d]``.
Features: TypeAlias = npt.NDArray[np.float32]

_CHUNK = 32_768  # rows encoded at a time: bounds the memory of intermediate arrays
_CACHE_BYTES = 64 << 20  # a whole space is remembered only if its features fit in here


#: An encoder, its name, or its name and parameters.
EncoderLike: TypeAlias = "Encoder | str | tuple[str, dict[str, Any]]"


class Encoder(ABC):
    """Turns genotypes into features.

    Parameters
    ----------
    space
        A search space or its name.
    canonical
        Encode the representative of each row's class of equal networks (`SearchSpace.canonical`), so that
        equal networks have equal features. With False the row is encoded as it stands.

    Notes
    -----
    The features of a whole enumerable space are computed on first use of more than an eighth of it
    and remembered (while they fit into 64 MiB), so a second use is a gather.
    """

    name: ClassVar[str]

    def __init__(self, space: SearchSpace | str, *, canonical: bool = True) -> None:
        self.space = get(space)
        self.canonical = canonical
        self._cache: Features | None = None  # a row for each class of equal networks

    @cached_property
    @abstractmethod
    def feature_names(self) -> list[str]:
        """One name for each of the d columns."""

    @abstractmethod
    def _encode(self, rows: Genotypes) -> npt.NDArray[Any]:
        """Encode valid rows, ``[n, d]``, any real dtype."""

    @property
    def dimension(self) -> int:
        """Number of features d."""
        return len(self.feature_names)

    def get_params(self) -> dict[str, Any]:
        """The plain arguments that make an equal encoder, without the space."""
        return {"canonical": self.canonical}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What an equal encoder needs beside `get_params`, for files; it is made with ``arrays=`` these.

        Empty for encoders that follow from their parameters; a table of scores or learned weights else.
        """
        return {}

    @cached_property
    def families(self) -> list[npt.NDArray[np.intp]]:
        """Columns that belong together, each family with a relevance of its own in kernels; here all in one."""
        return [np.arange(self.dimension)]

    @property
    def known(self) -> Genotypes | None:
        """The architectures that a table of scores knows, ``int8[m, L]``; None for encoders that know them all."""
        return None

    def __sklearn_clone__(self) -> Encoder:
        return self  # nothing that a user sees changes after construction

    def __repr__(self) -> str:
        arguments = "".join(f", {k}={v!r}" for k, v in self.get_params().items())
        return f"tauzero.encoders.create({self.name!r}, {self.space.name!r}{arguments})"

    def transform(self, genotypes: npt.ArrayLike) -> Features:
        """Encode a batch.

        Parameters
        ----------
        genotypes
            ``int8[n, L]``, rows of the encoder's space.

        Returns
        -------
        ``float32[n, d]``, C-contiguous; column k is `feature_names`[k].

        Raises
        ------
        InvalidGenotypeError
            If a row is no member of the space.
        """
        if not self.canonical:
            return self._encode_in_chunks(self.space.validate(genotypes))
        if not self.space.enumerable:
            rows, inverse = self.space.distinct(genotypes)
            return self._encode_in_chunks(rows)[inverse]
        index = self.space.index(genotypes)
        everything = self.space.enumerate()
        fits = self.space.size * self.dimension * 4 <= _CACHE_BYTES
        if self._cache is None and fits and len(index) * 8 > self.space.size:
            _, first = np.unique(self.space.classes(), return_index=True)
            self._cache = self._encode_in_chunks(self.space.canonical(everything[first]))
        if self._cache is not None:
            return self._cache[self.space.classes()[index]]
        return self._encode_in_chunks(self.space.canonical(everything[index]))

    def _encode_in_chunks(self, rows: Genotypes) -> Features:
        features = np.empty((len(rows), self.dimension), dtype=np.float32)
        for start in range(0, len(rows), _CHUNK):
            stop = min(start + _CHUNK, len(rows))
            features[start:stop] = self._encode(rows[start:stop])
        return features
