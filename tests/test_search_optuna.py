"""Optuna: tauzero's algorithms as a sampler, and Optuna's samplers as algorithms."""

from __future__ import annotations

import builtins
import importlib
import pickle
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import optuna
import pytest

from tauzero import search, spaces
from tauzero.search.optuna import AlgorithmSampler, OptunaAlgorithm, genotype_of, suggest_genotype

SPACE = spaces.get("nasbench201")
SMALL = spaces.get("transnas_micro")


@pytest.fixture(autouse=True)
def quiet() -> Any:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def value(rows: np.ndarray) -> np.ndarray:
    return (np.isin(rows, (2, 3)) * np.arange(1, rows.shape[1] + 1)).sum(axis=1).astype(float)


def objective(trial: Any) -> float:
    return float(value(suggest_genotype(trial, SPACE)[None])[0])


def rows_of(study: optuna.Study, space: spaces.SearchSpace = SPACE) -> np.ndarray:
    return np.array([genotype_of(t, space) for t in study.trials])


# -- tauzero in Optuna ------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize(
    "name", ["random_search", "regularized_evolution", "differential_evolution", "tpe", "local_search"]
)
def test_a_study_is_the_search(name: str, direction: str) -> None:
    """The trials are the queries of `run`, repeats being answered from memory; minimising turns the sign."""
    sign = 1 if direction == "maximize" else -1
    study = optuna.create_study(direction=direction, sampler=AlgorithmSampler(SPACE, name, 3))
    study.optimize(lambda trial: sign * objective(trial), n_trials=70)
    wanted = search.run(name, search.ArrayObjective(SPACE, value(SPACE.enumerate())), 70, 3)
    np.testing.assert_array_equal(rows_of(study), wanted.genotypes)
    np.testing.assert_array_equal(genotype_of(study.best_trial, SPACE), wanted.best)


def test_the_default_algorithm_and_its_parameters() -> None:
    sampler = AlgorithmSampler("nasbench201", initial=6, refit=10)
    assert sampler.algorithm.name == "tauzero"
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=12)
    assert study.best_value > 15


@pytest.mark.parametrize("name", ["nasbench101", "darts"])
def test_rows_are_sampled_as_a_whole(name: str) -> None:
    """Spaces with constraints: all trials hold members, with further parameters beside the genes."""
    space = spaces.get(name)

    def goal(trial: Any) -> float:
        trial.suggest_float("learning_rate", 1e-3, 1e-1, log=True)
        return float(suggest_genotype(trial, space).sum())

    study = optuna.create_study(sampler=AlgorithmSampler(space, "regularized_evolution", 0, population_size=5))
    study.optimize(goal, n_trials=15)
    assert all(t.state.name == "COMPLETE" and "learning_rate" in t.params for t in study.trials)
    space.validate(rows_of(study, space))


def test_other_samplers_have_their_invalid_rows_pruned() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: float(suggest_genotype(trial, "nasbench101").sum()), n_trials=10)
    pruned = [t for t in study.trials if t.state.name == "PRUNED"]
    assert pruned
    assert genotype_of(pruned[0], "nasbench101") is None
    assert genotype_of(optuna.trial.create_trial(value=1.0), SPACE) is None


class Watched(search.RandomSearch):
    """Random search that keeps what it is told."""

    name = "watched"

    def __init__(self, space: Any, seed: Any, learns: bool = True) -> None:
        super().__init__(space, seed)
        self.told: list[tuple[bytes, Any]] = []
        self.learned: list[tuple[bytes, Any]] = []
        self.learns = learns

    def _observe(self, genotypes: np.ndarray, values: np.ndarray) -> None:
        self.told += [(row.tobytes(), v) for row, v in zip(genotypes, values.tolist(), strict=True)]

    def _learn_from(self, genotypes: np.ndarray, values: np.ndarray) -> bool:
        self.learned += [(row.tobytes(), v) for row, v in zip(genotypes, values.tolist(), strict=True)]
        return self.learns


