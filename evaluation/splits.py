"""Seeded splits of a search space that keep copies of one network on one side."""

from __future__ import annotations

__all__ = ["PROTOCOLS", "Split", "coarsest_classes", "holdout_mask", "protocol_split"]

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tauzero.spaces import Genotypes, SearchSpace, get, unknown_name

#: Name and one line of each protocol.
PROTOCOLS = {
    "all": "train on random architectures of the whole space, judge on all of it, as the literature does",
    "unique": "leave out strings with unreachable operations, and judge on no copy of a trained network",
    "heldout": "judge on a fixed fifth of the classes of equal networks, which the pretrained models have not seen",
}

#: Spaces on which the published protocol judges on training rows as well (TNASP, PINAT: "all 15,625").
#: On all others "all" means all others than the training rows (NAS-Bench-101: "all 423k but the training set").
_JUDGED_WITH_TRAINING_ROWS = frozenset({"nasbench201"})

_HOLDOUT_FRACTION = 0.2
_HOLDOUT_SEED = 0
_TEST_STREAM = 1  # beside the seed, so that judged rows are drawn independently of the training rows


@dataclass(frozen=True, eq=False)
class Split:
    """Positions of one training and one test set in `SearchSpace.enumerate`, or in the given architectures.

    Attributes
    ----------
    train
        ``int64[n_train]``, in random order, all different.
    test
        ``int64[m]``, ascending.
    unseen
        ``bool[m]``: test rows with no copy in the training set (coarsest notion of equal networks).
    text
        One sentence that says what this is.
    """

    train: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    unseen: npt.NDArray[np.bool_]
    text: str


@lru_cache(maxsize=8)
def coarsest_classes(space: SearchSpace) -> npt.NDArray[np.int64]:
    """Class of each enumerated architecture, ``int64[size]``, under the notion with the fewest classes."""
    best = space.classes(space.notions[0])
    for notion in space.notions[1:]:
        labels = space.classes(notion)
        if labels.max() < best.max():
            best = labels
    return best


