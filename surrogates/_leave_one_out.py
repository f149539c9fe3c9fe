"""Leave-one-out predictions of a Gaussian process, in closed form."""

from __future__ import annotations

__all__ = ["leave_one_out"]

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular

Floats = npt.NDArray[np.float64]


def leave_one_out(factor: Floats, alpha: Floats, target: Floats) -> tuple[Floats, Floats, float]:
    """Predict each training row from the others (Rasmussen and Williams 2006, eqs. 5.10-5.12).

    They calibrate the standard deviation and tell a stack how good a model is on rows it has not seen.

    Parameters
    ----------
    factor
        ``float64[n, n]``: lower Cholesky factor of the covariance, noise included.
    alpha
        ``float64[n]``: covariance⁻¹ · target.
    target
        ``float64[n]``.

    Returns
    -------
    Means and standard deviations ``float64[n]`` each, and the factor, from 0.5 to 3, by which the latter, and those
    of other rows, are larger than the model says, so that they fit the errors.
    """
    inverse_diagonal = np.einsum("ij,ij->j", *(2 * [solve_triangular(factor, np.eye(len(target)), lower=True)]))
    left_out: Floats = target - alpha / inverse_diagonal
    variance = np.maximum(1.0 / inverse_diagonal, 1e-12)
    ratio = float(np.mean((target - left_out) ** 2 / variance)) if len(target) > 4 else 1.0
    inflation = float(np.clip(np.sqrt(ratio), 0.5, 3.0))
    return left_out, inflation * np.sqrt(variance), inflation
