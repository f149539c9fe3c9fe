"""Official pickled files: genuine ones equal the shared tables, written ones come back number by number."""

from __future__ import annotations

import bz2
import copy
import os
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import fixtures_official_pickles as official
import numpy as np
import pandas as pd
import pytest

from tauzero import benchmarks
from tauzero.benchmarks import _nats_pickles, _nats_results, _readers, _safe_pickle
from tauzero.benchmarks._parts import Parts
from tauzero.spaces import BenchmarkFormatError
from tauzero.spaces._progress import silent

ORIGINALS = Path("originals") / "nats_bench"
D201 = {"c10": "cifar10", "c100": "cifar100", "in16": "ImageNet16-120"}


# -- genuine files ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def topology(shared_data: Path) -> benchmarks.Benchmark:
    return benchmarks.load("nasbench201", shared_data / ORIGINALS / "NATS-tss-v1_0-3ffb9-simple")


@pytest.fixture(scope="module")
def size(shared_data: Path) -> benchmarks.Benchmark:
    return benchmarks.load("natsbench_size", shared_data / ORIGINALS / "NATS-sss-v1_0-50262-simple")


@pytest.mark.parametrize("d", D201)
def test_genuine_topology_files_equal_the_shared_table(topology: Any, shared_data: Path, d: str) -> None:
    frame = pd.read_parquet(shared_data / "nb201" / "nb201.parquet").set_index("index").loc[[0, 11, 284]]
    rows = topology.space.from_string(list(frame["arch_str"]))
    columns = {
        **{f"val200_{d}_r{k}": ("validation_accuracy", 200, k) for k in range(3)},
        f"test200_{d}_mean": ("test_accuracy", 200, None),
        f"val12_{d}": ("validation_accuracy", 12, None),
        f"test12_{d}": ("test_accuracy", 12, None),
        f"latency_s_{d}": ("latency_seconds", None, None),
        f"train_time_s_{d}": ("training_seconds", 200, None),
    }
    for column, (metric, epoch, seed) in columns.items():
        got = topology.query(rows, D201[d], metric, epoch, seed)
        np.testing.assert_allclose(got, frame[column], rtol=2e-7, err_msg=column)
    np.testing.assert_allclose(topology.query(rows, D201[d], "parameters") / 1e6, frame[f"params_m_{d}"], rtol=1e-6)
    end = topology.query(rows, D201[d], "train_accuracy_curve", 200)
    np.testing.assert_array_equal(end, topology.query(rows, D201[d], "train_accuracy", 200))


def test_genuine_topology_pooled_test_set(topology: Any, shared_data: Path) -> None:
    """ori-test of cifar100 is 10,000 images: validation and test set, half each."""
    pooled = topology.table("cifar100", "valtest_accuracy")
    there = ~np.isnan(pooled)
    assert there.sum() == 3
    parts = [topology.table("cifar100", m)[there] for m in ("validation_accuracy", "test_accuracy")]
    np.testing.assert_allclose(pooled[there], np.mean(parts, axis=0), atol=0.01)


@pytest.mark.parametrize("d", D201)
def test_genuine_size_files_equal_the_shared_table(size: Any, shared_data: Path, d: str) -> None:
    frame = pd.read_parquet(shared_data / "nats_sss" / "nats_sss.parquet").iloc[[0, 11, 284]]
    np.testing.assert_allclose(size.table(D201[d], "test_accuracy")[[0, 11, 284]], frame[f"test90_{d}"], rtol=2e-7)
    assert size.epochs(D201[d], "test_accuracy") == (1, 12, 90)
    assert len(size.runs(D201[d], "test_accuracy", 12)) == 3
    if f"params_{d}" in frame:
        np.testing.assert_array_equal(size.table(D201[d], "parameters")[[0, 11, 284]], frame[f"params_{d}"])


