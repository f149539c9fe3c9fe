"""Reports of one-shot searches."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_helpers import Page, made_up_table, write_oneshot
from typer.testing import CliRunner

from tauzero.cli import app
from tauzero.evaluation import report
from tauzero.evaluation._report._registry import source_of
from tauzero.spaces import BenchmarkFormatError


def traces(page: Page, title: str, view: int = 0) -> dict[str, dict]:
    """Lines of one view of a chart, by name."""
    spec = page.chart(title)
    found = [spec["traces"][k] for k in spec["views"][view]["data"]]
    return {trace["name"]: trace for trace in found if "name" in trace}


def test_one_search(tmp_path: Path) -> None:
    folder = write_oneshot(tmp_path / "run")
    page = Page(report(folder, tmp_path / "page.html"))
    assert "One-shot search: darts-v1 on nasbench201" in page.text
    assert page.titles == ["Searches in numbers", "The cell, epoch by epoch", "Ranking by the supernet", "Training",
                           "Cells found"]  # fmt: skip
    counts = traces(page, "The cell, epoch by epoch")
    assert counts["skip"]["y"] == [1, 2, 3, 4]
    assert counts["conv 3×3"]["y"] == [5, 4, 3, 2]
    assert counts["skip"]["x"] == [1, 2, 3, 4]
    headings, row = page.table("Searches in numbers")
    assert [h.split("\n")[0] for h in headings][:2] == ["method", "seed"]
    assert row[:2] == ["darts-v1", "0"]
    assert {"50.50", "90.00", "89.00", "7", "0.250"} <= set(row)
    assert "command tauzero search --method darts-v1 --seed 0 --out DIR" in page.text


def test_several_searches(tmp_path: Path) -> None:
    for name, method, seed in (("a", "darts-v1", 0), ("b", "darts-v1", 1), ("c", "rsps", 0)):
        write_oneshot(tmp_path / "runs" / name, method, seed)
    write_oneshot(tmp_path / "runs" / "d", "gdas")
    (tmp_path / "runs" / "d" / "result.json").unlink()
    page = Page(report(tmp_path / "runs", tmp_path / "page.html"))
    assert "1 of 4 searches are not finished and left out." in page.text
    assert "512 images, drawn with the search's seed" in page.text
    rows = page.table("Methods over seeds")[1:]
    assert [row[:2] for row in rows] == [["darts-v1", "2"]]
    assert "90.50 ± 0.71" in rows[0]
    assert "−0.250 ± 0.707" in rows[0]
    assert len(page.table("Searches in numbers")) == 4
    assert page.text.index("rsps, seed 0 50.5 %") < page.text.index("darts-v1, seed 1 51.5 %")  # drawn in turn
    loss = traces(page, "Training", 1)
    assert loss["darts-v1"]["y"][-1] == 1.5  # the mean of 1 and 2
    assert loss["darts-v1"]["customdata"][-1][1:] == [1, 2]
    assert loss["rsps"]["y"][-1] == 1.0
    assert page.chart("The cell, epoch by epoch")["controls"] == []  # random search decides at the end


def test_without_a_table(tmp_path: Path) -> None:
    folder = write_oneshot(tmp_path / "run", table=False)
    page = Page(report(folder, tmp_path / "page.html"))
    assert "Ranking by the supernet" not in page.titles
    table = made_up_table()
    page = Page(report(folder, tmp_path / "page.html", benchmark=table, dataset="cifar10"))
    points = page.chart("Ranking by the supernet")["traces"][0]
    rows = np.array(pd.read_parquet(folder / "ranking.parquet")["genotype"].tolist(), dtype=np.int8)
    expected = table.query(rows, dataset="cifar10", metric=table.main_metric("cifar10"))
    assert points["y"] == pytest.approx(expected.tolist(), rel=1e-4)


def test_damage_says_what_is_wrong(tmp_path: Path) -> None:
    folder = write_oneshot(tmp_path / "run")
    out = tmp_path / "page.html"
    result = (folder / "result.json").read_text(encoding="utf-8")
    for damage, words in (
        ("{", "is not readable JSON"),
        ("[]", "holds no JSON object"),
        (json.dumps({"method": "gdas", "best": {}}), "lacks epochs, seed, space"),
        (json.dumps(json.loads(result) | {"best": 3}), "lacks best"),
    ):
        (folder / "result.json").write_text(damage, encoding="utf-8")
        with pytest.raises(BenchmarkFormatError, match=words):
            report(folder, out)
    (folder / "result.json").unlink()
    with pytest.raises(BenchmarkFormatError, match="has not come to its end"):
        report(folder, out)
    (folder / "result.json").write_text(result, encoding="utf-8")
    (folder / "history.parquet").write_bytes(b"PAR1")
    with pytest.raises(BenchmarkFormatError, match=r"history\.parquet"):
        report(folder, out)
    assert not out.exists()


def test_searches_of_two_spaces(tmp_path: Path) -> None:
    write_oneshot(tmp_path / "runs" / "a")
    other = write_oneshot(tmp_path / "runs" / "b") / "result.json"
    other.write_text(other.read_text(encoding="utf-8").replace("nasbench201", "darts"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"several spaces \(darts, nasbench201\)"):
        report(tmp_path / "runs", tmp_path / "page.html")


def test_the_command_writes_what_a_report_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["search", "--method", "gdas", "--data", "digits", "--preset", "smoke", "--epochs", "1", "--option",
             "ranked=3", "--out", str(tmp_path / "run")]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["tauzero", *words])
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert source_of(tmp_path / "run") == "oneshot"
    page = Page(report(tmp_path / "run", tmp_path / "page.html"))
    assert {"Searches in numbers", "The cell, epoch by epoch", "Training", "Cells found"} <= set(page.titles)
    assert len(page.table("Searches in numbers")) == 2
