"""``tauzero search --method``: train a supernet, and what it found."""

from __future__ import annotations

__all__ = ["MethodOption", "PresetOption", "SpaceOption", "check_mix", "one_shot"]

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from tauzero._cli_provenance import record
from tauzero._cli_support import emit, make_table, progress_bar

#: Arguments of `run` that have an option of their own.
_OWN = {"method", "space", "data", "preset", "seed", "out", "device"}

MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="Instead of an algorithm: a one-shot method, which trains a supernet on --data. See docs/oneshot.md.",
        show_default=False,
    ),
]
SpaceOption = Annotated[
    str | None, typer.Option("--space", help="With --method: the space.", show_default="nasbench201")
]
PresetOption = Annotated[
    str | None,
    typer.Option(
        "--preset", help="With --method: paper (published hyper-parameters) or smoke (seconds).", show_default="paper"
    ),
]


def check_mix(method: str | None, benchmark: str | None, one_shot: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Refuse options that belong to the other kind of search.

    Parameters
    ----------
    method, benchmark
        ``--method`` and the argument BENCHMARK.
    one_shot, other
        Options that need ``--method``, and those that do not go with it: whatever is neither None nor empty was given.
    """
    if method is None:
        for name, value in one_shot.items():
            if value:
                raise ValueError(f"{name} belongs to a one-shot search: give --method as well.")
        if benchmark is None:
            raise ValueError(
                "Name the table or space to search in, such as `tauzero search nasbench201`, or a one-shot method by "
                "--method."
            )
        return
    if benchmark is not None:
        raise ValueError(f"With --method the space is named by --space. Got the argument {benchmark!r}.")
    given = [name for name, value in other.items() if value]
    if given:
        raise ValueError(f"{', '.join(given)} cannot be used with --method, which trains a supernet.")


def one_shot(
    method: str,
    *,
    space: str | None,
    preset: str | None,
    data: str | None,
    images: int | None,
    image_size: int | None,
    epochs: list[int],
    options: Mapping[str, Any],
    device: str,
    source: str | None,
    out: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Run a one-shot search and print what it found."""
    from tauzero import spaces
    from tauzero.search import oneshot

    if len(epochs) > 1:
        raise ValueError(f"--epochs takes one number with --method. Got {', '.join(map(str, epochs))}.")
    for name in _OWN & options.keys():
        raise ValueError(f"--option {name}=… is not known: give --{name}.")
    shortcuts = {"num_images": images, "image_size": image_size, "epochs": epochs[0] if epochs else None}
    given = {name: value for name, value in shortcuts.items() if value is not None}
    start = perf_counter()
    the_space = spaces.get(space or "nasbench201")
    oneshot.find(method)  # a wrong name is told before a table is read
    table, notes = _table(the_space, source)
    with progress_bar(f"training {method}", resumes=True) as progress:
        result = oneshot.run(
            method,
            the_space,
            data or "digits",
            preset=preset or "paper",
            seed=seed,
            out=out,
            device=device,
            progress=progress,
            table=table,
            **{**options, **given},
        )
    payload = result.as_dict() | {"wall_s": perf_counter() - start, "notes": notes, "out": out}
    if out is not None:
        record(out, {})
    emit(payload, as_json, _facts(payload), *([_datasets(payload)] if payload["best"]["datasets"] else []), *notes)


def _table(space: Any, source: str | None) -> tuple[Any, list[str]]:
    """The table of a space, None with a note where there is none."""
    from tauzero import benchmarks

    if source is not None:
        return benchmarks.load(space.name, source), []
    if space.name in benchmarks.names():
        try:
            return benchmarks.load(space.name), []
        except benchmarks.MissingTableError:
            pass
    return None, [f"There is no table of {space.name} here: what the cell is worth in truth is not known."]


def _facts(payload: Mapping[str, Any]) -> Any:
    best = payload["best"]
    tau = payload["supernet_tau"]
    facts = [
        ["best architecture", best["arch"]],
        ["one-shot accuracy, %", best["value"]],
        *(
            [["at the end of the search, %", searched]]
            if (searched := payload["search_accuracy"]) != best["value"]
            else []
        ),
        ["tau of the supernet", "–" if tau is None else f"{tau:.3f} ({payload['ranked']} random architectures)"],
        ["epochs", payload["epochs"]],
        ["training, s", payload["train_seconds"]],
        ["wall clock, s", payload["wall_s"]],
        ["images", payload["data"]],
    ]
    title = f"{payload['method']} on {payload['space']}, seed {payload['seed']}"
    return make_table(title, ["property", "value"], facts)


def _datasets(payload: Mapping[str, Any]) -> Any:
    rows = [
        [name, facts["validation_accuracy"], facts["test_accuracy"], facts["rank"], facts["of"]]
        for name, facts in payload["best"]["datasets"].items()
    ]
    columns = ["dataset", "validation accuracy, %", "test accuracy, %", "rank", "of"]
    return make_table("What the table knows of it", columns, rows)
