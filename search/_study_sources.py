"""What a study starts from beside its table: scores of untrained networks, and pretrained weights with their origin."""

from __future__ import annotations

__all__ = ["check_surrogate", "read_scores", "transfer_sources"]

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.search._study_design import Design
from tauzero.spaces import SearchSpace, unknown_name


def read_scores(
    space: SearchSpace, source: Any, names: Sequence[str]
) -> tuple[npt.NDArray[np.float64], list[str], list[str]]:
    """Scores of a whole space from a table, as one number that a search can maximise.

    Parameters
    ----------
    space
        An enumerable space.
    source
        As the encoder ``proxy_scores`` takes it.
    names
        Columns or patterns, at least one. A minus in front turns a column's sign (lower is better); a column with the
        exact name of a proxy of tauzero has that proxy's direction.

    Returns
    -------
    values
        ``float64[size]``: percent of the space's architectures with a lower score, half of the equal ones included;
        the mean over the columns. Architectures without a score are the lowest.
    columns
        The columns that were read, with a minus where the sign was turned.
    notes
        What a reader should know.
    """
    from scipy.stats import rankdata

    from tauzero import encoders
    from tauzero.benchmarks._rows import row_keys

    if not names:
        raise ValueError("Scores of a table need the names of their columns: pass proxies=['…'].")
    turned = {name[1:] for name in names if name.startswith("-")}
    plain = [name.removeprefix("-") for name in names]
    directions = _directions()
    rows, total, columns, missing = row_keys(space.canonical(space.enumerate())), np.zeros(space.size), [], 0
    for pattern in plain:
        encoder: Any = encoders.create("proxy_scores", space, scores=source, columns=[pattern])
        arrays = encoder.arrays()
        keys = row_keys(arrays["genotypes"])
        place = np.minimum(np.searchsorted(keys, rows), len(keys) - 1)
        there = keys[place] == rows
        for k, name in enumerate(encoder.columns):
            lower = (pattern in turned) != (name in directions and not directions[name])
            scores = np.where(there, arrays["scores"][place, k], np.nan) * (-1.0 if lower else 1.0)
            missing = max(missing, int(np.isnan(scores).sum()))
            total += (rankdata(np.where(np.isnan(scores), -np.inf, scores)) - 0.5) / space.size * 100
            columns.append(f"-{name}" if lower else name)
    notes = [f"{missing:,} of {space.size:,} architectures lack scores and are the lowest."] if missing else []
    return total / len(columns), columns, notes


def _directions() -> dict[str, bool]:
    from tauzero.proxies import _registry

    return dict(_registry.higher_is_better())


# -- transfer ---------------------------------------------------------------------------------


def transfer_sources(design: Design, algorithms: Sequence[str]) -> dict[str, list[str]]:
    """What pretrained parts of the searches were trained on, ``benchmark/dataset``, by who has them.

    Raises
    ------
    ValueError
        If one was trained on the table that the study judges on, or does not say what it was trained on.
    """
    found: dict[str, Any] = {}
    surrogate = design.surrogate if isinstance(design.surrogate, str) else getattr(design.surrogate, "name", "")
    if surrogate == "transfer":
        params = {} if isinstance(design.surrogate, str) else design.surrogate.get_params(deep=False)
        found["surrogate"] = {**params, **design.surrogate_params}.get("source", "multi-space")
    for name in algorithms:
        given = design.params.get(name, {}).get("transfer")
        if given is not None:
            found[name] = given
    return {who: _trained_on(who, source, design) for who, source in found.items()}


def _trained_on(who: str, source: Any, design: Design) -> list[str]:
    from tauzero import surrogates

    judging = [f"{name}/{design.dataset}" for name in design.benchmark.origins]
    if isinstance(source, str | Path):
        text = str(source)
        known = text in surrogates.pretrained_names() and text != "multi-space"
        model = surrogates.load(text) if known else _load_any(text)
    else:
        model = source
    several = getattr(model, "sources_", None)
    facts = getattr(model, "metadata_", None) or {}
    if several:
        sources = [str(name) for name in several]
    elif "benchmark" in facts and "dataset" in facts:
        sources = [f"{facts['benchmark']}/{facts['dataset']}"]
    else:
        raise ValueError(
            f"What {who!r} starts from must say what it was trained on (a benchmark and a data set in its metadata), "
            f"so that a study can tell that it is not the judging table. Got {source!r}."
        )
    here = next((name for name in judging if name in sources), None)
    if here is not None:
        raise ValueError(
            f"What {who!r} starts from, {source!r}, was trained on {here}, the very table that this study judges on: "
            "its result would say nothing about search. Use weights from other spaces or data sets."
        )
    return sources


def _load_any(text: str) -> Any:
    from tauzero import surrogates

    try:
        return surrogates.MultiSpaceGNN.load(text)
    except (ValueError, OSError):
        return surrogates.load(text)


def check_surrogate(surrogate: Any) -> None:
    """Refuse pretrained and fitted surrogates: a study fits one for each trial, on that trial's own look-ups."""
    if not isinstance(surrogate, str):
        return
    from tauzero import surrogates

    if surrogate in surrogates.names():
        return
    if surrogate in surrogates.pretrained_names() or Path(surrogate).exists():
        raise ValueError(
            f"The surrogate of a study is fitted on the random look-ups of each trial: name a kind of it, such as "
            f"'gaussian_process' or 'auto'. Got the fitted one {surrogate!r}; surrogate='transfer' starts from "
            "pretrained weights of other tables."
        )
    raise unknown_name("surrogate", surrogate, surrogates.names())