def test_genuine_costs_agree_with_what_is_computed(topology: Any, size: Any, shared_data: Path) -> None:
    for path in sorted((shared_data / ORIGINALS).rglob("000*.pbz2")):
        state = next(iter(pickle_of(path).values()))
        table = size if "sss" in str(path.parent) else topology
        row = table.space.from_string([state["arch_str"]])
        for (dataset, _), found in state["all_results"].items():
            ours = dataset.removesuffix("-valid")
            assert found["params"] * 1e6 == pytest.approx(table.query(row, ours, "parameters")[0])
            assert found["flop"] * 1e6 == pytest.approx(table.query(row, ours, "flops")[0])


def pickle_of(path: Path) -> Any:
    return _safe_pickle.loads(bz2.decompress(path.read_bytes()), str(path))


# -- written files ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[str], dict[int, Any]]]:
    """Some architectures in an order of the file's own, which is not that of the space."""
    rng = np.random.default_rng(0)
    found = {}
    for space, size in (("nasbench201", 15_625), ("natsbench_size", 32_768)):
        names = official.space_names(space, rng.choice(size, 6, replace=False))
        found[space] = names, {n: official.arch_states(space, n, names[n]) for n in (0, 2, 3, 5)}
    return found


def forms(folder: Path, space: str, names: list[str], states: dict[int, Any]) -> dict[str, Path]:
    made = {
        "folder": official.nats_folder(folder / "simple", space, states, names),
        "file": official.nats_file(folder / "one.pickle.pbz2", states, names),
    }
    if space == "nasbench201":
        made["legacy"] = official.nasbench201_pth(folder / "legacy.pth", states, names)
        made["zip"] = official.nasbench201_pth(folder / "zip.pth", states, names, legacy=False)
    return made


@pytest.mark.parametrize("space", ["nasbench201", "natsbench_size"])
def test_all_forms_make_the_same_table(written: Any, space: str, tmp_path: Path) -> None:
    tables = {
        form: _readers.find_reader(space, p)[1].read(p, silent)
        for form, p in forms(tmp_path, space, *written[space]).items()
    }
    first, *others = tables.values()
    for other in others:
        assert [c.key for c in other.columns] == [c.key for c in first.columns]
        np.testing.assert_array_equal(other.index, first.index)
        for one, two in zip(first.columns, other.columns, strict=True):
            np.testing.assert_array_equal(one.values, two.values)


@pytest.mark.parametrize("space", ["nasbench201", "natsbench_size"])
def test_every_number_comes_back(written: Any, space: str, tmp_path: Path) -> None:
    """By a second, slow look at the states, for each metric, epoch and run."""
    names, states = written[space]
    table = benchmarks.load(space, official.nats_file(tmp_path / "x.pbz2", states, names))
    full, grid = (200, _nats_results.TOPOLOGY.grid) if space == "nasbench201" else (90, _nats_results.SIZE.grid)
    checked = 0
    for number, state in states.items():
        row = table.space.from_string([names[number]])
        for schedule in state.values():
            for dataset in D201.values():
                half = "cifar10-valid" if dataset == "cifar10" else dataset
                wanted = {
                    "validation_accuracy": (half, "x-valid"),
                    "test_accuracy": ("cifar10", "ori-test") if dataset == "cifar10" else (dataset, "x-test"),
                    "train_accuracy": (half, "train"),
                }
                if dataset == "cifar10":
                    wanted["test_accuracy_c10valid"] = half, "ori-test"
                else:
                    wanted["valtest_accuracy"] = dataset, "ori-test"
                for metric, (trained, images) in wanted.items():
                    runs = [r for (d, _), r in sorted(schedule["all_results"].items()) if d == trained]
                    epochs = runs[0]["epochs"]
                    look = [(metric, epochs)] + [(f"{metric}_curve", e) for e in grid if epochs == full]
                    for name, epoch in look:
                        values = [
                            r["train_acc1es"][epoch - 1]
                            if images == "train"
                            else r["eval_acc1es"].get(f"{images}@{epoch - 1}")
                            for r in runs
                        ]
                        if None in values or (name.endswith("_curve") and name not in table.metrics(dataset)):
                            assert name.endswith("_curve")
                            continue
                        mean = table.query(row, dataset, name, epoch)[0]
                        assert mean == pytest.approx(np.mean(values), rel=1e-6)
                        checked += 1
                        if len(values) > 1:
                            got = [table.query(row, dataset, name, epoch, seed=k)[0] for k in range(len(values))]
                            np.testing.assert_allclose(got, values, rtol=1e-6)
                seconds = [sum(r["train_times"].values()) for (d, _), r in schedule["all_results"].items() if d == half]
                assert table.query(row, dataset, "training_seconds", epochs)[0] == pytest.approx(
                    np.mean(seconds), rel=1e-6
                )
    assert checked > 300


