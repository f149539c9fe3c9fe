"""NSGA-II: sorting and crowding against textbook loops, its generations, and what it gains on a real table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from typer.testing import CliRunner

from tauzero import benchmarks, search, spaces
from tauzero.cli import app
from tauzero.evaluation import hypervolume
from tauzero.search import NSGA2
from tauzero.search._pareto import crowding_distances, front_numbers, nondominated

SPACE = spaces.get("nasbench201")

#: Few different numbers, so that ties and equal points are common.
matrices = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 25), st.integers(1, 4)),
    elements=st.integers(-3, 3).map(float) | st.floats(-5, 5, width=16),
)


def slow_fronts(points: np.ndarray) -> list[int]:
    """The paper's fast-non-dominated-sort, line by line."""
    n = len(points)
    dominated: list[list[int]] = [[] for _ in range(n)]
    count = [0] * n
    rank = [-1] * n
    for p in range(n):
        for q in range(n):
            if all(points[p] >= points[q]) and any(points[p] > points[q]):
                dominated[p].append(q)
            elif all(points[q] >= points[p]) and any(points[q] > points[p]):
                count[p] += 1
    front, number = [p for p in range(n) if not count[p]], 0
    while front:
        following = []
        for p in front:
            rank[p] = number
            for q in dominated[p]:
                count[q] -= 1
                if not count[q]:
                    following.append(q)
        front, number = following, number + 1
    return rank


def slow_crowding(points: np.ndarray) -> list[float]:
    """The paper's crowding-distance-assignment for one front, line by line."""
    n, k = points.shape
    distance = [0.0] * n
    for m in range(k):
        order = sorted(range(n), key=lambda i: points[i, m])
        spread = points[order[-1], m] - points[order[0], m]
        distance[order[0]] = distance[order[-1]] = float("inf")
        for place in range(1, n - 1):
            if spread > 0:
                distance[order[place]] += (points[order[place + 1], m] - points[order[place - 1], m]) / spread
    return distance


@settings(deadline=None)
@given(matrices)
def test_sorting_and_crowding_against_the_textbook(points: np.ndarray) -> None:
    fronts = front_numbers(points)
    assert fronts.tolist() == slow_fronts(points)
    np.testing.assert_array_equal(fronts == 0, nondominated(points))
    distances = crowding_distances(points, fronts)
    for number in range(fronts.max() + 1):
        own = points[fronts == number]
        np.testing.assert_allclose(distances[fronts == number], slow_crowding(own), rtol=1e-12)
        np.testing.assert_array_equal(distances[fronts == number], crowding_distances(own))


def test_sorting_of_nothing() -> None:
    assert front_numbers(np.empty((0, 2))).shape == (0,)
    assert crowding_distances(np.empty((0, 2))).shape == (0,)


# -- the algorithm ----------------------------------------------------------------------------


def points_of(rows: np.ndarray) -> np.ndarray:
    """Two objectives that disagree, with many ties."""
    return np.stack(
        [(rows == 2).sum(axis=1) + rows[:, 0] / 10, -(rows * np.arange(1, rows.shape[1] + 1)).sum(axis=1)], 1
    )


def drive(algorithm: search.Algorithm, batches: list[int]) -> np.ndarray:
    asked = []
    for n in batches:
        rows = algorithm.ask(n)
        algorithm.tell(rows, points_of(rows).astype(float))
        asked.append(rows)
    return np.concatenate(asked)


def test_the_next_population_is_the_best_of_parents_and_children() -> None:
    """Against a slow statement of section III.C: whole fronts, then the least crowded of the last."""
    algorithm = NSGA2(SPACE, 0, population_size=8)
    members = np.empty((0, SPACE.length), np.int8)
    for _ in range(12):
        rows = drive(algorithm, [3, 5])
        both = np.concatenate([members, rows])
        fronts = np.array(slow_fronts(points_of(both)))
        kept: list[int] = []
        for number in range(fronts.max() + 1):
            front = np.flatnonzero(fronts == number)
            if len(kept) + len(front) > 8:
                crowding = np.array(slow_crowding(points_of(both[front]).astype(float)))
                front = front[np.argsort(-crowding, kind="stable")][: 8 - len(kept)]
            kept += front.tolist()
            if len(kept) == 8:
                break
        members, points = algorithm.population
        np.testing.assert_array_equal(np.unique(members, axis=0), np.unique(both[kept], axis=0))
        np.testing.assert_array_equal(points, points_of(members))


