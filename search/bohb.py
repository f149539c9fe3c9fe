"""BOHB (Falkner, Klein and Hutter, ICML 2018): Hyperband that draws from a kernel density of the good architectures."""

from __future__ import annotations

__all__ = ["BOHB", "CategoricalDensity"]

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from tauzero.search._brackets import BracketSearch
from tauzero.search._model_based import check_count, check_real
from tauzero.search._novelty import novelty_keys
from tauzero.spaces import Genotypes, SearchSpace, Seed

Floats = npt.NDArray[np.float64]

#: Rounds of draws until enough of them are members of the space, and until one is new.
_ROUNDS = 50


class CategoricalDensity:
    r"""Kernel density over rows of categories: a product of Aitchison-Aitken kernels, averaged over the data.

    .. math:: p(x) = \frac1n \sum_i \prod_j k_j(x_j, X_{ij}), \qquad
              k_j(x, y) = 1 - h_j \text{ if } x = y \text{ else } h_j / (K_j - 1)

    (Aitchison and Aitken, Biometrika 1976). The bandwidths are those of HpBandSter, statsmodels' normal reference
    rule on the codes, :math:`h_j = 1.06\,\sigma_j\, n^{-1/(4+d)}` with the population deviation :math:`\sigma_j`, at
    least `least`. They are at most :math:`(K_j - 1)/K_j`, where the kernel is uniform: beyond that another
    category would count more than the same one, and beyond 1 densities would be negative, as they can be in
    statsmodels. That library also takes for :math:`K_j` the number of values in the data; here it is that of the space.

    Parameters
    ----------
    rows
        ``int8[n, d]``, n ≥ 1.
    cardinalities
        Number of values of each column, ``int64[d]``.
    least
        Smallest bandwidth, > 0, so that no category is impossible.
    """

    def __init__(self, rows: Genotypes, cardinalities: npt.NDArray[np.int64], least: float) -> None:
        n, d = rows.shape
        self.rows = rows
        self.cardinalities = cardinalities
        most = (cardinalities - 1) / cardinalities
        self.bandwidth: Floats = np.minimum(np.maximum(1.06 * rows.std(axis=0) * n ** (-1.0 / (4 + d)), least), most)
        # A column of one value has a bandwidth of 0: its kernel is 1 whatever the other entry.
        self._other = np.log(np.maximum(self.bandwidth, 1e-300) / np.maximum(cardinalities - 1, 1))
        self._gain = np.log1p(-self.bandwidth) - self._other

    def log_density(self, rows: Genotypes) -> Floats:
        """Logarithm of the density at rows ``int8[m, d]``, ``float64[m]``."""
        same = rows[:, None, :] == self.rows
        logs = same @ self._gain + self._other.sum()
        top = logs.max(axis=1)
        return np.asarray(top + np.log(np.exp(logs - top[:, None]).mean(axis=1)), dtype=np.float64)

    def draw(self, n: int, factor: float, rng: np.random.Generator) -> Genotypes:
        """Draw n rows as HpBandSter does, ``int8[n, d]``.

        Around a random row of the data each column keeps its value with probability 1 - h · factor, and else takes any
        value uniformly, its own included. Rows may not be members of the space.
        """
        rows = self.rows[rng.integers(len(self.rows), size=n)]
        change = rng.random(rows.shape) < self.bandwidth * factor
        return np.where(change, (rng.random(rows.shape) * self.cardinalities).astype(np.int8), rows)


