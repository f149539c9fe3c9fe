"""What studies over seeds share: seeds, one fresh surrogate for each, and workers that do not change the result."""

from __future__ import annotations

__all__ = ["by_prediction", "fresh_surrogate", "in_parallel", "seed_list", "surrogate_label"]

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

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


def by_prediction(
    space: SearchSpace,
    predicted: npt.NDArray[np.float64],
    known: npt.NDArray[np.int64],
    candidates: npt.NDArray[np.int64] | None = None,
    *,
    one_per_class: bool = True,
) -> npt.NDArray[np.int64]:
    """Positions of the architectures that are not known, the best predicted first; equal predictions in given order.

    Parameters
    ----------
    space
        An enumerable space.
    predicted
        ``float64[m]``, higher is better.
    known
        ``int64[k]``: positions in the space that have been looked up.
    candidates
        ``int64[m]``: positions of what was predicted, all different; by default the whole space.
    one_per_class
        Put one architecture of each class of equal networks (`SearchSpace.classes`) before its copies, and before
        copies of what is known: they have the same prediction.
    """
    positions = np.arange(space.size) if candidates is None else candidates
    ranked = positions[np.argsort(-predicted, kind="stable")]
    is_known = np.zeros(space.size, dtype=np.bool_)
    is_known[known] = True
    ranked = ranked[~is_known[ranked]]
    if not one_per_class:
        return ranked
    labels = space.classes()
    first = np.zeros(len(ranked), dtype=np.bool_)
    first[np.unique(labels[ranked], return_index=True)[1]] = True
    first &= ~np.isin(labels[ranked], labels[known])
    # Copies come last instead of never: a budget beyond the number of classes can still be spent.
    return np.concatenate([ranked[first], ranked[~first]])


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