def test_children_come_from_winners_of_tournaments() -> None:
    """Without crossover and mutation children are copies: members win as often as the crowded comparison says."""
    algorithm = NSGA2(SPACE, 0, population_size=6, crossover_probability=0.0, mutations=0.0)
    drive(algorithm, [6])
    rank, distance = algorithm._fronts, algorithm._distances
    members = algorithm.population[0]

    def better(a: int, b: int) -> float:
        mine, theirs = (rank[a], -distance[a]), (rank[b], -distance[b])
        return 0.5 if mine == theirs else float(mine < theirs)

    expected = [np.mean([better(a, b) for b in range(6) if b != a]) / 3 for a in range(6)]
    children = algorithm._bred(12_000)
    shares = [(children == member).all(axis=1).mean() for member in members]
    np.testing.assert_allclose(sum(shares), 1)
    np.testing.assert_allclose(shares, expected, atol=0.02)  # 5 standard deviations
    assert max(expected) > 1.5 / 6 > 0.5 / 6 > min(expected)


def test_children_mix_two_members_and_change_one_gene_on_average() -> None:
    crossed = NSGA2(SPACE, 1, population_size=2, crossover_probability=1.0, mutations=0.0)
    drive(crossed, [2])
    one, two = crossed.population[0]
    for _ in range(50):
        child = crossed._bred(1)[0]
        assert ((child == one) | (child == two)).all()
    mutated = NSGA2(SPACE, 1, population_size=2, crossover_probability=0.0, mutations=1.0)
    drive(mutated, [2])
    children = mutated._bred(3_000)
    changed = np.min([(children != member).sum(axis=1) for member in mutated.population[0]], axis=0)
    # Binomial(6, 1/6); a second mutation of one gene can undo or repeat the first, so a little less than 1.
    assert 0.85 < np.mean(changed) < 1.0
    assert abs(np.mean(np.equal(changed, 0)) - (5 / 6) ** 6) < 0.05


@pytest.mark.parametrize("name", spaces.names())
def test_members_of_every_space_each_once(name: str) -> None:
    """In any batches, told late and out of order; more than a generation ahead."""
    space = spaces.get(name)
    algorithm = NSGA2(space, 0, population_size=10)
    late, asked = [], []
    for n in (1, 30, 2, 5, 1, 1, 40, 1, 1, 1, 12):
        rows = algorithm.ask(n)
        assert rows.shape == (n, space.length)
        space.validate(rows)
        late.append(rows)
        asked.append(rows)
        if len(late) > 2:
            told = late.pop(0)[::-1]
            algorithm.tell(told, points_of(told).astype(float))
    every = space.canonical(np.concatenate(asked)) if not space.enumerable else space.index(np.concatenate(asked))
    assert len(np.unique(every, axis=0)) == 95


def test_the_same_in_any_batches_that_end_with_generations() -> None:
    by_one, by_five = (NSGA2(SPACE, 3, population_size=10) for _ in range(2))
    np.testing.assert_array_equal(drive(by_one, [1] * 60), drive(by_five, [5] * 12))


