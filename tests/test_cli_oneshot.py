"""``tauzero search --method``: what it prints and writes, and what does not go together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from oneshot_helpers import QUICK, TINY
from typer.testing import CliRunner, Result

from tauzero.cli import app

SMALL = [f"--option={name}={value}" for name, value in {**QUICK, "cells_per_stage": 1, "epochs": 2}.items()]


def tauzero(*arguments: str) -> Result:
    """Run a search on the CPU."""
    return CliRunner().invoke(app, ["search", *arguments])


def small(*arguments: str) -> Result:
    """A one-shot search of a second."""
    return tauzero("--preset", "smoke", "--device", "cpu", *SMALL, *arguments)


def test_json_and_folder(tmp_path: Path) -> None:
    run = small("--method", "gdas", "--space", TINY, "--out", str(tmp_path / "run"), "--seed", "3", "--json")
    assert run.exit_code == 0, run.stderr
    printed = json.loads(run.stdout)
    assert printed["method"] == "gdas"
    assert printed["space"] == TINY
    assert printed["best"].keys() >= {"arch", "value", "validation_accuracy", "test_accuracy", "rank", "datasets"}
    assert printed["best"]["arch"].count("~") == 3
    assert (printed["epochs"], printed["seed"], printed["supernet_tau"]) == (2, 3, None)
    assert printed["wall_s"] > printed["train_seconds"] > 0
    assert printed["notes"] == [f"There is no table of {TINY} here: what the cell is worth in truth is not known."]
    assert json.loads((tmp_path / "run" / "provenance.json").read_text(encoding="utf-8"))["command"]
    again = small("--method", "gdas", "--space", TINY, "--out", str(tmp_path / "run"), "--seed", "3")
    assert again.exit_code == 0, again.stderr
    assert printed["best"]["arch"] in again.stdout
    other = small("--method", "gdas", "--space", TINY, "--out", str(tmp_path / "run"), "--seed", "4")
    assert other.exit_code == 2
    assert "belongs to another run" in other.stderr


def test_a_table_tells_the_truth(shared_data: Path) -> None:
    run = small("--method", "rsps", "--source", str(shared_data / "nb201" / "nb201.parquet"), "--json", "--epochs", "1")
    assert run.exit_code == 0, run.stderr
    best = json.loads(run.stdout)["best"]
    assert list(best["datasets"]) == ["cifar10", "cifar100", "ImageNet16-120"]
    assert all(1 <= facts["rank"] <= facts["of"] == 15_625 for facts in best["datasets"].values())
    assert best["test_accuracy"] == best["datasets"]["cifar10"]["test_accuracy"]
    shown = small("--method", "rsps", "--source", str(shared_data / "nb201" / "nb201.parquet"), "--epochs", "1")
    assert "What the table knows of it" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name the table or space to search in"),
        (["nasbench201", "--preset", "smoke"], "--preset belongs to a one-shot search: give --method as well"),
        (["--space", "darts"], "--space belongs to a one-shot search"),
        (
            ["nasbench201", "--method", "gdas"],
            "With --method the space is named by --space. Got the argument 'nasbench201'",
        ),
        (
            ["--method", "gdas", "--budget", "5", "--algorithm", "tpe"],
            "--algorithm, --budget cannot be used with --method",
        ),
        (["--method", "gdas", "--objective", "training"], "--objective cannot be used with --method"),
        (["--method", "gdass"], "Unknown one-shot method 'gdass'. Did you mean 'gdas'?"),
        (["--method", "gdas", "--space", "nasbench101"], "Unknown space with a supernet 'nasbench101'"),
        (["--method", "gdas", "--epochs", "1", "--epochs", "2"], "--epochs takes one number with --method. Got 1, 2"),
        (["--method", "gdas", "--option", "tau=1"], "Unknown option of gdas on nasbench201 'tau'"),
        (["--method", "gdas", "--option", "seed=1"], "--option seed=… is not known: give --seed"),
        (["--method", "gdas", "--data", "nowhere.npz"], "The 'data' file nowhere.npz does not exist"),
    ],
)
def test_what_does_not_go_together(arguments: list[str], message: str) -> None:
    run = tauzero(*arguments)
    assert run.exit_code == 2
    assert message in run.stderr
