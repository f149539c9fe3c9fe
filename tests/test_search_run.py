"""Running a search: the account of queries, trajectories and their files, objectives, checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tauzero import search, spaces
from tauzero.benchmarks import Benchmark, Column, Table
from tauzero.search import ArrayObjective, Evaluation, Objective, SurrogateObjective, TableObjective, Trajectory, run

SPACE = spaces.get("nasbench201")
VALUES = (SPACE.enumerate() @ np.array([1.0, 2.0, 3.0, 5.0, 7.0, 11.0])) + np.arange(SPACE.size) * 1e-6


def toy_benchmark(**columns: np.ndarray) -> Benchmark:
    """Columns named ``metric`` or ``metric_run0`` on one dataset of the whole NAS-Bench-201 space."""
    made = []
    for name, values in columns.items():
        metric, _, run_number = name.partition("_run")
        unit = "seconds" if metric == "training_seconds" else "percent"
        made.append(Column("Toy", metric, 10, int(run_number) if run_number else None, unit, values))
    return Benchmark(Table("toy", "nasbench201", tuple(made), "CC0-1.0", {}))


class Counting(Objective):
    """Counts evaluations; the value of architecture i is VALUES[i], its cost i seconds."""

    def __init__(self, fail_after: int | None = None, error: type[BaseException] = RuntimeError) -> None:
        self.space, self.label = SPACE, "counted"
        self.rows, self.fail_after, self.error = 0, fail_after, error

    def evaluate(self, genotypes: np.ndarray) -> Evaluation:
        if self.fail_after is not None and self.rows + len(genotypes) > self.fail_after:
            raise self.error("stop here")
        self.rows += len(genotypes)
        index = SPACE.index(genotypes)
        return Evaluation(VALUES[index], index.astype(float))


class Scripted(search.Algorithm):
    """Asks for given positions, one after the other, and for the last one ever after."""

    name = "scripted"

    def __init__(self, script: list[int]) -> None:
        super().__init__(SPACE, 0)
        self.script, self.told = list(script), []

    def _propose(self, n: int) -> np.ndarray:
        taken = self.script[:n] or [0] * n
        self.script = self.script[n:]
        return SPACE.enumerate()[np.array(taken)].copy()

    def _observe(self, genotypes: np.ndarray, values: np.ndarray) -> None:
        self.told += values.tolist()


# -- the account of queries -------------------------------------------------------------------


@pytest.mark.parametrize("name", search.names())
@pytest.mark.parametrize("batch_size", [1, 7])
def test_budget_counts_different_architectures(name: str, batch_size: int) -> None:
    goal = Counting()
    result = run(name, goal, 60, 0, batch_size=batch_size)
    assert len(result) == result.queries == goal.rows == 60
    assert len(np.unique(result.index)) == 60
    np.testing.assert_array_equal(result.index, SPACE.index(result.genotypes))
    np.testing.assert_array_equal(result.values, VALUES[result.index])
    np.testing.assert_array_equal(result.seconds, result.index)
    assert result.simulated_seconds == result.index.sum()
    assert (result.stopped, result.budget, result.seed, result.algorithm) == ("budget", 60, 0, name)


def test_repeats_are_free_and_counted_and_still_told() -> None:
    goal, algorithm = Counting(), Scripted([5, 6, 5, 5, 7, 6, 8])
    result = run(algorithm, goal, 4)
    assert result.index.tolist() == [5, 6, 7, 8]
    assert (goal.rows, result.repeats) == (4, 3)
    np.testing.assert_array_equal(algorithm.told, VALUES[[5, 6, 5, 5, 7, 6, 8]])


def test_repeats_within_a_batch_are_paid_once() -> None:
    goal, algorithm = Counting(), Scripted([3, 3, 4, 3, 5, 5])
    result = run(algorithm, goal, 3, batch_size=3)
    assert result.index.tolist() == [3, 4, 5]
    assert (goal.rows, result.repeats) == (3, 2)  # the last batch may only pay for one: it asks for 3 again, then for 5


def test_isomorphic_rows_are_one_query() -> None:
    space = spaces.get("nasbench101")
    matrix = np.zeros((2, 4, 4), np.int64)
    matrix[:, 0, 1] = matrix[:, 0, 2] = matrix[:, 1, 3] = matrix[:, 2, 3] = 1
    twins = space.from_matrices(matrix, np.array([[0, 2], [2, 0]]))  # two branches, named in either order
    assert (twins[0] != twins[1]).any()

    class Twins(search.Algorithm):
        name = "twins"

        def _propose(self, n: int) -> np.ndarray:
            return twins.copy()

        def _observe(self, genotypes: np.ndarray, values: np.ndarray) -> None:
            assert values[0] == values[1]

    result = run(Twins(space, 0), ArrayObjective(space, np.arange(space.size)), 2, batch_size=2)
    assert (result.queries, result.stopped) == (1, "stalled")


def test_the_end_of_the_space_and_of_ideas() -> None:
    whole = run("random_search", ArrayObjective(SPACE, VALUES), 20_000, 0, batch_size=1000)
    assert (len(whole), whole.stopped, whole.best_value) == (15_625, "exhausted", VALUES.max())
    stuck = run(Scripted([1, 2, 3]), Counting(), 10)
    assert (stuck.index.tolist(), stuck.stopped) == ([1, 2, 3, 0], "stalled")


def test_progress_is_told_queries_of_budget() -> None:
    calls: list[tuple[int, int]] = []
    run(Scripted([5, 5, 6, 7]), Counting(), 3, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("bad", [0, -5, 1.5, True, None])
def test_bad_budgets(bad: object) -> None:
    with pytest.raises(ValueError, match=r"'budget' argument of search.run must be an integer ≥ 1"):
        run("random_search", Counting(), bad, 0)


def test_misuse_of_run() -> None:
    goal = Counting()
    with pytest.raises(ValueError, match="'batch_size'"):
        run("random_search", goal, 5, 0, batch_size=0)
    with pytest.raises(ValueError, match=r"'seed' argument of search.run must be given"):
        run("random_search", goal, 5)
    with pytest.raises(ValueError, match="belong to an algorithm given by name"):
        run(search.create("random_search", SPACE, 0), goal, 5, 0)
    with pytest.raises(ValueError, match="searches nasbench101, the objective is defined on nasbench201"):
        run(search.create("random_search", "nasbench101", 0), goal, 5)
    with pytest.raises(spaces.UnknownNameError, match="Known: 'random_search'"):
        run("annealing", goal, 5, 0)


def test_an_objective_that_gives_nan_is_named() -> None:
    class Broken(Counting):
        def evaluate(self, genotypes: np.ndarray) -> Evaluation:
            return Evaluation(np.full(len(genotypes), np.nan), np.zeros(len(genotypes)))

    with pytest.raises(ValueError, match=r"objective 'counted' must give one finite value.*\|"):
        run("random_search", Broken(), 5, 0)


# -- trajectories -----------------------------------------------------------------------------


def test_best_incumbents_and_regret() -> None:
    result = run(Scripted([10, 3000, 20, 15_000, 7]), ArrayObjective(SPACE, -np.abs(np.arange(15_625.0) - 3000)), 5)
    assert result.incumbents.tolist() == [-2990, 0, 0, 0, 0]
    assert (result.best_position, result.best_value) == (1, 0.0)
    np.testing.assert_array_equal(result.best, SPACE.enumerate()[3000])
    assert result.regret(0.0).tolist() == [2990, 0, 0, 0, 0]
    with pytest.raises(ValueError, match="'optimum' argument must be the highest value"):
        result.regret(-1.0)
    with pytest.raises(AttributeError):
        result.budget = 7


def test_save_and_load(tmp_path: Path) -> None:
    result = run("regularized_evolution", Counting(), 80, 3)
    path = result.save(tmp_path / "t.parquet")
    back = Trajectory.load(path)
    for name in ("genotypes", "index", "values", "seconds", "incumbents"):
        np.testing.assert_array_equal(getattr(back, name), getattr(result, name))
        assert getattr(back, name).dtype == getattr(result, name).dtype
    for name in ("space", "algorithm", "objective", "seed", "budget", "stopped", "repeats", "notes", "wall_seconds"):
        assert getattr(back, name) == getattr(result, name)
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    path = run("random_search", Counting(), 5, 0).save(tmp_path / "t.parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(spaces.BenchmarkFormatError, match="not a readable Parquet file"):
        Trajectory.load(path)
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(spaces.BenchmarkFormatError, match="is not a trajectory"):
        Trajectory.load(path)
    with pytest.raises(FileNotFoundError, match="no trajectory file"):
        Trajectory.load(tmp_path / "none.parquet")
    path.write_bytes(whole)
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["g0"]).replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(spaces.BenchmarkFormatError, match="damaged trajectory"):
        Trajectory.load(path)


def test_save_leaves_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    path = run("random_search", Counting(), 5, 0).save(tmp_path / "t.parquet")
    before = path.read_bytes()

    def broken(table: object, where: Path) -> None:
        Path(where).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pq, "write_table", broken)
    with pytest.raises(KeyboardInterrupt):
        run("random_search", Counting(), 5, 1).save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


# -- checkpoints ------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("name", search.names())
def test_an_interrupted_search_goes_on_to_the_same_end(name: str, error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    with pytest.raises(error):
        run(name, Counting(fail_after=33, error=error), 100, 4, batch_size=4, checkpoint=path)
    assert len(Trajectory.load(path)) >= 30
    goal = Counting()
    resumed = run(name, goal, 100, 4, batch_size=4, checkpoint=path)
    straight = run(name, Counting(), 100, 4, batch_size=4)
    np.testing.assert_array_equal(resumed.index, straight.index)
    np.testing.assert_array_equal(resumed.values, straight.values)
    np.testing.assert_array_equal(resumed.seconds, straight.seconds)
    assert goal.rows <= 70
    again = Counting()
    assert len(run(name, again, 100, 4, batch_size=4, checkpoint=path)) == 100
    assert again.rows == 0


def test_checkpoints_of_other_searches_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    run("random_search", ArrayObjective(SPACE, VALUES), 10, 0, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="belongs to another search"):
        run("random_search", ArrayObjective(SPACE, VALUES), 10, 1, checkpoint=path)
    with pytest.raises(ValueError, match="other values of the objective"):
        run("random_search", ArrayObjective(SPACE, VALUES + 1), 10, 0, checkpoint=path)
    with pytest.raises(ValueError, match="integer seed"):
        run(search.create("random_search", SPACE, 0), Counting(), 10, checkpoint=path)
    assert path.read_bytes() == before


# -- objectives -------------------------------------------------------------------------------


def test_array_objective() -> None:
    goal = ArrayObjective(SPACE, VALUES, np.arange(15_625))
    got = goal.evaluate(SPACE.enumerate()[[7, 3]])
    np.testing.assert_array_equal(got.values, VALUES[[7, 3]])
    np.testing.assert_array_equal(got.seconds, [7, 3])
    assert goal.optimum == VALUES.max()
    with pytest.raises(ValueError, match="one number per architecture"):
        ArrayObjective(SPACE, VALUES[:-1])
    with pytest.raises(ValueError, match=r"must be finite. Got nan for architecture 2"):
        ArrayObjective(SPACE, np.where(np.arange(15_625) == 2, np.nan, VALUES))
    with pytest.raises(spaces.InvalidGenotypeError):
        goal.evaluate(np.full((1, 6), 9))


def test_table_objective_is_driven_by_validation_accuracy() -> None:
    table = toy_benchmark(
        test_accuracy=VALUES / 2, validation_accuracy=VALUES / 4, training_seconds=np.arange(15_625.0)
    )
    goal = TableObjective(table, "toy")
    assert (goal.metric, goal.dataset, goal.notes) == ("validation_accuracy", "Toy", ())
    got = goal.evaluate(SPACE.enumerate()[[9, 1]])
    np.testing.assert_allclose(got.values, VALUES[[9, 1]] / 4)
    np.testing.assert_array_equal(got.seconds, [9, 1])
    assert TableObjective(table, metric="test_accuracy").optimum == VALUES.max() / 2


def test_table_objective_says_when_another_metric_stands_in() -> None:
    partial = np.where(np.arange(15_625) < 100, np.nan, VALUES / 4)
    for table in (
        toy_benchmark(test_accuracy=VALUES / 2),
        toy_benchmark(test_accuracy=VALUES / 2, validation_accuracy=partial),
    ):
        goal = TableObjective(table)
        assert goal.metric == "test_accuracy"
        assert "test_accuracy drives the search instead" in goal.notes[0]
        result = run("random_search", goal, 3, 0)
        assert result.notes == goal.notes
        assert np.isnan(result.simulated_seconds)  # no training times in this table
    with pytest.raises(ValueError, match=r"no validation_accuracy on Toy .* for 100 of 15,625"):
        TableObjective(table, metric="validation_accuracy")
    with pytest.raises(spaces.UnknownNameError, match="metric"):
        TableObjective(toy_benchmark(test_accuracy=VALUES / 2), metric="validation_accuracy")
    with pytest.raises(spaces.UnknownNameError, match="dataset"):
        TableObjective(table, "mnist")
    with pytest.raises(ValueError, match="neither validation_accuracy nor test_accuracy"):
        TableObjective(toy_benchmark(test_accuracy=partial))


class Model:
    """Predicts the sum of the genotype, with the first gene as standard deviation; counts its calls."""

    space = SPACE

    def __init__(self) -> None:
        self.calls = 0

    def predict(self, genotypes: np.ndarray, return_std: bool = False) -> object:
        self.calls += 1
        mean = genotypes.sum(axis=1, dtype=float)
        return (mean, genotypes[:, 0].astype(float)) if return_std else mean


def test_surrogate_objective_predicts_the_space_once() -> None:
    model = Model()
    seen: list[tuple[int, int]] = []
    goal = SurrogateObjective(model, progress=lambda done, total: seen.append((done, total)))
    result = run("regularized_evolution", goal, 300, 0)
    assert (model.calls, seen) == (1, [(15_625, 15_625)])
    np.testing.assert_array_equal(result.values, result.genotypes.sum(axis=1))
    assert result.simulated_seconds == 0.0
    np.testing.assert_array_equal(goal.predictions(), SPACE.enumerate().sum(axis=1))


def test_surrogate_objective_upper_confidence_bound() -> None:
    rows = SPACE.sample(20, 0)
    expected = rows.sum(axis=1) + 2.5 * rows[:, 0]
    for whole in (True, False):
        goal = SurrogateObjective(Model(), "ucb", kappa=2.5, whole_space=whole)
        np.testing.assert_allclose(goal.evaluate(rows).values, expected)
        np.testing.assert_allclose(goal.evaluate_indexed(rows, SPACE.index(rows)).values, expected)


def test_surrogate_objective_large_spaces_are_predicted_in_batches() -> None:
    model = Model()
    run("random_search", SurrogateObjective(model, whole_space=False), 40, 0, batch_size=10)
    assert model.calls == 4


def test_surrogate_objective_checks() -> None:
    with pytest.raises(spaces.UnknownNameError, match="'ucb'"):
        SurrogateObjective(Model(), "lcb")
    with pytest.raises(ValueError, match="'kappa'"):
        SurrogateObjective(Model(), kappa=-1)
    with pytest.raises(ValueError, match="`predict` method"):
        SurrogateObjective("auto")

    class Homeless:
        def predict(self, genotypes: np.ndarray) -> np.ndarray:
            return np.full(len(genotypes), np.nan)

    with pytest.raises(ValueError, match="pass space="):
        SurrogateObjective(Homeless())
    with pytest.raises(ValueError, match="15625 NaN or infinite"):
        SurrogateObjective(Homeless(), space=SPACE).predictions()
