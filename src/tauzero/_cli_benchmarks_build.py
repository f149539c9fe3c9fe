"""``tauzero benchmarks build``: a table of one's own."""

from __future__ import annotations

__all__ = ["build"]

import re
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from tauzero._cli_score import _read_options
from tauzero._cli_support import JsonOption, SeedOption, emit, fail, guarded, make_table, progress_bar

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@guarded("Every finished group of trainings is kept; the same command goes on from there.")
def build(
    space: Annotated[str, typer.Argument(help="A search space with networks, such as nasbench201.")],
    out: Annotated[
        str,
        typer.Option(
            "--out", help="The table's name, for the data folder; or a folder, whose name is the table's (./mine)."
        ),
    ],
    data: Annotated[
        str, typer.Option("--data", help="Images: digits, an .npz file, or a data set's file or folder.")
    ] = "digits",
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", help="Name of the images in the table.", show_default="the file's"),
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the training images.")] = 10,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each network.")] = 3,
    sample: Annotated[
        int | None,
        typer.Option("--sample", min=1, help="Train this many random architectures only.", show_default="all"),
    ] = None,
    train_images: Annotated[
        int | None, typer.Option("--train-images", min=2, help="Images to train on.", show_default="digits: 400")
    ] = None,
    validation_images: Annotated[
        int | None,
        typer.Option("--validation-images", min=1, help="Images to validate.", show_default="digits: 300"),
    ] = None,
    test_images: Annotated[
        int | None, typer.Option("--test-images", min=1, help="Images of the test.", show_default="digits: the rest")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option("--image-size", min=1, help="Height and width.", show_default="digits: 8, else 32")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch", min=2, help="Images of a training step.")] = 50,
    learning_rate: Annotated[float, typer.Option("--learning-rate", min=0, help="At the start; it falls to 0.")] = 0.1,
    weight_decay: Annotated[float, typer.Option("--weight-decay", min=0, help="Of all parameters.")] = 5e-4,
    augment: Annotated[
        bool | None,
        typer.Option("--augment/--no-augment", help="Crops and mirror images.", show_default="all but digits"),
    ] = None,
    channels: Annotated[
        int | None, typer.Option("--channels", min=1, help="Of the first stage; short for --option channels=N.")
    ] = None,
    cells_per_stage: Annotated[
        int | None, typer.Option("--cells-per-stage", min=1, help="Short for --option cells_per_stage=N.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="Shape of the networks; may be repeated."),
    ] = None,
    licence: Annotated[str, typer.Option("--licence", help="Licence of the images, which becomes the table's.")] = "",
    group_size: Annotated[int, typer.Option("--group-size", min=1, help="Networks trained side by side.")] = 64,
    engine: Annotated[str, typer.Option("--engine", help="Local processes, or ray.")] = "local",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Groups at a time.", show_default="one per core")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", help="With --engine ray: the cluster.", show_default="one on this machine"),
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Train all networks of a space on your images, many at once, and keep the results as a table.

    The same command goes on after Ctrl-C or a crash. --seed draws the sample and the division of the images.

    Example: `tauzero benchmarks build nasbench201 --channels 4 --cells-per-stage 1 --sample 100 --out mine`
    """
    from tauzero import networks
    from tauzero.benchmarks import Benchmark, data_folder, read_store
    from tauzero.search.table_building import build_table, check_name, plan_table
    from tauzero.spaces import get

    found = get(space)
    if found.kind not in networks.names():
        fail(f"tauzero builds networks for {', '.join(networks.names())} only. Got {space}.")
    folder, name, target = _place(out, data_folder())
    check_name(name)
    options = _read_options(option or [])
    for key, value in (("channels", channels), ("cells_per_stage", cells_per_stage)):
        if value is not None:
            if options.get(key, value) != value:
                fail(f"--option {key}={options[key]} and --{key.replace('_', '-')} {value} say different things.")
            options[key] = value
    settings: dict[str, Any] = {
        "genotypes": None if sample is None else found.sample(sample, seed, unique=True),
        "dataset": dataset,
        "epochs": epochs,
        "seeds": seeds,
        "train_images": train_images,
        "validation_images": validation_images,
        "test_images": test_images,
        "image_size": image_size,
        "split_seed": seed,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "augment": augment,
        "group_size": group_size,
        **options,
    }
    start = perf_counter()
    plan = plan_table(found, data, **settings)
    with progress_bar("training", resumes=True) as progress:
        build_table(
            found, folder, data, name=name, licence=licence, engine=engine, workers=workers, address=address,  # type: ignore[arg-type]
            progress=progress, plan=plan, target=target,
        )  # fmt: skip
    seconds = perf_counter() - start
    table = Benchmark(read_store(target))
    facts = table.info()
    trainings = len(plan.networks) * seeds
    payload = {
        "name": name,
        "path": target,
        "folder": folder,
        "space": found.name,
        "rows": facts["rows"],
        "networks": len(plan.networks),
        "trainings": trainings,
        "together": plan.together,
        "seconds": seconds,
        "processor_seconds": facts["provenance"]["processor_seconds"],
        "info": facts,
    }
    shown = make_table(
        f"Built {name}",
        ["property", "value"],
        [
            ["space", found.name],
            ["architectures", facts["rows"]],
            ["different networks", len(plan.networks)],
            ["trainings", f"{trainings:,} ({seeds} seeds, {epochs} epochs)"],
            ["images", plan.settings["images"]],
            ["seconds", f"{seconds:,.0f}"],
        ],
    )
    notes = [f"Wrote {target}. The trainings are kept in {folder}, which can be deleted."]
    if not plan.together:
        notes.append(
            f"Networks of {found.name} were trained one by one: nobody has written how to compute them together."
        )
    emit(payload, as_json, shown, *notes)


def _place(out: str, data: Path) -> tuple[Path, str, Path]:
    """Working folder, name and file of the table: in the data folder for a bare name, else in the folder named."""
    if _NAME.fullmatch(out):
        return data / f"{out}.build", out, data / f"{out}.arrow"
    folder = Path(out).expanduser()
    name = folder.absolute().name
    return folder, name, folder / f"{name}.arrow"
