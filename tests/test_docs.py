"""The documentation is run: every python block of README.md and docs/*.md, and every link inside the repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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


@pytest.mark.slow
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
