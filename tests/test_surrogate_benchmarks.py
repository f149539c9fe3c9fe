"""Surrogates in a table's place: the same questions as to a table, numbered noise, files, and clear refusals."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from scipy import stats
from surrogate_helpers import accuracy, rows, small

import tauzero as tz
from tauzero.benchmarks import Benchmark, Column, Table, load
from tauzero.spaces import BenchmarkFormatError, InvalidGenotypeError, UnknownNameError
from tauzero.surrogates import (
    ModelFormatError,
    PredictedColumn,
    RunNoise,
    Surrogate,
    SurrogateBenchmark,
    fit_benchmark,
    fit_run_noise,
)
from tauzero.surrogates._noise import standard_normals

SPACES = ["nasbench201", "natsbench_size", "darts"]


def fitted(space: str, name: str = "gaussian_process", n: int = 60) -> Surrogate:
    cells = rows(space, n)
    model = small(name, space).fit(cells, accuracy(space, cells))
    model.metadata_ = {"benchmark": "made-up", "dataset": "cifar10", "metric": "test_accuracy", "unit": "percent"}
    return model


def made(space: str = "nasbench201", **params: object) -> SurrogateBenchmark:
    given = {"noise": RunNoise((80.0, 90.0), (0.5, 0.1)), "cost": 120.0} | params
    column = PredictedColumn("cifar10", "test_accuracy", 200, "percent", fitted(space), **given)  # type: ignore[arg-type]
    return SurrogateBenchmark([column], "tiny", sample=300, provenance={"trained_on": ["made-up"]})


@pytest.fixture(scope="module")
def tiny() -> SurrogateBenchmark:
    return made()


# -- answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("space", SPACES)
def test_the_mean_is_the_prediction_of_the_model(space: str) -> None:
    """Up to single precision, in which features are computed: batches of other shapes round differently."""
    benchmark = made(space)
    cells = benchmark.space.sample(300, 1)
    model = benchmark.columns[0].model
    mean, std = model.predict(cells, return_std=True)
    np.testing.assert_allclose(benchmark.query(cells, "CIFAR10"), np.clip(mean, 0, 100), atol=1e-4)
    predictive, run = benchmark.spread(cells)
    np.testing.assert_allclose(predictive, std, atol=1e-4)
    np.testing.assert_allclose(run, np.interp(mean, (80.0, 90.0), (0.5, 0.1)), atol=1e-4)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("seed", [None, 0, 10**20])
def test_answers_depend_on_architecture_and_seed_alone(space: str, seed: int | None) -> None:
    benchmark = made(space)
    cells = benchmark.space.sample(300, 2)
    values = benchmark.query(cells, seed=seed)
    order = np.random.default_rng(0).permutation(len(cells))
    np.testing.assert_array_equal(benchmark.query(cells[order], seed=seed), values[order])
    for start, stop in ((0, 1), (7, 8), (100, 237)):
        np.testing.assert_array_equal(benchmark.query(cells[start:stop], seed=seed), values[start:stop])
    np.testing.assert_array_equal(benchmark.query(benchmark.space.canonical(cells), seed=seed), values)


@pytest.mark.parametrize("space", SPACES)
def test_kernels_that_round_by_place_change_nothing(space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenBLAS's for Haswell do: here every row's place is added to its prediction."""
    benchmark = made(space)
    model = benchmark.columns[0].model
    plain = model._predict

    def by_place(cells: np.ndarray, *, with_std: bool) -> tuple[np.ndarray, np.ndarray]:
        mean, std = plain(cells, with_std=with_std)
        return mean + 1e-4 * np.arange(len(mean)), std

    monkeypatch.setattr(model, "_predict", by_place)
    cells = benchmark.space.sample(400, 2)
    values = benchmark.query(cells)
    for chosen in (np.random.default_rng(0).permutation(400), [0], [7], list(range(100, 237))):
        np.testing.assert_array_equal(benchmark.query(cells[chosen]), values[chosen])
    np.testing.assert_allclose(values, made(space).query(cells), atol=0.2)


def test_single_precision_networks_answer_alike_in_every_batch() -> None:
    """Matrix products round by shape; blocks of one size make up for it (plain `predict` differs here)."""
    benchmark = SurrogateBenchmark(
        [PredictedColumn("cifar10", "test_accuracy", 200, "percent", fitted("nasbench101", "gnn"))]
    )
    cells = rows("nasbench101", 140, 3)
    values = benchmark.query(cells, seed=1)
    one_by_one = np.concatenate([benchmark.query(cells[k : k + 1], seed=1) for k in range(12)])
    np.testing.assert_array_equal(one_by_one, values[:12])


