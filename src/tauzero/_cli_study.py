"""``tauzero study``: algorithms against one another over many trials, by look-up, on predictions and on scores."""

from __future__ import annotations

__all__ = ["study"]

import ast
import shlex
import sys
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from tauzero._cli_support import (
    DatasetOption,
    JsonOption,
    SourceOption,
    dataset_of,
    emit,
    guarded,
    make_table,
    progress_bar,
    split_names,
)

#: True queries where neither --budget nor --seconds is given, and pairs of algorithms shown to people.
_BUDGET, _SHOWN = 150, 20


@guarded("The finished trials are kept in the folder of --out, and the same command goes on from them.")
def study(
    out: Annotated[Path, typer.Option("--out", help="Folder of the study; the same command resumes or extends it.")],
    benchmark: Annotated[
        str, typer.Option("--benchmark", help="The table that is searched and that judges.")
    ] = "nasbench201",
    algorithms: Annotated[
        list[str] | None, typer.Option("--algorithms", help="Names (a,b,c), or all that fit.", show_default="all")
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            "--objective",
            help="table (look-up), surrogate (predictions), proxy (untrained networks): a,b,c.",
            show_default="table",
        ),
    ] = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Seeds 0, 1, … of every algorithm.")] = 100,
    budget: Annotated[
        int | None,
        typer.Option("--budget", min=1, help="True queries of each trial.", show_default="150, or --seconds"),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0, help="Simulated seconds of training of each trial.")
    ] = None,
    dataset: DatasetOption = None,
    signal: Annotated[
        str, typer.Option("--signal", help="What searches see: the mean over runs, or the number of one run.")
    ] = "mean",
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Training budget of the signal.", show_default="full")
    ] = None,
    ask: Annotated[int, typer.Option("--ask", min=1, help="Architectures asked for at a time.")] = 1,
    params: Annotated[
        list[str] | None,
        typer.Option("--params", metavar="ALGORITHM:NAME=VALUE", help="Parameter of an algorithm; may be repeated."),
    ] = None,
    train: Annotated[
        int | None,
        typer.Option("--train", min=2, help="True queries that train a surrogate.", show_default="half of --budget"),
    ] = None,
    surrogate: Annotated[
        str, typer.Option("--surrogate", help="Kind of surrogate, fitted for each trial.")
    ] = "gaussian_process",
    kind: Annotated[
        str, typer.Option("--kind", help="What is maximised of predictions: mean, ucb or thompson.")
    ] = "mean",
    predicted_budget: Annotated[
        int, typer.Option("--predicted-budget", min=1, help="Free evaluations of predictions or scores.")
    ] = 1_000,
    proxies: Annotated[
        list[str] | None,
        typer.Option("--proxies", help="Proxies (a,b,c) that are scored on demand.", show_default="synflow"),
    ] = None,
    proxy_table: Annotated[
        str | None,
        typer.Option("--proxy-table", help="Parquet file of scores (or a folder of `tauzero score`) to read instead."),
    ] = None,
    proxy_columns: Annotated[
        list[str] | None,
        typer.Option(
            "--proxy-columns", help="Its columns (a,b,c); -a where lower is better.", show_default="--proxies"
        ),
    ] = None,
    source: SourceOption = None,
    engine: Annotated[str, typer.Option("--engine", help="Where trials run: local processes, or ray.")] = "local",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Tasks at a time.", show_default="cores")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", help="With --engine ray: the cluster.", show_default="one on this machine"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare search algorithms over many trials, and search on predictions with look-up, at equal true queries.

    Example: `tauzero study --algorithms random_search,local_search --objective table,surrogate --trials 100 --out DIR`
    """
    from tauzero import benchmarks, search

    names = split_names(algorithms or ["all"])
    if "all" in names and len(names) > 1:
        raise ValueError(f"--algorithms takes 'all' alone, or names. Got {', '.join(names)}.")
    if proxy_columns and proxy_table is None:
        raise ValueError("--proxy-columns belongs to --proxy-table FILE.")
    start = perf_counter()
    table = benchmarks.load(benchmark, source)
    with progress_bar("trials", resumes=True) as progress:
        result = search.study(
            table,
            "all" if names == ["all"] else names,
            split_names(objective or ["table"]),
            out=out,
            trials=trials,
            budget=_BUDGET if budget is None and seconds is None else budget,
            seconds=seconds,
            dataset=dataset_of(table, dataset),
            signal=_signal(signal),
            epoch=epochs,
            batch_size=ask,
            params=_params(params or []),
            train=train,
            surrogate=surrogate,
            kind=kind,
            predicted_budget=predicted_budget,
            proxies=split_names(proxy_columns or proxies or []),
            proxy_table=proxy_table,
            engine=engine,  # type: ignore[arg-type]  # the room says which there are
            workers=workers,
            address=address,
            progress=progress,
            command=shlex.join(["tauzero", *sys.argv[1:]]),
        )
    facts = result.facts
    rows = result.summary().to_dict("records")
    payload = {
        "rows": rows,
        "winners": result.winners(),
        "gains": result.gains.to_dict("records"),
        "tests": result.tests.to_dict("records"),
        "left_out": facts["left_out"],
        "benchmark": facts["benchmark"],
        "dataset": facts["dataset"],
        "signal": facts["signal"],
        "optimum": facts["optimum"],
        "test_optimum": facts["test_optimum"],
        "budget": facts["settings"]["budget"],
        "seconds_budget": facts["settings"]["seconds"],
        "transfer": facts["transfer"],
        "notes": facts["notes"],
        "wall_s": perf_counter() - start,
        "out": out,
    }
    emit(payload, as_json, *_shown(result, rows, payload))


def _signal(text: str) -> Any:
    if text == "mean":
        return text
    if text.removeprefix("run").strip().isdecimal():
        return int(text.removeprefix("run"))
    raise ValueError(f"--signal takes mean, or the number of a run, such as 0. Got {text!r}.")


def _params(given: list[str]) -> dict[str, dict[str, Any]]:
    """``ALGORITHM:NAME=VALUE`` by algorithm; values as Python reads them, else texts."""
    found: dict[str, dict[str, Any]] = {}
    for text in given:
        algorithm, colon, rest = (part.strip() for part in text.partition(":"))
        name, equals, value = (part.strip() for part in rest.partition("="))
        if not (algorithm and colon and name and equals and value):
            raise ValueError(
                f"--params takes ALGORITHM:NAME=VALUE, such as regularized_evolution:sample_size=5. Got {text!r}."
            )
        try:
            found.setdefault(algorithm, {})[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found.setdefault(algorithm, {})[name] = value
    return found


def _shown(result: Any, rows: list[dict[str, Any]], payload: dict[str, Any]) -> list[Any]:
    """Tables for people."""
    limits = [f"{payload['budget']:,} true queries"] if payload["budget"] else []
    if payload["seconds_budget"] is not None:
        limits.append(f"{payload['seconds_budget']:,.0f} simulated s")
    title = f"{payload['benchmark']}, {payload['dataset']}: {' and '.join(limits)}; {payload['signal']}"
    header = [
        "objective", "algorithm", "trials", "regret", "median", "q10 … q90", "optimum", "test, %", "true", "asked",
        "simulated h", "wall s",
    ]  # fmt: skip
    cells = [
        [
            row["objective"],
            row["algorithm"],
            row["trials"],
            f"{row['regret_mean']:.3f} ± {row['regret_std']:.3f}",
            f"{row['regret_median']:.3f}",
            f"{row['regret_q10']:.3f} … {row['regret_q90']:.3f}",
            row["found_optimum"],
            f"{row['test_mean']:.2f} ± {row['test_std']:.2f}",
            row["true_queries"],
            row["queries"],
            row["simulated_s"] / 3600,
            row["wall_s"],
        ]
        for row in rows
    ]
    shown = [make_table(title, header, cells)]
    if len(result.gains):
        gains = [
            [row["algorithm"], row["objective"], row["trials"], f"{row['mean_gain']:+.3f} ± {row['std']:.3f}",
             row["p_adjusted"]]
            for row in payload["gains"]
        ]  # fmt: skip
        columns = ["algorithm", "instead of look-up", "trials", "gain", "p (Holm)"]
        shown.append(
            make_table("regret of look-up minus theirs: positive where predictions are better", columns, gains)
        )
    if 0 < len(result.tests) <= _SHOWN:
        tests = [
            [row["objective"], row["algorithm_a"], row["algorithm_b"], f"{row['mean_difference']:+.3f}",
             f"{row['wins']} / {row['ties']} / {row['losses']}", row["p_adjusted"]]
            for row in payload["tests"]
        ]  # fmt: skip
        columns = ["objective", "a", "b", "regret a - b", "a wins / ties / loses", "p (Holm)"]
        shown.append(make_table("paired over trials (Wilcoxon)", columns, tests))
    for objective, winner in payload["winners"].items():
        beside = (
            "" if winner["runner_up"] is None else f", before {winner['runner_up']} (p = {winner['p_adjusted']:.2g})"
        )
        shown.append(f"Lowest mean regret, {objective}: {winner['algorithm']}{beside}.")
    shown += [
        f"Left out of {entry['objective']}: {entry['algorithm']}, {entry['reason']}." for entry in payload["left_out"]
    ]
    return [*shown, *payload["notes"], f"Wrote {payload['out']}."]
