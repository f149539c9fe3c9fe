"""HW-NAS-Bench and AnalogNAS-Bench: units, orders, unsafe pickles, and device metrics as costs of a search."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fixtures_raw_json import (
    ANALOG_DRIFT,
    ANALOG_PLAIN,
    HW_DATASETS,
    HW_METRICS,
    analog_data,
    hwnasbench_content,
    hwnasbench_parquet,
    hwnasbench_pickle,
)
from typer.testing import CliRunner

from tauzero import benchmarks, search, spaces
from tauzero.benchmarks import Column, MissingTableError, Table, _analog_nasbench, _safe_pickle, write_store
from tauzero.cli import app
from tauzero.spaces import BenchmarkFormatError, UnknownNameError

NB201 = spaces.get("nasbench201")
SOME = np.array([7, 3, 9])


def read_and_check(kind: str, path: Path) -> None:
    for column in benchmarks.READERS[kind].read(path, lambda *_: None).columns:
        column.check()


# -- HW-NAS-Bench -----------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_the_official_pickle(protocol: int, tmp_path: Path) -> None:
    rows = NB201.enumerate()[SOME]
    table = benchmarks.load("hwnasbench201", hwnasbench_pickle(tmp_path, hwnasbench_content(rows), protocol))
    assert table.datasets == HW_DATASETS
    for d, dataset in enumerate(HW_DATASETS):
        for m, metric in enumerate(HW_METRICS):
            expected = 100 * d + 10 * m + np.arange(3) + 1.0
            if metric.endswith(("latency", "energy")):
                expected /= 1000  # milliseconds and millijoules
            if metric == "edgetpu_latency":
                expected[0] = np.nan  # -1: the device cannot run it
            np.testing.assert_allclose(table.query(rows, dataset, metric), expected, rtol=1e-12)
    units = {m: table.unit("cifar10", m) for m in HW_METRICS}
    assert {units[m] for m in HW_METRICS if m.endswith("latency")} == {"seconds"}
    assert {units[m] for m in HW_METRICS if m.endswith("energy")} == {"joules"}
    assert units["eyeriss_arithmetic_intensity"] == "score"
    assert "fbnet" in table.info()["provenance"]["left_out"]


def test_arrays_and_numbered_configurations(tmp_path: Path) -> None:
    content = hwnasbench_content(NB201.enumerate()[SOME])
    part = content["nasbench201"]["cifar10"]
    part["fpga_energy"] = np.array(part["fpga_energy"])
    for entries in content["nasbench201"].values():
        entries["config"] = dict(enumerate(entries["config"]))
    table = benchmarks.load("hwnasbench201", hwnasbench_pickle(tmp_path, content))
    np.testing.assert_allclose(table.query(NB201.enumerate()[SOME], metric="fpga_energy"), [0.091, 0.092, 0.093])


CHANGES: dict[str, tuple[Any, str]] = {
    "no space": (lambda c: c.pop("nasbench201"), "the key 'nasbench201'"),
    "data set": (lambda c: c["nasbench201"].update(mnist={}), "got 'mnist'"),
    "list": (lambda c: c["nasbench201"].update(cifar10=[1]), "must be a dictionary of metrics"),
    "no configuration": (lambda c: c["nasbench201"]["cifar10"].pop("config"), "must have 'config'"),
    "no string": (lambda c: c["nasbench201"]["cifar10"]["config"][1].pop("arch_str"), "'arch_str'"),
    "wrong string": (
        lambda c: c["nasbench201"]["cifar10"]["config"][1].update(arch_str="|conv~0|"),
        "cannot be read",
    ),
    "twice": (
        lambda c: c["nasbench201"]["cifar10"]["config"].__setitem__(1, c["nasbench201"]["cifar10"]["config"][0]),
        "the same nasbench201 architecture",
    ),
    "other order": (lambda c: c["nasbench201"]["cifar100"]["config"].reverse(), "other architectures"),
    "short": (lambda c: c["nasbench201"]["cifar10"]["fpga_energy"].pop(), "3 numbers for fpga_energy"),
    "text": (lambda c: c["nasbench201"]["cifar10"].update(fpga_energy=["1", "2", "3"]), "3 numbers for fpga_energy"),
    "huge": (lambda c: c["nasbench201"]["cifar10"].update(fpga_energy=[10**400] * 3), "3 numbers for fpga_energy"),
    "negative": (lambda c: c["nasbench201"]["cifar10"].update(fpga_energy=[1.0, -2.0, 3.0]), "lie in"),
    "infinite": (lambda c: c["nasbench201"]["cifar10"].update(fpga_latency=[1.0, np.inf, 3.0]), "lie in"),
    "no metric": (
        lambda c: [c["nasbench201"]["cifar100"].pop(m) for m in HW_METRICS],
        "has none of the metrics",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_damaged_contents(name: str, tmp_path: Path) -> None:
    change, reason = CHANGES[name]
    content = hwnasbench_content(NB201.enumerate()[SOME])
    change(content)
    path = hwnasbench_pickle(tmp_path, content)
    # Without its space it is not even recognised; the reader itself says what it misses.
    with pytest.raises(BenchmarkFormatError) as caught:
        read_and_check("hwnasbench-pickle", path)
    assert reason in str(caught.value)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "touched",)

    content = hwnasbench_content(NB201.enumerate()[SOME])
    content["nasbench201"]["cifar10"]["config"][2]["name"] = Evil()
    with pytest.raises(BenchmarkFormatError, match="not safe to read"):
        benchmarks.load("hwnasbench201", hwnasbench_pickle(tmp_path, content))
    assert not (tmp_path / "touched").exists()


def test_a_condensed_table(tmp_path: Path) -> None:
    table = benchmarks.load("hwnasbench201", hwnasbench_parquet(tmp_path, SOME))
    rows = NB201.enumerate()[SOME]
    assert table.datasets == ("cifar10", "cifar100")
    np.testing.assert_allclose(table.query(rows, "cifar100", "edgegpu_energy"), (111.0 + SOME) / 1000, rtol=1e-6)
    np.testing.assert_allclose(table.query(rows, metric="help_titan_rtx_32_latency"), (SOME + 2) / 1000, rtol=1e-6)
    assert np.isnan(table.query(rows, metric="edgetpu_latency")).tolist() == [True, False, False]


@pytest.mark.parametrize("index", [[1, 1, 2], [1, 15_625, 2]])
def test_a_condensed_table_with_wrong_rows(index: list[int], tmp_path: Path) -> None:
    with pytest.raises(BenchmarkFormatError, match=r"same nasbench201 architecture|0 to 15624"):
        benchmarks.load("hwnasbench201", hwnasbench_parquet(tmp_path, np.array(index)))


@pytest.mark.parametrize("value", [-0.1, np.inf])
def test_joules_are_not_negative(value: float) -> None:
    Column("cifar10", "energy", None, None, "joules", np.array([0.0, np.nan, 2.0])).check()
    with pytest.raises(BenchmarkFormatError, match=r"\[0, ∞\) joules"):
        Column("cifar10", "energy", None, None, "joules", np.array([0.0, value])).check()


def test_genuine_values(shared_data: Path) -> None:
    path = shared_data / "nb201" / "nb201_hardware.parquet"
    table = benchmarks.load("hwnasbench201", path)
    frame = pd.read_parquet(path)
    assert len(table.datasets) == 3
    assert sum(len(table.metrics(d)) for d in table.datasets) == 57
    for name, (dataset, metric) in {
        "hwnb_pixel3_latency_c100": ("cifar100", "pixel3_latency"),
        "hwnb_fpga_energy_in16": ("ImageNet16-120", "fpga_energy"),
        "help_ms_gold_6226": ("cifar10", "help_gold_6226_latency"),
    }.items():
        np.testing.assert_allclose(table.table(dataset, metric) * 1000, frame[name].to_numpy(), rtol=1e-6)
    # As HW-NAS-Bench's own README prints for architecture 0 on CIFAR-10.
    printed = {"edgegpu_latency": 5.807418537139893, "edgegpu_energy": 24.226614330768584, "fpga_energy": 18.01072}
    for metric, value in printed.items():
        assert table.query_index([0], "cifar10", metric)[0] * 1000 == pytest.approx(value, rel=1e-6)
    for dataset in table.datasets:
        assert np.isnan(table.table(dataset, "edgetpu_latency")).sum() == 4_699


# -- as costs of a search ---------------------------------------------------------------------


def _made_up(lacking: int = 0, space: str = "nasbench201", dataset: str = "cifar10") -> np.ndarray:
    size = spaces.get(space).size
    latency = 1.0 + np.arange(size) % 97
    latency[:lacking] = np.nan
    column = Column(dataset, "pixel3_latency", None, None, "seconds", latency)
    write_store(
        Table("hwnasbench201", space, (column,), "CC0-1.0", {"source": "made up"}),
        benchmarks.data_folder() / "hwnasbench201.arrow",
    )
    return latency


@pytest.fixture
def accuracy() -> Path:
    values = (NB201.enumerate() == 3).sum(axis=1).astype(float)
    column = Column("cifar10", "test_accuracy", 200, None, "percent", values)
    seconds = Column("cifar10", "training_seconds", 200, None, "seconds", values)
    table = Table("nasbench201", NB201.name, (column, seconds), "CC0-1.0", {"source": "made up"})
    return write_store(table, benchmarks.data_folder() / "nasbench201.arrow")


@pytest.mark.parametrize("dataset", ["cifar10", "svhn"])  # the search's own, or the only one that there is
def test_metrics_of_another_table_are_costs(dataset: str, accuracy: Path) -> None:
    latency = _made_up(dataset=dataset)
    goal = search.TableObjective(benchmarks.load("nasbench201"))
    weighed = search.WithCosts(goal, ["hwnasbench201:pixel3_latency", "params"])
    rows = NB201.sample(50, seed=0)
    found = weighed.evaluate(rows).costs
    np.testing.assert_array_equal(found["hwnasbench201:pixel3_latency"], latency[NB201.index(rows)])
    assert set(found) == {"hwnasbench201:pixel3_latency", "params"}


def test_costs_that_cannot_be_looked_up(accuracy: Path) -> None:
    goal = search.TableObjective(benchmarks.load("nasbench201"))
    with pytest.raises(MissingTableError, match="tauzero benchmarks import hwnasbench201"):
        search.WithCosts(goal, ["hwnasbench201:pixel3_latency"])
    with pytest.raises(UnknownNameError, match="Unknown benchmark 'nothing'"):
        search.WithCosts(goal, ["nothing:pixel3_latency"])
    _made_up()
    with pytest.raises(UnknownNameError, match="Did you mean 'hwnasbench201:pixel3_latency'"):
        search.WithCosts(goal, ["hwnasbench201:pixel_latency"])
    _made_up(lacking=3)
    with pytest.raises(ValueError, match="lacks 3 of 15625"):
        search.WithCosts(goal, ["hwnasbench201:pixel3_latency"])
    _made_up(space="transnas_micro")
    with pytest.raises(ValueError, match=r"over nasbench201\. Got one over transnas_micro"):
        search.WithCosts(goal, ["hwnasbench201:pixel3_latency"])


def test_costs_on_the_command_line(accuracy: Path) -> None:
    latency = _made_up()
    wanted = ["search", "nasbench201", "--algorithm", "nsga2", "--costs", "hwnasbench201:pixel3_latency"]
    result = CliRunner().invoke(app, [*wanted, "--budget", "60", "--seed", "0", "--json"])
    assert result.exit_code == 0, result.output
    for point in json.loads(result.stdout)["pareto"]:
        index = NB201.index(NB201.from_string([point["arch"]]))[0]
        assert point["costs"] == {"hwnasbench201:pixel3_latency": latency[index]}


# -- AnalogNAS-Bench --------------------------------------------------------------------------

KEYS = [(0, 1, 2, 3, 4, 0), (4, 4, 0, 2, 1, 3), (1, 1, 1, 1, 1, 1)]
#: The package's codes: 0 skip, 1 none, 2 conv 3×3, 3 conv 1×1, 4 pooling, on (0→1), (0→2), (0→3), (1→2), (1→3), (2→3).
STRINGS = [
    "|skip_connect~0|+|none~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|skip_connect~2|",
    "|avg_pool_3x3~0|+|avg_pool_3x3~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|",
    "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The folder of a package that must never be imported."""
    root = tmp_path / "site" / "analognasbench"
    root.mkdir(parents=True)
    for name in ("__init__.py", "data.py"):
        (root / name).write_text("raise RuntimeError('the package was imported')\n")
    (root / "data.anb").write_bytes(analog_data(KEYS))
    return root