def test_equal_networks_have_equal_answers(tiny: SurrogateBenchmark) -> None:
    cells = tiny.space.enumerate()
    labels = np.unique(tiny.space.index(tiny.space.canonical(cells)), return_inverse=True)[1]
    assert labels.max() + 1 < len(cells)
    for seed in (None, 3):
        values = tiny.table(seed=seed)
        first = np.unique(labels, return_index=True)[1]
        np.testing.assert_array_equal(values, values[first][labels])


def test_table_query_and_query_index_agree(tiny: SurrogateBenchmark) -> None:
    again = made()  # has not predicted its whole space
    index = np.array([5, 15_624, 0, 77, 5])
    for seed in (None, 4):
        np.testing.assert_array_equal(again.query_index(index, seed=seed), tiny.table(seed=seed)[index])
        np.testing.assert_array_equal(tiny.query_index(index, seed=seed), tiny.table(seed=seed)[index])
    assert len(tiny.architectures) == len(tiny.table()) == 15_625


def test_a_space_without_enumeration_has_a_fixed_sample() -> None:
    benchmark = made("darts")
    cells = benchmark.architectures
    assert cells.shape == (300, benchmark.space.length)
    assert len(benchmark.space.distinct(cells)[0]) == 300
    np.testing.assert_array_equal(cells, made("darts").architectures)
    np.testing.assert_array_equal(benchmark.table(seed=2), benchmark.query(cells, seed=2))
    with pytest.raises(tz.spaces.NotEnumerableError):
        benchmark.query_index([0])
    assert benchmark.info()["rows"] == 300


def test_what_there_is_is_told_as_a_table_tells_it(tiny: SurrogateBenchmark) -> None:
    assert isinstance(tiny, Benchmark)
    assert tiny.name == "surrogate:tiny"
    assert (tiny.datasets, tiny.metrics(), tiny.epochs(), tiny.runs()) == (
        ("cifar10",), ("test_accuracy",), (200,), (0, 1, 2),
    )  # fmt: skip
    assert (tiny.main_metric(), tiny.default_metric, tiny.unit()) == ("test_accuracy", "test_accuracy", "percent")
    assert tiny.on_demand
    assert tiny.origins == ("made-up",)
    info = tiny.info()
    assert set(info) >= {"name", "space", "rows", "datasets", "coverage", "columns", "licence", "provenance", "path"}
    assert info["coverage"] == {"cifar10": {"test_accuracy": {"200": 1.0}}}
    assert info["rows"] == 15_625
    json.dumps(info)


def test_costs_are_a_model_a_constant_or_unknown() -> None:
    cells = rows("nasbench201", 30, 5)
    seconds = made("nasbench201").query(cells, return_cost=True)[1]
    np.testing.assert_array_equal(seconds, np.full(30, 120.0))
    assert np.isnan(made("nasbench201", cost=None).query(cells, return_cost=True)[1]).all()
    model = fitted("nasbench201")
    _, seconds = made("nasbench201", cost=model).query(cells, return_cost=True)
    np.testing.assert_allclose(seconds, model.predict(cells), atol=1e-4)


def test_several_columns_are_told_apart() -> None:
    model = fitted("nasbench201")
    columns = [
        PredictedColumn("cifar10", "test_accuracy", 200, "percent", model, "none"),
        PredictedColumn("cifar100", "test_accuracy", 200, "percent", model, RunNoise((0.0,), (1.0,))),
    ]
    benchmark = SurrogateBenchmark(columns, runs=4)
    cells = rows("nasbench201", 50)
    assert benchmark.datasets == ("cifar10", "cifar100")
    assert benchmark.runs("cifar10") == ()
    assert benchmark.runs("cifar100") == (0, 1, 2, 3)
    np.testing.assert_array_equal(benchmark.query(cells, "cifar10"), benchmark.query(cells, "cifar100"))
    with pytest.raises(UnknownNameError, match="no single runs"):
        benchmark.query(cells, "cifar10", seed=0)


# -- noise ------------------------------------------------------------------------------------


