"""The command line with proxies, intervals, random judges, and tables of spaces that cannot be enumerated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from tauzero import spaces, surrogates
from tauzero.benchmarks import Column, Table, write_store
from tauzero.cli import app

MACRO = spaces.get("transnas_macro")
DARTS = spaces.get("darts")
CELLS = DARTS.distinct(DARTS.sample(150, 0))[0]
GP = ["--model", "gaussian_process"]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def as_json(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


@pytest.fixture(autouse=True)
def here(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, two tables in the data folder, and a file of proxies."""
    rng = np.random.default_rng(0)
    quality = rng.standard_normal(MACRO.size)  # nothing that the graph tells
    columns = (
        Column("scene", "validation_accuracy", 9, None, "percent", 70 + quality),
        Column("layout", "validation_negative_loss", 9, None, "score", quality),
    )
    write_store(Table("chains", MACRO.name, columns, "CC0-1.0", {}), data_folder / "chains.arrow")
    column = Column("cifar10", "validation_accuracy", 9, None, "percent", 90 + DARTS.descriptors(CELLS)[:, 0] / 10)
    write_store(Table("cells", "darts", (column,), "CC0-1.0", {}, genotypes=CELLS), data_folder / "cells.arrow")
    frame = pd.DataFrame({"index": np.arange(MACRO.size), "zen": quality, "noise": rng.standard_normal(MACRO.size)})
    frame["val_accuracy"] = quality
    frame.to_parquet(tmp_path / "proxies.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_evaluate_with_proxies_reports_calibration() -> None:
    arguments = ["evaluate", "chains", "--train", 30, 60, "--seeds", 1, *GP]
    plain = as_json(*arguments)
    assert plain["proxies"] is None
    assert abs(plain["rows"][1]["tau"]) < 0.2
    assert {"coverage_90", "coverage_90_std", "width_90", "nll", "encoders", "tau_unseen"} <= plain["rows"][0].keys()
    proxied = as_json(*arguments, "--proxies", "proxies.parquet", "--proxy-columns", "zen", "noise", "--test", 200)
    assert proxied["proxies"] == {"file": "proxies.parquet", "columns": ["zen", "noise"]}
    assert [row["encoders"] for row in proxied["rows"]] == [["proxy_scores"]] * 2
    assert [row["test"] for row in proxied["rows"]] == [200, 200]
    assert proxied["rows"][1]["tau"] > 0.7
    shown = run(*arguments, "--proxies", "proxies.parquet").stdout
    for word in ("coverage_90", "width_90", "percentage points", "2 proxies of proxies.parquet: zen, noise"):
        assert word in shown
    assert "the metric's unit" in run(*arguments, "--dataset", "layout").stdout


def test_evaluate_cells_that_cannot_be_enumerated() -> None:
    found = as_json("evaluate", "cells", "--train", 40, "--seeds", 1, *GP)
    assert found["rows"][0]["test"] == 110
    assert found["rows"][0]["tau"] > 0.5
    facts = as_json("benchmarks", "info", "cells")
    assert (facts["rows"], facts["enumerable"]) == (150, False)
    assert "cells" in run("benchmarks", "list").stdout
    arch = DARTS.to_string(CELLS[7:8])[0]
    row = as_json("benchmarks", "query", "cells", "--arch", arch)["rows"][0]
    assert row["index"] is None
    assert row["value"] == pytest.approx(90 + DARTS.descriptors(CELLS)[7, 0] / 10)
    assert run("benchmarks", "query", "cells", "--arch", arch).exit_code == 0


def test_fit_with_proxies_then_predict_without_the_file(here: Path) -> None:
    fitted = as_json("fit", "chains", "--train", 60, "--proxies", "proxies.parquet", "--out", "model", *GP)
    assert fitted["proxies"] == ["zen", "noise"]
    assert fitted["tau"] > 0.7
    (here / "proxies.parquet").unlink()
    found = as_json("predict", "model", "--all", "--top", 3, "--interval", 0.9, "--ood", "--out", "p.parquet")
    assert list(found["rows"][0]) == ["arch", "index", "mean", "std", "lower", "upper", "ood"]
    table = pq.read_table("p.parquet")
    assert table.column_names == ["index", "arch", "mean", "std", "lower", "upper", "ood"]
    columns = {name: table[name].to_numpy() for name in table.column_names if name != "arch"}
    assert (columns["lower"] <= columns["mean"]).all()
    assert (columns["mean"] <= columns["upper"]).all()
    assert columns["ood"].min() >= 0
    model = surrogates.load("model")
    mean, ends = model.predict(MACRO.enumerate(), return_interval=0.9)
    np.testing.assert_allclose(columns["mean"], mean)
    np.testing.assert_allclose(columns["upper"], ends[:, 1])
    np.testing.assert_allclose(columns["ood"], model.ood_score(MACRO.enumerate()))
    first = found["rows"][0]
    assert first["upper"] == pytest.approx(columns["upper"][first["index"]])
    shown = run("predict", "model", "--arch", first["arch"], "--interval", 0.8, "--ood").stdout
    for word in ("0.8 interval", " to ", "ood", "predicted accuracy, %"):
        assert word in shown
    assert list(as_json("predict", "model", "--arch", first["arch"], "--ood")["rows"][0])[-2:] == ["std", "ood"]


def test_fit_and_predict_cells_that_cannot_be_enumerated() -> None:
    fitted = as_json("fit", "cells", "--train", 40, "--out", "model", *GP)
    assert fitted["held_out"] == 110
    assert fitted["tau"] > 0.5
    arch = DARTS.to_string(DARTS.sample(2, 9))
    found = as_json("predict", "model", "--arch", arch[0], "--arch", arch[1], "--out", "p.parquet")
    assert [row["index"] for row in found["rows"]] == [None, None]
    assert pq.read_table("p.parquet").column_names == ["arch", "mean", "std"]
    everything = run("predict", "model", "--all")
    assert everything.exit_code == 2
    assert "darts has about" in everything.stderr


def test_metrics_that_are_no_accuracy_are_not_called_so() -> None:
    as_json("fit", "chains", "--dataset", "layout", "--train", 40, "--out", "model", *GP)
    shown = run("predict", "model", "--all", "--top", 2).stdout
    assert "predicted" in shown
    assert "accuracy" not in shown
    assert surrogates.load("model").metadata_["unit"] == "score"


BAD = {
    "columns without a file": (["evaluate", "chains", "--proxy-columns", "zen"], 2, ["--proxies"]),
    "no such file": (["evaluate", "chains", "--proxies", "no.parquet"], 1, ["no.parquet"]),
    "no such column": (
        ["evaluate", "chains", "--proxies", "proxies.parquet", "--proxy-columns", "x*"], 2, ["'x*'", "zen"]
    ),
    "accuracies": (
        ["fit", "chains", "--out", "m", "--proxies", "proxies.parquet", "--proxy-columns", "val*"], 2, ["named in full"]
    ),
    "another space": (["fit", "cells", "--out", "m", "--train", 9, "--proxies", "proxies.parquet"], 2, ["'arch'"]),
    "too many judges": (["evaluate", "chains", "--train", 60, "--test", 3_200], 2, ["'test'", "3,196"]),
    "one judge": (["evaluate", "chains", "--test", 1], 2, ["--test"]),
    "interval of 1": (["predict", "nasbench201-cifar10", "--all", "--interval", 1], 2, ["--interval"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, here: Path) -> None:
    arguments, code, words = BAD[case]
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    for word in words:
        assert word in result.stderr
    assert [path.name for path in here.iterdir()] == ["proxies.parquet"]
