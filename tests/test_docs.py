"""The documentation is run: every python block of README.md and docs/*.md, and every link inside the repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tauzero import networks, proxies, spaces
from tauzero.proxies import _registry
from tauzero.spaces import _registry as _space_registry

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
#: README.md is run below, where its output is compared; test_contributing.py tries each recipe out.
RUN = [page for page in PAGES if page.parent.name == "docs"]


def python_blocks(text: str) -> list[tuple[int, str]]:
    """Line number and code of each fenced python block."""
    fences = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, fence.start(1)) + 1, fence.group(1)) for fence in fences]


def test_blocks_are_found() -> None:
    assert python_blocks("a\n```python\nx = 1\n```\n```bash\nls\n```\n```python\ny\n```\n") == [
        (3, "x = 1\n"),
        (9, "y\n"),
    ]


@pytest.fixture
def spaces_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a page registers is forgotten after it."""
    monkeypatch.setattr(_space_registry, "_SPACES", dict(_space_registry._SPACES))
    monkeypatch.setattr(_space_registry, "_INSTANCES", dict(_space_registry._INSTANCES))


@pytest.mark.slow
@pytest.mark.usefixtures("spaces_as_before")
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for line, code in python_blocks(page.read_text(encoding="utf-8")):
        # Blank lines in front make a traceback point at the line of the page.
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)


@pytest.mark.slow
def test_readme_shows_what_its_example_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """Word for word except for the numbers, which may differ a little between machines."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code, shown = re.findall(r"^```(?:python|text)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    number = re.compile(r"\d+\.\d+")
    assert number.sub("#", printed) == number.sub("#", shown)
    for here, there in zip(number.findall(printed), number.findall(shown), strict=True):
        assert float(here) == pytest.approx(float(there), rel=0.01, abs=0.05)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_tutorial_and_readme_have_examples() -> None:
    assert python_blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(python_blocks((ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8"))) >= 5


def test_a_space_of_one_s_own_is_a_short_file() -> None:
    (_, code), *_ = python_blocks((ROOT / "docs" / "own_space.md").read_text(encoding="utf-8"))
    assert "@spaces.register" in code
    assert code.count("\n") < 60


def test_spaces_page_lists_every_space() -> None:
    text = (ROOT / "docs" / "spaces.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| \d+ \| ([\d,·¹⁸.]+) \|", text, re.MULTILINE))
    assert sorted(rows) == spaces.names()
    for name, size in rows.items():
        assert spaces.get(name).size == pytest.approx(1.08e18 if "·" in size else int(size.replace(",", "")), rel=0.01)


# -- tables that name what is registered ------------------------------------------------------


def table_rows(page: str, heading: str) -> dict[str, list[str]]:
    """Cells of each row of a section's first table, without the header, by the name in the first column."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    block = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert block, f"{page} has no table under {heading}"
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in block[0].splitlines()[2:]]
    found = {row[0].strip("`"): row[1:] for row in rows}
    assert len(found) == len(rows), "a name stands in the table twice"
    return found


def test_proxies_page_lists_every_proxy_with_its_facts() -> None:
    """Alias, what is read, number of batches, labels and orientation are those of the code."""
    expected = {}
    for name in proxies.names():
        proxy = proxies.get(name)
        aliases = ", ".join(f"`{alias}`" for alias, of in _registry._ALIASES.items() if of == name)
        facts = [aliases, proxy.reads, str(proxy.needs_batches or ""), "yes" if proxy.needs_labels else ""]
        expected[name] = [*facts, "high" if proxy.higher_is_better else "low"]
    rows = table_rows("proxies.md", "The proxies")
    assert list(rows) == list(expected)
    shown = {
        name: [alias, reads, images.removesuffix(" (shape)"), labels, better]
        for name, (alias, reads, images, labels, better, _, _) in rows.items()
    }
    assert shown == expected


def test_proxies_page_lists_every_aggregate() -> None:
    rows = table_rows("proxies.md", "Aggregates")
    assert sorted([*rows, *proxies.names()]) == proxies.names(aggregates=True)
    parts = {name: set(re.findall(r"`(\w+)`", row[0])) for name, row in rows.items()}
    parts["az_nas_synflow"] |= parts["az_nas"]  # "the same and"
    assert parts == {name: set(found.parts) for name, found in proxies.AGGREGATES.items()}
    assert {name: row[1].strip("`") for name, row in rows.items()} == {
        name: found.rule for name, found in proxies.AGGREGATES.items()
    }


def test_networks_page_lists_every_family_with_its_options() -> None:
    rows = table_rows("networks.md", "Families")
    assert sorted(rows) == networks.names()
    for name, (options, dataset, sizes, _) in rows.items():
        family = networks.family(name)
        shown = re.findall(r"(\w+)=([\w.]+)", options)
        assert shown == [(key, str(value)) for key, value in family.options.items()]
        assert dataset.strip("`") == family.dataset
        assert sizes == f"multiples of {family.image_multiple}"
