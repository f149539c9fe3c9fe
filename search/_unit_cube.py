"""Genotypes as points of the unit cube, whose axes are cut into one bin per value, and the step rand/1/bin there."""

from __future__ import annotations

__all__ = ["UnitCube", "rand_1_bin"]

import numpy as np
import numpy.typing as npt

from tauzero.spaces import Genotypes, SearchSpace

Floats = npt.NDArray[np.float64]


class UnitCube:
    """Between rows of a space and points of [0, 1]ᴸ; every axis is cut into equal bins, one for each value."""

    def __init__(self, space: SearchSpace) -> None:
        self.choices = np.asarray(space.cardinalities)

    def rows(self, points: Floats) -> Genotypes:
        """Bins that points fall into, ``int8[n, L]``."""
        return np.minimum((points * self.choices).astype(np.int8), (self.choices - 1).astype(np.int8))

    def points(self, rows: Genotypes, rng: np.random.Generator) -> Floats:
        """Points drawn uniformly from the bins of rows, ``float64[n, L]``."""
        return np.asarray((rows + rng.random(rows.shape)) / self.choices, dtype=np.float64)


def rand_1_bin(
    first: Floats,
    second: Floats,
    third: Floats,
    target: Floats,
    *,
    mutation_factor: float,
    crossover_probability: float,
    rng: np.random.Generator,
) -> Floats:
    """Trial points of differential evolution, ``float64[n, L]`` (Storn and Price, 1997).

    Mutant = first + F·(second - third); each coordinate of the trial is the mutant's with probability CR, one of them
    surely, else the target's; coordinates outside [0, 1] are drawn anew.

    Parameters
    ----------
    first, second, third
        Parents, ``float64[n, L]``.
    target
        ``float64[L]`` or ``float64[n, L]``.
    mutation_factor, crossover_probability
        F and CR.
    rng
        Source of randomness.
    """
    mutants = first + mutation_factor * (second - third)
    take = rng.random(mutants.shape) < crossover_probability
    none = ~take.any(axis=1)
    take[none, rng.integers(take.shape[1], size=int(none.sum()))] = True
    trials = np.where(take, mutants, target)
    outside = (trials < 0) | (trials > 1)
    trials[outside] = rng.random(int(outside.sum()))
    return np.asarray(trials, dtype=np.float64)