def test_noise_has_the_stated_deviation() -> None:
    """Of 15,625 cells: deviation 1, mean 0, normal; seeds, data sets and neighbours do not go together."""
    cells = tz.spaces.get("nasbench201").enumerate()
    draws = standard_normals(cells, 0, "a/b")
    assert abs(draws.mean()) < 4 / np.sqrt(len(draws))
    assert abs(draws.std() - 1) < 4 / np.sqrt(2 * len(draws))
    assert stats.kstest(draws, "norm").pvalue > 1e-3
    for other in (
        standard_normals(cells, 1, "a/b"),
        standard_normals(cells, 0, "a/c"),
        np.roll(draws, 1),
        np.roll(draws, 5),
    ):
        assert abs(np.corrcoef(draws, other)[0, 1]) < 4 / np.sqrt(len(draws))


@pytest.mark.parametrize("noise", ["predictive", RunNoise((70.0, 95.0), (2.0, 0.2))])
def test_runs_scatter_by_the_noise_of_the_column(noise: object) -> None:
    benchmark = made(noise=noise)
    cells = rows("nasbench201", 40, 6)
    mean, (predictive, run) = benchmark.query(cells), benchmark.spread(cells)
    runs = np.stack([benchmark.query(cells, seed=k) for k in range(600)])
    expected = predictive if noise == "predictive" else np.interp(mean, (70.0, 95.0), (2.0, 0.2))
    np.testing.assert_allclose(run, expected)
    inside = (mean + 5 * run < 100) & (mean - 5 * run > 0)  # elsewhere percentages are cut at 100
    assert inside.sum() > 20
    ratio = (runs.std(axis=0, ddof=1) / run)[inside]
    assert ratio.mean() == pytest.approx(1.0, abs=4 / np.sqrt(2 * 600 * inside.sum()))
    centred = (runs.mean(axis=0) - mean)[inside] / run[inside] * np.sqrt(600)
    assert np.abs(centred).max() < 4.5


def test_percentages_stay_percentages() -> None:
    values = made(noise=RunNoise((0.0,), (60.0,))).table(seed=0)
    assert values.min() == 0.0
    assert values.max() == 100.0


def test_noise_of_runs_is_found_again() -> None:
    """Against the known deviation of made-up runs, and a second, obvious computation where there is one group."""
    rng = np.random.default_rng(0)
    mean = rng.uniform(50, 90, 4_000)
    runs = mean[:, None] + rng.normal(0, 1, (4_000, 3)) * ((95 - mean) / 10)[:, None]
    runs[::3, 2] = np.nan
    noise = fit_run_noise(runs, "made up")
    assert len(noise.value) == 12
    np.testing.assert_allclose(noise.at(np.array([60.0, 80.0])), [3.5, 1.5], rtol=0.08)
    few = runs[:30]
    (deviation,) = fit_run_noise(few, bins=1).std
    squares, freedom = 0.0, 0
    for line in few:
        there = line[np.isfinite(line)]
        squares += ((there - there.mean()) ** 2).sum()
        freedom += len(there) - 1
    assert deviation == pytest.approx(np.sqrt(squares / freedom))
    with pytest.raises(ValueError, match="two runs"):
        fit_run_noise([[1.0, np.nan]])
    for bad in (((1.0, 1.0), (0.0, 0.0)), ((1.0,), (-1.0,)), ((), ()), ((1.0,), (np.nan,))):
        with pytest.raises(ValueError, match="ascending"):
            RunNoise(*bad)


# -- files and names --------------------------------------------------------------------------


@pytest.mark.parametrize("space", ["nasbench201", "darts"])
def test_saved_and_opened_again(space: str, tmp_path: Path) -> None:
    benchmark = made(space, cost=fitted(space))
    folder = benchmark.save(tmp_path / "here")
    again = load(f"surrogate:{folder}")
    assert isinstance(again, SurrogateBenchmark)
    cells = again.space.sample(40, 0)
    for seed in (None, 9):
        for mine, theirs in zip(again.query(cells, seed=seed, return_cost=True),
                                benchmark.query(cells, seed=seed, return_cost=True), strict=True):  # fmt: skip
            np.testing.assert_array_equal(mine, theirs)
    assert again.columns[0].noise == benchmark.columns[0].noise
    assert again.path == folder
    assert again.name == benchmark.name
    assert again.validity is None
    again.save(folder)  # replaces itself
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here"]


