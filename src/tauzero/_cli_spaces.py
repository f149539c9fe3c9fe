"""``tauzero spaces``: which search spaces there are and what their architectures look like."""

from __future__ import annotations

__all__ = ["spaces"]

from typing import Annotated, Any

import typer

from tauzero._cli_support import JsonOption, SeedOption, emit, guarded, make_table


@guarded()
def spaces(
    name: Annotated[str | None, typer.Argument(help="A space, to see its operations and some of its cells.")] = None,
    sample: Annotated[int, typer.Option("--sample", min=0, help="How many random architectures to show.")] = 5,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """List the search spaces, or describe one of them.

    Example: `tauzero spaces nasbench201 --sample 3`
    """
    from tauzero.spaces import get, names

    if name is None:
        rows = [_describe(get(known)) for known in names()]
        columns = ["name", "architectures", "columns", "operations"]
        cells = [[r["name"], r["size"], r["length"], ", ".join(r["operations"])] for r in rows]
        emit({"spaces": rows}, as_json, make_table("Search spaces", columns, cells))
        return
    space = get(name)
    drawn = space.sample(sample, seed)
    index = space.index(drawn).tolist() if space.enumerable else [None] * len(drawn)
    shown = [
        {"index": i, "arch": arch, "genotype": row}
        for i, arch, row in zip(index, space.to_string(drawn), drawn.tolist(), strict=True)
    ]
    info = _describe(space)
    facts = make_table(
        f"Search space {name}",
        ["property", "value"],
        [
            ["architectures", f"{info['size']:,}" + ("" if space.enumerable else " (cannot be enumerated)")],
            ["genotype columns", str(info["length"])],
            ["operations", ", ".join(info["operations"])],
            ["notions of equal networks", ", ".join(info["notions"]) + " (the first is the default)"],
        ],
    )
    examples = make_table(
        f"{sample} random architectures (seed {seed})",
        ["index", "arch"] if space.enumerable else ["arch"],
        [[s["index"], s["arch"]] if space.enumerable else [s["arch"]] for s in shown],
    )
    emit({**info, "sample": shown}, as_json, facts, *([examples] if shown else []))


def _describe(space: Any) -> dict[str, Any]:
    return {
        "name": space.name,
        "size": space.size,
        "enumerable": space.enumerable,
        "length": space.length,
        "operations": list(space.operations),
        "notions": list(space.notions),
        "cardinalities": list(space.cardinalities),
    }