def test_analog_accuracies(package: Path) -> None:
    table = benchmarks.load("analog_nasbench201", package)
    rows = table.space.from_string(STRINGS)
    names = ("test_accuracy", *ANALOG_PLAIN[1:])
    for k, name in enumerate(names):
        np.testing.assert_array_equal(table.query(rows, metric=name), 10 * k + np.arange(3))
    for k, name in enumerate(ANALOG_DRIFT):
        kind, _, age = name.split("_")
        metric = f"{kind}_accuracy_after_{age}s"
        np.testing.assert_array_equal(table.query(rows, metric=metric), 10 * k + np.arange(3))
        np.testing.assert_array_equal(table.query(rows, metric=f"{metric}_deviation"), [0.5] * 3)
    assert table.main_metric() == "test_accuracy"


def test_the_wheel_and_the_file(package: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "analog_nasbench-0.1.3-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(package / "data.anb", "analognasbench/data.anb")
    whole = benchmarks.load("analog_nasbench201", package)
    for source in (wheel, package / "data.anb", package.parent):
        table = benchmarks.load("analog_nasbench201", source)
        np.testing.assert_array_equal(table.table(), whole.table())
    assert benchmarks.load("analog_nasbench201", wheel).info()["provenance"]["package"] == "analog-nasbench 0.1.3"


def test_the_installed_package_is_found_and_not_imported(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_analog_nasbench, "installed", lambda: None)
    with pytest.raises(MissingTableError, match=r'pip install "tauzero\[analog\]"'):
        benchmarks.load("analog_nasbench201")
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(package.parent))
    assert _analog_nasbench.installed() == package
    assert benchmarks.load("analog_nasbench201").query_index([NB201.index(NB201.from_string(STRINGS))[1]]) == [1.0]
    assert "analog_nasbench201" in benchmarks.available()


