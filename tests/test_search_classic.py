"""Local search, non-ageing evolution, REINFORCE, differential evolution and proxy evolution: what is theirs alone.

What every algorithm has to do stands in ``test_search_algorithms.py``.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from tauzero import benchmarks, search, spaces
from tauzero.search import Algorithm
from tauzero.search.differential_evolution import DifferentialEvolution
from tauzero.search.evolution import Evolution
from tauzero.search.local_search import LocalSearch
from tauzero.search.proxy_evolution import ProxyEvolution, ProxyScore
from tauzero.search.reinforce import Reinforce


def value(space: spaces.SearchSpace, rows: np.ndarray) -> np.ndarray:
    """How often the last value of a column is taken."""
    return (rows == np.asarray(space.cardinalities) - 1).sum(axis=1).astype(float)


def twos(rows: np.ndarray) -> np.ndarray:
    """A proxy that agrees with `value` in part: columns of value 2 or more."""
    return (rows >= 2).sum(axis=1).astype(float)


def rugged(rows: np.ndarray) -> np.ndarray:
    """Values in no order at all, different for almost all rows."""
    primes = np.array([101, 211, 307, 401, 503, 601, 701, 809, 907, 1009] * 4)[: rows.shape[1]]
    return ((rows.astype(np.int64) ** 2 + rows) @ primes * 7919 % 10_007).astype(float)


def drive(algorithm: Algorithm, steps: int, f=rugged) -> tuple[np.ndarray, np.ndarray]:
    rows, values = [], []
    for _ in range(steps):
        asked = algorithm.ask()
        algorithm.tell(asked, f(asked))
        rows.append(asked)
        values.append(f(asked))
    return np.concatenate(rows), np.concatenate(values)


ALL = {
    "local_search": (LocalSearch, {}),
    "local_search_full": (LocalSearch, {"full_neighborhood": True, "at_optimum": "continue"}),
    "evolution": (Evolution, {}),
    "evolution_sample": (Evolution, {"dies": "worst_of_sample", "sample_size": 2}),
    "reinforce": (Reinforce, {}),
    "differential_evolution": (DifferentialEvolution, {}),
    "proxy_evolution": (ProxyEvolution, {"score": twos, "warm_up": 200}),
}


@pytest.fixture(params=sorted(ALL))
def make(request: pytest.FixtureRequest):
    kind, params = ALL[request.param]
    return lambda space, seed: kind(space, seed, **params)


# -- all of them ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", spaces.names())
def test_members_of_every_space(make, name: str) -> None:
    """Constraints of NAS-Bench-101 and DARTS included; in any batches, told late and out of order."""
    space = spaces.get(name)
    algorithm = make(space, 0)
    late = []
    for n in (1, 30, 2, 5, 1, 1, 40, 1, 1, 1, 12):
        rows = algorithm.ask(n)
        assert rows.shape == (n, space.length)
        assert rows.dtype == np.int8
        assert rows.flags.c_contiguous
        space.validate(rows)
        late.append(rows)
        if len(late) > 2:
            told = late.pop(0)[::-1]
            algorithm.tell(told, rugged(told))
    assert algorithm.num_pending == sum(map(len, late))


@pytest.mark.parametrize("name", ["nasbench201", "darts"])
def test_seeds_copies_and_pickles(make, name: str) -> None:
    one, two, other = make(name, 3), make(name, 3), make(name, 4)
    first = drive(one, 90)[0]
    np.testing.assert_array_equal(first, drive(two, 90)[0])
    assert (first != drive(other, 90)[0]).any()
    twins = [one.copy(), pickle.loads(pickle.dumps(one))]
    future = drive(one, 30)[0]
    for twin in twins:
        np.testing.assert_array_equal(drive(twin, 30)[0], future)


def test_better_than_random_search(make) -> None:
    """Best of 200 queries, mean of 6 seeds; random search reaches 4.2 of 6."""
    space = spaces.get("nasbench201")
    goal = search.ArrayObjective(space, value(space, space.enumerate()))
    random = np.mean([search.run("random_search", goal, 200, seed).best_value for seed in range(6)])
    found = np.mean([search.run(make(space, seed), goal, 200).best_value for seed in range(6)])
    assert found >= random + 0.3


# -- local search -----------------------------------------------------------------------------


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("at_optimum", ["restart", "continue"])
def test_local_search_follows_algorithm_1(full: bool, at_optimum: str) -> None:
    """A slow statement that checks each query against what the paper allows at that moment."""
    space = spaces.get("nasbench201")
    algorithm = LocalSearch(space, 1, initial=3, full_neighborhood=full, at_optimum=at_optimum)
    seen: dict[int, float] = {}
    visited: set[int] = set()
    current, starts, climbs = None, [], 0

    def around(index: int) -> list[int]:
        return space.index(space.neighbors(space.enumerate()[index])).tolist()

    for _ in range(600):
        while current is not None:  # what the climber does before it has to ask
            known = [i for i in around(current) if i in seen]
            whole = len(known) == len(around(current))
            best = max((i for i in known if at_optimum == "restart" or i not in visited), key=seen.get, default=None)
            if best is not None and seen[best] > seen[current] and (whole or not full):
                current = best
            elif not whole:
                break
            elif at_optimum == "continue":
                current = max((i for i in seen if i not in visited), key=seen.get)
            else:
                current = None
            visited.add(current)
        row = algorithm.ask()
        index = int(space.index(row)[0])
        assert index not in seen
        seen[index] = float(rugged(row)[0])
        if current is None:
            starts.append(index)
            if len(starts) == 3:
                current, starts = max(starts, key=seen.get), []
                visited.add(current)
                climbs += 1
        else:
            assert index in around(current)
        algorithm.tell(row, rugged(row))
    assert climbs > 1 if at_optimum == "restart" else climbs == 1


def test_local_search_ends_at_a_local_optimum_and_at_the_end_of_the_space() -> None:
    space = spaces.get("transnas_macro")
    algorithm = LocalSearch(space, 0)
    rows = [algorithm.ask(500)]
    while len(rows[-1]):
        algorithm.tell(rows[-1], rugged(rows[-1]))
        rows.append(algorithm.ask(500))
    found = space.index(np.concatenate(rows))
    np.testing.assert_array_equal(np.sort(found), np.arange(space.size))


def test_local_search_asks_for_isomorphic_cells_once() -> None:
    space = spaces.get("nasbench101")
    rows, _ = drive(LocalSearch(space, 2), 300)
    assert len(np.unique(space.index(rows))) == 300
    darts = spaces.get("darts")
    rows, _ = drive(LocalSearch(darts, 2), 200)
    assert len(np.unique(darts.canonical(rows), axis=0)) == 200


def test_local_search_on_cifar100(nasbench201_store: Path) -> None:
    """White et al. report 127 queries on average until the optimum; within 1,000 it is found nearly always."""
    goal = search.TableObjective(benchmarks.load("nasbench201", nasbench201_store), "cifar100", "validation_accuracy")
    best = [search.run(LocalSearch("nasbench201", seed), goal, 1000).best_value for seed in range(5)]
    assert np.mean(np.array(best) >= goal.optimum - 1e-9) >= 0.6
    with pytest.raises(ValueError, match="'initial' parameter of LocalSearch must be an integer ≥ 1"):
        LocalSearch("nasbench201", 0, initial=0)
    with pytest.raises(ValueError, match="Unknown choice of LocalSearch"):
        LocalSearch("nasbench201", 0, at_optimum="stop")


# -- non-ageing evolution ---------------------------------------------------------------------


def test_the_worst_dies() -> None:
    """After every query the population is the best of all different rows so far (values are different, too)."""
    algorithm = Evolution("nasbench201", 0, population_size=8, sample_size=3)
    seen: dict[bytes, float] = {}
    for _ in range(200):
        row = algorithm.ask()
        score = float(rugged(row)[0])
        algorithm.tell(row, [score])
        seen[row.tobytes()] = score
        if len(seen) >= 8:
            np.testing.assert_array_equal(np.sort(algorithm._values), np.sort(list(seen.values()))[-8:])
            assert len({member.tobytes() for member in algorithm._members}) == 8


def test_equal_children_replace_the_oldest_of_the_worst() -> None:
    algorithm = Evolution("nasbench201", 0, population_size=3)
    rows = algorithm.ask(3)
    algorithm.tell(rows, [1.0, 1.0, 2.0])
    child = algorithm.ask()
    algorithm.tell(child, [1.0])
    alive = {row.tobytes() for row in algorithm._members}
    assert rows[0].tobytes() not in alive or child[0].tobytes() in {row.tobytes() for row in rows}
    assert {rows[1].tobytes(), rows[2].tobytes()} <= alive


def test_a_uniform_parent_with_samples_of_one() -> None:
    """(μ+1): each of four members is the parent of a quarter of the children (5 standard deviations)."""
    space = spaces.get("nasbench201")
    algorithm = Evolution(space, 0, population_size=4, sample_size=1)
    rows = np.array([[0] * 6, [1] * 6, [2] * 6, [3] * 6], dtype=np.int8)
    algorithm.tell(algorithm.ask(4), [1.0, 2.0, 3.0, 4.0])
    algorithm._members[:] = rows
    children = np.empty((4000, 6), dtype=np.int8)
    for k in range(4000):
        algorithm._seen.clear()  # or else no child would come twice
        children[k] = algorithm.ask()[0]
    parent = (children[:, None] != rows).sum(axis=2).argmin(axis=1)
    np.testing.assert_allclose(np.bincount(parent, minlength=4), 1000, atol=137)


def test_the_worst_of_a_sample_dies_even_for_a_worse_child() -> None:
    algorithm = Evolution("nasbench201", 0, population_size=5, sample_size=500, dies="worst_of_sample")
    algorithm.tell(algorithm.ask(5), [1.0, 2.0, 3.0, 4.0, 5.0])
    algorithm.tell(algorithm.ask(), [0.0])
    assert sorted(algorithm._values) == [0.0, 2.0, 3.0, 4.0, 5.0]
    with pytest.raises(ValueError, match="Unknown way to die in Evolution"):
        Evolution("nasbench201", 0, dies="oldest")


# -- REINFORCE --------------------------------------------------------------------------------


def test_reinforce_is_the_published_update() -> None:
    """Against torch: autograd through Categorical, torch's Adam, the script's moving average."""
    import torch

    algorithm = Reinforce("nasbench201", 0, learning_rate=0.05)
    logits = torch.tensor(algorithm._logits.copy(), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    top = bottom = 0.0
    for _ in range(30):
        row = algorithm.ask()
        reward = float(rugged(row)[0])
        algorithm.tell(row, [reward])
        top, bottom = 0.9 * top + 0.1 * reward, 0.9 * bottom + 0.1
        assert algorithm.baseline == pytest.approx(top / bottom)
        chances = torch.distributions.Categorical(torch.softmax(logits, dim=-1))
        loss = -(chances.log_prob(torch.tensor(row[0].astype(np.int64))) * (reward - top / bottom)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    np.testing.assert_allclose(algorithm._logits, logits.detach().numpy(), rtol=1e-7, atol=1e-9)


def test_reinforce_draws_from_its_policy() -> None:
    """NATS-Bench's size space has eight values a column, DARTS' columns have 2 to 7: none beyond is drawn."""
    for name in ("natsbench_size", "darts"):
        space = spaces.get(name)
        algorithm = Reinforce(space, 0, init_scale=1.0)
        chances = algorithm.probabilities
        np.testing.assert_allclose(chances.sum(axis=1), 1.0)
        rows = algorithm._draw(_edges(algorithm), 20_000)
        for column, (wanted, cardinality) in enumerate(zip(chances, space.cardinalities, strict=True)):
            assert not wanted[cardinality:].any()
            share = np.bincount(rows[:, column], minlength=len(wanted)) / len(rows)
            np.testing.assert_allclose(share, wanted, atol=0.02)


def _edges(algorithm: Reinforce) -> np.ndarray:
    edges = algorithm.probabilities.cumsum(axis=1)
    edges[np.arange(edges.shape[1]) >= np.asarray(algorithm.space.cardinalities)[:, None] - 1] = np.inf
    return edges


def test_reinforce_learns_and_a_policy_without_members_gives_way() -> None:
    space = spaces.get("nasbench201")
    algorithm = Reinforce(space, 0, learning_rate=0.1)
    drive(algorithm, 400, lambda rows: value(space, rows))
    assert value(space, algorithm.ask(200)).mean() > 4.0  # 1.2 by chance
    darts = spaces.get("darts")
    stuck = Reinforce(darts, 0)
    stuck._logits[:2, 0] = 1000.0  # both inputs of the first node are the first
    assert darts.is_valid(stuck.ask(5)).all()
    for bad in ({"learning_rate": 0.0}, {"momentum": 1.0}, {"init_scale": -1.0}):
        with pytest.raises(ValueError, match=f"'{next(iter(bad))}' parameter of Reinforce must be"):
            Reinforce(space, 0, **bad)


# -- differential evolution -------------------------------------------------------------------


def test_bins_are_equal_and_points_stay_in_theirs() -> None:
    space = spaces.get("darts")
    algorithm = DifferentialEvolution(space, 0)
    rows = space.sample(500, 1)
    np.testing.assert_array_equal(algorithm._discrete(algorithm._inside(rows)), rows)
    ends = algorithm._discrete(np.stack([np.zeros(space.length), np.ones(space.length)]))
    np.testing.assert_array_equal(ends, [[0] * space.length, np.asarray(space.cardinalities) - 1])


def test_trials_are_rand_1_bin() -> None:
    """Each coordinate is the target's, or r₁ + F (r₂ − r₃) of one triple of others, or drawn anew where outside."""
    algorithm = DifferentialEvolution("nasbench201", 0, population_size=6, mutation_factor=0.7)
    drive(algorithm, 6)
    points = algorithm._points
    crossed = []
    for trial in (algorithm._trial(2) for _ in range(300)):
        triples = [(a, b, c) for a in range(6) for b in range(6) for c in range(6) if len({a, b, c, 2}) == 4]
        mutants = np.array([points[a] + 0.7 * (points[b] - points[c]) for a, b, c in triples])
        fits = (trial == points[2]) | np.isclose(trial, mutants) | (mutants < 0) | (mutants > 1)
        assert fits.all(axis=1).any()
        crossed.append((trial != points[2]).mean())
        algorithm._seen.clear()
        assert ((trial >= 0) & (trial <= 1)).all()
        assert crossed[-1] > 0
    assert 0.4 < np.mean(crossed) < 0.65  # CR = ½, a little more without trials that change no bin


