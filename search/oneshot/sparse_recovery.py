"""Sparse recovery: the ℓ₁-regularised least squares problem of ISTA-NAS, solved without a commercial solver."""

from __future__ import annotations

__all__ = ["Recovery", "recover", "soft_threshold", "sparsify"]

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.spaces import unknown_name

_Floats = npt.NDArray[np.float64]
_METHODS = ("fista", "ista")
#: The duality gap is looked at after this many iterations, then after a sixth more each time: a look, which solves
#: equations, costs as much as many iterations.
_LOOK, _LATER = 20, 7 / 6


@dataclass(frozen=True, slots=True, eq=False)
class Recovery:
    """Solutions of a batch of problems.

    Attributes
    ----------
    x
        ``float64[batch, n]``.
    gap
        Duality gap of each, ``float64[batch]``: its objective exceeds the least possible one by no more than this.
    iterations
        Steps that were made until the last of the batch had converged.
    converged
        ``bool[batch]``: whether the gap is within the tolerance.
    """

    x: _Floats
    gap: _Floats
    iterations: int
    converged: npt.NDArray[np.bool_]


def soft_threshold(x: npt.NDArray[Any], threshold: npt.ArrayLike) -> npt.NDArray[Any]:
    """Shrink towards zero by a threshold ≥ 0: the proximal map of ``threshold·‖x‖₁``; shapes broadcast."""
    shrunk: npt.NDArray[Any] = np.sign(x) * np.maximum(np.abs(x) - threshold, 0.0)
    return shrunk


def recover(
    A: npt.ArrayLike,
    b: npt.ArrayLike,
    penalty: float = 1e-5,
    *,
    method: str = "fista",
    start: npt.ArrayLike | None = None,
    tolerance: float = 1e-9,
    max_iterations: int = 100_000,
) -> Recovery:
    """Solve ``argmin_x ½‖A x − b‖² + penalty·‖x‖₁`` for a batch of problems.

    Iterative shrinkage-thresholding: a gradient step of length 1/L, L the largest eigenvalue of AᵀA, and soft
    thresholding. ``"ista"`` is that alone; ``"fista"`` adds Nesterov's momentum (Beck and Teboulle, SIAM J. Imaging
    Sciences 2, 2009), which starts anew when it points uphill (O'Donoghue and Candès, Found. Comput. Math. 15, 2015).
    Where the support and the signs have settled, the equations on the support are solved directly, and the result is
    taken if it is better: first-order steps alone need many thousand iterations on badly conditioned matrices,
    such as those with entries in [0, 1).

    Parameters
    ----------
    A
        ``float[batch, m, n]``, or ``float[m, n]`` for one problem.
    b
        ``float[batch, m]``, or ``float[m]``.
    penalty
        Weight of the ℓ₁ norm, > 0; ISTA-NAS has 1e-5.
    method
        ``"fista"`` or ``"ista"``.
    start
        ``float[batch, n]`` to start from (warm start), such as the previous epoch's solution; zero by default.
    tolerance
        Stop when every duality gap is at most this share of ½‖b‖².
    max_iterations
        Stop at the latest after this many steps; `Recovery.converged` tells.

    Returns
    -------
    Recovery
        Of a batch of one if a single problem was given.

    Raises
    ------
    ValueError
        For shapes that do not fit, numbers that are not finite and arguments out of range.
    """
    matrices, targets, x = _checked(A, b, start)
    if not (np.isfinite(penalty) and penalty > 0):
        raise ValueError(f"The 'penalty' argument must be a number > 0. Got {penalty!r}.")
    if not (np.isfinite(tolerance) and tolerance > 0):
        raise ValueError(f"The 'tolerance' argument must be a number > 0. Got {tolerance!r}.")
    if method not in _METHODS:
        raise unknown_name("recovery method", method, _METHODS)
    if max_iterations < 1:
        raise ValueError(f"The 'max_iterations' argument must be an integer ≥ 1. Got {max_iterations!r}.")
    gram = matrices.transpose(0, 2, 1) @ matrices
    correlations = np.einsum("bmn,bm->bn", matrices, targets)
    largest = np.linalg.eigvalsh(gram)[:, -1:]
    step = 1.0 / np.where(largest > 0, largest, 1.0)
    allowed = tolerance * np.maximum(0.5 * (targets**2).sum(axis=1), np.finfo(np.float64).tiny)
    momentum = method == "fista"
    y, t = x, np.ones((len(x), 1))
    gap = np.full(len(x), np.inf)
    best = x.copy()
    iteration, look = 0, _LOOK
    while iteration < max_iterations:
        gradient = np.einsum("bij,bj->bi", gram, y) - correlations
        new = soft_threshold(y - step * gradient, step * penalty)
        if momentum:
            uphill = ((y - new) * (new - x)).sum(axis=1, keepdims=True) > 0
            t = np.where(uphill, 1.0, t)
            following = (1 + np.sqrt(1 + 4 * t**2)) / 2
            y = new + np.where(uphill, 0.0, (t - 1) / following) * (new - x)
            t = following
        else:
            y = new
        x = new
        iteration += 1
        if iteration in (look, max_iterations):
            look = int(np.ceil(look * _LATER))
            for candidate in (x, _on_support(gram, correlations, x, penalty)):
                found = _duality_gap(matrices, targets, candidate, penalty)
                better = found < gap
                gap = np.where(better, found, gap)
                best = np.where(better[:, None], candidate, best)
            if (gap <= allowed).all():
                break
    return Recovery(best, gap, iteration, gap <= allowed)


