"""``tauzero score``: zero-cost proxies of untrained networks."""

from __future__ import annotations

__all__ = ["score"]

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tauzero._cli_provenance import record
from tauzero._cli_score_list import show_proxies
from tauzero._cli_support import (
    EXIT_FAILED,
    JsonOption,
    SeedOption,
    emit,
    fail,
    guarded,
    make_table,
    progress_bar,
    split_names,
)

if TYPE_CHECKING:
    import pandas as pd

    from tauzero.spaces import Genotypes, SearchSpace

#: Random architectures where nothing is said, and rows shown of a table that stands in a folder as well.
_SAMPLE = 10
_SHOWN = 20
#: Proxies side by side in a table for people; further ones stand in tables below it.
_ABREAST = 8
#: What arguments of `tauzero.proxies.score` and `sweep` are called here, for messages about them.
_OPTIONS = {
    "batch": "--data",
    "data": "--data",
    "batch_size": "--batch",
    "names": "--proxies",
    "dataset": "--dataset",
    "device": "--device",
    "image_size": "--image-size",
    "networks_at_once": "--networks-at-once",
    "aggregate": "--aggregate",
    "out": "--out",
    "workers": "--workers",
    "gpus_per_worker": "--gpus-per-worker",
}


@guarded("With --out the finished scores are kept there, and the same command goes on from them.")
def score(
    space: Annotated[str | None, typer.Argument(help="A search space, such as nasbench201.")] = None,
    proxies: Annotated[
        list[str] | None,
        typer.Option(
            "--proxies", help="Names (a,b,c), all or suite_zero; `--list` shows them.", show_default="synflow,nwot"
        ),
    ] = None,
    listing: Annotated[
        bool, typer.Option("--list", help="List the proxies and, with a space, the options of its networks; then stop.")
    ] = False,
    sample: Annotated[
        int | None,
        typer.Option("--sample", min=1, help="Number of random architectures.", show_default="10; with --out all"),
    ] = None,
    arch: Annotated[list[str] | None, typer.Option("--arch", help="An architecture; may be repeated.")] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset", help="Decides classes and image size; or a number of classes.", show_default="the benchmark's"
        ),
    ] = None,
    data: Annotated[
        str, typer.Option("--data", help="Images: noise, digits, an .npz file, or a data set's file or folder.")
    ] = "noise",
    batch_size: Annotated[int, typer.Option("--batch", min=2, help="Number of images.")] = 64,
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", min=1, help="Height and width of images.", show_default="the data set's"),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="Shape of the networks, as channels=8; may be repeated."),
    ] = None,
    aggregate: Annotated[
        str | None, typer.Option("--aggregate", help="rank or log_rank: a column that combines all proxies.")
    ] = None,
    networks_at_once: Annotated[
        int | None,
        typer.Option("--networks-at-once", min=1, help="Networks in one module.", show_default="1, on GPUs 16"),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the scores: a sweep, which the same command resumes after any stop."),
    ] = None,
    engine: Annotated[str, typer.Option("--engine", help="With --out: local processes, or ray.")] = "local",
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Chunks at a time.", show_default="cores, or GPUs if there are any"),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", help="With --engine ray: the cluster.", show_default="one on this machine"),
    ] = None,
    gpus_per_worker: Annotated[
        float, typer.Option("--gpus-per-worker", min=0, help="With --engine ray: GPUs of each task.")
    ] = 0.0,
    part_size: Annotated[
        int, typer.Option("--part-size", min=1, help="Most networks that are scored before they are kept.")
    ] = 32,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Score untrained networks by zero-cost proxies.

    With --out a whole space is swept: in parallel, kept part by part, gone on with after Ctrl-C or a crash.

    Example: `tauzero score nasbench201 --proxies synflow,nwot --sample 100 --seed 0`
    """
    from tauzero import networks
    from tauzero import proxies as room
    from tauzero.spaces import get

    if listing:
        show_proxies(space, as_json)
        return
    if space is None:
        fail(f"name a search space to score architectures of: {', '.join(networks.names())}. --list shows the proxies.")
    if arch and sample is not None:
        raise ValueError("--sample and --arch exclude each other: random architectures, or those that you name.")
    if out is None and (engine != "local" or workers is not None or address is not None or gpus_per_worker):
        raise ValueError(
            "--engine, --workers, --address and --gpus-per-worker need --out DIR: what several workers score is kept "
            "in a folder."
        )
    found = get(space)
    if found.kind not in networks.names():
        fail(
            f"proxies are computed on networks, which tauzero builds for {', '.join(networks.names())} only. "
            f"Got {space}: scores that you have already are features by `tauzero fit` and `evaluate --proxies FILE`."
        )
    options = _read_options(option or [])
    networks.family(found).read_options(options)  # what it does not know could be another argument of `score`
    names = split_names(["synflow,nwot"] if proxies is None else proxies)
    settings: dict[str, Any] = {"batch": data, "device": device, "seed": seed, "batch_size": batch_size, **options}
    given = {
        "dataset": int(dataset) if dataset is not None and dataset.isdecimal() else dataset,
        "image_size": image_size,
        "aggregate": aggregate,
        "networks_at_once": networks_at_once,
    }
    settings.update({name: value for name, value in given.items() if value is not None})
    genotypes = _architectures(found, arch, sample, seed, whole=out is not None)
    start = perf_counter()
    with _speaking_of_options(), progress_bar("scoring", resumes=out is not None) as progress:
        if out is None:
            frame = room.score(found, genotypes, names, progress=progress, **settings)
        else:
            frame = room.sweep(
                found,
                genotypes,
                names,
                out,
                engine=engine,  # type: ignore[arg-type]  # the room says which there are
                workers=workers,
                address=address,
                gpus_per_worker=gpus_per_worker,
                part_size=part_size,
                progress=progress,
                **settings,
            )
    seconds = perf_counter() - start
    names = [name for name in frame.columns if name not in {"index", "arch", "reason"}]  # groups spelled out
    rows = _rows(frame, names)
    target = out / "scores.parquet" if out is not None else None
    if out is not None:
        record(out, {"seconds": seconds, "found": frame.attrs.get("found", 0)})
    used = given["dataset"] or networks.family(found).dataset
    payload = {
        "space": space,
        "proxies": names,
        "dataset": used,
        "data": data,
        "batch_size": batch_size,
        "image_size": image_size or networks.dataset_shape(used).image_size,
        "options": options,
        "seed": seed,
        "seconds": seconds,
        "out": target,
        "found": frame.attrs.get("found", 0),
        "rows": rows,
    }
    shown = rows[:_SHOWN] if out is not None else rows
    title = f"{len(rows):,} untrained networks of {space} in {seconds:.1f} s (images: {data}, seed {seed})"
    emit(payload, as_json, *_tables(title, shown, names), *_notes(frame, target, len(rows) - len(shown)))


def _architectures(
    space: SearchSpace, arch: list[str] | None, sample: int | None, seed: int, *, whole: bool
) -> Genotypes:
    """Those that are named, random ones, or all of the space."""
    if arch:
        return space.from_string(arch)
    if sample is None and whole:
        if not space.enumerable:
            fail(f"{space.name} has about {space.size:.2g} architectures, too many to score all: pass --sample N.")
        return space.enumerate()
    return space.sample(sample or _SAMPLE, seed)


def _read_options(given: list[str]) -> dict[str, Any]:
    """Shape options as numbers, truth values or texts by their names."""
    options: dict[str, Any] = {}
    for text in given:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise ValueError(f"--option takes NAME=VALUE, such as channels=8. Got {text!r}.")
        if name in options:
            raise ValueError(f"--option {name} is given twice: {options[name]!r} and {value!r}.")
        options[name] = _read_value(value)
    return options


def _read_value(text: str) -> Any:
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@contextmanager
def _speaking_of_options() -> Iterator[None]:
    """Errors name options of the command line where the room named its arguments; no room in memory is one of them."""
    try:
        yield
    except MemoryError as error:
        fail(f"the memory does not suffice ({error}): use a smaller --batch or --image-size.", EXIT_FAILED)
    except ValueError as error:
        if len(error.args) == 1 and isinstance(error.args[0], str):
            text = re.sub(
                r"The '(\w+)' (?=argument|file|folder)",
                lambda m: f"The {_OPTIONS.get(m[1], repr(m[1]))} ",
                error.args[0],
            )
            text = re.sub(
                r"\b(batch_size|image_size)( is |\.|=)", lambda m: _OPTIONS[m[1]] + m[2].replace("=", " "), text
            )
            error.args = (re.sub(r"\bdataset='?([\w-]+)'?", r"--dataset \1", text),)
        raise


def _rows(frame: pd.DataFrame, names: list[str]) -> list[dict[str, Any]]:
    """Each row for programs: None where there is no score, with the reason."""
    import numpy as np

    index = frame["index"].tolist() if "index" in frame else [None] * len(frame)
    values = np.asarray(frame[names], dtype=np.float64)
    known = [[value if np.isfinite(value) else None for value in row] for row in values.tolist()]
    rows: list[dict[str, Any]] = [
        {"arch": a, "index": i, **dict(zip(names, scores, strict=True))}
        for a, i, scores in zip(frame["arch"], index, known, strict=True)
    ]
    for row, reason in zip(rows, _reasons(frame), strict=True):
        if reason:
            row["reason"] = reason
    return rows


def _reasons(frame: pd.DataFrame) -> list[str | None]:
    """Why scores are missing in each row; a sweep has a column of it, `score` an attribute."""
    reasons: list[str | None] = (
        frame["reason"].tolist() if "reason" in frame else frame.attrs.get("reasons") or [None] * len(frame)
    )
    return reasons


def _tables(title: str, rows: list[dict[str, Any]], names: list[str]) -> list[Any]:
    """Tables for people: many proxies stand below one another, rows are then told apart by their index or number."""
    numbered = any(row["index"] is not None for row in rows)
    keys = [row["index"] if numbered else k for k, row in enumerate(rows)]
    tables = []
    for first in range(0, len(names), _ABREAST):
        some = names[first : first + _ABREAST]
        with_key = numbered or len(names) > _ABREAST
        columns = [*(["index" if numbered else "row"] if with_key else []), *(["arch"] if not first else []), *some]
        cells = [
            [*([key] if with_key else []), *([row["arch"]] if not first else []), *(row[name] for name in some)]
            for key, row in zip(keys, rows, strict=True)
        ]
        tables.append(make_table(title if not first else "", columns, cells))
    return tables


def _notes(frame: pd.DataFrame, target: Path | None, hidden: int) -> list[str]:
    """What people should know beside the table."""
    why = Counter(reason for reason in _reasons(frame) if reason)
    notes = []
    if target is not None:
        notes.append(f"{'… and ' + format(hidden, ',') + ' more. ' if hidden else ''}Wrote {target}.")
    if found := frame.attrs.get("found", 0):
        notes.append(f"{found:,} of {frame.attrs['networks']:,} different networks were found finished.")
    if why:
        reason, most = why.most_common(1)[0]
        notes.append(f"{sum(why.values()):,} rows lack scores; most often ({most:,}): {reason}.")
    return notes