def _set(content: dict[Any, Any], name: str, value: object) -> None:
    setattr(content[KEYS[1]], name, value)


ANALOG_CHANGES: dict[str, tuple[Any, str]] = {
    "empty": (lambda c: c.clear(), "expected a dictionary"),
    "key": (lambda c: c.update({"x": c[KEYS[0]]}), "six integers"),
    "operation": (lambda c: c.update({(0, 0, 0, 0, 0, 5): c[KEYS[0]]}), "six integers"),
    "true": (lambda c: c.update({(0, 0, 0, 0, 0, True): c[KEYS[0]]}), "six integers"),
    "value": (lambda c: c.update({KEYS[0]: 3}), "must be an object with values, got int"),
    "kind": (lambda c: c.update({KEYS[0]: c[KEYS[0]].analog_drift_60}), "must be an object with values"),
    "drift": (lambda c: _set(c, "analog_drift_60", 3.0), "analog_drift_60 must be an object"),
    "text": (lambda c: _set(c, "qat_accuracy", "90"), "qat_accuracy must be a number, got '90'"),
    "NaN": (lambda c: _set(c, "qat_accuracy", float("nan")), "qat_accuracy must be a number, got nan"),
    "missing": (lambda c: delattr(c[KEYS[1]], "qat_accuracy"), "qat_accuracy must be a number, got None"),
    "percent": (lambda c: _set(c, "qat_accuracy", 100.5), "lie in [0, 100] percent"),
    "code": (lambda c: _set(c, "qat_accuracy", Path), "not safe to read"),
}


