"""``tauzero study``: output for people and programs, resuming after kill -9 and Ctrl-C, and bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from study_helpers import toy_benchmark
from typer.testing import CliRunner

from tauzero.benchmarks import write_store
from tauzero.cli import app
from tauzero.search import StudyResult


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up table as a file."""
    target = tmp_path_factory.mktemp("store") / "toy.arrow"
    write_store(toy_benchmark(name="nasbench201", dataset="cifar10")._table, target)
    return target


def arguments(store: Path, out: Path, *more: object) -> list[str]:
    basic = ["study", "--benchmark", "nasbench201", "--source", store, "--out", out, "--workers", 1, "--budget", 12]
    return [str(word) for word in (*basic, *more)]


def run(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_json_has_every_figure(store: Path, tmp_path: Path) -> None:
    more = ["--algorithms", "random_search,local_search", "--objective", "table,surrogate", "--trials", 3, "--train", 6]
    more += ["--surrogate", "bayesian_linear", "--predicted-budget", 40, "--params", "local_search:initial=2", "--json"]
    result = run(*arguments(store, tmp_path / "s", *more))
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    loaded = StudyResult.load(tmp_path / "s")
    assert [(row["objective"], row["algorithm"]) for row in found["rows"]] == [
        (objective, name) for objective in ("table", "surrogate") for name in ("random_search", "local_search")
    ]
    for row in found["rows"]:
        some = loaded.trials.query(f"objective == {row['objective']!r} and algorithm == {row['algorithm']!r}")
        assert row["regret_mean"] == pytest.approx(some["regret"].mean())
        assert row["regret_std"] == pytest.approx(some["regret"].std(ddof=1))
        assert row["regret_median"] == pytest.approx(some["regret"].median())
        assert row["test_mean"] == pytest.approx(some["test_accuracy"].mean())
        assert (row["trials"], row["true_queries"]) == (3, 12)
        assert row["simulated_s"] > 1_200
        assert row["wall_s"] > 0
    assert found["winners"].keys() == {"table", "surrogate"}
    assert found["winners"]["table"].keys() == {"algorithm", "runner_up", "p_adjusted"}
    assert len(found["gains"]) == 2
    assert found["budget"] == 12
    assert loaded.facts["params"]["local_search"] == {"initial": 2}
    assert loaded.facts["commands"][0].split()[0] == "tauzero"

    shown = run(*arguments(store, tmp_path / "s", "--algorithms", "random_search", "--trials", 3))
    assert shown.exit_code == 0, shown.output
    for words in ("local_search", "positive where predictions are better", "Wilcoxon", "Lowest mean regret, table"):
        assert words in shown.stdout


def test_all_says_what_was_left_out_and_signals_are_runs(store: Path, tmp_path: Path) -> None:
    more = ["--algorithms", "random_search", "--trials", 1, "--signal", "run0", "--seconds", 900]
    result = run(*arguments(store, tmp_path / "s", *more))
    assert result.exit_code == 0, result.output
    assert "run 0" in result.stdout
    facts = json.loads((tmp_path / "s/study.json").read_text(encoding="utf-8"))
    assert (facts["settings"]["signal"], facts["settings"]["seconds"]) == (0, 900.0)


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--algorithms", "magic"], 2, "'magic'"),
        (["--algorithms", "all,random_search"], 2, "'all' alone"),
        (["--objective", "wish"], 2, "'wish'"),
        (["--signal", "loud"], 2, "--signal"),
        (["--signal", "7"], 2, "run 7"),
        (["--params", "random_search"], 2, "--params takes"),
        (["--params", "magic:a=1"], 2, "'magic'"),
        (["--proxy-columns", "a"], 2, "--proxy-table"),
        (["--objective", "surrogate", "--train", "13"], 2, "'train'"),
        (["--engine", "threads"], 2, "'threads'"),
        (["--dataset", "mnist"], 2, "'mnist'"),
        (["--budget", "0"], 2, "--budget"),
        (["--trials", "0"], 2, "--trials"),
    ],
)
def test_bad_input(store: Path, tmp_path: Path, more: list[str], code: int, words: str) -> None:
    result = run(*arguments(store, tmp_path / "s", *more))
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert not (tmp_path / "s").exists()


def test_another_study_in_the_folder(store: Path, tmp_path: Path) -> None:
    more = ["--algorithms", "random_search", "--trials", 1]
    assert run(*arguments(store, tmp_path, *more)).exit_code == 0
    result = run(*arguments(store, tmp_path, *more, "--budget", 13))
    assert result.exit_code == 2
    assert "budget was 12, now it is 13" in result.stderr


def _frame(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "trials.parquet").drop(columns="wall_s")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs signals")
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_the_same_command_goes_on(store: Path, tmp_path: Path, kill: signal.Signals) -> None:
    out = tmp_path / "s"
    more = ["--algorithms", "random_search,local_search", "--trials", 60, "--workers", 2, "--budget", 400, "--json"]
    words = arguments(store, out, *more)
    program = "import sys;"
    program += "from tauzero.search import _study as s; old = s._Keeper.__init__;"
    program += "s._Keeper.__init__ = lambda self, folder, done, every: old(self, folder, done, 0.0);"
    program += "from tauzero.cli import main; sys.argv = ['tauzero', *sys.argv[1:]]; main()"
    running = subprocess.Popen(
        [sys.executable, "-c", program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 120
    while len(list(out.glob("trials/*/trials-*.parquet"))) < 2:
        assert time.monotonic() < deadline
        assert running.poll() is None, running.stderr.read().decode() if running.stderr else ""
        time.sleep(0.01)
    running.send_signal(kill)
    _, errors = running.communicate(timeout=60)
    if kill == signal.SIGINT:
        assert running.returncode == 130
        assert b"the same command goes on from them" in errors
    assert not (out / "trials.parquet").exists()
    kept = len(list(out.glob("trials/*/trials-*.parquet")))
    assert kept >= 2
    assert run(*words[:-1], "--workers", "1").exit_code == 0
    whole = run(*arguments(store, tmp_path / "whole", *more, "--workers", "1"))
    assert whole.exit_code == 0
    pd.testing.assert_frame_equal(_frame(out), _frame(tmp_path / "whole"), check_exact=True)
    assert np.array_equal(pd.read_parquet(out / "curves.parquet"), pd.read_parquet(tmp_path / "whole/curves.parquet"))


@pytest.mark.slow
def test_search_divides_what_it_asks_for(tmp_path: Path) -> None:
    basic = ["search", "nasbench201", "--objective", "proxy", "--proxies", "synflow", "--images", "3"]
    basic += ["--image-size", "8", "--option", "channels=2", "--budget", "6", "--ask", "3", "--device", "cpu", "--json"]
    best = [
        json.loads(run(*basic, "--workers", str(workers)).stdout)["best"]["arch"]
        for workers in (1, 2)
    ]  # fmt: skip
    assert best[0] == best[1] == json.loads(run(*basic).stdout)["best"]["arch"]
    refused = run("search", "nasbench201", "--objective", "proxy", "--workers", "2")
    assert refused.exit_code == 2
    assert "--ask" in refused.stderr
    refused = run("search", "nasbench201", "--objective", "surrogate", "--workers", "2", "--ask", "4")
    assert refused.exit_code == 2
    assert "--workers belongs to" in refused.stderr
