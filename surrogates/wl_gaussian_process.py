"""Gaussian process with a Weisfeiler-Lehman graph kernel."""

from __future__ import annotations

__all__ = ["WLGaussianProcess"]

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize
from scipy.sparse import csr_array

from tauzero.spaces import Genotypes, SearchSpace, operation_code
from tauzero.surrogates._leave_one_out import leave_one_out
from tauzero.surrogates._validation import check_integer
from tauzero.surrogates._wl_labels import Labels, vertex_labels
from tauzero.surrogates.base import Floats, State, Surrogate

_JITTER = 1e-8
_CHUNK_ENTRIES = 1 << 20  # entries of the kernel computed at a time: they fit into the cache
_LABEL_CHUNK = 65_536  # architectures labelled at a time
_VARIANCE_ROWS = 500  # rows that the standard deviation is computed from
_DENSE = 512  # labels up to which a matrix of counts is multiplied as a dense one


class WLGaussianProcess(Surrogate):
    """Gaussian process over cells as labelled graphs (Ru et al., ICLR 2021, "NAS-BOWL").

    Two cells are alike if the same subtrees occur in them: for each round h = 0 … H of Weisfeiler-Lehman
    refinement (Shervashidze et al., JMLR 2011, eq. 2) kₕ is the cosine between the counts of vertex labels, and the
    kernel is Σ wₕ kₕ + vₕ kₕ², the squares for pairs of subtrees. The weights and the noise variance maximise the
    posterior of the marginal likelihood under log-normal priors. No feature is designed: the kernel reads any
    space that has graphs.

    Parameters
    ----------
    space
        A search space or its name.
    target
        Transform of the accuracies that is fitted (`tauzero.surrogates.TARGETS`).
    rounds
        H, how far a subtree reaches.
    contract_skips
        Contract skip connections first, so that they do not stand between operations.
    max_rows
        Larger training sets are thinned to a random subset of this size.
    max_optimise
        Rows, at most, on which the kernel's weights are optimised.
    iterations
        Of the optimiser.
    random_state
        Seed of the two subsets.

    Attributes
    ----------
    parameters_
        Logarithms of w₀ … w_H, v₀ … v_H and the noise variance, ``float64[2H + 3]``.
    """

    name = "wl_gaussian_process"

    def __init__(
        self,
        space: SearchSpace | str,
        *,
        target: str = "mixed",
        rounds: int = 2,
        contract_skips: bool = True,
        max_rows: int = 3_000,
        max_optimise: int = 800,
        iterations: int = 60,
        random_state: int = 0,
    ) -> None:
        self.space = space
        self.target = target
        self.rounds = rounds
        self.contract_skips = contract_skips
        self.max_rows = max_rows
        self.max_optimise = max_optimise
        self.iterations = iterations
        self.random_state = random_state

    # -- kernel -------------------------------------------------------------------------------

    def _labels(self, rows: Genotypes) -> Labels:
        """Labels of all vertices after each round, ``uint64[H + 1, n, V]``."""
        cells = self.space_.cells(rows)
        if self.contract_skips:
            cells = {kind: graphs.contract(operation_code("skip_connect")) for kind, graphs in cells.items()}
        return vertex_labels(cells, self.rounds)

    def _learn_labels(self, labels: Labels) -> None:
        """Keep the labels that occur in the training set, and how often in each of its rows (by unit of length)."""
        self._known = [np.unique(of_round[of_round > 0]) for of_round in labels]
        self._counts = self._normalised(labels)

    def _normalised(self, labels: Labels) -> list[csr_array]:
        """Counts of the known labels divided by the length of the counts of all labels, ``[n, labels]`` per round.

        A label that no training row has adds to the length only: its products with them are 0.
        """
        counts = []
        for known, of_round in zip(self._known, labels, strict=True):
            n = len(of_round)
            place = np.minimum(np.searchsorted(known, of_round), len(known) - 1)
            hit = (known[place] == of_round) & (of_round > 0)
            same = (of_round[:, :, None] == of_round[:, None, :]) & (of_round > 0)[:, :, None]
            length = np.sqrt(same.sum(axis=(1, 2), dtype=np.float64))
            values = np.broadcast_to(1.0 / np.maximum(length, 1e-12)[:, None], hit.shape)[hit]
            starts = np.concatenate([[0], np.cumsum(hit.sum(axis=1))])
            # Equal labels of a row stay as several entries: a product adds them up.
            counts.append(csr_array((values, place[hit], starts), shape=(n, len(known))))
        return counts

    @staticmethod
    def _cosines(counts: csr_array, others: csr_array | npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Cosines of n rows with m others, ``[n, m]``, given their transposed counts."""
        return counts.toarray() @ others if isinstance(others, np.ndarray) else (counts @ others).toarray()

    def _transposed(self, dtype: type[np.floating[Any]]) -> list[csr_array | npt.NDArray[Any]]:
        """Counts of the training rows as `_cosines` multiplies by them: few labels are in most rows, many in few."""
        return [
            np.ascontiguousarray(c.toarray().T, dtype=dtype) if c.shape[1] <= _DENSE else c.T.tocsr().astype(dtype)
            for c in self._counts
        ]

    def _kernel(self, counts: list[csr_array], others: list[Any]) -> npt.NDArray[Any]:
        """Σ wₕ kₕ + vₕ kₕ² of n rows and the training rows, ``[n, m]`` in the counts' dtype."""
        total: npt.NDArray[Any] = np.zeros((counts[0].shape[0], others[0].shape[1]), dtype=counts[0].dtype)
        linear, squared = np.exp(self.parameters_[:-1]).astype(total.dtype).reshape(2, -1)
        for a, b, w, v in zip(counts, others, linear, squared, strict=True):
            cosine = self._cosines(a, b)
            product = v * cosine
            product += w
            product *= cosine
            total += product
        return total

    def _prior(self) -> tuple[Floats, Floats]:
        """Means and standard deviations of the logarithms of the weights and of the noise variance."""
        count = 2 * (self.rounds + 1)
        return np.r_[np.full(count, np.log(0.5)), np.log(0.05)], np.full(count + 1, 1.5)

    # -- fitting ------------------------------------------------------------------------------

    def _fit(self, rows: Genotypes, target: Floats, weight: Floats) -> None:
        check_integer(self, "rounds", 0)
        for parameter in ("max_rows", "max_optimise", "iterations"):
            check_integer(self, parameter, 1)
        rng = np.random.default_rng(self.random_state)
        chosen = np.arange(len(rows))
        if len(rows) > self.max_rows:
            chosen = np.sort(rng.choice(len(rows), self.max_rows, replace=False))
            rows, target, weight = rows[chosen], target[chosen], weight[chosen]
        self._rows, self._noise_scale = rows, 1.0 / weight
        self._learn_labels(self._labels(rows))
        subset = np.arange(len(rows))
        if len(rows) > self.max_optimise:
            subset = np.sort(rng.choice(len(rows), self.max_optimise, replace=False))
        similarities = np.stack([(c[subset] @ c[subset].T).toarray() for c in self._counts])
        self.parameters_ = self._optimise(similarities, target[subset], self._noise_scale[subset])
        self.unseen_[chosen], self.unseen_std_[chosen] = self._factorise(target)

    def _optimise(self, similarities: Floats, target: Floats, noise_scale: Floats) -> Floats:
        mean, spread = self._prior()
        if len(target) < 2 or not np.any(target):
            return mean
        parts = np.concatenate([similarities, similarities**2])
        n = len(target)
        diagonal, identity = np.diag_indices(n), np.eye(n)

        def objective(p: Floats) -> tuple[float, Floats]:
            weights, noise = np.exp(p[:-1]), np.exp(p[-1])
            covariance = np.tensordot(weights, parts, 1)
            covariance[diagonal] += noise * noise_scale + _JITTER
            factor = cho_factor(covariance, lower=True, check_finite=False)
            alpha = cho_solve(factor, target, check_finite=False)
            value = 0.5 * target @ alpha + np.log(np.diag(factor[0])).sum()
            # d value / d covariance (Rasmussen and Williams 2006, eq. 5.9)
            outer = 0.5 * (cho_solve(factor, identity, check_finite=False) - np.outer(alpha, alpha))
            gradient = np.r_[weights * np.tensordot(parts, outer, 2), noise * float(np.diag(outer) @ noise_scale)]
            z = (p - mean) / spread
            return float(value + 0.5 * z @ z), gradient + z / spread

        bounds = list(zip(mean - 5 * spread, mean + 5 * spread, strict=True))
        found = minimize(
            objective, mean, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": self.iterations}
        )
        return np.asarray(found.x, dtype=np.float64)

    def _factorise(self, target: Floats) -> tuple[Floats, Floats]:
        """Solve for the weights of the training rows; returns their leave-one-out means and deviations."""
        covariance = self._kernel(self._counts, self._transposed(np.float64))
        covariance[np.diag_indices(len(target))] += np.exp(self.parameters_[-1]) * self._noise_scale + _JITTER
        factor = cho_factor(covariance, lower=True, overwrite_a=True, check_finite=False)
        self._alpha = cho_solve(factor, target, check_finite=False)
        left_out, std, self._inflation = leave_one_out(factor[0], self._alpha, target)
        return left_out, std

    # -- prediction ---------------------------------------------------------------------------

    def _predict(self, rows: Genotypes, *, with_std: bool) -> tuple[Floats, Floats]:
        mean, std = np.empty(len(rows)), np.zeros(len(rows))
        others = self._transposed(np.float32)
        alpha = self._alpha.astype(np.float32)
        signal, noise = float(np.exp(self.parameters_[:-1]).sum()), float(np.exp(self.parameters_[-1]))
        few = self._variance_rows()
        chunk = max(1, _CHUNK_ENTRIES // len(alpha))
        lower = self._variance_factor(few) if with_std else None
        for begin in range(0, len(rows), _LABEL_CHUNK):
            counts = [c.astype(np.float32) for c in self._normalised(self._labels(rows[begin : begin + _LABEL_CHUNK]))]
            for start in range(0, counts[0].shape[0], chunk):
                covariance = self._kernel([c[start : start + chunk] for c in counts], others)
                place = slice(begin + start, begin + start + len(covariance))
                mean[place] = covariance @ alpha
                if lower is not None:
                    half = solve_triangular(lower, covariance[:, few].T, lower=True, check_finite=False)
                    variance = signal - np.einsum("ij,ij->j", half, half)  # a cell's cosine with itself is 1
                    std[place] = self._inflation * np.sqrt(np.maximum(variance, 0.0) + noise)
        return mean, std

    def _variance_rows(self) -> npt.NDArray[np.intp]:
        """At most `_VARIANCE_ROWS` of the training rows, spread evenly: with more the variance is an upper bound."""
        n = len(self._alpha)
        return np.unique(np.linspace(0, n - 1, min(n, _VARIANCE_ROWS)).astype(np.intp))

    def _variance_factor(self, few: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        covariance = self._kernel([c[few] for c in self._counts], self._transposed(np.float64))[:, few]
        covariance[np.diag_indices(len(few))] += np.exp(self.parameters_[-1]) * self._noise_scale[few] + _JITTER
        return np.asarray(cho_factor(covariance, lower=True, check_finite=False)[0], dtype=np.float32)

    # -- files --------------------------------------------------------------------------------

    def _state(self) -> State:
        arrays = {
            "rows": self._rows,
            "alpha": self._alpha,
            "noise_scale": self._noise_scale,
            "parameters": self.parameters_,
        }
        return {"inflation": self._inflation}, arrays, {}

    def _restore(self, plain: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], texts: dict[str, str]) -> None:
        del texts
        self._inflation = float(plain["inflation"])
        self._rows, self._alpha, self._noise_scale = arrays["rows"], arrays["alpha"], arrays["noise_scale"]
        self.parameters_ = arrays["parameters"]
        if len(self.parameters_) != 2 * self.rounds + 3 or not len(self._rows) == len(self._alpha) > 0:
            raise ValueError("its weights do not fit its rows")
        if len(self._noise_scale) != len(self._rows):
            raise ValueError("its weights do not fit its rows")
        self._learn_labels(self._labels(self._rows))
