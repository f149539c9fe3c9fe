"""Surrogate benchmarks on the command line: wherever a table is named, ``surrogate:…`` works or is refused clearly."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from surrogate_helpers import accuracy
from typer.testing import CliRunner, Result

import tauzero as tz
from tauzero.benchmarks import Column, Table, write_store
from tauzero.cli import app

Run = Callable[..., Result]
DARTS = "surrogate:darts-cifar10"


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a made-up table of NAS-Bench-201, and a surrogate benchmark of it."""
    folder = tmp_path_factory.mktemp("toy")
    space = tz.spaces.get("nasbench201")
    cells = space.canonical(space.enumerate())
    truth = accuracy(space, cells) + 0.3 * (cells == 2).sum(axis=1)
    columns = (
        Column("toy", "test_accuracy", 9, None, "percent", truth),
        Column("toy", "training_seconds", 9, None, "seconds", 50.0 + 10 * (cells == 3).sum(axis=1)),
    )
    write_store(Table("toy", space.name, columns, "CC0", {"files": []}), folder / "toy.arrow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAUZERO_DATA", str(folder))
        done = CliRunner().invoke(
            app,
            ["benchmarks", "fit-surrogate", "toy", "--train", "120", "--model", "gaussian_process",
             "--out", str(folder / "model"), "--json"],
        )  # fmt: skip
    payload = as_json(done)
    assert payload["train"] == 120
    assert payload["columns"] == [
        {
            "dataset": "toy", "metric": "test_accuracy", "model": "gaussian_process", "noise": "predictive",
            "cost": "model", "training_networks": payload["columns"][0]["training_networks"],
        }
    ]  # fmt: skip
    return folder


@pytest.fixture
def run(toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("TAUZERO_DATA", str(toy_folder))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").symlink_to(toy_folder / "model")
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def as_json(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def refused(result: Result, code: int, *words: str) -> None:
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


def test_list_info_and_query(run: Run) -> None:
    assert DARTS in as_json(run("benchmarks", "list", "--json"))["surrogates"]
    assert DARTS in run("benchmarks", "list").stdout
    facts = as_json(run("benchmarks", "info", "surrogate:model", "--json"))
    assert facts["surrogate"][0]["cost"] == "model"
    assert "predictive deviation" in run("benchmarks", "info", "surrogate:model").stdout
    assert "NAS-Bench-301" in run("benchmarks", "info", DARTS).stdout
    cell = tz.spaces.get("nasbench201").to_string([[3, 3, 3, 3, 3, 3]])[0]
    ask = ("benchmarks", "query", "surrogate:model", "--arch", cell, "--json")
    mean, first, again = as_json(run(*ask)), as_json(run(*ask, "--run", 5)), as_json(run(*ask, "--run", 5))
    assert mean["value"] == pytest.approx(93.0, abs=2.0)
    assert first["value"] == again["value"] != mean["value"]
    assert mean["rows"][0]["cost_s"] == pytest.approx(110, rel=0.25)  # of 120 rows, none of them such a cell


def test_validity(run: Run) -> None:
    options = ("--trials", 1, "--budget", 20, "--algorithms", "random_search,local_search")
    payload = as_json(run("benchmarks", "validity", "surrogate:model", *options, "--out", "report", "--json"))
    assert payload["against"] == "toy"
    assert payload["held_out"]["all"]["tau"] > 0.8
    assert payload["held_out"]["seeds"] == 5
    assert len(payload["searches"]["rows"]) == 4
    assert sorted(p.name for p in Path("report").iterdir()) == ["predicted.png", "searches.png", "validity.json"]
    shown = run("benchmarks", "validity", "surrogate:model", "--trials", 0, "--refit", "none").stdout
    assert "sparse_tau" in shown
    assert "true regret" not in shown


def test_search_fit_evaluate_and_study(run: Run) -> None:
    found = as_json(run("search", "surrogate:model", "--algorithm", "local_search", "--budget", 15, "--json"))
    assert found["best"]["test_accuracy"] == found["best"]["value"]
    assert found["objective"] == "predicted test_accuracy on toy"
    assert found["simulated_s"] > 15 * 40
    fitted = as_json(
        run("fit", "surrogate:model", "--train", 60, "--model", "gaussian_process", "--out", "m", "--json")
    )
    assert fitted["tau"] > 0.7
    judged = as_json(
        run("evaluate", "surrogate:model", "--train", 50, "--seeds", 1, "--model", "gaussian_process", "--json")
    )
    assert judged["benchmark"] == "surrogate:model"
    assert judged["rows"][0]["tau"] > 0.7
    study = as_json(
        run("study", "--benchmark", "surrogate:model", "--algorithms", "random_search", "--trials", 1, "--budget", 10,
            "--workers", 1, "--out", "s", "--json")
    )  # fmt: skip
    assert study["benchmark"] == "surrogate:model"


def test_a_space_without_a_table(run: Run) -> None:
    found = as_json(run("search", DARTS, "--algorithm", "regularized_evolution", "--budget", 15, "--json"))
    assert 85 < found["best"]["value"] < 96
    assert found["objective"] == "predicted validation_accuracy on cifar10"
    assert found["best"]["validation_accuracy"] == found["best"]["value"]
    assert found["simulated_s"] is None
    costed = as_json(run("search", DARTS, "--budget", 15, "--costs", "params", "--json"))
    assert costed["front_size"] >= 1


def test_refusals(run: Run, tmp_path: Path) -> None:
    refused(run("benchmarks", "info", "surrogate:nothing"), 2, "nothing", "darts-cifar10")
    refused(run("benchmarks", "info", f"surrogate:{tmp_path}"), 1, "benchmark.json")
    refused(run("benchmarks", "info", "surrogate:model", "--source", "model"), 2, "source")
    refused(run("benchmarks", "query", "surrogate:model", "--arch", "x"), 2)
    refused(run("search", "surrogate:model", "--dataset", "svhn"), 2, "toy")
    refused(run("search", DARTS, "--epochs", 3), 2, "100")
    refused(run("study", "--benchmark", DARTS, "--out", "s", "--budget", 10), 2, "darts")
    refused(run("benchmarks", "validity", "toy"), 2, "surrogate:")
    refused(run("benchmarks", "validity", "surrogate:model", "--against", "surrogate:model"), 2, "table")
    refused(run("benchmarks", "fit-surrogate", "toy", "--train", 20_000, "--out", "o"), 2, "n_train")
    refused(run("benchmarks", "fit-surrogate", "toy", "--train", 20, "--dataset", "svhn", "--out", "o"), 2, "toy")
    assert not (tmp_path / "o").exists()
    np.testing.assert_equal(sorted(p.name for p in tmp_path.iterdir() if p.name != "s"), ["model"])