def test_curves_of_what_is_measured_at_the_end_only_are_not_there(written: Any, tmp_path: Path) -> None:
    names, states = written["nasbench201"]
    table = benchmarks.load("nasbench201", official.nats_file(tmp_path / "x.pbz2", states, names))
    assert "validation_accuracy_curve" in table.metrics("cifar10")
    assert "validation_accuracy_curve" not in table.metrics("cifar100")
    assert "valtest_accuracy_curve" in table.metrics("cifar100")


def test_missing_runs_and_schedules_are_no_value(written: Any, tmp_path: Path) -> None:
    """v1.0 has one run of some architectures, and the short schedule of cifar10-valid only."""
    names, states = written["nasbench201"]
    changed = {n: {key: dict(state) for key, state in s.items()} for n, s in states.items()}
    few = changed[2]["200"]
    few["all_results"] = {key: r for key, r in few["all_results"].items() if key[1] == 888}
    for state in changed.values():
        short = state["12"]
        short["all_results"] = {key: r for key, r in short["all_results"].items() if key[0] == "cifar10-valid"}
    table = benchmarks.load("nasbench201", official.nasbench201_pth(tmp_path / "x.pth", changed, names))
    row = table.space.from_string([names[2]])
    value = few["all_results"]["cifar100", 888]["eval_acc1es"]["x-valid@199"]
    assert table.query(row, "cifar100", "validation_accuracy", seed=0)[0] == pytest.approx(value)
    assert np.isnan(table.query(row, "cifar100", "validation_accuracy", seed=1)[0])
    assert table.query(row, "cifar100", "validation_accuracy")[0] == pytest.approx(value)
    assert table.epochs("cifar100", "validation_accuracy") == (200,)
    assert table.epochs("cifar10", "validation_accuracy") == (12, 200)


def test_an_interrupted_folder_goes_on(written: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_nats_pickles, "_PART", 2)
    names, states = written["nasbench201"]
    folder = official.nats_folder(tmp_path / "simple", "nasbench201", states, names)
    expected = _nats_pickles.read_topology(folder, silent)
    parts_folder, seen = tmp_path / "parts", []
    parts_folder.mkdir()
    real = _nats_results.record

    def stopping(scheme: Any, state: Any, where: str) -> Any:
        seen.append(where)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return real(scheme, state, where)

    monkeypatch.setattr(_nats_pickles, "record", stopping)
    with pytest.raises(KeyboardInterrupt):
        _nats_pickles.resume_topology(folder, silent, Parts(parts_folder))
    found = _nats_pickles.resume_topology(folder, silent, Parts(parts_folder))
    assert len(seen) == 4 + 2  # the first two are not read again
    for one, two in zip(expected.columns, found.columns, strict=True):
        np.testing.assert_array_equal(one.values, two.values)