def test_failed_and_pruned_trials_are_the_worst_so_far() -> None:
    def goal(trial: Any) -> float:
        suggest_genotype(trial, SPACE)
        if trial.number == 2:
            raise optuna.TrialPruned
        if trial.number in {0, 5}:
            raise OSError("disk")
        return {1: 3.0, 3: 1.0, 4: float("inf"), 6: float("nan")}.get(trial.number, 2.0)

    algorithm = Watched(SPACE, 0)
    study = optuna.create_study(sampler=AlgorithmSampler(SPACE, algorithm))
    study.optimize(goal, n_trials=8, catch=OSError)
    order = [row.tobytes() for row in rows_of(study)]
    # Trial 0 failed when nothing was known: it waits for trial 1. Minimised: 3 is the worst.
    wanted = [(1, -3.0), (0, -3.0), (2, -3.0), (3, -1.0), (4, -3.0), (5, -3.0), (6, -3.0), (7, -2.0)]
    assert algorithm.told == [(order[number], v) for number, v in wanted]
    assert algorithm.num_pending == 0


def test_enqueued_and_added_trials_are_learned_from_and_not_tried_again() -> None:
    algorithm = Watched(SMALL, 0)
    first = search.RandomSearch(SMALL, 0).ask(4)
    study = optuna.create_study(direction="maximize", sampler=AlgorithmSampler(SMALL, algorithm))

    def params(row: np.ndarray) -> dict[str, int]:
        return {f"gene_{k}": int(gene) for k, gene in enumerate(row)}

    mine = SMALL.sample(1, 5)[0]
    study.enqueue_trial(params(mine))
    study.enqueue_trial({"gene_0": (int(first[0, 0]) + 1) % 4})  # fixed in part: neither the one nor the other
    distributions = {f"gene_{k}": optuna.distributions.CategoricalDistribution(range(4)) for k in range(SMALL.length)}
    study.add_trial(optuna.create_trial(params=params(first[1]), distributions=distributions, value=9.0))
    elsewhere = {"x": optuna.distributions.FloatDistribution(0, 1)}
    study.add_trial(optuna.create_trial(params={"x": 1.0}, distributions=elsewhere, value=9.0))
    study.optimize(lambda trial: float(suggest_genotype(trial, SMALL).sum()), n_trials=5)
    tried = [genotype_of(t, SMALL) for t in study.trials]
    np.testing.assert_array_equal(tried[0], mine)
    assert tried[1][0] != first[0, 0]
    assert (tried[1][1:] == first[0, 1:]).all()
    np.testing.assert_array_equal(tried[4:], [first[0], first[2], first[3]])  # what was not used comes back
    assert {key for key, _ in algorithm.learned} == {mine.tobytes(), tried[1].tobytes(), first[1].tobytes()}
    assert (first[1].tobytes(), 9.0) in algorithm.told  # it was asked for all the same, and answered


@pytest.mark.parametrize("name", ["regularized_evolution", "tpe", "differential_evolution"])
def test_a_resumed_study_goes_on_as_if_nothing_had_happened(name: str) -> None:
    def goal(trial: Any) -> float:
        row = suggest_genotype(trial, SPACE)
        if trial.number % 7 == 3:
            raise optuna.TrialPruned
        return float(value(row[None])[0])

    def study(storage: Any) -> optuna.Study:
        sampler = AlgorithmSampler(SPACE, name, 5)
        return optuna.create_study(
            storage=storage, study_name="s", sampler=sampler, direction="maximize", load_if_exists=True
        )

    whole = study(None)
    whole.enqueue_trial({f"gene_{k}": 1 for k in range(6)})
    whole.optimize(goal, n_trials=60)
    storage = optuna.storages.InMemoryStorage()
    begun = study(storage)
    begun.enqueue_trial({f"gene_{k}": 1 for k in range(6)})
    begun.optimize(goal, n_trials=37)
    resumed = study(storage)
    resumed.optimize(goal, n_trials=23)
    np.testing.assert_array_equal(rows_of(resumed), rows_of(whole))


def test_another_algorithm_learns_from_a_study() -> None:
    study = optuna.create_study(direction="maximize", sampler=AlgorithmSampler(SPACE, "random_search", 1))
    study.optimize(objective, n_trials=40)
    study.sampler = sampler = AlgorithmSampler(SPACE, "tpe", 2)
    study.optimize(objective, n_trials=3)
    model = sampler.algorithm
    assert isinstance(model, search.TPE)
    assert len(model._values) == 43
    np.testing.assert_array_equal(np.unique(model._rows, axis=0), np.unique(rows_of(study), axis=0))
    np.testing.assert_array_equal(model._values, value(model._rows))


