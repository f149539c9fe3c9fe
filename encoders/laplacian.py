"""Spectra and spectral densities of the cell graph's Laplacians (Dwivedi and Bresson 2021; Geisler et al. 2023)."""

from __future__ import annotations

__all__ = ["Laplacian"]

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.encoders._pretraining_validation import check_integer, check_number
from tauzero.encoders.base import Encoder
from tauzero.spaces import CellGraphs, Genotypes, SearchSpace, operation_code

_ABSENT = -1.0  # eigenvalue given to vertices without edges; spectra of Laplacians lie in [0, 2]
_GREATEST = 2.0


class Laplacian(Encoder):
    """What Laplacian positional encodings say of a whole cell, independent of vertex order, signs and phases.

    For each kind of cell two Laplacians are decomposed, both symmetrically normalised, ``I − D^-½ A D^-½``:

    ``sym``
        that of the undirected cell (Dwivedi and Bresson, "A Generalization of Transformer Networks to Graphs",
        2021, section 2), whose eigenvectors are the usual positional encoding;
    ``mag``
        the magnetic one (Geisler et al., "Transformers Meet Directed Graphs", ICML 2023, eq. 3): the entry of an edge
        u → v is multiplied by ``exp(2πi q)`` and that of its reverse by the conjugate. Without it a cell
        and the cell with its edges turned round would look alike. It is hermitian, so eigenvalues are real.

    Eigenvectors have no sign (no phase), and none at all where an eigenvalue is repeated, which small symmetric cells
    often have. So only what does not depend on their choice is kept: functions of the Laplacian,
    ``f(L) = Σ_k f(λ_k) φ_k φ_k*``, f being one of `bands` hat functions that divide [0, 2] and sum to one.

    Columns: all eigenvalues, the greatest first, 0 for vertices that are not there (``eigenvalue<k>``); for each
    band and operation the sum of ``f(L)_vv`` over the vertices of that operation, which is the sum of their squared
    eigenvector entries in that band (``energy``); and the sums of the entries of ``f(L)`` between the cell's input
    (its output) and them (``from_input``, ``to_output``), real and for ``mag`` imaginary parts.

    Parameters
    ----------
    bands
        Number of hat functions, ≥ 2.
    potential
        q of the magnetic Laplacian, from 0 (none) to 0.25; 0.05 turns the phase by less than half a circle
        along the longest path of any space's cells, so that positions do not wrap round.
    """

    name = "laplacian"

    def __init__(
        self, space: SearchSpace | str, *, bands: int = 5, potential: float = 0.05, canonical: bool = True
    ) -> None:
        super().__init__(space, canonical=canonical)
        self.bands = check_integer(type(self).__name__, "bands", bands, 2)
        self.potential = check_number(type(self).__name__, "potential", potential, 0.0, 0.25)

    def get_params(self) -> dict[str, Any]:
        """The arguments that make an equal encoder, without the space."""
        return super().get_params() | {"bands": self.bands, "potential": self.potential}

    @cached_property
    def _cells(self) -> dict[str, int]:
        """Kinds of cell, and the number of vertices that there is room for in each."""
        return {kind: g.max_nodes for kind, g in self.space.cells(self.space.sample(1, 0)).items()}

    @cached_property
    def feature_names(self) -> list[str]:
        """Such as ``sym:eigenvalue0``, ``sym:energy0[conv_3x3]``, ``mag:to_output4i[skip_connect]@normal``."""
        names = []
        for kind, vertices in self._cells.items():
            place = f"@{kind}" if len(self._cells) > 1 else ""
            for which, parts in (("sym", ("",)), ("mag", ("", "i"))):
                names += [f"{which}:eigenvalue{k}{place}" for k in range(vertices)]
                kinds = ["energy{}", *(f"{end}{{}}{part}" for end in ("from_input", "to_output") for part in parts)]
                names += [
                    f"{which}:{what.format(band)}[{operation}]{place}"
                    for what in kinds
                    for band in range(self.bands)
                    for operation in self.space.graph_operations
                ]
        return names

    @cached_property
    def families(self) -> list[npt.NDArray[np.intp]]:
        """The columns of either Laplacian."""
        first = np.array([name.startswith("sym:") for name in self.feature_names])
        return [np.flatnonzero(first), np.flatnonzero(~first)]

    def _encode(self, rows: Genotypes) -> npt.NDArray[np.float64]:
        columns = []
        for graphs in self.space.cells(rows).values():
            columns.append(self._features(graphs, laplacian(graphs)))
            columns.append(self._features(graphs, laplacian(graphs, self.potential)))
        return np.concatenate(columns, axis=1)

    def _features(self, graphs: CellGraphs, matrices: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Features of one Laplacian ``[n, V, V]`` of each cell."""
        values, vectors = np.linalg.eigh(matrices)
        absent = values < 0.5 * _ABSENT
        values = np.clip(values, 0.0, _GREATEST)
        # Hat functions: linear interpolation between neighbouring bands. They are continuous, so that rounding of
        # an eigenvalue, which depends on the order of vertices, cannot move it to another band.
        place = values[:, None] * ((self.bands - 1) / _GREATEST)
        hats = np.maximum(1.0 - np.abs(place - np.arange(self.bands)[:, None]), 0.0)
        hats[np.broadcast_to(absent[:, None], hats.shape)] = 0.0
        codes = np.array([operation_code(o) for o in self.space.graph_operations])
        hot = (graphs.ops[:, :, None] == codes).astype(np.float64)
        energy = (np.abs(vectors) ** 2).transpose(0, 2, 1) @ hot
        along = vectors.transpose(0, 2, 1) @ hot  # [n, k, operation]: Σ_v φ_k(v) over vertices of an operation
        found = [(hats @ energy).reshape(len(hot), -1)]
        n = np.arange(len(hot))
        for end in (0 * n, graphs.num_nodes.astype(np.int64) - 1):
            entries = hats @ (vectors[n, end].conj()[:, :, None] * along)
            found.append(entries.real.reshape(len(hot), -1))
            if np.iscomplexobj(entries):
                found.append(entries.imag.reshape(len(hot), -1))
        return np.concatenate([values[:, ::-1], *found], axis=1)


def laplacian(graphs: CellGraphs, potential: float | None = None) -> npt.NDArray[Any]:
    """Symmetrically normalised Laplacians of cells, undirected ones or magnetic ones of a potential q.

    Parallel edges count as one of their number as weight. The row and column of a vertex without edges
    is zero but for -1 on the diagonal, which no Laplacian has for an eigenvalue.

    Returns
    -------
    ``float64[n, V, V]``, or ``complex128[n, V, V]`` with a potential.
    """
    directed = graphs.adjacency.astype(np.float64)
    symmetric = directed + directed.transpose(0, 2, 1)
    degree = symmetric.sum(axis=2)
    scale = np.divide(1.0, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0)
    normalised: npt.NDArray[Any] = scale[:, :, None] * symmetric * scale[:, None, :]
    if potential is not None:
        turn = np.exp(2j * np.pi * potential)
        normalised = normalised * np.where(directed > 0, turn, np.conj(turn))
    matrices: npt.NDArray[Any] = -normalised
    diagonal = np.arange(graphs.max_nodes)
    matrices[:, diagonal, diagonal] = np.where(degree > 0, 1.0, _ABSENT)
    return matrices