def test_import_by_name(written: Any, tmp_path: Path) -> None:
    names, states = written["natsbench_size"]
    steps: list[int] = []
    path = benchmarks.import_table(
        "natsbench_size",
        official.nats_folder(tmp_path / "s", "", states, names),
        progress=lambda done, _: steps.append(done),
    )
    assert steps == sorted(steps)
    assert steps[-1] == 100
    table = benchmarks.load("natsbench_size", path)
    assert np.isfinite(table.table("cifar10")).sum() == 4
    with pytest.raises(BenchmarkFormatError, match="not of 'nasbench201'"):
        benchmarks.import_table("nasbench201", tmp_path / "s")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s[2]["200"].update(arch_str="|none~0|"), "arch_str"),
        (lambda s: [t.update(arch_str="|none~0|") for t in s[2].values()], "another"),
        (lambda s: s[2]["200"].update(all_results=[]), "all_results must be a dictionary"),
        (lambda s: s[2]["200"]["all_results"].update(x={}), r"must be \(dataset, seed\)"),
        (
            lambda s: s[2]["200"]["all_results"]["cifar10", 777].update(eval_acc1es={"ori-test@199": "x"}),
            "expected a number",
        ),
        (lambda s: s[2]["200"]["all_results"]["cifar10", 777].update(eval_acc1es={"ori-test@199": 101.0}), "percent"),
        (lambda s: s.update({2: {"7": s[2]["12"]}}), "none of the schedules"),
    ],
)
def test_damaged_states_are_named(written: Any, change: Any, message: str, tmp_path: Path) -> None:
    names, states = written["nasbench201"]
    states = copy.deepcopy(states)
    change(states)
    both = [
        official.nats_folder(tmp_path / "f", "", states, names),
        official.nats_file(tmp_path / "f.pbz2", states, names),
    ]
    for path in both:
        with pytest.raises(BenchmarkFormatError, match=message):
            benchmarks.load("nasbench201", path)


def test_bombs_are_not_decompressed(written: Any, tmp_path: Path) -> None:
    names, states = written["nasbench201"]
    folder = official.nats_folder(tmp_path / "f", "", states, names)
    bomb = bz2.compress(pickle.dumps({"a": bytes(12 * 2**20)}, 4))
    assert len(bomb) < 2000
    (folder / "000002.pickle.pbz2").write_bytes(bomb)
    tracemalloc.start()
    with pytest.raises(BenchmarkFormatError, match="more than 8388608 bytes when decompressed"):
        benchmarks.load("nasbench201", folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6


def test_commands_in_official_files_are_not_run(written: Any, tmp_path: Path) -> None:
    class Command:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path / 'witness'}",)

    names, states = written["nasbench201"]
    evil = {**states, 4: Command()}
    for path in (
        official.nats_folder(tmp_path / "f", "", evil, names),
        official.nats_file(tmp_path / "f.pbz2", evil, names),
    ):
        with pytest.raises(BenchmarkFormatError, match="not safe"):
            benchmarks.load("nasbench201", path)
    assert not (tmp_path / "witness").exists()


# -- TransNAS-Bench-101 -------------------------------------------------------------------------

METRIC = {
    "class_scene": "top1",
    "class_object": "top1",
    "jigsaw": "top1",
    "room_layout": "neg_loss",
    "segmentsemantic": "acc",
    "normal": "ssim",
    "autoencoder": "ssim",
}
OURS = {"top1": "accuracy", "acc": "accuracy", "neg_loss": "negative_loss", "ssim": "ssim"}


@pytest.fixture(scope="module")
def transnas() -> tuple[dict[str, list[str]], dict[str, Any]]:
    names = {
        "macro": official.space_names("transnas_macro", [3000, 7, 1500]),
        "micro": official.space_names("transnas_micro", [4000, 1, 2222]),
    }
    return names, official.transnas_database(names)


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("kind", ["micro", "macro"])
def test_transnas_numbers_come_back(transnas: Any, kind: str, legacy: bool, tmp_path: Path) -> None:
    names, database = transnas
    table = benchmarks.load(f"transnas_{kind}", official.transnas_pth(tmp_path / "t.pth", database, legacy=legacy))
    assert table.default_metric == "test_accuracy"
    for name in names[kind]:
        row = table.space.from_string([name])
        for task, found in database["data"][kind][name].items():
            ours = OURS[METRIC[task]]
            for split, prefix in (("valid", "validation"), ("test", "test"), ("train", "train")):
                values = found["metrics"][f"{split}_{METRIC[task]}"]
                got = [table.query(row, task, f"{prefix}_{ours}", e + 1)[0] for e in range(len(values))]
                np.testing.assert_allclose(got, values, rtol=1e-6)
                assert table.query(row, task, f"{prefix}_{ours}")[0] == got[-1]
            best = max(found["metrics"][f"valid_{METRIC[task]}"])
            assert table.query(row, task, f"best_validation_{ours}")[0] == pytest.approx(best)
            seconds = [table.query(row, task, "training_seconds", e + 1)[0] for e in range(10)]
            assert seconds == [60.0 * e + 7 for e in range(10)]
            for metric, key in (("parameters", "model_params"), ("encoder_flops", "encoder_FLOPs")):
                assert table.query(row, task, metric)[0] == pytest.approx(found["model_info"][key])


