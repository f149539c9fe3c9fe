"""``tauzero benchmarks``: tables on disk, what they hold, and single look-ups."""

from __future__ import annotations

__all__ = ["benchmarks"]

from pathlib import Path
from typing import Annotated, Any

import typer

from tauzero._cli_benchmarks_build import build
from tauzero._cli_support import (
    DatasetOption,
    JsonOption,
    SourceOption,
    dataset_of,
    emit,
    guarded,
    make_table,
    progress_bar,
)
from tauzero._cli_surrogate_benchmarks import fit_surrogate, validity

benchmarks = typer.Typer(no_args_is_help=True, help="Import tables, say what they hold and look results up.")
benchmarks.command("fit-surrogate")(fit_surrogate)
benchmarks.command("validity")(validity)


@benchmarks.command("list")
@guarded()
def list_tables(as_json: JsonOption = False) -> None:
    """List the tables that can be loaded.

    Example: `tauzero benchmarks list`
    """
    from tauzero.benchmarks import available, data_folder, names
    from tauzero.benchmarks._embedded import embedded
    from tauzero.surrogates import benchmark_names

    paths, packed = available(), embedded()
    rows = [
        {
            "name": name,
            "imported": name in paths,
            "embedded": name in packed,
            "path": paths.get(name),
            "bytes": _bytes(paths.get(name)),
        }
        for name in names()
    ]
    table = make_table(
        "Benchmark tables",
        ["name", "imported", "embedded", "bytes", "path"],
        [[r[k] for k in ("name", "imported", "embedded", "bytes", "path")] for r in rows],
    )
    hint = (
        f"Imported tables are kept in {data_folder()} ($TAUZERO_DATA). `tauzero benchmarks import NAME PATH` adds one; "
        "nasbench201 is imported by itself where the extra tauzero\\[nasbench201] is installed. "
        "Embedded tables come with the package."
    )
    predicted = [f"surrogate:{name}" for name in benchmark_names()]
    more = f"Predicted by surrogates, without a table: {', '.join(predicted)}."
    emit({"benchmarks": rows, "folder": data_folder(), "surrogates": predicted}, as_json, table, hint, more)


def _bytes(path: Path | None) -> int | None:
    return path.stat().st_size if path is not None else None


@benchmarks.command()
@guarded()
def info(
    name: Annotated[str, typer.Argument(help="A table, such as nasbench201, or surrogate:NAME.")],
    source: SourceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a table holds, where its figures come from and under which licence.

    Example: `tauzero benchmarks info nasbench201`
    """
    from tauzero.benchmarks import load

    facts = load(name, source).info()
    emit(facts, as_json, _info_table(f"Benchmark {name}", facts))


@benchmarks.command("import")
@guarded("No table was written; an older one of that name is still in place. Run the same command again.")
def import_(
    name: Annotated[str, typer.Argument(help="The benchmark, such as nasbench101 or nasbench201.")],
    path: Annotated[Path, typer.Argument(exists=True, help="A file or folder; its format is recognised.")],
    as_json: JsonOption = False,
) -> None:
    """Import an official or converted file of a benchmark into tauzero's store.

    Example: `tauzero benchmarks import nasbench201 nb201.parquet`
    """
    from tauzero.benchmarks import import_table, load

    with progress_bar("importing") as progress:
        written = import_table(name, path, progress=progress)
    facts = load(name, str(written)).info()
    emit({"path": written, "info": facts}, as_json, _info_table(f"Imported {name}", facts), f"Wrote {written}.")


@benchmarks.command()
@guarded()
def query(
    name: Annotated[str, typer.Argument(help="A table, such as nasbench201, or surrogate:NAME.")],
    arch: Annotated[list[str], typer.Option("--arch", help="An architecture; may be repeated.")],
    dataset: DatasetOption = None,
    metric: Annotated[str | None, typer.Option("--metric", help="By default the table's main accuracy.")] = None,
    epoch: Annotated[int | None, typer.Option("--epoch", help="By default the longest training.")] = None,
    run: Annotated[int | None, typer.Option("--run", help="One training run; by default the mean.")] = None,
    source: SourceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look up results of architectures, with the training time that each look-up stands for.

    Example: `tauzero benchmarks query nasbench201 --dataset cifar10 --metric validation_accuracy
    --arch "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"`
    """
    from tauzero.benchmarks import load

    table = load(name, source)
    dataset = dataset_of(table, dataset)
    metric = metric if metric is not None else table.main_metric(dataset)
    genotypes = table.space.from_string(arch)
    values, cost = table.query(genotypes, dataset=dataset, metric=metric, epoch=epoch, seed=run, return_cost=True)
    index = table.space.index(genotypes).tolist() if table.space.enumerable else [None] * len(genotypes)
    rows = [
        {"arch": a, "index": i, "value": v, "cost_s": c}
        for a, i, v, c in zip(arch, index, values.tolist(), cost.tolist(), strict=True)
    ]
    payload: dict[str, Any] = {"benchmark": name, "dataset": dataset, "metric": metric, "rows": rows}
    if len(rows) == 1:
        payload["value"] = rows[0]["value"]
    cells = [[r["index"], r["arch"], f"{r['value']:.6g}", r["cost_s"]] for r in rows]
    title = f"{name}: {metric} on {dataset}"
    emit(payload, as_json, make_table(title, ["index", "arch", metric, "training s"], cells))


benchmarks.command()(build)


def _info_table(title: str, facts: dict[str, Any]) -> Any:
    """What people want to know of a table; ``--json`` has all of it."""
    rows = [[key.replace("_", " "), facts[key]] for key in ("name", "space", "rows", "default_metric", "licence")]
    for dataset, metrics in facts["metrics"].items():
        lines = []
        for metric in metrics:
            epochs = facts["epochs"][dataset][metric]
            runs = facts["runs"][dataset][metric]
            after = f" after {', '.join(map(str, epochs))} epochs" if epochs else ""
            single = max((len(found) for found in runs.values()), default=0)
            lines.append(f"{metric}{after}" + (f" ({single} runs and their mean)" if single else ""))
        rows.append([dataset, "\n".join(lines)])
    for entry in facts.get("surrogate", ()):  # of a surrogate benchmark
        noise = {"runs": "training runs", "predictive": "predictive deviation"}.get(entry["noise"], entry["noise"])
        text = f"{entry['model']}, {entry['training_networks']:,} networks; noise: {noise}; cost: {entry['cost']}"
        rows.append([f"model of {entry['dataset']}", text])
    if facts.get("validity"):
        held = facts["validity"]["held_out"]
        figures = f"tau {held['all']['tau']:.3f}, MAE {held['all']['mae']:.3f}"
        rows.append(["validity", f"{figures} on {held['rows']:,} unseen rows of {facts['validity']['against']}"])
    provenance = dict(facts["provenance"])
    if "files" in provenance:
        provenance["files"] = ", ".join(str(entry["name"]) for entry in provenance["files"])
    if "download" in provenance:
        provenance["download"] = f"{provenance['download']['url']} (checksum: {provenance['download']['checked']})"
    rows.append(["provenance", "\n".join(f"{key}: {value}" for key, value in provenance.items())])
    rows.append(["file", f"{facts['path']} ({(facts['bytes'] or 0) / 1e6:.1f} MB)" if facts["path"] else "in memory"])
    return make_table(title, ["property", "value"], [[key, str(value)] for key, value in rows])
