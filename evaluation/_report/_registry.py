"""What a report can be made of, and the figures of each; a figure that is not here does not exist."""

from __future__ import annotations

__all__ = ["FIGURES", "SOURCES", "Source", "source_of"]

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tauzero.evaluation._report import _evaluations, _oneshot, _study, _study_results, _sweep, _trajectories
from tauzero.evaluation._report._parts import Context, Figure

#: Makes figures of a source, none where it has nothing to show.
Maker: TypeAlias = Callable[[Any, Context], Iterable[Figure]]


@dataclass(frozen=True)
class Source:
    """A kind of file or folder.

    Attributes
    ----------
    says
        What it is, for people who gave something else.
    recognises
        Whether a path is one, by its content.
    read
        Reads it.
    section
        Title, facts, notes and provenance of its section.
    """

    says: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path], Any]
    section: Callable[[Any], dict[str, Any]]


SOURCES: dict[str, Source] = {
    "study": Source("the folder of `tauzero study --out`", _study.recognises, _study.read, _study.section),
    "evaluation": Source(
        "the folder of `tauzero evaluate --out`, or what `tauzero evaluate --json` prints, in a file",
        _evaluations.recognises,
        _evaluations.read,
        _evaluations.section,
    ),
    "sweep": Source("the folder of `tauzero score --out`", _sweep.recognises, _sweep.read, _sweep.section),
    "trajectory": Source(
        "the Parquet file of `tauzero search --out`, or a folder of such files",
        _trajectories.recognises,
        _trajectories.read,
        _trajectories.section,
    ),
    "oneshot": Source(
        "the folder of `tauzero search --method … --out`, or a folder of such folders",
        _oneshot.recognises,
        _oneshot.read,
        _oneshot.section,
    ),
}

#: The figures of a section in the order of the page.
FIGURES: dict[str, dict[str, Maker]] = {
    "study": {
        "regret": _study.regret,
        "test_accuracy": _study.test_accuracy,
        "final": _study_results.final,
        "wins": _study_results.wins,
        "gains": _study_results.gains,
        "best_cells": _study_results.best_cells,
    },
    "evaluation": {
        "by_size": _evaluations.by_size,
        "predicted": _evaluations.predicted,
        "calibration": _evaluations.calibration,
        "measures": _evaluations.measures,
    },
    "sweep": {
        "correlation": _sweep.correlation,
        "against_accuracy": _sweep.against_accuracy,
        "ranking": _sweep.ranking,
        "distributions": _sweep.distributions,
        "best_cells": _sweep.best_cells,
        "failures": _sweep.failures,
    },
    "trajectory": {
        "incumbents": _trajectories.incumbents,
        "pareto": _trajectories.pareto,
        "results": _trajectories.results,
        "best_cells": _trajectories.best_cells,
    },
    "oneshot": {
        "means": _oneshot.means,
        "results": _oneshot.results,
        "operations": _oneshot.operations,
        "ranking": _oneshot.ranking,
        "training": _oneshot.training,
        "best_cells": _oneshot.best_cells,
    },
}


def source_of(path: Path) -> str:
    """Name of the kind of source that a path is.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ValueError
        If it is none of the kinds.
    """
    if not path.exists():
        raise FileNotFoundError(f"There is nothing at '{path}' to report on: check the path.")
    for name, source in SOURCES.items():
        if source.recognises(path):
            return name
    kinds = "; ".join(source.says for source in SOURCES.values())
    raise ValueError(f"'{path}' is nothing that a report can be made of. Expected {kinds}.")
