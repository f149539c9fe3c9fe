"""``tauzero demo``: the whole product in one go."""

from __future__ import annotations

__all__ = ["demo"]

import json
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from tauzero._cli_support import JsonOption, SeedOption, emit, guarded, jsonable, make_table, progress_bar

_SUMMARY = "summary.json"


@guarded("Plots of finished steps are complete; run the same command again.")
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the plots and the summary.")] = Path("tauzero-demo"),
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Predict a search space, score untrained networks and search over predictions, on a real table.

    Example: `tauzero demo --out tauzero-demo`
    """
    from tauzero._demo import run_demo
    from tauzero.benchmarks import atomic_path

    out.mkdir(parents=True, exist_ok=True)
    start = perf_counter()
    steps = []
    for step in run_demo(out, seed, progress_bar):
        steps.append(step)
        if not as_json:
            emit({}, False, *_shown(len(steps), step))
    seconds = perf_counter() - start
    plots = [path for step in steps for path in step.plots]
    summary: dict[str, Any] = {
        "seed": seed,
        "seconds": seconds,
        "plots": plots,
        "steps": {step.name: {**step.facts, "seconds": step.seconds} for step in steps},
    }
    with atomic_path(out / _SUMMARY) as partial:
        partial.write_text(json.dumps(jsonable(summary), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    times = make_table("Seconds", ["step", "seconds"], [*([s.title, s.seconds] for s in steps), ["all", seconds]])
    where = f"Plots and {_SUMMARY} are in {out}: {', '.join(path.name for path in plots)}."
    emit({**summary, "out": out}, as_json, times, where)


def _shown(number: int, step: Any) -> list[Any]:
    """Heading, facts and table of a step as renderables."""
    from rich.rule import Rule

    shown: list[Any] = [Rule(f"{number}. {step.title}", align="left")]
    if step.lines:
        shown.append(_grid(step.lines))
    columns, rows = step.table
    if rows:
        shown.append(make_table("", columns, rows))
    shown.append(f"{step.seconds:.1f} s" + "".join(f" · {path}" for path in step.plots) + "\n")
    return shown


def _grid(lines: list[tuple[str, Any]]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    for label, value in lines:
        grid.add_row(escape(label), escape(f"{value:,}" if isinstance(value, int) else str(value)))
    return grid