def test_visits_a_whole_space_and_ends() -> None:
    space = spaces.get("transnas_micro")
    algorithm = NSGA2(space, 0)
    rows = drive(algorithm, [4_000, 90, 9])
    assert len(rows) == space.size == len(np.unique(space.index(rows)))
    assert len(algorithm.ask(1)) == 0


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"population_size": 1}, "'population_size' parameter of NSGA2 must be an integer ≥ 2"),
        ({"crossover_probability": 1.5}, "'crossover_probability' parameter of NSGA2 must be a number from 0 to 1"),
        ({"mutations": 7}, "'mutations' parameter of NSGA2 must be a number from 0 to 6"),
    ],
)
def test_parameters(params: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NSGA2(SPACE, 0, **params)


# -- on a real table --------------------------------------------------------------------------


@pytest.mark.parametrize("hardware", [False, True], ids=["parameters", "latency"])
def test_dominates_more_than_random_search_on_nasbench201(
    hardware: bool, shared_data: Path, nasbench201_store: Path
) -> None:
    """200 queries, 10 seeds: share of the hypervolume of the whole table that the queries dominate."""
    table = benchmarks.load("nasbench201", nasbench201_store)
    goal: search.Objective = search.TableObjective(table, "cifar10")
    if hardware:
        import pandas as pd

        path = shared_data / "nb201" / "nb201_hardware.parquet"
        column = pd.read_parquet(path, columns=["hwnb_pixel3_latency_c10"])
        goal = search.WithCosts(goal, {"cost": column.to_numpy(dtype=np.float64)[:, 0]})
        reference = [80.0, -20.0]  # %, ms
    else:
        goal = search.WithCosts(goal, {"cost": table.table("cifar10", "parameters")})
        reference = [80.0, -1.6e6]
    everything = goal.evaluate(SPACE.enumerate())

    def dominated(values: np.ndarray, costs: np.ndarray) -> float:
        return hypervolume(np.column_stack([values, -costs]), reference)

    whole = dominated(everything.values, everything.costs["cost"])
    shares = {
        name: np.array(
            [dominated(r.values, r.costs["cost"]) for r in (search.run(name, goal, 200, seed) for seed in range(10))]
        )
        / whole
        for name in ("random_search", "nsga2")
    }
    assert shares["nsga2"].mean() > shares["random_search"].mean() + 0.01
    assert (shares["nsga2"] > shares["random_search"]).sum() >= 7
    assert shares["nsga2"].mean() > 0.95


def test_costs_as_arrays() -> None:
    costs = np.arange(15_625.0)
    goal = search.WithCosts(search.ArrayObjective(SPACE, costs), {"place": costs, "params": "params"})
    rows = SPACE.sample(5, 0)
    got = goal.evaluate(rows).costs
    np.testing.assert_array_equal(got["place"], SPACE.index(rows))
    np.testing.assert_array_equal(
        got["params"], search.WithCosts(goal.objective, ["params"]).evaluate(rows).costs["params"]
    )
    with pytest.raises(ValueError, match=r"cost 'place' .* shape \(15625,\).* Got shape \(3,\)"):
        search.WithCosts(goal.objective, {"place": np.zeros(3)})


@pytest.mark.parametrize("algorithm", ["nsga2", "tpe"])
def test_command_line(algorithm: str, nasbench201_store: Path, tmp_path: Path) -> None:
    """Counted costs and a metric of the table; the front as a table for people and as JSON, resumed from a file."""
    arguments = ["search", "nasbench201", "--source", str(nasbench201_store), "--algorithm", algorithm]
    arguments += ["--costs", "params,latency_seconds", "--budget", "40", "--out", str(tmp_path / "q.parquet")]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.stderr
    assert "not beaten in value and all costs" in shown.stdout
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    kept = search.Trajectory.load(tmp_path / "q.parquet")
    assert found["queries"] == 40 == len(kept)
    front = [(p["value"], -p["costs"]["params"], -p["costs"]["latency_seconds"]) for p in found["pareto"]]
    every = np.column_stack([kept.values, *(-c for c in kept.costs.values())])  # noqa: PD011
    expected = np.unique(every[nondominated(every)], axis=0)
    np.testing.assert_array_equal(np.unique(front, axis=0), expected)
    assert front[0][0] == max(value for value, *_ in front) == found["best"]["value"]


def test_command_line_without_costs(nasbench201_store: Path) -> None:
    arguments = ["search", "nasbench201", "--source", str(nasbench201_store), "--algorithm", "nsga2"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "--costs params,flops" in result.stderr
