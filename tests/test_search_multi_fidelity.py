"""Multi-fidelity searches: brackets, promotions, densities and trials against slow statements, and what they gain."""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tauzero import search, spaces
from tauzero.search._brackets import BracketSearch, bracket_sizes, rungs_of
from tauzero.search._unit_cube import rand_1_bin
from tauzero.search.asha import ASHA
from tauzero.search.bohb import BOHB, CategoricalDensity
from tauzero.search.dehb import DEHB
from tauzero.search.hyperband import Hyperband, SuccessiveHalving

ALL: dict[str, type[search.MultiFidelityAlgorithm]] = {
    kind.name: kind for kind in (ASHA, BOHB, DEHB, Hyperband, SuccessiveHalving)
}
LADDER = (1, 3, 9, 27, 81)


@pytest.fixture(params=sorted(ALL))
def kind(request: pytest.FixtureRequest) -> type[search.MultiFidelityAlgorithm]:
    return ALL[request.param]


def full(rows: np.ndarray) -> np.ndarray:
    """A value on NAS-Bench-201: convolutions, weighted by their place; at most 42."""
    return (np.array([0, 0, 1, 2, 0])[rows] * np.arange(1, 7)).sum(axis=1).astype(float)


def at(rows: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """The value with an error that shrinks with the epochs and is the same whenever it is asked for."""
    wave = np.sin(rows @ np.array([17.0, 5.0, 29.0, 11.0, 3.0, 23.0]) ** 1.3)
    return np.round(full(rows) + 6 * wave / np.sqrt(epochs), 9)  # the same in every batch


def told(algorithm: search.MultiFidelityAlgorithm, total: int, batch: int = 1) -> list[tuple[bytes, int, float]]:
    """Drive on NAS-Bench-201 until `total` requests were made: (row, epochs, value) in the order of asking."""
    made: list[tuple[bytes, int, float]] = []
    while len(made) < total:
        rows, epochs = algorithm.ask_at(min(batch, total - len(made)))
        assert len(rows)
        values = at(rows, epochs)
        algorithm.tell(rows, values, epochs)
        made += zip([row.tobytes() for row in rows], epochs.tolist(), values.tolist(), strict=True)
    return made


class Tiny(spaces.SearchSpace):
    """Six architectures, the smallest space that has columns of different kinds."""

    name = "tiny"
    cardinalities = (3, 2)
    size = 6

    def enumerate(self) -> np.ndarray:
        return np.array(list(itertools.product(range(3), range(2))), dtype=np.int8)

    def index(self, genotypes: Any) -> np.ndarray:
        return self.check_range(genotypes).astype(np.int64) @ np.array([2, 1])

    def canonical(self, genotypes: Any, notion: str | None = None) -> np.ndarray:
        del notion
        return self.check_range(genotypes)

    def to_string(self, genotypes: Any) -> list[str]:
        return [str(row) for row in genotypes]

    def from_string(self, strings: Sequence[str]) -> np.ndarray:
        raise NotImplementedError

    def graphs(self, genotypes: Any) -> Any:
        raise NotImplementedError


# -- rungs and brackets -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fidelities", "eta", "rungs"),
    [
        (LADDER, 3, LADDER),
        (tuple(range(1, 201)), 3, (2, 7, 22, 66, 200)),
        ((12, 200), 3, (12, 200)),
        ((12,), 3, (12,)),
        ((100, 200), 3, (200,)),
        ((100, 200), 2, (100, 200)),
        ((4, 12, 36, 108), 3, (4, 12, 36, 108)),
        ((1, 2, 4, 8, 16), 4, (1, 4, 16)),
        ((1, 10, 100), 1.5, (1, 10, 100)),
    ],
)
def test_rungs_are_chosen_from_the_top(fidelities: tuple[int, ...], eta: float, rungs: tuple[int, ...]) -> None:
    assert rungs_of(fidelities, eta) == rungs
    assert Hyperband("nasbench201", 0, fidelities=fidelities, eta=eta).rungs == rungs


def algorithm_1(most: int, eta: int) -> list[list[tuple[int, int]]]:
    """Hyperband's algorithm 1 as it stands in the paper, for R a power of eta; (epochs, architectures)."""
    s_max = round(math.log(most, eta))
    budget = (s_max + 1) * most
    brackets = []
    for s in range(s_max, -1, -1):
        n = math.ceil(Fraction(budget, most) * Fraction(eta**s, s + 1))
        r = Fraction(most, eta**s)
        brackets.append([(int(r * eta**i), math.floor(Fraction(n, eta**i))) for i in range(s + 1)])
    return brackets