class BOHB(BracketSearch):
    """Hyperband's brackets; new architectures come from where the good ones are dense and the others are not.

    For the first rung of a bracket, with probability `random_fraction` or while there is no model, a random
    architecture, as in `hyperband`. Otherwise `samples` draws from the density l of the good architectures, widened by
    `bandwidth_factor`; of these the one with the highest l/g, where g is the density of the others
    (`CategoricalDensity`). The model is that of the highest fidelity with enough values told.

    Good are the best ⌊`good` · n⌋ of the n architectures told at a fidelity, at least `min_points`; the others make g.
    A model needs `min_points` of either. This is HpBandSter, which also gives the number of architectures in a
    bracket (`bracket_sizes`); the paper lets good and bad overlap and needs `min_points` + 2 altogether. Draws that
    were asked for at the same epochs do not count. Promotions are those of Hyperband.

    With one fidelity it is a sequential search by kernel densities.

    Parameters
    ----------
    space, seed, fidelities, eta
        As for `Hyperband`.
    random_fraction
        ρ, in [0, 1]; ⅓.
    good
        q, share of the good architectures, in (0, 1); 0.15.
    samples
        N_s, ≥ 1; 64.
    min_points
        N_min, ≥ 1; by default one more than the columns of the space.
    bandwidth_factor
        b_w, > 0. The paper's 3 (and HpBandSter's) widens continuous columns only; all columns are categorical here,
        so that the default is 1.
    min_bandwidth
        Smallest bandwidth of a density, in (0, 1); 10⁻³.
    """

    name = "bohb"
    _floor = True

    def __init__(
        self,
        space: SearchSpace | str,
        seed: Seed,
        *,
        fidelities: Iterable[int],
        eta: float = 3.0,
        random_fraction: float = 1 / 3,
        good: float = 0.15,
        samples: int = 64,
        min_points: int | None = None,
        bandwidth_factor: float = 1.0,
        min_bandwidth: float = 1e-3,
    ) -> None:
        super().__init__(space, seed, fidelities=fidelities, eta=eta)
        self.random_fraction = check_real(self, "random_fraction", random_fraction, 0, 1)
        self.good = check_real(self, "good", good, 1e-9, 1 - 1e-9)
        self.samples = check_count(self, "samples", samples)
        self.min_points = self.space.length + 1 if min_points is None else check_count(self, "min_points", min_points)
        self.bandwidth_factor = check_real(self, "bandwidth_factor", bandwidth_factor, 1e-9)
        self.min_bandwidth = check_real(self, "min_bandwidth", min_bandwidth, 1e-9, 1 - 1e-9)
        self._choices = np.asarray(self.space.cardinalities)
        self._rows_at: dict[int, list[Genotypes]] = {epochs: [] for epochs in self.rungs}
        self._values_at: dict[int, list[float]] = {epochs: [] for epochs in self.rungs}
        self._densities: tuple[CategoricalDensity, CategoricalDensity] | None = None
        self._outdated = False

    def _learn(self, rows: Genotypes, epochs: int, values: list[float]) -> None:
        self._rows_at[epochs] += list(rows)
        self._values_at[epochs] += values
        self._outdated = True

    def _model(self) -> tuple[CategoricalDensity, CategoricalDensity] | None:
        """Densities l and g of the highest fidelity that has enough values, or None."""
        if self._outdated:
            self._outdated = False
            for epochs in reversed(self.rungs):
                n = len(self._values_at[epochs])
                count = max(self.min_points, int(self.good * n + 1e-9))
                if n - count >= self.min_points:
                    order = np.argsort(-np.array(self._values_at[epochs]), kind="stable")
                    rows = np.array(self._rows_at[epochs])[order]
                    parts = (rows[:count], rows[count:])
                    good, rest = (CategoricalDensity(part, self._choices, self.min_bandwidth) for part in parts)
                    self._densities = good, rest
                    break
        return self._densities

    def _new(self, epochs: int) -> Genotypes | None:
        model = self._model()
        if model is None or self._rng.random() < self.random_fraction:
            return self._random_new(epochs)
        good, rest = model
        asked = self._asked_at[epochs]
        for _ in range(_ROUNDS):
            rows = self._draw(good)
            order = np.argsort(rest.log_density(rows) - good.log_density(rows), kind="stable")
            for row, key in zip(rows[order], novelty_keys(self.space, rows[order]), strict=True):
                if key not in asked:
                    return np.asarray(row, dtype=np.int8)
        return self._random_new(epochs)  # l gives nothing new any more

    def _draw(self, good: CategoricalDensity) -> Genotypes:
        """`samples` members of the space drawn from l, or as many as there are in some rounds of draws."""
        parts: list[Genotypes] = []
        missing = self.samples
        for _ in range(_ROUNDS):
            drawn = good.draw(missing, self.bandwidth_factor, self._rng)
            parts.append(drawn[self.space.is_valid(drawn)])
            missing -= len(parts[-1])
            if not missing:
                break
        return np.ascontiguousarray(np.concatenate(parts))
