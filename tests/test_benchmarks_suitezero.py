"""Published zero-cost proxies: every space's notation, chunks, what is no score, and the encoder that reads them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fixtures_raw_json import suitezero_chunks, suitezero_document, suitezero_key
from typer.testing import CliRunner

from tauzero import benchmarks, encoders, networks, spaces, surrogates
from tauzero.benchmarks import Column, Table, write_store
from tauzero.benchmarks._suitezero_names import TABLES, tables_of
from tauzero.cli import app
from tauzero.spaces import BenchmarkFormatError

NAMES = {
    "suitezero_nasbench101": ("nasbench101", ("cifar10",)),
    "suitezero_nasbench201": ("nasbench201", ("cifar10", "cifar100", "ImageNet16-120")),
    "suitezero_nasbench301": ("darts", ("cifar10",)),
    "suitezero_transnas_micro": ("transnas_micro", ("class_scene", "room_layout")),
    "suitezero_transnas_macro": ("transnas_macro", ("class_scene", "room_layout")),
}


def written(folder: Path, content: Any, name: str = "zc_some.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def document(name: str, count: int = 5) -> tuple[np.ndarray, dict[str, Any]]:
    """Different networks, and the document that says their numbers."""
    space, datasets = NAMES[name]
    rows, _ = spaces.get(space).distinct(spaces.get(space).sample(3 * count, seed=0))
    if name == "suitezero_transnas_macro":  # with a shorter chain, which tells it from cells
        rows = np.concatenate([spaces.get(space).enumerate()[:1], rows])
    return rows[:count], suitezero_document(space, rows[:count], datasets)


@pytest.mark.parametrize("name", NAMES)
def test_every_space_is_read_by_its_notation(name: str, tmp_path: Path) -> None:
    rows, content = document(name)
    path = written(tmp_path, content)
    assert [n for n, (_, _) in TABLES.items() if n in tables_of(path.name, path.read_bytes())] == [name]
    table = benchmarks.load(name, path)
    assert table.datasets == tuple(content)
    for dataset in content:
        np.testing.assert_array_equal(table.query(rows, dataset, "synflow"), np.arange(5))
        np.testing.assert_array_equal(table.query(rows, dataset, "snip"), -np.arange(5.0))
        np.testing.assert_array_equal(table.query(rows, dataset, "snip_seconds"), 0.25 + np.arange(5))
        assert table.unit(dataset, "synflow") == "score"
        assert table.unit(dataset, "snip_seconds") == "seconds"
        main = "validation_negative_loss" if dataset == "room_layout" else "validation_accuracy"
        assert table.main_metric(dataset) == main
        np.testing.assert_array_equal(table.query(rows, dataset, main), 50 + np.arange(5))
    for other in set(NAMES) - {name}:
        with pytest.raises(BenchmarkFormatError, match=f"is a table of '{name}', not of '{other}'"):
            benchmarks.load(other, path)


def test_the_cells_of_nasbench201_are_numbered_as_in_naslib() -> None:
    space = spaces.get("nasbench201")
    row = space.from_string(["|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"])[0]
    # (0→1), (0→2), (0→3), (1→2), (1→3), (2→3); 0 skip, 1 none, 2 conv 3×3, 3 conv 1×1, 4 pooling.
    assert suitezero_key("nasbench201", row) == "(2, 1, 4, 0, 1, 3)"


def test_chunks_become_one_table(tmp_path: Path) -> None:
    rows = spaces.get("transnas_macro").enumerate()[::500]
    folder = suitezero_chunks(tmp_path, "transnas_macro", "transbench101_macro", "class_scene", rows, 3)
    assert len(list(folder.iterdir())) == 3
    # A further proxy of the same architectures, in a folder of its own.
    more = suitezero_chunks(folder / "zen", "transnas_macro", "transbench101_macro", "class_scene", rows, 50)
    file = next(more.iterdir())
    records = json.loads(file.read_text())
    for record in records:
        record["zen"] = record.pop("synflow")
        del record["snip"]
    file.write_text(json.dumps(records))
    table = benchmarks.load("suitezero_transnas_macro", folder)
    for proxy in ("zen", "synflow"):
        np.testing.assert_array_equal(table.query(rows, metric=proxy), np.arange(len(rows)))
    found = table.info()["provenance"]
    assert (found["files_in_all"], found["architectures"]) == (4, len(rows))
    assert found["values_repeated"] == len(rows)  # the accuracies


def test_what_is_no_score_is_nan_and_counted(tmp_path: Path) -> None:
    rows, content = document("suitezero_nasbench201")
    keys = list(content["cifar10"])
    for key, value in zip(keys, (math.nan, math.inf, -math.inf, -1e8), strict=False):
        content["cifar10"][key]["synflow"]["score"] = value
    table = benchmarks.load("suitezero_nasbench201", written(tmp_path, content))
    np.testing.assert_array_equal(table.query(rows, metric="synflow"), [np.nan] * 4 + [4])
    assert table.info()["provenance"]["no_score"] == {
        "cifar10/synflow -1e+08": 1,
        "cifar10/synflow NaN": 1,
        "cifar10/synflow infinite": 2,
    }


def test_early_files_have_plain_scores_and_the_space_around(tmp_path: Path) -> None:
    rows, content = document("suitezero_nasbench101")
    for record in content["cifar10"].values():
        record["snip"] = record["snip"]["score"]
        del record["id"], record["arch"]
    # A cell with ten edges, which NAS-Bench-101 does not have.
    matrix = np.triu(np.ones((7, 7), dtype=int), 1)
    content["cifar10"][str((*matrix.ravel().tolist(), 0, 4, 4, 4, 4, 4, 1))] = {"snip": 7.0}
    table = benchmarks.load("suitezero_nasbench101", written(tmp_path, {"nasbench101": content}))
    np.testing.assert_array_equal(table.query(rows, metric="snip"), -np.arange(5.0))
    assert "snip_seconds" not in table.metrics()
    assert table.info()["provenance"]["left_out"] == 1
    assert table.info()["rows"] == 5


def test_rows_that_are_one_network_are_merged_into_their_mean(tmp_path: Path) -> None:
    rows, content = document("suitezero_nasbench301")
    other = rows[0].reshape(-1, 4)[:, [1, 0, 3, 2]].reshape(rows[0].shape)
    content["cifar10"][suitezero_key("darts", other)] = {"synflow": {"score": 10.0, "time": 1.0}}
    table = benchmarks.load("suitezero_nasbench301", written(tmp_path, content))
    assert table.query(rows[:1], metric="synflow") == [5.0]
    assert table.info()["provenance"]["merged"] == 1


def test_six_modules_or_six_operations_are_told_apart_by_what_only_one_has(tmp_path: Path) -> None:
    def tables(key: str, name: str = "scores.json") -> frozenset[str]:
        return tables_of(name, json.dumps({"class_scene": {key: {"snip": 1}}}).encode())

    assert tables("(1, 2, 3, 4)") == {"suitezero_transnas_macro"}
    assert tables("(0, 1, 2, 3, 3, 3)") == {"suitezero_transnas_micro"}
    assert tables("(1, 1, 2, 3, 3, 3)") == {"suitezero_transnas_micro", "suitezero_transnas_macro"}
    assert tables("(1, 1, 2, 3, 3, 3)", "zc_transbench101_macro.json") == {"suitezero_transnas_macro"}
    assert tables_of("x.json", b'{"svhn": {"(1, 1, 2, 3, 3, 4)": {}}}') == {"suitezero_nasbench201"}
    assert tables_of("x.json", b'{"a": 1}') == tables_of("x.json", b"[1]") == tables_of("x.json", b"\xff") == set()


def _drop(content: dict[str, Any], key: str) -> None:
    content["cifar10"][key] = {}


def _rename(content: dict[str, Any], key: str, other: str) -> None:
    content["cifar10"][other] = content["cifar10"].pop(key)


CHANGES: dict[str, tuple[Any, str]] = {
    "empty record": (_drop, "must be an object with entries"),
    "a digit": (lambda c, k: _rename(c, k, "(0, 1, 2, 3, 4, 5)"), "numbered above 4"),
    "short": (lambda c, k: _rename(c, k, "(0, 1, 2, 3, 4)"), "has 5 operations"),
    "code": (lambda c, k: _rename(c, k, "(__import__('os'), 1)"), "expected an architecture of nasbench201"),
    "score": (lambda c, k: c["cifar10"][k]["snip"].update(score="1"), "score of cifar10/snip must be a finite number"),
    "null": (lambda c, k: c["cifar10"][k].update(snip=None), "score of cifar10/snip must be a finite number"),
    "list": (lambda c, k: c["cifar10"][k].update(snip=[1]), "got an array of 1"),
    "time": (lambda c, k: c["cifar10"][k]["snip"].update(time=math.nan), "time of snip"),
    "negative time": (lambda c, k: c["cifar10"][k]["snip"].update(time=-1), "must lie in"),
    "accuracy": (lambda c, k: c["cifar10"][k].update(val_accuracy=101), "must lie in"),
    "name": (lambda c, k: c["cifar10"][k].update({"a/b": 1}), "is no name of a proxy"),
    "data set": (lambda c, _: c.update({"a b": c["cifar10"]}), "the name of a data set must be a text"),
    "list of data sets": (lambda c, _: c.update(svhn=[1]), "svhn must be an object"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_damage_says_what_was_expected(name: str, tmp_path: Path) -> None:
    change, reason = CHANGES[name]
    _, content = document("suitezero_nasbench201")
    change(content, list(content["cifar10"])[2])
    path = written(tmp_path, content)
    with pytest.raises(BenchmarkFormatError) as caught:
        benchmarks.import_table("suitezero_nasbench201", path, tmp_path / "out.arrow")
    assert reason in str(caught.value)
    assert not (tmp_path / "out.arrow").exists()


def test_a_list_needs_its_name(tmp_path: Path) -> None:
    rows = spaces.get("nasbench201").sample(2, seed=0)
    folder = suitezero_chunks(tmp_path, "nasbench201", "nasbench201", "cifar10", rows, 2)
    file = next(folder.iterdir())
    assert tables_of(file.name, file.read_bytes()) == {"suitezero_nasbench201"}
    file.rename(tmp_path / "other.json")
    with pytest.raises(BenchmarkFormatError, match="in no format that is known"):
        benchmarks.load("suitezero_nasbench201", tmp_path / "other.json")


# -- as features ------------------------------------------------------------------------------


def test_the_encoder_reads_a_table(tmp_path: Path) -> None:
    rows, content = document("suitezero_nasbench201")
    table = benchmarks.load("suitezero_nasbench201", written(tmp_path, content))
    whole = encoders.create("proxy_scores", table.space, scores=table)
    assert [n for n in whole.feature_names if "missing" not in n] == [
        f"{d}/{proxy}" for d in content for proxy in ("snip", "synflow")
    ]
    assert len(whole.known) == len(rows)  # type: ignore[attr-defined]
    some = encoders.create("proxy_scores", table.space, scores=table, columns="cifar100/*")
    plain = {"arch": table.space.to_string(rows), "cifar100/snip": -np.arange(5.0), "cifar100/synflow": np.arange(5.0)}
    expected = encoders.create("proxy_scores", table.space, scores=plain)
    sample = np.concatenate([rows, table.space.sample(20, seed=1)])
    np.testing.assert_array_equal(some.transform(sample), expected.transform(sample))
    stored = benchmarks.import_table("suitezero_nasbench201", written(tmp_path, content), tmp_path / "t.arrow")
    again = encoders.create("proxy_scores", table.space, scores=stored, columns="cifar100/*")
    np.testing.assert_array_equal(some.transform(sample), again.transform(sample))
    named = encoders.create("proxy_scores", table.space, scores=table, columns="cifar10/snip")
    assert named.feature_names[0] == "cifar10/snip"
    with pytest.raises(BenchmarkFormatError, match="scores of the space 'nasbench201', not of 'nasbench101'"):
        encoders.create("proxy_scores", "nasbench101", scores=table)


def test_times_and_accuracies_are_no_features(tmp_path: Path) -> None:
    _, content = document("suitezero_nasbench301")
    table = benchmarks.load("suitezero_nasbench301", written(tmp_path, content))
    with pytest.raises(ValueError, match="No column of the scores fits"):
        encoders.create("proxy_scores", table.space, scores=table, columns="*_seconds")
    with pytest.raises(ValueError, match="No column of the scores fits"):
        encoders.create("proxy_scores", table.space, scores=table, columns="*accuracy")


def test_the_command_line_takes_a_table_by_its_name(tmp_path: Path) -> None:
    space = spaces.get("nasbench201")
    values = (space.enumerate() == 3).sum(axis=1).astype(float)
    column = Column("cifar10", "test_accuracy", 200, None, "percent", values)
    write_store(
        Table("nasbench201", space.name, (column,), "CC0-1.0", {"source": "made up"}),
        benchmarks.data_folder() / "nasbench201.arrow",
    )
    _, content = document("suitezero_nasbench201", 45)
    benchmarks.import_table("suitezero_nasbench201", written(tmp_path, content))
    wanted = ["fit", "nasbench201", "--train", "30", "--model", "bayesian_linear", "--out", str(tmp_path / "model")]
    proxies = ["--proxies", "suitezero_nasbench201", "--proxy-columns", "cifar10/*"]
    result = CliRunner().invoke(app, [*wanted, *proxies])
    assert result.exit_code == 0, result.output
    model: Any = surrogates.load(tmp_path / "model")
    (joined,) = model.encoders
    assert joined.feature_names[:2] == ["cifar10/snip", "cifar10/synflow"]
    unknown = CliRunner().invoke(app, [*wanted, "--proxies", "suitezero_nasbench101"])
    assert unknown.exit_code != 0
    assert "no file of scores" in unknown.output


# -- the genuine files ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def genuine(shared_data: Path) -> Path:
    return shared_data / "originals" / "nb_suite_zero"


def test_genuine_nasbench201(genuine: Path, shared_data: Path) -> None:
    table = benchmarks.load("suitezero_nasbench201", genuine)  # the folder holds files of other spaces too
    params = table.table(metric="params")
    at = np.flatnonzero(~np.isnan(params))
    assert len(at) == 725
    cells = table.space.enumerate()[at]
    np.testing.assert_allclose(params[at] * 1e6, networks.count_parameters(table.space, cells, "cifar10"), rtol=1e-12)
    frame = pd.read_parquet(shared_data / "nb201" / "nb201_proxies.parquet")
    for proxy in ("synflow", "nwot", "jacov", "grasp", "fisher", "snip"):
        reference = frame[f"nbsz_{proxy}_c100"].to_numpy()[at]
        values = table.table("cifar100", proxy)[at]
        there = ~np.isnan(values)
        assert there.sum() >= 724
        np.testing.assert_allclose(values[there], reference[there], rtol=1e-5)
    flops = table.table(metric="flops")[at]
    other = frame["nbsz_flops_c10"].to_numpy()[at]
    np.testing.assert_allclose(flops[~np.isnan(other)], other[~np.isnan(other)], rtol=1e-6)


def test_genuine_accuracies_are_those_of_the_benchmark(genuine: Path, nasbench201_store: Path) -> None:
    table = benchmarks.load("suitezero_nasbench201", genuine)
    mine = table.table(metric="validation_accuracy")
    theirs = benchmarks.load("nasbench201", nasbench201_store).table(metric="test_accuracy")
    assert np.corrcoef(mine[~np.isnan(mine)], theirs[~np.isnan(mine)])[0, 1] > 0.98


def test_genuine_nasbench101(genuine: Path, nasbench101_store: Path) -> None:
    table = benchmarks.load("suitezero_nasbench101", genuine / "zc_nasbench101_partial.json")
    mine = table.table(metric="validation_accuracy")
    at = np.flatnonzero(~np.isnan(mine))
    found = table.info()["provenance"]
    assert (found["architectures"], len(at), found["merged"], found["left_out"]) == (500, 292, 208, 0)
    theirs = benchmarks.load("nasbench101", nasbench101_store).table()[at]
    assert np.corrcoef(mine[at], theirs)[0, 1] > 0.98


def test_genuine_nasbench301(genuine: Path, shared_data: Path) -> None:
    table = benchmarks.load("suitezero_nasbench301", genuine)
    cells = table.architectures
    assert len(cells) == 725
    listed = benchmarks.load("nasbench301", shared_data / "other_spaces" / "nasbench301_naslib.parquet")
    values = table.table(metric="validation_accuracy")
    np.testing.assert_allclose(listed.query(cells, metric="validation_accuracy"), values, atol=1e-5)
    counted = spaces.get("darts").costs(cells)[0]  # type: ignore[attr-defined]
    np.testing.assert_allclose(table.table(metric="params") * 1e6, counted, rtol=0.02)


def test_genuine_chunk(genuine: Path, shared_data: Path) -> None:
    table = benchmarks.load(
        "suitezero_transnas_macro", genuine / "benchmark--transbench101_macro--class_scene--500.json"
    )
    mine = table.table(metric="validation_accuracy")
    at = ~np.isnan(mine)
    assert at.sum() == 250
    listed = benchmarks.load("transnas_macro", shared_data / "transnas101" / "tnb101_macro.parquet")
    np.testing.assert_allclose(listed.table("class_scene", "validation_accuracy")[at], mine[at], rtol=1e-6)
