"""``tauzero score``: zero-cost proxies of untrained networks."""

from __future__ import annotations

__all__ = ["score"]

import json
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tauzero._cli_support import JsonOption, SeedOption, emit, fail, guarded, make_table, progress_bar, split_names
from tauzero.spaces.errors import BenchmarkFormatError

if TYPE_CHECKING:
    import pandas as pd

#: Networks scored between two looks at the clock, and seconds between two writes of ``--out``.
_CHUNK = 16
_WRITE_EVERY = 10.0
_FILE = "scores.parquet"


@guarded("With --out the finished scores are kept there, and the same command goes on from them.")
def score(
    space: Annotated[str, typer.Argument(help="A search space, such as nasbench201.")],
    proxies: Annotated[list[str] | None, typer.Option("--proxies", help="Names (a,b,c) or all.")] = None,
    sample: Annotated[int | None, typer.Option("--sample", min=1, help="Number of random architectures.")] = None,
    arch: Annotated[list[str] | None, typer.Option("--arch", help="An architecture; may be repeated.")] = None,
    dataset: Annotated[str, typer.Option("--dataset", help="Decides classes and image size.")] = "cifar10",
    data: Annotated[str, typer.Option("--data", help="Images: noise, digits or an .npz file.")] = "noise",
    batch_size: Annotated[int, typer.Option("--batch", min=2, help="Number of images.")] = 64,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the scores; resumes if they exist.")] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Score untrained networks by zero-cost proxies.

    Example: `tauzero score nasbench201 --proxies synflow,nwot --sample 100 --seed 0`
    """
    import numpy as np
    import pandas as pd

    from tauzero import networks
    from tauzero import proxies as room
    from tauzero.spaces import get

    if arch and sample is not None:
        raise ValueError("--sample and --arch exclude each other: random architectures, or those that you name.")
    found = get(space)
    if found.name not in networks.names():
        fail(
            f"proxies are computed on networks, which tauzero builds for {', '.join(networks.names())} only. "
            f"Got {space}: scores that you have already are features by `tauzero fit` and `evaluate --proxies FILE`."
        )
    genotypes = found.from_string(arch) if arch else found.sample(sample or 10, seed)
    names = split_names(proxies or ["synflow,nwot"])
    names = room.names() if names == ["all"] else names
    settings = {
        "space": space,
        "proxies": names,
        "dataset": dataset,
        "data": data,
        "batch_size": batch_size,
        "seed": seed,
    }
    start = perf_counter()
    target = out / _FILE if out is not None else None
    frames = _resume(target, settings, found.index(genotypes).tolist())
    saved = done = sum(len(frame) for frame in frames)
    written = monotonic()
    try:
        with progress_bar("scoring") as progress:
            while done < len(genotypes):
                part = genotypes[done : done + _CHUNK]
                frames.append(
                    room.score(
                        found,
                        part,
                        names,
                        batch=data,
                        device=device,
                        seed=seed,
                        batch_size=batch_size,
                        dataset=dataset,
                    )
                )
                done += len(part)
                if progress is not None:
                    progress(done, len(genotypes))
                if target is not None and monotonic() - written > _WRITE_EVERY:
                    _write(target, settings, pd.concat(frames, ignore_index=True))
                    saved, written = done, monotonic()
    finally:
        # Also on Ctrl-C: what has been scored is kept.
        if target is not None and done > saved:
            _write(target, settings, pd.concat(frames, ignore_index=True))
    frame = pd.concat(frames, ignore_index=True)
    seconds = perf_counter() - start
    rows: list[dict[str, Any]] = [
        {"arch": a, "index": i, **dict(zip(names, values, strict=True))}
        for a, i, values in zip(frame["arch"], frame["index"].tolist(), np.asarray(frame[names]).tolist(), strict=True)
    ]
    payload = {**settings, "seconds": seconds, "out": target, "rows": rows}
    cells = [[r["index"], r["arch"], *(r[name] for name in names)] for r in rows]
    title = f"{len(rows)} untrained networks of {space} in {seconds:.1f} s (images: {data}, seed {seed})"
    notes = [f"Wrote {target}."] if target is not None else []
    emit(payload, as_json, make_table(title, ["index", "arch", *names], cells), *notes)


def _resume(target: Path | None, settings: dict[str, Any], index: list[int]) -> list[pd.DataFrame]:
    """Scores of an interrupted run of the same settings, the first of the wanted rows; none without a file."""
    if target is None or not target.exists():
        return []
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(target, partitioning=None)
    except (pa.ArrowInvalid, OSError) as error:
        raise BenchmarkFormatError(f"{target} is not a readable Parquet file ({error}): delete it.") from error
    before = json.loads((table.schema.metadata or {}).get(b"tauzero.score", b"null"))
    if before != settings:
        raise ValueError(
            f"{target} holds scores of other settings: {json.dumps(before)}. Asked for: {json.dumps(settings)}. "
            "Choose another folder for --out, or delete the file."
        )
    frame: pd.DataFrame = table.to_pandas()
    kept = frame["index"].tolist()
    if kept != index[: len(kept)]:
        raise ValueError(f"{target} holds scores of other architectures: choose another folder for --out.")
    return [frame]


def _write(target: Path, settings: dict[str, Any], frame: pd.DataFrame) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tauzero.benchmarks import atomic_path

    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({"tauzero.score": json.dumps(settings)})
    with atomic_path(target) as partial:
        pq.write_table(table, partial, compression="zstd")