@pytest.mark.parametrize(("most", "eta"), [(81, 3), (27, 3), (16, 2), (256, 4), (3, 3)])
def test_brackets_are_those_of_algorithm_1(most: int, eta: int) -> None:
    ladder = [eta**k for k in range(round(math.log(most, eta)) + 1)]
    assert [list(bracket) for bracket in bracket_sizes(ladder)] == algorithm_1(most, eta)


def test_brackets_of_the_papers() -> None:
    counts = [[n for _, n in bracket] for bracket in bracket_sizes(LADDER)]
    assert counts == [[81, 27, 9, 3, 1], [34, 11, 3, 1], [15, 5, 1], [8, 2], [5]]
    # HpBandSter: ⌊(s_max + 1)/(s + 1)⌋ · 3ˢ, as in the table of Hyperband's first version (ICLR 2017).
    counts = [[n for _, n in bracket] for bracket in bracket_sizes(LADDER, floor=True)]
    assert counts == [[81, 27, 9, 3, 1], [27, 9, 3, 1], [9, 3, 1], [6, 2], [5]]
    assert bracket_sizes((12, 200)) == [((12, 17), (200, 1)), ((200, 2),)]
    assert bracket_sizes((12,)) == [((12, 1),)]


@pytest.mark.parametrize("kind", [Hyperband, SuccessiveHalving])
def test_hyperband_promotes_the_best_of_each_rung(kind: type[Hyperband]) -> None:
    algorithm = kind("nasbench201", 0, fidelities=LADDER)
    made = iter(told(algorithm, 500))
    fresh: set[bytes] = set()
    for bracket in itertools.islice(itertools.cycle(algorithm.brackets), 6):
        before: list[tuple[bytes, int, float]] = []
        for k, (epochs, count) in enumerate(bracket):
            rung = list(itertools.islice(made, count))
            if len(rung) < count:
                return
            assert {e for _, e, _ in rung} == {epochs}
            rows = [row for row, _, _ in rung]
            if k:
                best = sorted(before, key=lambda request: -request[2])[:count]
                assert rows == [row for row, _, _ in best]
            else:
                assert not fresh & set(rows)
                assert len(set(rows)) == count
                fresh |= set(rows)
            before = rung


def test_hyperband_with_one_fidelity_is_random_search() -> None:
    goal = search.ArrayObjective("nasbench201", {12: full(spaces.get("nasbench201").enumerate())})
    result = search.run("hyperband", goal, 300, 0, batch_size=50)
    assert result.queries == 300
    assert result.repeats == 0
    assert (result.epochs == 12).all()


@pytest.mark.parametrize("kind", [Hyperband, SuccessiveHalving])
def test_batches_and_the_order_of_telling_do_not_matter(kind: type[Hyperband]) -> None:
    plain = told(kind("nasbench201", 3, fidelities=(1, 3, 9)), 120)
    assert told(kind("nasbench201", 3, fidelities=(1, 3, 9)), 120, batch=50) == plain
    algorithm = kind("nasbench201", 3, fidelities=(1, 3, 9))
    rng = np.random.default_rng(0)
    waiting: list[tuple[np.ndarray, int]] = []
    made = []
    while len(made) < 120:
        rows, epochs = algorithm.ask_at(8)
        made += [(row.tobytes(), epoch) for row, epoch in zip(rows, epochs.tolist(), strict=True)]
        waiting += zip(rows, epochs.tolist(), strict=True)
        for _ in range(rng.integers(1, 1 + len(waiting))):
            row, epoch = waiting.pop(rng.integers(len(waiting)))
            algorithm.tell(row[None], at(row[None], np.array([epoch])), [epoch])
    assert made[:120] == [request[:2] for request in plain]


# -- what all of them owe ---------------------------------------------------------------------


