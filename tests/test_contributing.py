"""The recipes of CONTRIBUTING.md, followed to the letter in a copy of the source."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("spaces", "benchmarks", "networks", "encoders", "surrogates", "proxies", "search", "evaluation")
TITLES = (
    "An encoder",
    "A surrogate",
    "A proxy",
    "A search algorithm",
    "A one-shot method",
    "A benchmark reader",
    "A search space",
    "A figure of the report",
    "A network family",
)
#: Recipes that are followed first.
BEFORE = {"A network family": ("A search space",)}


def recipes() -> dict[str, list[tuple[str, str, str]]]:
    """Title → blocks (language, first comment, rest) of each recipe."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## Recipes\n")[2]
    found = {}
    for section in text.split("\n### ")[1:]:
        title, _, body = section.partition("\n")
        found[title] = re.findall(r"^```(python|diff)\n# (.+?)\n(.*?)^```$", body, re.MULTILINE | re.DOTALL)
    return found


def apply(diff: str, text: str) -> str:
    """Put each ``+`` line after the context line before it; ``-`` lines go. Context must be unique."""
    lines = text.splitlines()
    position = -1
    for change in diff.splitlines():
        sign, content = change[:1], change[1:]
        if sign == "+":
            position += 1
            lines.insert(position, content)
            continue
        places = [i for i, line in enumerate(lines) if line == content]
        assert len(places) == 1, f"{content!r} stands {len(places)} times in the registry"
        position = places[0]
        if sign == "-":
            del lines[position]
            position -= 1
    return "\n".join(lines) + "\n"


def test_every_recipe_is_there() -> None:
    found = recipes()
    assert sorted(found) == sorted(TITLES)
    for blocks in found.values():
        assert [language for language, _, _ in blocks] == ["python", "diff", "python"]


def test_apply() -> None:
    assert apply(" a\n+b\n-c\n+d\n+e\n", "a\nx\nc\ny\n") == "a\nb\nx\nd\ne\ny\n"
    with pytest.raises(AssertionError, match="stands 0 times"):
        apply(" z\n+b\n", "a\n")


@pytest.mark.slow
@pytest.mark.parametrize("title", TITLES)
def test_recipe(title: str, tmp_path: Path) -> None:
    found = recipes()
    copy = tmp_path / "copy"
    for folder in ("src", *ROOMS):
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for step in (*BEFORE.get(title, ()), title):
        (_, new_file, code), (_, registry, diff), (_, _, trial) = found[step]
        assert not (copy / new_file).exists(), f"{new_file} is there already: the recipe needs another name"
        (copy / new_file).write_text(code, encoding="utf-8")
        path = copy / registry
        path.write_text(apply(diff, path.read_text(encoding="utf-8")), encoding="utf-8")
    check = f"import tauzero; assert tauzero.__file__.startswith({str(copy)!r}), tauzero.__file__\n"
    environment = {**os.environ, "PYTHONPATH": str(copy / "src")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", check + trial],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
