"""Randomness is an argument: one conversion from what users pass to a NumPy generator."""

from __future__ import annotations

__all__ = ["Seed", "as_generator"]

from typing import TypeAlias

import numpy as np

Seed: TypeAlias = int | np.integer | np.random.SeedSequence | np.random.Generator


def as_generator(seed: Seed) -> np.random.Generator:
    """Turn a seed into a `numpy.random.Generator`; a generator passes through and is advanced by its user.

    Raises
    ------
    ValueError
        If `seed` is neither a non-negative integer, a `SeedSequence` nor a `Generator`. There is no
        default: a result that cannot be repeated has to be asked for, with a seed drawn by the caller.
    """
    if isinstance(seed, np.random.Generator):
        return seed
    if isinstance(seed, np.random.SeedSequence):
        return np.random.default_rng(seed)
    if isinstance(seed, int | np.integer) and not isinstance(seed, bool) and seed >= 0:
        return np.random.default_rng(int(seed))
    raise ValueError(
        f"The 'seed' argument must be a non-negative integer, a numpy SeedSequence or Generator. Got {seed!r}."
    )