@pytest.mark.parametrize("name", spaces.names())
def test_members_of_every_space_and_none_twice(kind: type[search.MultiFidelityAlgorithm], name: str) -> None:
    """Eight workers, told one by one in random order."""
    space = spaces.get(name)
    algorithm = kind(space, 1, fidelities=(1, 3, 9))
    rng = np.random.default_rng(0)
    waiting: list[tuple[np.ndarray, int]] = []
    asked: list[tuple[Any, int]] = []
    for _ in range(60):
        rows, epochs = algorithm.ask_at(8 - len(waiting))
        if len(rows):
            space.validate(rows)
            assert set(epochs.tolist()) <= {1, 3, 9}
            keys = space.index(rows).tolist() if space.enumerable else [r.tobytes() for r in space.canonical(rows)]
            asked += zip(keys, epochs.tolist(), strict=True)
            waiting += zip(rows, epochs.tolist(), strict=True)
        assert len(waiting) == 8 or kind is not ASHA  # which never waits
        assert waiting
        for _ in range(min(3, len(waiting))):
            row, epoch = waiting.pop(rng.integers(len(waiting)))
            algorithm.tell(row[None], [float(row.sum()) + epoch], [epoch])
    assert algorithm.num_pending == len(waiting)
    assert len(set(asked)) == len(asked)
    assert {1, 3, 9} == {epoch for _, epoch in asked}


def test_seeds_copies_and_pickles(kind: type[search.MultiFidelityAlgorithm]) -> None:
    one, two, other = (kind("nasbench201", seed, fidelities=(1, 3, 9)) for seed in (5, 5, 6))
    assert told(one, 70) == told(two, 70)
    assert told(other, 70) != told(kind("nasbench201", 5, fidelities=(1, 3, 9)), 70)
    rows, epochs = one.ask_at(1)
    twins = [one.copy(), pickle.loads(pickle.dumps(one))]
    for algorithm in (one, *twins):
        algorithm.tell(rows, at(rows, epochs), epochs)
    future = told(one, 60)
    assert all(told(twin, 60) == future for twin in twins)


@pytest.mark.parametrize("fidelities", [(1, 3, 9), (5,), (12, 200)])
def test_a_space_smaller_than_a_rung(kind: type[search.MultiFidelityAlgorithm], fidelities: tuple[int, ...]) -> None:
    """Everything is asked for at most once at each number of epochs, and then the search is over."""
    algorithm = kind(Tiny(), 0, fidelities=fidelities)
    asked: list[tuple[int, int]] = []
    while True:
        rows, epochs = algorithm.ask_at(4)
        if not len(rows):
            break
        asked += zip(algorithm.space.index(rows).tolist(), epochs.tolist(), strict=True)
        algorithm.tell(rows, rows.sum(axis=1) + 0.1 * epochs, epochs)
        assert len(asked) <= 18
    assert len(set(asked)) == len(asked)
    assert algorithm.num_pending == 0
    assert {index for index, epoch in asked if epoch == fidelities[0]} == set(range(6))
    if kind not in (ASHA, SuccessiveHalving):  # further brackets begin at the higher rungs
        assert len(asked) == 6 * len(fidelities)
    assert len(algorithm.ask(3)) == 0


def test_finds_more_than_random_search_in_the_same_time(kind: type[search.MultiFidelityAlgorithm]) -> None:
    """81 epochs cost 81 seconds; the time is that of 30 full trainings, of which random search makes 30."""
    space = spaces.get("nasbench201")
    rows = space.enumerate()
    values = {epochs: at(rows, np.full(space.size, epochs)) for epochs in LADDER}
    seconds = {epochs: np.full(space.size, float(epochs)) for epochs in LADDER}
    goal = search.ArrayObjective(space, values, seconds)
    random = search.ArrayObjective(space, values[81], seconds[81])

    def found(name: str, goal: search.ArrayObjective) -> float:
        return float(np.mean([search.run(name, goal, seed=seed, seconds=30 * 81).best_value for seed in range(12)]))

    assert found(kind.name, goal) > found("random_search", random) + 2


@pytest.mark.parametrize("eta", [1, 0.5, np.nan, "3"])
def test_eta_is_checked(kind: type[search.MultiFidelityAlgorithm], eta: object) -> None:
    with pytest.raises(ValueError, match=f"'eta' parameter of {kind.__name__} must be a number"):
        kind("nasbench201", 0, fidelities=LADDER, eta=eta)


# -- ASHA -------------------------------------------------------------------------------------