def test_a_generation_takes_over_when_all_are_told() -> None:
    algorithm = DifferentialEvolution("nasbench201", 0, population_size=5)
    _, start = drive(algorithm, 5)
    np.testing.assert_array_equal(algorithm._values, start)
    before, winners = algorithm._points.copy(), start.copy()
    for target in range(5):
        np.testing.assert_array_equal(algorithm._points, before)
        row = algorithm.ask()
        score = start[target] + (0.0 if target < 2 else 1.0 if target < 4 else -1.0)  # equal ones replace, too
        algorithm.tell(row, [score])
        winners[target] = max(score, start[target])
    np.testing.assert_array_equal(algorithm._values, winners)
    np.testing.assert_array_equal((algorithm._points != before).any(axis=1), [True] * 4 + [False])


def test_differential_evolution_checks_its_parameters() -> None:
    for bad in ({"population_size": 3}, {"mutation_factor": 0.0}, {"crossover_probability": 1.5}):
        with pytest.raises(ValueError, match=f"'{next(iter(bad))}' parameter of DifferentialEvolution must be"):
            DifferentialEvolution("nasbench201", 0, **bad)


@pytest.mark.parametrize("kind", [Evolution, DifferentialEvolution])
def test_a_converged_population_still_finds_new_architectures(kind: type[Algorithm]) -> None:
    """Repeats are free: a search must come to the end of its budget, not of its patience."""
    space = spaces.get("transnas_macro")
    goal = search.ArrayObjective(space, value(space, space.enumerate()))
    result = search.run(kind(space, 0, population_size=5), goal, 600)
    assert result.stopped == "budget"
    assert result.repeats < 200