def holdout_mask(
    space: SearchSpace | str,
    fraction: float = _HOLDOUT_FRACTION,
    seed: int = _HOLDOUT_SEED,
    *,
    architectures: Genotypes | None = None,
) -> npt.NDArray[np.bool_]:
    """Mark the architectures that are kept apart, ``bool[m]``: whole classes of equal networks.

    Systematic sampling over the classes in order of size (equal sizes shuffled), so that large and
    small classes are held out in equal proportion (the largest of NAS-Bench-201 has 460 members), then
    the smallest classes until the fraction is reached. With the default arguments these are the rows
    that no pretrained model has seen.

    Parameters
    ----------
    space
        A search space or its name.
    fraction
        Least share of the architectures, in (0, 1).
    seed
        A non-negative integer.
    architectures
        ``int8[m, L]``: what to choose from, for spaces that cannot be enumerated
        (`Benchmark.architectures`); None for the whole space.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"The 'fraction' argument must be a number between 0 and 1. Got {fraction!r}.")
    labels = _labels(get(space), architectures)
    sizes = np.bincount(labels)
    rng = np.random.default_rng(_seed(seed))
    shuffled = rng.permutation(len(sizes))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    steps = np.floor(np.arange(len(sizes) + 1) * fraction + rng.random())
    chosen = np.zeros(len(sizes), dtype=np.bool_)
    chosen[order[np.diff(steps) > 0]] = True
    open_ = order[::-1][~chosen[order[::-1]]]  # the smallest first
    short = fraction * len(labels) - sizes[chosen].sum()
    if short > 0:
        chosen[open_[: int(np.searchsorted(np.cumsum(sizes[open_]), short)) + 1]] = True
    mask: npt.NDArray[np.bool_] = chosen[labels]
    return mask


def protocol_split(
    space: SearchSpace | str,
    protocol: str,
    n_train: int,
    seed: int,
    *,
    available: npt.NDArray[np.bool_] | None = None,
    architectures: Genotypes | None = None,
    test: int | None = None,
) -> Split:
    """Draw the training set of a protocol and say what it is judged on.

    Parameters
    ----------
    space
        A search space or its name.
    protocol
        ``"all"``
            Train on n architectures drawn uniformly without replacement; judge on all architectures
            on NAS-Bench-201 (as the literature does, training rows included: 10 % of the rows at
            n = 1563), on all others elsewhere. Copies of trained networks are judged too; `unseen` marks
            the others.
        ``"unique"``
            The strings without unreachable operations (9,445 of NAS-Bench-201; every architecture of
            spaces without such strings). Test rows whose class is in the training set are left out.
        ``"heldout"``
            Judge on `holdout_mask` with its default arguments, whatever the seed; train on n of the others.
    n_train
        Training rows, ≥ 1.
    seed
        A non-negative integer; the same training sets for all protocols are not promised.
    available
        ``bool[m]``: architectures that have a value; others are neither trained nor judged on.
    architectures
        ``int8[m, L]``: what the split is made of, `Benchmark.architectures`. Spaces that cannot be enumerated
        need it; None stands for the whole space.
    test
        Judge on so many of the rows that the protocol judges on, drawn at random with the same seed, as published
        protocols do (200, 1,000); None for all of them. It does not change the training set.
    """
    home = get(space)
    if protocol not in PROTOCOLS:
        raise unknown_name("protocol", protocol, PROTOCOLS)
    classes = _labels(home, architectures)
    pool = np.ones(len(classes), dtype=np.bool_) if available is None else np.array(available, dtype=np.bool_)
    if pool.shape != classes.shape:
        raise ValueError(f"The 'available' argument must have shape ({len(classes)},). Got {pool.shape}.")
    judged = pool
    if protocol == "unique":
        judged = pool = pool & ~_dead(home, architectures)
    elif protocol == "heldout":
        mask = holdout_mask(home, architectures=architectures)
        judged, pool = pool & mask, pool & ~mask
    rows = np.flatnonzero(pool)
    if isinstance(n_train, bool) or not isinstance(n_train, int | np.integer) or not 1 <= n_train <= len(rows):
        raise ValueError(
            f"The 'n_train' argument must be an integer from 1 to {len(rows):,}, the architectures that protocol "
            f"{protocol!r} can train on in {home.name}. Got {n_train!r}."
        )
    train = np.random.default_rng(_seed(seed)).choice(rows, int(n_train), replace=False).astype(np.int64)
    unseen = ~np.isin(classes, classes[train])
    if protocol == "unique":
        judged = judged & unseen
    elif protocol == "all" and home.name not in _JUDGED_WITH_TRAINING_ROWS:
        judged = judged.copy()
        judged[train] = False
    others = np.flatnonzero(judged)
    if len(others) < 2:
        raise ValueError(
            f"With {n_train} training rows, protocol {protocol!r} leaves {len(others)} to judge on: use fewer."
        )
    text = _text(home, protocol, int(n_train), len(others))
    if test is not None:
        others = _some(others, test, seed)
        text = f"{text}; of these {len(others):,} at random"
    return Split(train, others, unseen[others], text)


def _some(rows: npt.NDArray[np.int64], test: int, seed: int) -> npt.NDArray[np.int64]:
    """So many of the judged rows, ascending, from a stream of random numbers of its own."""
    if isinstance(test, bool) or not isinstance(test, int | np.integer) or not 2 <= test <= len(rows):
        raise ValueError(
            f"The 'test' argument must be an integer from 2 to {len(rows):,}, the architectures that the protocol "
            f"judges on, or None for all of them. Got {test!r}."
        )
    return np.sort(np.random.default_rng([_TEST_STREAM, _seed(seed)]).choice(rows, int(test), replace=False))


def _labels(space: SearchSpace, architectures: Genotypes | None) -> npt.NDArray[np.int64]:
    """Class of equal networks of each architecture, ``int64[m]``."""
    if architectures is None:
        return coarsest_classes(space)
    if space.enumerable:
        return coarsest_classes(space)[space.index(architectures)]
    return space.distinct(architectures)[1]


def _text(space: SearchSpace, protocol: str, n_train: int, n_test: int) -> str:
    if protocol == "unique":
        what = f"judged on {n_test:,} strings without unreachable operations and without copies in the training set"
    elif protocol == "heldout":
        what = f"judged on {n_test:,} held-out architectures, no copy of which may be trained on"
    elif space.name in _JUDGED_WITH_TRAINING_ROWS:
        what = f"judged on all {n_test:,}, training rows included"
    else:
        what = f"judged on the {n_test:,} others"
    return f"{space.name}-{protocol}: trained on {n_train:,} random architectures, {what}"


def _dead(space: SearchSpace, architectures: Genotypes | None) -> npt.NDArray[np.bool_]:
    """Strings with unreachable operations, where a space has them."""
    marker = getattr(space, "has_dead_operations", None)
    if marker is None:
        return np.zeros(space.size if architectures is None else len(architectures), dtype=np.bool_)
    return np.asarray(marker(space.enumerate() if architectures is None else architectures), dtype=np.bool_)


def _seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"The 'seed' argument must be a non-negative integer. Got {seed!r}.")
    return int(seed)