def test_threads_and_pickles() -> None:
    sampler = AlgorithmSampler(SPACE, "regularized_evolution", 0, population_size=6)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    together = threading.Barrier(3, timeout=20)

    def goal(trial: Any) -> float:
        found = objective(trial)
        together.wait()  # three trials run at once
        return found

    study.optimize(goal, n_trials=30, n_jobs=3)
    rows = rows_of(study)
    assert sampler.algorithm.num_pending == 0
    assert len(rows) == 30
    assert len(np.unique(rows, axis=0)) >= 26  # the same row may run twice at once, never again
    twin = pickle.loads(pickle.dumps(sampler))
    np.testing.assert_array_equal(twin.algorithm.ask(3), sampler.algorithm.copy().ask(3))
    study.sampler = twin
    study.optimize(objective, n_trials=1)


def test_several_objectives() -> None:
    def goal(trial: Any) -> tuple[float, float]:
        row = suggest_genotype(trial, SPACE)
        return float(value(row[None])[0]), float(row.sum())

    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=AlgorithmSampler(SPACE, "nsga2", 0, population_size=8)
    )
    study.optimize(goal, n_trials=40)
    wanted = search.run(
        "nsga2",
        search.WithCosts(
            search.ArrayObjective(SPACE, value(SPACE.enumerate())), {"sum": SPACE.enumerate().sum(axis=1)}
        ),
        40,
        0,
        params={"population_size": 8},
    )
    np.testing.assert_array_equal(rows_of(study), wanted.genotypes)
    assert {t.number for t in study.best_trials} >= set(wanted.pareto_front().tolist())
    for sampler, directions in (("nsga2", ["maximize"]), ("tpe", ["maximize", "minimize"])):
        study = optuna.create_study(directions=directions, sampler=AlgorithmSampler(SPACE, sampler, 0))
        with pytest.raises(ValueError, match="needs a study of"):
            study.optimize(objective, n_trials=1)


def test_the_end_of_a_space(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm = Watched(SMALL, 0)
    algorithm.ask(SMALL.size - 3)
    study = optuna.create_study(sampler=AlgorithmSampler(SMALL, algorithm))
    with pytest.warns(UserWarning, match="no new architecture of transnas_micro"):
        study.optimize(lambda trial: float(suggest_genotype(trial, SMALL).sum()), n_trials=10)
    assert len(study.trials) == 4
    with pytest.warns(UserWarning, match="no new architecture"):
        suggest_genotype(study.ask(), SMALL)


def test_what_a_sampler_refuses() -> None:
    sampler = AlgorithmSampler(SPACE, "random_search")
    optuna.create_study(sampler=sampler).optimize(objective, n_trials=1)
    with pytest.raises(ValueError, match="make another one"):
        optuna.create_study(sampler=sampler).optimize(objective, n_trials=1)
    with pytest.raises(ValueError, match="must search nasbench201 and takes no further parameters"):
        AlgorithmSampler(SPACE, search.RandomSearch("darts", 0))
    with pytest.raises(spaces.UnknownNameError, match="search algorithm"):
        AlgorithmSampler(SPACE, "annealing")

    class Short(search.MultiFidelityAlgorithm):
        name = "short"

        def _propose_at(self, n: int) -> Any: ...
        def _observe_at(self, genotypes: Any, epochs: Any, values: Any) -> None: ...

    with pytest.raises(ValueError, match="gives no training budgets"):
        AlgorithmSampler(SPACE, Short(SPACE, 0, fidelities=[1, 2]))


def test_without_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refusing(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".", maxsplit=1)[0] == "optuna":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refusing)
    monkeypatch.delitem(sys.modules, "tauzero.search.optuna")
    with pytest.raises(spaces.MissingExtraError, match=r'pip install "tauzero\[optuna\]"'):
        importlib.import_module("tauzero.search.optuna")


def test_searching_imports_neither_optuna_nor_smac() -> None:
    code = "import sys, tauzero.search; tauzero.search.names(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "tauzero.search.smac" in modules
    assert not {"optuna", "smac", "ConfigSpace", "torch"} & set(modules)


# -- learning from what was not asked for -----------------------------------------------------

LEARNERS = ["differential_evolution", "evolution", "local_search", "regularized_evolution", "smac", "tpe", "tauzero"]