# -- evolution with proxies -------------------------------------------------------------------


def test_the_first_population_is_the_best_of_the_warm_up() -> None:
    space = spaces.get("nasbench201")
    calls = []

    def watched(rows: np.ndarray) -> np.ndarray:
        calls.append(rows)
        return rugged(rows)

    algorithm = ProxyEvolution(space, 0, score=watched, population_size=10, warm_up=300)
    first = algorithm.ask(10)
    pool = calls[0]
    assert len(calls) == 1
    assert 290 <= len(pool) == len(np.unique(pool, axis=0))
    np.testing.assert_array_equal(rugged(first), np.sort(rugged(pool))[::-1][:10])


def test_children_are_the_best_mutants_and_some_are_random() -> None:
    space = spaces.get("nasbench201")
    table = rugged(space.enumerate())
    algorithm = ProxyEvolution(space, 0, score=table, population_size=1, warm_up=1, random_share=0.25)
    parent = algorithm.ask()
    algorithm.tell(parent, [1.0])
    around = space.neighbors(parent)
    best = around[rugged(around).argmax()]
    children = algorithm.ask(2000)
    share = (children == best).all(axis=1).mean()
    assert share == pytest.approx(0.75 + 0.25 / len(around), abs=0.05)  # 5 standard deviations
    assert len(np.unique(children, axis=0)) == len(around)
    # The best of two different ones of 24 is the best of all for one child in twelve.
    some = ProxyEvolution(space, 0, score=table, population_size=1, warm_up=0, mutants=2, random_share=0.0)
    parent = some.ask()
    some.tell(parent, [1.0])
    around = space.neighbors(parent)
    rank = {row.tobytes(): k for k, row in enumerate(around[np.argsort(rugged(around))])}
    ranks = np.array([rank[row.tobytes()] for row in some.ask(4000)])
    expected = 2 * np.arange(24) / (24 * 23)
    np.testing.assert_allclose(np.bincount(ranks, minlength=24) / 4000, expected, atol=0.023)