def test_a_plain_model_is_a_benchmark_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted("nasbench201")
    model.save(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    benchmark = load("surrogate:model")
    cells = rows("nasbench201", 20, 1)
    np.testing.assert_allclose(benchmark.query(cells), model.predict(cells), atol=1e-4)
    assert benchmark.name == "surrogate:model"
    assert np.isnan(benchmark.query(cells, return_cost=True)[1]).all()
    model.metadata_ = {}
    model.save(tmp_path / "model")
    assert load("surrogate:model").metrics() == ("prediction",)


@pytest.mark.parametrize("dump", [pickle.dumps, None])
def test_it_goes_to_other_processes(dump: object, tiny: SurrogateBenchmark, tmp_path: Path) -> None:
    cells = rows("nasbench201", 10)
    opened = load(f"surrogate:{tiny.save(tmp_path / 'b')}")
    for benchmark in (tiny, opened):
        if dump is None:
            joblib.dump(benchmark, tmp_path / "file")
            again = pickle.loads(pickle.dumps(benchmark))
            assert (tmp_path / "file").stat().st_size > 0
        else:
            again = pickle.loads(pickle.dumps(benchmark))
        np.testing.assert_array_equal(again.query(cells, seed=1), benchmark.query(cells, seed=1))
        assert again.info() == benchmark.info()


def test_no_other_import_is_needed() -> None:
    code = "from tauzero.benchmarks import load; import sys; assert 'tauzero.surrogates' not in sys.modules; "
    code += "print(load('surrogate:natsbench_size-cifar10').datasets)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "('cifar10',)"


# -- refusals ---------------------------------------------------------------------------------


def test_unknown_places_and_names_are_refused(tiny: SurrogateBenchmark, tmp_path: Path) -> None:
    cells = rows("nasbench201", 3)
    with pytest.raises(UnknownNameError, match="nasbench201-cifar10"):
        load("surrogate:nowhere")
    with pytest.raises(UnknownNameError):
        load("surrogate:")
    with pytest.raises(UnknownNameError, match="Unknown benchmark"):
        load("other:nowhere")
    with pytest.raises(ValueError, match="'source'"):
        load("surrogate:nasbench201-cifar10", tmp_path)
    with pytest.raises(ModelFormatError, match=r"benchmark\.json"):
        load(f"surrogate:{tmp_path}")
    (tmp_path / "file").touch()
    with pytest.raises(ModelFormatError, match="is a file"):
        load(f"surrogate:{tmp_path / 'file'}")
    with pytest.raises(ModelFormatError, match="several spaces"):
        load(f"surrogate:{Path(tz.surrogates.__file__).parent / 'pretrained' / 'multi-space'}")
    for name, question in {
        "cifar10": {"dataset": "svhn"},
        "test_accuracy": {"metric": "validation_accuracy"},
        "200": {"epoch": 12},
        "integer ≥ 0": {"seed": -1},
        "≥ 0": {"seed": 1.5},
        "every": {"seed": True},
    }.items():
        with pytest.raises(UnknownNameError, match=name):
            tiny.query(cells, **question)  # type: ignore[call-overload]
    with pytest.raises(InvalidGenotypeError):
        tiny.query([[9, 9, 9, 9, 9, 9]])
    assert tiny.query(np.empty((0, 6), dtype=np.int8)).shape == (0,)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"version": 2},
        {"columns": []},
        {"columns": 3},
        {"space": "nasbench101"},
        {"runs": "many"},
        {"name": None, "provenance": 7},
        {"columns": [{}]},
    ],
)
def test_damaged_benchmarks_are_refused(change: dict[str, object], tiny: SurrogateBenchmark, tmp_path: Path) -> None:
    path = tiny.save(tmp_path / "b") / "benchmark.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelFormatError):
        load(f"surrogate:{path.parent}")


@pytest.mark.parametrize("model", ["../model", "/tmp", "", ".hidden", "pretrained:none", "nothing", 3])
def test_only_models_of_the_folder_are_read(model: object, tiny: SurrogateBenchmark, tmp_path: Path) -> None:
    fitted("nasbench201").save(tmp_path / "model")
    path = tiny.save(tmp_path / "b") / "benchmark.json"
    content = json.loads(path.read_text())
    content["columns"][0]["model"] = model
    path.write_text(json.dumps(content))
    with pytest.raises(BenchmarkFormatError):
        load(f"surrogate:{path.parent}")