def test_asha_is_algorithm_2() -> None:
    """A slow `get_job` over all that has been told says each promotion; else an architecture is new."""
    ladder = (2, 6, 30, 60)
    algorithm = ASHA("nasbench201", 0, fidelities=ladder, eta=2)
    results: dict[int, list[tuple[float, int, bytes]]] = {epochs: [] for epochs in ladder}
    promoted: set[tuple[bytes, int]] = set()
    known: set[bytes] = set()
    waiting: list[tuple[np.ndarray, int, int]] = []
    rng = np.random.default_rng(1)
    kinds = set()
    for number in range(700):
        expected = None
        for k in range(len(ladder) - 2, -1, -1):
            ranked = sorted(results[ladder[k]], key=lambda result: (-result[0], result[1]))
            candidates = ranked[: len(ranked) * ladder[k] // ladder[k + 1]]
            promotable = [row for _, _, row in candidates if (row, ladder[k]) not in promoted]
            if promotable:
                expected = (promotable[0], ladder[k + 1])
                promoted.add((promotable[0], ladder[k]))
                break
        rows, epochs = algorithm.ask_at(1)
        row, epoch = rows[0], int(epochs[0])
        if expected is None:
            assert epoch == 2
            assert row.tobytes() not in known
            known.add(row.tobytes())
        else:
            assert (row.tobytes(), epoch) == expected
        kinds.add(epoch)
        waiting.append((row, epoch, number))
        while len(waiting) > rng.integers(6):
            row, epoch, asked = waiting.pop(rng.integers(len(waiting)))
            value = float(np.round(at(row[None], np.array([epoch]))[0]))  # with ties
            algorithm.tell(row[None], [value], [epoch])
            results[epoch].append((value, asked, row.tobytes()))
    assert kinds == set(ladder)


def test_asha_asked_for_many_at_once_draws_them() -> None:
    rows, epochs = ASHA("nasbench201", 0, fidelities=LADDER).ask_at(500)
    assert len(np.unique(rows, axis=0)) == 500
    assert (epochs == 1).all()


# -- BOHB -------------------------------------------------------------------------------------


def slow_density(row: np.ndarray, data: np.ndarray, bandwidth: list[float], values: tuple[int, ...]) -> float:
    total = 0.0
    for datum in data:
        product = 1.0
        for j, (x, y) in enumerate(zip(row.tolist(), datum.tolist(), strict=True)):
            product *= 1 - bandwidth[j] if x == y else bandwidth[j] / (values[j] - 1)
        total += product
    return total / len(data)


def test_densities_and_bandwidths() -> None:
    values = (5, 2, 3)
    rng = np.random.default_rng(0)
    data = np.stack([rng.integers(v, size=20) for v in values], axis=1).astype(np.int8)
    data[:, 1] = 1
    density = CategoricalDensity(data, np.array(values), 1e-3)
    bandwidth = []
    for j, v in enumerate(values):
        column = data[:, j].astype(float)
        deviation = math.sqrt(sum((x - column.mean()) ** 2 for x in column) / 20)
        bandwidth.append(min(max(1.06 * deviation * 20 ** (-1 / 7), 1e-3), (v - 1) / v))
    np.testing.assert_allclose(density.bandwidth, bandwidth)
    assert bandwidth[1] == 1e-3
    assert bandwidth[0] == 0.8  # statsmodels would take 0.97 or so, and count other values more than the same
    rows = np.array(list(itertools.product(*map(range, values))), dtype=np.int8)
    slow = [slow_density(row, data, bandwidth, values) for row in rows]
    np.testing.assert_allclose(np.exp(density.log_density(rows)), slow, rtol=1e-12)
    assert sum(slow) == pytest.approx(1)


def test_draws_keep_values_as_often_as_said() -> None:
    data = np.array([[0, 1, 2]], dtype=np.int8)
    density = CategoricalDensity(data, np.array([4, 3, 5]), 0.3)
    drawn = density.draw(60_000, 2.0, np.random.default_rng(0))
    for j, (kept, v) in enumerate(zip((0, 1, 2), (4, 3, 5), strict=True)):
        share = np.bincount(drawn[:, j], minlength=v) / len(drawn)
        expected = np.full(v, 0.6 / v)
        expected[kept] += 0.4
        np.testing.assert_allclose(share, expected, atol=0.01)


def test_a_column_of_one_value_has_no_say() -> None:
    density = CategoricalDensity(np.array([[0, 1]], np.int8), np.array([1, 2]), 0.25)
    np.testing.assert_allclose(np.exp(density.log_density(np.array([[0, 1], [0, 0]], np.int8))), [0.75, 0.25])


def test_the_model_is_that_of_the_highest_fidelity_with_enough_values() -> None:
    algorithm = BOHB("nasbench201", 0, fidelities=(1, 3, 9))
    made: list[tuple[bytes, int, float]] = []
    seen = set()
    for _ in range(250):
        made += told(algorithm, 1)
        model = algorithm._model()
        expected = None
        for epochs in (9, 3, 1):
            ranked = sorted((r for r in made if r[1] == epochs), key=lambda request: -request[2])
            count = max(7, 15 * len(ranked) // 100)  # HpBandSter: integer percent, and d + 1 at least
            if len(ranked) - count >= 7:
                expected = epochs, [r[0] for r in ranked[:count]], [r[0] for r in ranked[count:]]
                break
        if expected is None:
            assert model is None
            continue
        assert model is not None
        seen.add(expected[0])
        assert [row.tobytes() for row in model[0].rows] == expected[1]
        assert [row.tobytes() for row in model[1].rows] == expected[2]
    assert seen == {1, 3, 9}


def test_the_draw_of_the_highest_ratio_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm = BOHB("nasbench201", 0, fidelities=(1,), random_fraction=0.0)
    made = told(algorithm, 40)
    drawn: list[np.ndarray] = []
    plain = BOHB._draw

    def recorded(self: BOHB, good: CategoricalDensity) -> np.ndarray:
        drawn.append(plain(self, good))
        return drawn[-1]

    monkeypatch.setattr(BOHB, "_draw", recorded)
    asked = {row for row, _, _ in made}
    for _ in range(20):
        model = algorithm._model()
        assert model is not None
        drawn.clear()
        row, epochs = algorithm.ask_at(1)
        assert len(drawn[-1]) == 64
        ratios = {
            r.tobytes(): math.log(slow_density(r, model[0].rows, model[0].bandwidth.tolist(), (5,) * 6))
            - math.log(slow_density(r, model[1].rows, model[1].bandwidth.tolist(), (5,) * 6))
            for r in drawn[-1]
        }
        assert ratios[row[0].tobytes()] == pytest.approx(max(v for key, v in ratios.items() if key not in asked))
        asked.add(row[0].tobytes())
        algorithm.tell(row, at(row, epochs), epochs)


def test_a_third_is_random(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithm = BOHB("nasbench201", 0, fidelities=(1,))
    told(algorithm, 30)
    random = []
    plain = BracketSearch._random_new
    monkeypatch.setattr(BOHB, "_random_new", lambda self, epochs: random.append(1) or plain(self, epochs))
    told(algorithm, 300)
    assert 100 - 4 * 8.2 < len(random) < 100 + 4 * 8.2


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"random_fraction": 1.5}, "'random_fraction'"),
        ({"good": 0}, "'good'"),
        ({"samples": 0}, "'samples'"),
        ({"min_points": 0}, "'min_points'"),
        ({"bandwidth_factor": 0}, "'bandwidth_factor'"),
        ({"min_bandwidth": 1}, "'min_bandwidth'"),
    ],
)
def test_bohb_checks_its_parameters(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BOHB("nasbench201", 0, fidelities=LADDER, **bad)


# -- DEHB -------------------------------------------------------------------------------------


def test_rand_1_bin_is_mutation_and_crossover() -> None:
    rng = np.random.default_rng(0)
    first, second, third, target = rng.random((4, 500, 6))
    trials = rand_1_bin(
        first, second, third, target, mutation_factor=0.7, crossover_probability=0.2, rng=np.random.default_rng(1)
    )
    counts = []
    for k in range(500):
        taken = 0
        for j in range(6):
            mutant = first[k, j] + 0.7 * (second[k, j] - third[k, j])
            if trials[k, j] == target[k, j]:
                continue
            taken += 1
            if 0 <= mutant <= 1:
                assert trials[k, j] == pytest.approx(mutant)
            else:
                assert 0 <= trials[k, j] <= 1
        assert taken >= 1
        counts.append(taken)
    # Six draws of 0.2, and one for certain where none was drawn.
    assert np.mean(counts) == pytest.approx(6 * 0.2 + 0.8**6, abs=0.2)


def test_parents_are_the_best_of_the_fidelity_below(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first iteration every request is a trial of DEHB's definition, unless 32 of them failed."""
    algorithm = DEHB("nasbench201", 2, fidelities=(1, 3, 9, 27))
    told(algorithm, sum(n for bracket in algorithm.brackets for _, n in bracket))
    pools: list[tuple[np.ndarray, np.ndarray]] = []
    plain = DEHB._parents

    def recorded(self: DEHB, own: np.ndarray) -> np.ndarray:
        pools.append((own.copy(), plain(self, own)))
        return pools[-1][1]

    monkeypatch.setattr(DEHB, "_parents", recorded)
    turn = {epochs: algorithm._target[epochs] for epochs in algorithm.rungs}
    trials = filled = 0
    for bracket in algorithm.brackets:
        for k, (epochs, count) in enumerate(bracket):
            below = bracket[k - 1][0] if k else epochs
            for _ in range(count):
                points, values = algorithm._points[below].copy(), algorithm._values[below].copy()
                rows, at_epochs = algorithm.ask_at(1)
                assert at_epochs.tolist() == [epochs]
                own, pool = pools[-1]
                np.testing.assert_array_equal(own, algorithm._points[epochs][turn[epochs]])
                best = [points[i] for i in sorted(range(len(values)), key=lambda i: -values[i])[:count]]
                best = [point for point in best if (point != own).any()]
                np.testing.assert_array_equal(pool[: len(best)], best)
                assert len(pool) == max(3, len(best))
                filled += len(pool) > len(best)
                point, target = algorithm._open[rows[0].tobytes()]
                assert target == turn[epochs]
                turn[epochs] = (turn[epochs] + 1) % len(algorithm._points[epochs])
                np.testing.assert_array_equal(np.minimum(np.floor(point * 5), 4), rows[0])
                # A coordinate is the target's, a mutant's of three of the pool, or was outside and drawn anew.
                mutants = [a + 0.5 * (b - c) for a, b, c in itertools.permutations(pool, 3)]
                trials += any(
                    all(
                        p in (o, m) or abs(p - m) < 1e-12 or not 0 <= m <= 1
                        for p, o, m in zip(point, own, mutant, strict=True)
                    )
                    for mutant in mutants
                )
                value = at(rows, at_epochs)
                old = float(algorithm._values[epochs][target])
                algorithm.tell(rows, value, at_epochs)
                assert algorithm._values[epochs][target] == max(old, value[0])
    total = sum(n for bracket in algorithm.brackets for _, n in bracket)
    assert len(pools) == total
    assert trials >= 0.95 * total
    assert filled


def test_the_first_bracket_is_successive_halving() -> None:
    algorithm = DEHB("nasbench201", 0, fidelities=(1, 3, 9))
    made = told(algorithm, 13)
    for start, count, below in ((9, 3, made[:9]), (12, 1, made[9:12])):
        best = sorted(below, key=lambda request: -request[2])[:count]
        assert [row for row, _, _ in made[start : start + count]] == [row for row, _, _ in best]
    assert [epochs for _, epochs, _ in made] == [1] * 9 + [3] * 3 + [9]


def test_dehb_with_one_fidelity_is_differential_evolution() -> None:
    algorithm = DEHB("nasbench201", 0, fidelities=(12,))
    made = told(algorithm, 300)
    assert len({row for row, _, _ in made}) == 300
    values = [value for _, _, value in made]
    assert np.mean(values[-60:]) > np.mean(values[:20]) + 8


@pytest.mark.parametrize(
    ("bad", "message"),
    [({"mutation_factor": 0}, "'mutation_factor'"), ({"crossover_probability": 1.1}, "'crossover_probability'")],
)
def test_dehb_checks_its_parameters(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DEHB("nasbench201", 0, fidelities=LADDER, **bad)


# -- on the real table ------------------------------------------------------------------------


def test_on_the_table_and_from_the_command_line(
    nasbench201_store: Any, kind: type[search.MultiFidelityAlgorithm]
) -> None:
    import json

    from typer.testing import CliRunner

    from tauzero.cli import app

    arguments = ["search", "nasbench201", "--source", str(nasbench201_store), "--algorithm", kind.name, "--json"]
    done = CliRunner().invoke(app, [*arguments, "--budget", "40"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["queries"] == 40
    assert facts["best"]["epochs"] == 200
    done = CliRunner().invoke(app, [*arguments, "--epochs", "12", "--seconds", "3000"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["best"]["epochs"] == 12
    assert facts["simulated_s"] <= 3000
