"""The contract of every registered search algorithm, and what the two classics do."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from tauzero import search, spaces
from tauzero.search import Algorithm, RandomSearch, RegularizedEvolution
from tauzero.search import _registry as registry

SPACES = ("nasbench101", "nasbench201")


def ones(rows: np.ndarray) -> np.ndarray:
    """A score that takes no time, in place of zero-cost proxies."""
    return (rows == 1).sum(axis=1).astype(float)


#: Small parameters of the algorithms that fit a model; their tests of their own use the defaults.
QUICK: dict[str, dict[str, object]] = {
    "asha": {"fidelities": (1, 3, 9)},
    "bananas": {"per_round": 20, "epochs": 3, "layers": 2, "candidates": 30},
    "bohb": {"fidelities": (1, 3, 9)},
    "dehb": {"fidelities": (1, 3, 9)},
    "graph_gp": {"per_round": 20, "candidates": 40},
    "hyperband": {"fidelities": (1, 3, 9)},
    "npenas": {"per_round": 20, "epochs": 3, "candidates": 30},
    "proxy_evolution": {"score": ones, "warm_up": 100},
    "successive_halving": {"fidelities": (1, 3, 9)},
    "smac": {"challengers": 50, "local_searches": 2, "trees": 3},
    "tauzero": {"refit": 20, "pool": 100},
    "weaknas": {"per_round": 20, "epochs": 3, "hidden": (8,), "pool": 200},
}

#: Algorithms that give fewer rows than asked for while a rung waits for its values, but never none with nothing open.
SYNCHRONOUS = {"bohb", "dehb", "hyperband", "successive_halving"}


def make(name: str, space: spaces.SearchSpace | str, seed: int) -> Algorithm:
    """An algorithm of the registry with parameters that fit a test."""
    return search.create(name, space, seed, **QUICK.get(name, {}))


def value(space: spaces.SearchSpace, rows: np.ndarray) -> np.ndarray:
    """A smooth objective: how often the last value of a column is taken."""
    return (rows == np.asarray(space.cardinalities) - 1).sum(axis=1).astype(float)


def shaped(algorithm: Algorithm, values: np.ndarray | list) -> np.ndarray | list:
    """Values as the algorithm takes them: with a second column, which rises and falls, if it is multi-objective."""
    return np.stack([values, np.sin(values)], axis=1) if algorithm.multi_objective else values


def drive(algorithm: Algorithm, batches: list[int]) -> np.ndarray:
    asked = []
    for n in batches:
        rows = algorithm.ask(n)
        algorithm.tell(rows, shaped(algorithm, value(algorithm.space, rows)))
        asked.append(rows)
    return np.concatenate(asked)


@pytest.fixture(params=search.names())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest) -> spaces.SearchSpace:
    return spaces.get(request.param)


def test_names_are_those_of_the_classes() -> None:
    assert {"random_search", "regularized_evolution"} <= set(search.names())
    for known in search.names():
        assert make(known, "nasbench201", 0).name == known


def test_registry_refuses_a_name_twice_and_unknown_names() -> None:
    with pytest.raises(ValueError, match="registered already"):
        search.register(RandomSearch)
    with pytest.raises(spaces.UnknownNameError, match="Did you mean 'random_search'"):
        search.create("random_serch", "nasbench201", 0)
    with pytest.raises(ValueError, match="do not fit"):
        search.create("random_search", "nasbench201", 0, temperature=1)


def test_a_registered_class_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_ALGORITHMS", dict(registry._ALGORITHMS))

    @search.register
    class Mine(RandomSearch):
        name = "mine"

    assert isinstance(search.create("mine", "nasbench201", 0), Mine)


def test_asks_for_valid_rows_of_the_right_type(name: str, space: spaces.SearchSpace) -> None:
    algorithm = make(name, space, 1)
    for n in (1, 7, 64, 3):
        rows = algorithm.ask(n)
        assert rows.shape == (n, space.length) or (name in SYNCHRONOUS and 1 <= len(rows) <= n)
        assert rows.dtype == np.int8
        assert rows.flags.c_contiguous
        space.validate(rows)
        algorithm.tell(rows, shaped(algorithm, value(space, rows)))
    assert algorithm.num_pending == 0


def test_same_seed_same_search(name: str, space: spaces.SearchSpace) -> None:
    first, second, other = (drive(make(name, space, seed), [5] * 20) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_copies_and_pickles_go_on_alike_and_apart(name: str) -> None:
    algorithm = make(name, "nasbench201", 5)
    drive(algorithm, [4] * 20)
    waiting = algorithm.ask(2)
    twins = [algorithm.copy(), pickle.loads(pickle.dumps(algorithm))]
    futures = []
    if name not in SYNCHRONOUS:
        assert len(waiting) == 2
    for one in (algorithm, *twins):
        assert one.num_pending == len(waiting)
        one.tell(waiting, shaped(one, [1.0, 2.0][: len(waiting)]))
        futures.append(drive(one, [3] * 10))
    np.testing.assert_array_equal(futures[0], futures[1])
    np.testing.assert_array_equal(futures[0], futures[2])


def test_no_global_random_state(name: str) -> None:
    np.random.seed(0)  # noqa: NPY002 - the global state is what must not be used
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    drive(make(name, "nasbench201", 0), [5] * 20)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "2"])
def test_ask_wants_a_positive_integer(name: str, n: object) -> None:
    with pytest.raises(ValueError, match=r"'n' argument .*\.ask must be an integer ≥ 1"):
        make(name, "nasbench201", 0).ask(n)


def test_tell_before_ask(name: str) -> None:
    algorithm = make(name, "nasbench201", 0)
    with pytest.raises(RuntimeError, match="before any `ask`"):
        algorithm.tell(algorithm.space.sample(1, 0), shaped(algorithm, [1.0]))


def test_tell_what_was_not_asked_or_twice(name: str) -> None:
    algorithm = make(name, "nasbench201", 0)
    rows = algorithm.ask(3)
    known = {row.tobytes() for row in rows}
    foreign = next(r for r in algorithm.space.enumerate() if r.tobytes() not in known)
    with pytest.raises(RuntimeError, match="has not returned, or that was told already"):
        algorithm.tell(np.stack([rows[0], foreign]), shaped(algorithm, [1.0, 2.0]))
    assert algorithm.num_pending == 3  # nothing of a bad call counts
    algorithm.tell(rows[::-1], shaped(algorithm, [1.0, 2.0, 3.0]))  # any order
    with pytest.raises(RuntimeError, match="told already"):
        algorithm.tell(rows[:1], shaped(algorithm, [1.0]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, np.nan], "must be finite. Got nan for row 1"),
        ([np.inf, 1.0], "must be finite. Got inf for row 0"),
        ([1.0], r"shape \(2,\)"),
        ([[1.0], [2.0]], r"shape \(2,\)"),
    ],
)
def test_bad_values_change_nothing(name: str, values: list, message: str) -> None:
    algorithm = make(name, "nasbench201", 0)
    rows = algorithm.ask(2)
    if algorithm.multi_objective:
        values = [[v, 1.0] for v in values] if values != [1.0] and np.ndim(values) == 1 else values
        message = {
            "must be finite. Got nan for row 1": r"must be finite. Got \[nan, 1.0\] for row 1",
            "must be finite. Got inf for row 0": r"must be finite. Got \[inf, 1.0\] for row 0",
        }.get(message, r"shape \(2, k ≥ 2\)")
    with pytest.raises(ValueError, match=message):
        algorithm.tell(rows, values)
    assert algorithm.num_pending == 2
    algorithm.tell(rows, shaped(algorithm, [1.0, 2.0]))


def test_tell_wants_rows_of_the_space(name: str) -> None:
    algorithm = make(name, "nasbench201", 0)
    algorithm.ask(1)
    with pytest.raises(ValueError, match=r"matrix \[n, 6\]"):
        algorithm.tell(np.zeros((1, 5), np.int8), shaped(algorithm, [1.0]))
    with pytest.raises(spaces.InvalidGenotypeError):
        algorithm.tell(np.full((1, 6), 9, np.int64), shaped(algorithm, [1.0]))


def test_what_is_told_is_copied(name: str) -> None:
    one, two = (make(name, "nasbench201", 0) for _ in range(2))
    for algorithm, spoil in ((one, True), (two, False)):
        for _ in range(60):
            rows = algorithm.ask(1)
            values = shaped(algorithm, value(algorithm.space, rows))
            algorithm.tell(rows, values)
            if spoil:
                rows[:], values[:] = 0, -1
    np.testing.assert_array_equal(one.ask(20), two.ask(20))


# -- random search ----------------------------------------------------------------------------


def test_random_search_visits_everything_once_and_then_ends() -> None:
    algorithm = RandomSearch("nasbench201", 0)
    rows = algorithm.ask(15_620)
    last = algorithm.ask(100)
    assert len(last) == 5
    assert len(algorithm.ask(1)) == 0
    index = algorithm.space.index(np.concatenate([rows, last]))
    np.testing.assert_array_equal(np.sort(index), np.arange(15_625))


def test_random_search_is_the_same_in_any_batches() -> None:
    space = spaces.get("nasbench201")
    np.testing.assert_array_equal(RandomSearch(space, 2).ask(90), drive(RandomSearch(space, 2), [1, 2, 3, 4, 80]))


def test_random_search_is_uniform() -> None:
    """First draws of 4,000 seeds: each operation at each edge a fifth of the time (5 standard deviations)."""
    rows = np.concatenate([RandomSearch("nasbench201", seed).ask(2) for seed in range(2000)])
    for column in rows.T:
        np.testing.assert_allclose(np.bincount(column, minlength=5) / len(rows), 0.2, atol=0.032)


def test_random_search_with_replacement_repeats() -> None:
    rows = RandomSearch("nasbench201", 0, replace=True).ask(2000)
    assert len(np.unique(rows, axis=0)) < 2000


# -- regularised evolution --------------------------------------------------------------------


def test_evolution_starts_with_random_rows_and_then_changes_one_gene() -> None:
    algorithm = RegularizedEvolution("nasbench201", 0, population_size=20, sample_size=5)
    told = drive(algorithm, [20])
    for _ in range(50):
        child = algorithm.ask(1)
        distance = (told[-20:] != child).sum(axis=1)
        assert 1 in distance  # a neighbour of somebody alive (and perhaps a copy of another)
        algorithm.tell(child, value(algorithm.space, child))
        told = np.concatenate([told, child])


def test_evolution_mutates_the_best_of_a_sample() -> None:
    """Against a slow statement of algorithm 1: with a sample as large as this, the parent is the best alive."""
    algorithm = RegularizedEvolution("nasbench201", 1, population_size=10, sample_size=500)
    drive(algorithm, [10])
    alive = [(row.copy(), score) for row, score in zip(algorithm._members, algorithm._values, strict=True)]
    for step in range(40):
        child = algorithm.ask(1)
        parent = max(alive, key=lambda member: member[1])
        best = [row for row, score in alive if score == parent[1]]
        assert any((row != child[0]).sum() == 1 for row in best)
        score = float((step * 7919) % 101)  # the oldest dies whatever its value
        algorithm.tell(child, [score])
        alive = [*alive[1:], (child[0].copy(), score)]


def test_the_oldest_dies_even_if_it_is_the_best() -> None:
    algorithm = RegularizedEvolution("nasbench201", 0, population_size=3, sample_size=100)
    rows = algorithm.ask(3)
    algorithm.tell(rows, [100.0, 0.0, 0.0])
    for _ in range(3):
        child = algorithm.ask(1)
        algorithm.tell(child, [1.0])
    assert 100.0 not in algorithm._values


def test_children_are_uniform_over_the_neighbours() -> None:
    algorithm = RegularizedEvolution("nasbench201", 0, population_size=1, sample_size=1)
    parent = algorithm.ask(1)
    algorithm.tell(parent, [1.0])
    index = algorithm.space.index(algorithm.ask(24_000))
    around = np.sort(algorithm.space.index(algorithm.space.neighbors(parent)))
    found, counts = np.unique(index, return_counts=True)
    np.testing.assert_array_equal(found, around)
    assert len(around) == 24
    assert counts.min() > 1000 - 5 * 31  # 5 standard deviations of a count of mean 1000
    assert counts.max() < 1000 + 5 * 31


def test_evolution_asked_ahead_of_any_answer_stays_random() -> None:
    algorithm = RegularizedEvolution("nasbench201", 0, population_size=5)
    rows = algorithm.ask(30)
    assert len(rows) == 30
    algorithm.tell(rows, value(algorithm.space, rows))
    assert len(algorithm.ask(3)) == 3


def test_evolution_beats_random_search() -> None:
    space = spaces.get("nasbench201")
    goal = search.ArrayObjective(space, value(space, space.enumerate()))
    final = {
        name: np.mean([search.run(name, goal, 150, seed).best_value for seed in range(10)])
        for name in ("random_search", "regularized_evolution")
    }
    assert final["regularized_evolution"] > final["random_search"] + 0.5


@pytest.mark.parametrize("bad", [0, -1, 2.5, True])
@pytest.mark.parametrize("parameter", ["population_size", "sample_size"])
def test_evolution_checks_its_parameters(parameter: str, bad: object) -> None:
    with pytest.raises(ValueError, match=f"'{parameter}' parameter of RegularizedEvolution must be an integer ≥ 1"):
        RegularizedEvolution("nasbench201", 0, **{parameter: bad})


def test_a_parent_without_neighbours_gives_way_to_a_random_architecture() -> None:
    """One row of NAS-Bench-101 (input to output, nothing else) cannot be mutated by a single change."""
    space = spaces.get("nasbench101")
    lone = space.enumerate()[:1]
    assert not len(space.neighbors(lone[0]))
    algorithm = search.create("regularized_evolution", space, 0, population_size=1, sample_size=1)
    first = algorithm.ask(1)
    algorithm.tell(first, np.array([1.0]))
    algorithm._members[0] = lone[0]  # type: ignore[attr-defined]
    algorithm._around[0] = None  # type: ignore[attr-defined]
    assert space.is_valid(algorithm.ask(3)).all()