def test_undefined_scores_are_the_worst() -> None:
    space = spaces.get("nasbench201")
    algorithm = ProxyEvolution(
        space, 0, score=lambda rows: np.where(rows[:, 0] == 0, np.nan, -1e9), population_size=20, warm_up=100
    )
    assert (algorithm.ask(20)[:, 0] != 0).all()


def test_a_good_proxy_saves_queries() -> None:
    space = spaces.get("nasbench201")
    goal = search.ArrayObjective(space, value(space, space.enumerate()))
    algorithm = ProxyEvolution(space, 0, score=lambda rows: value(space, rows), population_size=10, warm_up=1000)
    assert search.run(algorithm, goal, 40).best_value == 6.0


def test_proxies_by_name() -> None:
    """The default takes no time, so that a loop over all algorithms does not; the published score is a name away."""
    space = spaces.get("nasbench201")
    assert ProxyEvolution(space, 0).score.names == ("params",)
    assert ProxyEvolution(space, 0, score="synflow").score.names == ("synflow",)
    algorithm = ProxyEvolution(space, 0, score=["params", "depth"], population_size=3, warm_up=6)
    first = algorithm.ask(3)
    known = algorithm.score._known
    assert 3 <= len(known) <= 6
    one = ProxyScore(space, "params")
    rows = np.array([[1] * 6, [3] * 6, [2] * 6], dtype=np.int8)
    np.testing.assert_allclose(one(rows), [1 / 3, 1.0, 2 / 3])
    np.testing.assert_allclose(one(rows[1:]), [1.0, 0.5])  # ranks of this call, from what is remembered
    assert algorithm.copy().score is algorithm.score
    assert len(first) == 3


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"score": np.zeros(7)}, r"'score' parameter of ProxyEvolution must be an array of shape \(15625,\)"),
        ({"score": twos, "warm_up": 5}, "'warm_up' parameter of ProxyEvolution must be 0 or an integer ≥"),
        ({"score": twos, "mutants": 0}, "'mutants' parameter of ProxyEvolution must be an integer ≥ 1"),
        ({"score": twos, "random_share": 2.0}, "'random_share' parameter of ProxyEvolution must be in"),
    ],
)
def test_proxy_evolution_checks_its_parameters(bad: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProxyEvolution("nasbench201", 0, **bad)


def test_a_score_of_the_wrong_shape_is_told() -> None:
    algorithm = ProxyEvolution("nasbench201", 0, score=lambda rows: np.zeros((len(rows), 2)))
    with pytest.raises(ValueError, match="'score' function of ProxyEvolution must return"):
        algorithm.ask()