def sparsify(x: npt.ArrayLike, size: int) -> tuple[_Floats, npt.NDArray[np.bool_]]:
    """Keep the `size` entries of largest magnitude in each row, the first ones where magnitudes are equal.

    Parameters
    ----------
    x
        ``float[batch, n]``.
    size
        Entries that stay, 1 to n.

    Returns
    -------
    kept
        ``float64[batch, n]``, zero elsewhere.
    support
        ``bool[batch, n]`` with exactly `size` true entries in each row.

    Raises
    ------
    ValueError
        For another shape or size.
    """
    values = np.asarray(x, dtype=np.float64)
    if values.ndim != 2 or not 1 <= size <= values.shape[1]:
        raise ValueError(
            f"The 'x' argument must have shape (batch, n) and 'size' lie in 1 to n. Got {values.shape} and {size!r}."
        )
    order = np.argsort(-np.abs(values), axis=1, kind="stable")[:, :size]
    support = np.zeros(values.shape, dtype=bool)
    np.put_along_axis(support, order, values=True, axis=1)
    return np.where(support, values, 0.0), support


def _checked(A: npt.ArrayLike, b: npt.ArrayLike, start: npt.ArrayLike | None) -> tuple[_Floats, _Floats, _Floats]:
    matrices, targets = np.asarray(A, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if matrices.ndim == 2:
        matrices, targets = matrices[None], targets[None]
    if matrices.ndim != 3 or targets.shape != matrices.shape[:2] or 0 in matrices.shape:
        raise ValueError(
            "The arguments 'A' and 'b' must have shapes (batch, m, n) and (batch, m), or (m, n) and (m). "
            f"Got {np.shape(A)} and {np.shape(b)}."
        )
    shape = (matrices.shape[0], matrices.shape[2])
    x = np.zeros(shape) if start is None else np.atleast_2d(np.array(start, dtype=np.float64))
    if x.shape != shape:
        raise ValueError(f"The 'start' argument must have shape {shape}. Got {x.shape}.")
    for name, array in (("A", matrices), ("b", targets), ("start", x)):
        if not np.isfinite(array).all():
            raise ValueError(f"The '{name}' argument must be finite. Got NaN or infinity.")
    return matrices, targets, x


def _duality_gap(matrices: _Floats, targets: _Floats, x: _Floats, penalty: float) -> _Floats:
    """Primal minus dual objective, ``[batch]``; the dual point is the residual scaled into the feasible set."""
    residual = targets - np.einsum("bmn,bn->bm", matrices, x)
    primal = 0.5 * (residual**2).sum(axis=1) + penalty * np.abs(x).sum(axis=1)
    slope = np.abs(np.einsum("bmn,bm->bn", matrices, residual)).max(axis=1)
    dual = residual * np.minimum(1.0, penalty / np.maximum(slope, np.finfo(np.float64).tiny))[:, None]
    value = 0.5 * (targets**2).sum(axis=1) - 0.5 * ((targets - dual) ** 2).sum(axis=1)
    return np.maximum(primal - value, 0.0)


def _on_support(gram: _Floats, correlations: _Floats, x: _Floats, penalty: float) -> _Floats:
    """Solution of the stationarity equations on the support and with the signs of x, ``[batch, n]``.

    AᵀA z = Aᵀb − penalty·sign on the support, zero elsewhere. Equations off the support are replaced by z = 0, so
    that the whole batch is one call. Where the equations are singular, it is x itself.
    """
    there = x != 0
    both = there[:, :, None] & there[:, None, :]
    off = np.zeros_like(gram)
    diagonal = np.arange(x.shape[1])
    off[:, diagonal, diagonal] = ~there
    system = np.where(both, gram, 0.0) + off
    right = np.where(there, correlations - penalty * np.sign(x), 0.0)
    try:
        solved = np.linalg.solve(system, right[:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:  # one of the batch is exactly singular
        return x
    good = np.isfinite(solved).all(axis=1, keepdims=True)
    return np.where(good, np.where(there, solved, 0.0), x)
