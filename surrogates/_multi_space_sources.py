"""Data sets over several spaces, checked, merged and brought to one scale."""

from __future__ import annotations

__all__ = ["Source", "check_sources", "group_sources"]

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tauzero.spaces import Genotypes, SearchSpace, get
from tauzero.surrogates._target import TargetTransform
from tauzero.surrogates.base import Floats

_LEAST = 4  # networks of a source: fewer leave nothing to check a member on


class Source(NamedTuple):
    """One data set: different canonical rows ``int8[n, L]`` of a space, and transformed targets ``float64[n]``."""

    name: str
    space: SearchSpace
    rows: Genotypes
    target: Floats
    transform: TargetTransform


def check_sources(sources: Sequence[tuple[Any, Any, Any]], names: Sequence[str] | None, target: str) -> list[Source]:
    """Validate what `MultiSpaceGNN.fit` was given, average equal networks, and transform each data set by itself."""
    given = list(sources)
    if not given or any(not isinstance(s, Sequence) or isinstance(s, str) or len(s) != 3 for s in given):
        raise ValueError(
            "The 'sources' argument must be a list of (space, genotypes, y), at least one. "
            f"Got {len(given)} entries{'' if not given else ', some of which are no such triple'}."
        )
    labels = [f"{get(s[0]).name}:{k}" for k, s in enumerate(given)] if names is None else [str(n) for n in names]
    if len(labels) != len(given) or len(set(labels)) != len(labels):
        raise ValueError(
            f"The 'names' argument must name each of the {len(given)} sources differently. Got {labels!r}."
        )
    return [_check(name, *entry, target) for name, entry in zip(labels, given, strict=True)]


def _check(name: str, space: SearchSpace | str, genotypes: npt.ArrayLike, y: npt.ArrayLike, target: str) -> Source:
    home = get(space)
    rows = home.validate(genotypes)
    values = np.asarray(y)
    if values.dtype.kind not in "fiub" or values.shape != (len(rows),):
        raise ValueError(
            f"The targets of source {name!r} must be numbers, one per architecture, shape ({len(rows)},). "
            f"Got {values.dtype} of shape {values.shape}."
        )
    if not np.isfinite(values).all():
        raise ValueError(
            f"The targets of source {name!r} must be finite. Got {int((~np.isfinite(values)).sum())} NaN or infinite "
            "values: drop those rows before fitting."
        )
    distinct, inverse = home.distinct(rows)
    if len(distinct) < _LEAST:
        raise ValueError(f"Source {name!r} must have at least {_LEAST} different networks. Got {len(distinct)}.")
    mean = np.bincount(inverse, weights=values.astype(np.float64)) / np.bincount(inverse)
    transform = TargetTransform(target)
    return Source(name, home, distinct, transform.fit_transform(mean), transform)


def group_sources(sources: list[Source]) -> list[list[int]]:
    """Positions of the sources that have the very same networks of the same space: they are learnt together."""
    groups: dict[tuple[str, bytes], list[int]] = {}
    for k, source in enumerate(sources):
        groups.setdefault((source.space.name, source.rows.tobytes()), []).append(k)
    return list(groups.values())
