"""``tauzero benchmarks download`` and ``check``: official files from the network, and whether tables are intact."""

from __future__ import annotations

__all__ = ["check", "download"]

from pathlib import Path
from typing import Annotated, Any

import typer

from tauzero._cli_support import JsonOption, SourceOption, emit, fail, guarded, make_table, progress_bar


@guarded("The part that was transferred is kept: run the same command again to go on.")
def download(
    name: Annotated[str | None, typer.Argument(help="The benchmark, such as nasbench101.")] = None,
    file: Annotated[str | None, typer.Option("--file", help="Another one of its files; see --list.")] = None,
    url: Annotated[str | None, typer.Option("--url", help="Another address: a mirror, a server of your own.")] = None,
    sha256: Annotated[str | None, typer.Option("--sha256", help="Checksum that the file must have.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the file.", show_default="downloads in the data folder")
    ] = None,
    then_import: Annotated[bool, typer.Option("--import/--no-import", help="Import the file afterwards.")] = True,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds for the transfer.")] = 43_200.0,
    listed: Annotated[bool, typer.Option("--list", help="List the known files; nothing is fetched.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Fetch an official file of a benchmark, check it, and import it.

    An interrupted download goes on where it stopped.

    Example: `tauzero benchmarks download nasbench101`
    """
    from tauzero.benchmarks import download as fetch
    from tauzero.benchmarks._download import import_downloaded

    if listed:
        _list(name, as_json)
        return
    if name is None:
        fail("Which benchmark? `tauzero benchmarks download --list` shows them.")
    with progress_bar("downloading", unit="bytes") as progress:
        done = fetch(
            name, file=file, url=url, sha256=sha256, out=out, then_import=False, progress=progress, timeout=timeout
        )
    payload: dict[str, Any] = {
        "path": done.path,
        "url": done.url,
        "sha256": done.sha256,
        "checked": done.checked,
        "bytes": done.path.stat().st_size,
        "fetched": done.fetched,
        "table": None,
    }
    if then_import:
        with progress_bar("importing") as progress:
            payload["table"] = import_downloaded(name, done.path, progress)
    rows = [[key, str(value)] for key, value in payload.items() if value is not None]
    emit(payload, as_json, make_table(f"Downloaded {name}", ["property", "value"], rows))


def _list(name: str | None, as_json: bool) -> None:
    from dataclasses import asdict

    from tauzero.benchmarks import sources

    rows = [asdict(source) for source in sources(name)]
    cells = [
        [
            row["benchmark"],
            row["file"],
            row["about"],
            row["licence"],
            "by hand" if row["url"] is None else "SHA-256" if row["sha256"] else "no checksum published",
            row["page"],
        ]
        for row in rows
    ]
    columns = ["benchmark", "file", "size", "licence", "fetched", "page"]
    emit({"files": rows}, as_json, make_table("Official files", columns, cells))


@guarded()
def check(
    name: Annotated[str, typer.Argument(help="A table, such as nasbench201.")],
    source: SourceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read a whole table and compare it with its checksums.

    Example: `tauzero benchmarks check nasbench201`
    """
    from tauzero.benchmarks import load

    table = load(name, source)
    known = table.verify()
    columns = len(table.info()["columns"])
    payload = {"benchmark": name, "path": table.path, "columns": columns, "with_checksum": known, "intact": True}
    told = "" if known == columns else f", {columns - known} of them without a checksum (import again to have them)"
    emit(payload, as_json, f"{table.path or source}: all {columns} columns are intact{told}.")
