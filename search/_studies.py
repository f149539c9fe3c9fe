"""What studies over seeds share: seeds, one fresh surrogate for each, and workers that do not change the result."""

from __future__ import annotations

__all__ = ["fresh_surrogate", "in_parallel", "seed_list", "surrogate_label"]

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from tauzero.spaces import Progress, SearchSpace

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


def fresh_surrogate(prototype: str | Any, space: SearchSpace, params: Mapping[str, Any], seed: int) -> Any:
    """Create an unfitted surrogate whose randomness comes from `seed`.

    Parameters
    ----------
    prototype
        A name of `tauzero.surrogates.names`, or an estimator, which is cloned and stays untouched.
    space
        The search space.
    params
        Parameters; a seed among them is kept.
    seed
        Given to the estimator's ``random_state`` (or ``seed``) parameter where it has one.
    """
    if isinstance(prototype, str):
        from tauzero import surrogates

        estimator = surrogates.create(prototype, space, **params)
    else:
        from sklearn.base import clone

        estimator = clone(prototype).set_params(**params)
    known = estimator.get_params(deep=False)
    for name in ("random_state", "seed"):
        if name in known and name not in params:
            estimator.set_params(**{name: seed})
            break
    return estimator


def surrogate_label(prototype: str | Any) -> str:
    """Name for reports."""
    return prototype if isinstance(prototype, str) else type(prototype).__name__


def seed_list(seeds: int | Sequence[int]) -> list[int]:
    """0, 1, … for a count; a sequence as it is."""
    given: list[Any] = []
    if isinstance(seeds, int | np.integer) and not isinstance(seeds, bool):
        given = list(range(seeds))
    elif isinstance(seeds, list | tuple | range | np.ndarray):
        given = list(seeds)
    if not given or any(isinstance(s, bool) or not isinstance(s, int | np.integer) or s < 0 for s in given):
        raise ValueError(f"The 'seeds' argument must be a count ≥ 1 or a list of non-negative integers. Got {seeds!r}.")
    return [int(s) for s in given]


def in_parallel(
    task: Callable[[_Job], _Result],
    jobs: Sequence[_Job],
    n_jobs: int,
    progress: Progress | None,
) -> list[_Result]:
    """Results of all jobs in their order; `progress` is called with (done, total) as they come in."""
    from joblib import Parallel, delayed

    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int | np.integer) or n_jobs == 0:
        raise ValueError(f"The 'n_jobs' argument must be a number of processes, or -1 for all cores. Got {n_jobs!r}.")
    results: list[_Result] = []
    for result in Parallel(n_jobs=n_jobs, return_as="generator")(delayed(task)(job) for job in jobs):
        results.append(result)
        if progress is not None:
            progress(len(results), len(jobs))
    return results
