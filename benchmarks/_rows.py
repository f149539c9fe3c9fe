"""Finding rows of a table by their genotypes, for spaces whose architectures have no positions."""

from __future__ import annotations

__all__ = ["RowFinder", "row_keys"]

from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.spaces import BenchmarkFormatError, Genotypes, SearchSpace


def row_keys(rows: Genotypes) -> npt.NDArray[Any]:
    """One opaque value for each row of ``int8[n, L]``, ``V[n]``; equal rows have equal ones, and they sort."""
    contiguous = np.ascontiguousarray(rows)
    return contiguous.view(np.dtype((np.void, contiguous.shape[1]))).reshape(-1)


class RowFinder:
    """Row numbers of networks in a list of architectures, whole batches at once.

    Parameters
    ----------
    space
        The search space.
    genotypes
        ``int8[rows, L]``, members of the space, no two of them the same network.

    Raises
    ------
    BenchmarkFormatError
        If two rows are the same network, naming both.
    """

    def __init__(self, space: SearchSpace, genotypes: Genotypes) -> None:
        self.space = space
        keys = row_keys(space.canonical(genotypes))
        self._order = np.argsort(keys, kind="stable").astype(np.int64)
        self._keys = keys[self._order]
        same = self._keys[1:] == self._keys[:-1]
        if same.any():
            k = int(np.argmax(same))
            raise BenchmarkFormatError(
                f"Rows {self._order[k]} and {self._order[k + 1]} are the same {space.name} network: each may stand in "
                "a table once."
            )

    def find(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Row of each network, ``int64[n]``; -1 where there is none."""
        keys = row_keys(self.space.canonical(genotypes))
        if not len(self._keys):
            return np.full(len(keys), -1, dtype=np.int64)
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[place] == keys, self._order[place], -1)