@pytest.mark.parametrize("name", ANALOG_CHANGES)
def test_damaged_analog_data(name: str, package: Path) -> None:
    change, reason = ANALOG_CHANGES[name]
    (package / "data.anb").write_bytes(analog_data(KEYS, change))
    with pytest.raises(BenchmarkFormatError) as caught:
        read_and_check("analog-nasbench", package)
    assert reason in str(caught.value)


def test_inert_names_are_those_of_the_caller_only() -> None:
    data = b"\x80\x02canalognasbench.data\nArchitecture\n)\x81."
    with pytest.raises(BenchmarkFormatError, match=r"asks for analognasbench\.data\.Architecture"):
        _safe_pickle.loads(data, "x")
    assert pickle.loads(pickle.dumps(3)) == _safe_pickle.loads(pickle.dumps(3), "x", inert=_analog_nasbench._INERT)
    assert type(_safe_pickle.loads(data, "x", inert=_analog_nasbench._INERT)).__name__ == "_Architecture"


def test_the_genuine_package(nasbench201_store: Path) -> None:
    """Codes and edges are right if its digital accuracies are those of NAS-Bench-201."""
    package = _analog_nasbench.installed()
    if package is None:
        pytest.skip("analog-nasbench is not installed")
    mine = benchmarks.load("analog_nasbench201", package)
    theirs = benchmarks.load("nasbench201", nasbench201_store).table()
    ranks = [pd.Series(values).rank().to_numpy() for values in (mine.table(), theirs)]
    assert np.corrcoef(*ranks)[0, 1] > 0.98
    assert mine.info()["rows"] == 15_625