@pytest.mark.parametrize("name", [*LEARNERS, "random_search", "reinforce"])
def test_learn_from(name: str) -> None:
    """What was learned counts as asked and told, a pending request goes on waiting, and bad calls change nothing."""
    algorithm = search.create(name, SPACE, 0)
    good = SPACE.enumerate()[np.argsort(-value(SPACE.enumerate()), kind="stable")[:60]]
    for bad, values in ((good[:2], [1.0]), (good[:2], [1.0, np.nan]), (good[:2] + 9, [1.0, 2.0])):
        with pytest.raises(ValueError, match=r"learn_from|range|genotype"):
            algorithm.learn_from(bad, values)
    assert not algorithm.learn_from(good[:0], [])
    assert algorithm.learn_from(good, value(good)) is (name in LEARNERS)
    waiting = algorithm.ask(4)
    others = SPACE.sample(5, 7)
    algorithm.learn_from(others, value(others))
    assert algorithm.num_pending == 4
    algorithm.tell(waiting, value(waiting))
    found = []
    for _ in range(15):
        rows = algorithm.ask(2)
        algorithm.tell(rows, value(rows))
        found.append(rows)
    if name in LEARNERS:  # starts from the best, and does not draw its random beginning again
        assert value(np.concatenate([waiting, *found])).mean() > value(SPACE.enumerate()).mean() + 2


def test_nsga2_learns_several_objectives() -> None:
    algorithm = search.NSGA2(SPACE, 0, population_size=10)
    rows = SPACE.sample(10, 0, unique=True)
    assert algorithm.learn_from(rows, np.stack([value(rows), -rows.sum(axis=1)], axis=1))
    np.testing.assert_array_equal(np.unique(algorithm.population[0], axis=0), np.unique(rows, axis=0))
    with pytest.raises(ValueError, match=r"NSGA2.learn_from must hold all objectives .* shape \(1, 2\)"):
        algorithm.learn_from(SPACE.sample(1, 3), [[1.0, 2.0, 3.0]])


# -- Optuna in tauzero ------------------------------------------------------------------------


def test_tpe_of_optuna_beats_random_search() -> None:
    goal = search.ArrayObjective(SPACE, value(SPACE.enumerate()))
    found = [search.run(OptunaAlgorithm(SPACE, seed), goal, 60).best_value for seed in range(5)]
    random = [search.run("random_search", goal, 60, seed).best_value for seed in range(5)]
    assert np.mean(found) > np.mean(random) + 0.5


@pytest.mark.parametrize("kind", ["class", "instance", "function", "integer"])
def test_any_sampler_by_ask_and_tell(kind: str) -> None:
    given: dict[str, Any] = {
        "class": {"sampler": optuna.samplers.RandomSampler},
        "instance": {"sampler": optuna.samplers.TPESampler(seed=4, n_startup_trials=3)},
        "function": {"sampler": lambda seed: optuna.samplers.TPESampler(seed=seed, n_startup_trials=3)},
        "integer": {"parameters": "integer", "sampler": optuna.samplers.RandomSampler},
    }[kind]
    before = optuna.logging.get_verbosity()
    one, two = (OptunaAlgorithm(SPACE, 1, **given) for _ in range(2))
    assert optuna.logging.get_verbosity() == before
    for n in (3, 1, 5, 1, 1):
        rows = one.ask(n)
        assert rows.dtype == np.int8
        np.testing.assert_array_equal(rows, two.ask(n))
        for algorithm in (one, two):
            algorithm.tell(rows[::-1], value(rows)[::-1])
    best = [t.value for t in one._study.trials]
    assert best == value(np.array([[t.params[f"gene_{k}"] for k in range(6)] for t in one._study.trials])).tolist()
    one.learn_from(SPACE.sample(2, 9), [1.0, 2.0])
    assert len(one._study.trials) == 13
    if kind == "instance":
        twin, copied = two.copy(), pickle.loads(pickle.dumps(two))
        np.testing.assert_array_equal(twin.ask(2), copied.ask(2))


def test_spaces_with_constraints() -> None:
    algorithm = OptunaAlgorithm("nasbench101", 0, sampler=optuna.samplers.RandomSampler)
    rows = algorithm.ask(5)
    algorithm.space.validate(rows)
    algorithm.tell(rows, np.arange(5.0))
    assert {t.state.name for t in algorithm._study.trials} == {"PRUNED", "COMPLETE"}
    with pytest.raises(spaces.UnknownNameError, match="kind of parameters"):
        OptunaAlgorithm(SPACE, 0, parameters="float")
