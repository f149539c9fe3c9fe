"""``tauzero report``: one stand-alone page of what other commands wrote."""

from __future__ import annotations

__all__ = ["report"]

from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from tauzero._cli_support import (
    JsonOption,
    SourceOption,
    dataset_of,
    emit,
    guarded,
)


@guarded("Nothing half-written is left; run the same command again.")
def report(
    source: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of `study`, `evaluate --out`, `score --out` or `search --method … --out`, files of "
            "`search --out` or `evaluate --json`."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The page.")] = Path("report.html"),
    title: Annotated[str | None, typer.Option("--title", help="Heading of the page.")] = None,
    benchmark: Annotated[
        str | None, typer.Option("--benchmark", help="Table of accuracies to compare proxies with, as nasbench201.")
    ] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="By default the table's first.")] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="By default the table's main accuracy.")] = None,
    table: SourceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make one page of studies, evaluations, proxy sweeps and searches: charts, tables, drawn cells; no network needed.

    Example: `tauzero report STUDY --out report.html`
    """
    from tauzero import benchmarks, evaluation

    if benchmark is None and (dataset is not None or metric is not None or table is not None):
        raise ValueError("--dataset, --metric and --source need --benchmark NAME, the table that they are of.")
    start = perf_counter()
    found = None if benchmark is None else benchmarks.load(benchmark, table)
    chosen = None if found is None else dataset_of(found, dataset)
    page = evaluation.report(source, out, title=title, benchmark=found, dataset=chosen, metric=metric)
    size = page.stat().st_size
    payload = {"out": page, "sources": source, "bytes": size, "seconds": perf_counter() - start}
    emit(payload, as_json, f"Wrote {page} ({size / 1e6:.1f} MB): open it in a browser; it needs nothing beside itself.")