def test_transnas_epochs_and_units_are_those_of_the_shared_tables(
    shared_data: Path, transnas: Any, tmp_path: Path
) -> None:
    _, database = transnas
    path = official.transnas_pth(tmp_path / "t.pth", database)
    for kind in ("micro", "macro"):
        ours = benchmarks.load(f"transnas_{kind}", path)
        known = benchmarks.load(f"transnas_{kind}", shared_data / "transnas101" / f"tnb101_{kind}.parquet")
        for dataset in known.datasets:
            for metric in known.metrics(dataset):
                assert ours.unit(dataset, metric) == known.unit(dataset, metric)
                assert ours.epochs(dataset, metric)[-1] == known.epochs(dataset, metric)[-1]


def test_transnas_damage_is_named(transnas: Any, tmp_path: Path) -> None:
    names, database = transnas
    for change, message in (
        (lambda d: d["metrics"].update(valid_top1=[1.0] * 26), "at most 25"),
        (lambda d: d["metrics"].update(valid_top1=["x"]), "expected a number"),
        (lambda d: d.update(metrics=None), "expected metrics"),
    ):
        damaged = copy.deepcopy(database)
        change(damaged["data"]["micro"][names["micro"][1]]["class_scene"])
        path = official.transnas_pth(tmp_path / "t.pth", damaged)
        with pytest.raises(BenchmarkFormatError, match=message):
            benchmarks.load("transnas_micro", path)
        benchmarks.load("transnas_macro", path)


# -- damage -------------------------------------------------------------------------------------


def sources(folder: Path) -> dict[str, tuple[str, Path]]:
    """One of each form: reader → benchmark and path."""
    found = {kind: (_readers.READERS[kind].benchmark, write(folder / kind)) for kind, write in made(folder).items()}
    names = official.space_names("nasbench201", range(2))
    states = {n: official.arch_states("nasbench201", n, names[n], few=True) for n in range(2)}
    for legacy in (True, False):
        path = official.nasbench201_pth(folder / f"{legacy}.pth", states, names, legacy=legacy)
        found[f"pth, legacy: {legacy}"] = "nasbench201", path
    return found


def made(folder: Path) -> dict[str, Any]:
    for kind in official.FUZZ:
        (folder / kind).mkdir()
    return dict(official.FUZZ)


def test_every_small_source_is_recognised_and_read(tmp_path: Path) -> None:
    for name, path in sources(tmp_path).values():
        assert np.isfinite(benchmarks.load(name, path).table()).any() or name.startswith("transnas")
        fitting = {reader.benchmark for reader in _readers.READERS.values() if reader.recognises(path)}
        assert fitting == ({name} if not name.startswith("transnas") else {"transnas_micro", "transnas_macro"})


def test_random_damage_never_escapes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    outcomes = []
    for name, path in sources(tmp_path).values():
        files = sorted(p for p in path.iterdir()) if path.is_dir() else [path]
        for _ in range(30):
            file = files[int(rng.integers(len(files)))]
            whole = file.read_bytes()
            packed = whole[:3] == b"BZh" and rng.random() < 0.7  # damage within bz2 is found by its checksum
            data = bytearray(bz2.decompress(whole) if packed else whole)
            for position in rng.integers(len(data), size=int(rng.integers(1, 4))):
                data[position] = int(rng.integers(256))
            data = data[: int(rng.integers(len(data)))] if rng.random() < 0.2 else data
            file.write_bytes(bz2.compress(bytes(data)) if packed else bytes(data))
            try:
                benchmarks.load(name, path)
                outcomes.append("read")
            except BenchmarkFormatError:
                outcomes.append("refused")
            file.write_bytes(whole)
    assert outcomes.count("refused") > 60
    assert outcomes.count("read") > 10