def test_mutated_files_are_refused_or_read(tiny: SurrogateBenchmark, tmp_path: Path) -> None:
    """Three hundred changes of a byte, cuts and doublings: a benchmark, or one clear error."""
    folder = tiny.save(tmp_path / "b")
    path = folder / "benchmark.json"
    original, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        data = bytearray(original)
        kind, at = rng.integers(3), int(rng.integers(len(data)))
        if kind == 0:
            data[at] = int(rng.integers(256))
        elif kind == 1:
            del data[at : at + int(rng.integers(1, 40))]
        else:
            data[at:at] = data[at : at + 20]
        path.write_bytes(bytes(data))
        try:
            load(f"surrogate:{folder}")
        except ModelFormatError:
            refused += 1
    assert refused > 100


def test_saving_leaves_other_folders_alone(
    tiny: SurrogateBenchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(OSError, match="no surrogate benchmark"):
        tiny.save(tmp_path / "full")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="folder of its own"):
        tiny.save(".")
    assert [p.name for p in tmp_path.iterdir()] == ["full"]


def test_what_makes_no_benchmark_is_refused() -> None:
    model = fitted("nasbench201")
    column = PredictedColumn("cifar10", "test_accuracy", 200, "percent", model)
    other = PredictedColumn("cifar10", "test_accuracy", 90, "percent", fitted("natsbench_size"))
    for columns, word in (([], "at least one"), ([column, other], "one space"), ([column, column], "once")):
        with pytest.raises(ValueError, match=word):
            SurrogateBenchmark(columns)
    with pytest.raises(ValueError, match="'runs'"):
        SurrogateBenchmark([column], runs=1)
    with pytest.raises(ValueError, match="'cost'"):
        PredictedColumn("cifar10", "test_accuracy", 200, "percent", model, cost=-1.0)
    with pytest.raises(ValueError, match="'cost' model"):
        PredictedColumn("cifar10", "test_accuracy", 200, "percent", model, cost=fitted("natsbench_size"))
    with pytest.raises(ValueError, match="'noise'"):
        PredictedColumn("cifar10", "test_accuracy", 200, "percent", model, noise="loud")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'model'"):
        PredictedColumn("cifar10", "test_accuracy", 200, "percent", "auto")  # type: ignore[arg-type]


# -- fitting from a table ---------------------------------------------------------------------


def made_up_table() -> Benchmark:
    """All NAS-Bench-201 cells with three noisy runs, their mean, and training seconds."""
    space = tz.spaces.get("nasbench201")
    truth, rng = accuracy(space, space.enumerate()), np.random.default_rng(0)
    runs = truth[:, None] + rng.normal(0, 0.4, (len(truth), 3))
    seconds = 100.0 + 20 * (space.canonical(space.enumerate()) == 3).sum(axis=1)
    columns = [Column("toy", "test_accuracy", 12, None, "percent", runs.mean(axis=1))]
    columns += [Column("toy", "test_accuracy", 12, k, "percent", runs[:, k].copy()) for k in range(3)]
    columns += [Column("toy", "training_seconds", 12, None, "seconds", seconds)]
    return Benchmark(Table("made-up", space.name, tuple(columns), "CC0", {"files": []}))


def test_fitted_from_a_table_with_noise_and_cost() -> None:
    table = made_up_table()
    learned = np.random.default_rng(1).choice(15_625, 300, replace=False)
    steps: list[tuple[int, int]] = []
    benchmark = fit_benchmark(
        table, learned, "TOY", model="gaussian_process", progress=lambda done, total: steps.append((done, total))
    )
    assert steps == [(1, 2), (2, 2)]
    assert benchmark.name == "surrogate:made-up-toy"
    assert benchmark.epochs() == (12,)
    assert benchmark.origins == ("made-up",)
    noise = benchmark.columns[0].noise
    assert isinstance(noise, RunNoise)
    assert np.mean(noise.std) == pytest.approx(0.4, rel=0.15)
    values, seconds = benchmark.query(table.architectures, return_cost=True)
    assert tz.evaluation.kendall_tau(table.table(), values) > 0.8
    np.testing.assert_allclose(seconds, table.table("toy", "training_seconds"), rtol=0.06)
    without = fit_benchmark(table, learned, model="gaussian_process", cost=False)
    assert without.columns[0].cost is None
    for bad in ([-1], [15_625], [[1]], [], [0.5]):
        with pytest.raises(ValueError, match="'rows'"):
            fit_benchmark(table, bad)
    with pytest.raises(UnknownNameError, match="toy"):
        fit_benchmark(table, [0, 1], "svhn")
