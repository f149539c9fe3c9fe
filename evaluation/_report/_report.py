"""Sources → page."""

from __future__ import annotations

__all__ = ["report"]

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tauzero.benchmarks import atomic_path
from tauzero.evaluation._report._page import render
from tauzero.evaluation._report._parts import Context, Section, Styles
from tauzero.evaluation._report._registry import FIGURES, SOURCES, source_of
from tauzero.spaces import unknown_name

if TYPE_CHECKING:
    from tauzero.benchmarks import Benchmark

PathLike = str | os.PathLike[str]


def report(
    source: PathLike | Sequence[PathLike],
    out: PathLike,
    *,
    title: str | None = None,
    benchmark: Benchmark | None = None,
    dataset: str | None = None,
    metric: str | None = None,
) -> Path:
    """Make one page of studies, evaluations, proxy sweeps and searches of all kinds that needs nothing beside itself.

    What a source is, is found out from its content. The page shows charts, sortable tables and drawn cells, says below
    each how it was made, and opens in any browser from 2023 on, without a network.

    Parameters
    ----------
    source
        One or several of: the folder of a study; the folder of ``tauzero evaluate --out``, or a file of what
        ``tauzero evaluate --json`` printed; the folder of a proxy sweep; a trajectory, or a folder of trajectories; the
        folder of a one-shot search, or a folder of such folders.
    out
        The HTML file; written whole or not at all.
    title
        Heading; by default that of the only section, or "tauzero report".
    benchmark, dataset, metric
        A table of true accuracies (percent) to compare scores of proxies with; by default its first dataset and that
        dataset's main metric.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ValueError
        If a source is none of the above, or no source is given.
    FileNotFoundError
        If a source does not exist.
    BenchmarkFormatError
        If a source is damaged.
    MissingExtraError
        If the extra ``report`` is not installed.
    """
    given = [source] if isinstance(source, str | os.PathLike) else list(source)
    if not given:
        raise ValueError("The 'source' argument must name at least one file or folder. Got none.")
    if benchmark is None and (dataset is not None or metric is not None):
        raise ValueError("The arguments 'dataset' and 'metric' need 'benchmark', the table that they are of.")
    if benchmark is not None:
        metrics = benchmark.metrics(dataset)  # an unknown dataset is an error here, before anything is read
        if metric is not None and metric not in metrics:
            raise unknown_name("metric", metric, metrics)
    contexts = {kind: Context(Styles(), benchmark, dataset, metric) for kind in SOURCES}
    sections = [_section(Path(path), contexts) for path in given]
    heading = title or (sections[0].title if len(sections) == 1 else "tauzero report")
    target = Path(out)
    page = render(heading, sections)
    with atomic_path(target) as partial:
        partial.write_text(page, encoding="utf-8")
    return target


def _section(path: Path, contexts: Mapping[str, Context]) -> Section:
    kind = source_of(path)
    what = SOURCES[kind].read(path)
    described = SOURCES[kind].section(what)
    figures = [figure for make in FIGURES[kind].values() for figure in make(what, contexts[kind])]
    return Section(kind=kind, figures=figures, **described)
