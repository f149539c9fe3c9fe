"""The default search: its process against a dense one, its choice against a slow one, and what it finds."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from tauzero import benchmarks, search, spaces
from tauzero.search._pool_process import PoolProcess
from tauzero.search.tauzero_search import TauZeroSearch
from tauzero.surrogates._target import TargetTransform

GROUPS = [np.arange(0, 3), np.arange(3, 8)]


def dense(process: PoolProcess, x: np.ndarray, y: np.ndarray, pool: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation by Rasmussen and Williams, eqs. 2.25 and 2.26, as they stand there."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        distance = np.zeros((len(a), len(b)))
        for group, log_weight in zip(process.groups, process.parameters, strict=False):
            gap = a[:, None, group].astype(float) - b[None, :, group]
            distance += np.exp(log_weight) * (gap**2).mean(axis=2)
        r = np.sqrt(5 * distance)
        return process.signal * (1 + r + r**2 / 3) * np.exp(-r)

    t = TargetTransform(process.target).fit_transform(y)
    inverse = np.linalg.inv(kernel(x, x) + (process.noise + 1e-8) * np.eye(len(x)))
    across = kernel(x, pool)
    variance = process.signal - np.einsum("ij,ik,kj->j", across, inverse, across)
    return across.T @ inverse @ t, np.sqrt(variance)


def data(n: int, m: int = 50, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n + m, 8)).astype(np.float32)
    y = np.sin(x[:, 0]) + x[:, 1] + 0.1 * rng.normal(size=n + m)
    return x[:n], y[:n], x[n:]


@pytest.fixture
def process() -> PoolProcess:
    made = PoolProcess(GROUPS, "mixed")
    x, y, _ = data(40)
    made.optimise(x, y, np.random.default_rng(0))
    return made


def made_up(space: spaces.SearchSpace, seed: int = 0) -> np.ndarray:
    """A value per network: additive over genes, some interaction, percent."""
    rng = np.random.default_rng(seed)
    rows = space.canonical(space.enumerate()).astype(int)
    one = rng.normal(size=(space.length, max(space.cardinalities)))
    two = rng.normal(size=(space.length, max(space.cardinalities), max(space.cardinalities)))
    raw = sum(one[k, rows[:, k]] for k in range(space.length))
    raw = raw + 0.5 * sum(two[k, rows[:, k], rows[:, k - 1]] for k in range(space.length))
    return 80 + 2 * raw


# -- the process --------------------------------------------------------------------------------


def test_predictions_are_those_of_a_dense_process_however_they_came_about(process: PoolProcess) -> None:
    x, y, pool = data(40)
    process.condition(x[:30], pool[:20])
    process.add(x[30:33])
    process.extend(pool[20:])
    process.add(x[33:])
    mean, std, best = process.predict(y)
    slow_mean, slow_std = dense(process, x, y, pool)
    np.testing.assert_allclose(mean, slow_mean, atol=2e-4)
    np.testing.assert_allclose(std, slow_std, atol=2e-4)
    assert best == TargetTransform("mixed").fit_transform(y).max()


def test_beliefs_leave_means_and_shrink_deviations_as_a_dense_process_does(process: PoolProcess) -> None:
    x, y, pool = data(40)
    process.condition(x, pool)
    mean, std, _ = process.predict(y)
    process.believe(pool[:4])
    believed_mean, believed_std, _ = process.predict(y)
    np.testing.assert_array_equal(believed_mean, mean)
    wider = np.concatenate([x, pool[:4]])
    _, slow = dense(process, wider, np.arange(44.0), pool)  # deviations do not depend on values
    np.testing.assert_allclose(believed_std, slow, atol=2e-4)
    assert (believed_std[:4] < 0.95 * std[:4]).all()
    process.forget()
    np.testing.assert_allclose(process.predict(y)[1], std, atol=1e-5)


def test_smooth_values_are_the_mean_at_the_training_rows(process: PoolProcess) -> None:
    x, y, pool = data(40)
    process.condition(x, pool)
    np.testing.assert_allclose(process.smooth(y), dense(process, x, y, x)[0], atol=1e-6)


def test_the_parameters_are_a_maximum_of_the_posterior(process: PoolProcess) -> None:
    x, y, _ = data(40)
    t = TargetTransform("mixed").fit_transform(y)
    mean = np.r_[np.log([0.15, 0.15]), 0.5, np.log(0.05)]
    spread = np.r_[1.5, 1.5, 1.0, 1.0]

    def negative(p: np.ndarray) -> float:
        other = PoolProcess(GROUPS, "mixed")
        other.parameters = p
        far = sum(
            np.exp(w) * ((x[:, None, g].astype(float) - x[None, :, g]) ** 2).mean(axis=2)
            for g, w in zip(GROUPS, p, strict=False)
        )
        r = np.sqrt(5 * far)
        covariance = other.signal * (1 + r + r**2 / 3) * np.exp(-r) + (other.noise + 1e-8) * np.eye(len(x))
        likelihood = -0.5 * t @ np.linalg.solve(covariance, t) - 0.5 * np.linalg.slogdet(covariance)[1]
        return float(-likelihood + 0.5 * (((p - mean) / spread) ** 2).sum())

    found = process.parameters
    assert found[0] > found[1] + 1  # the first family carries the signal
    for k in range(len(found)):
        for step in (-0.2, 0.2):
            assert negative(found) < negative(found + step * np.eye(len(found))[k])


# -- the choice ---------------------------------------------------------------------------------


def told(space: str, count: int, values: np.ndarray, seed: int = 0, **params: object) -> TauZeroSearch:
    algorithm = TauZeroSearch(space, seed, **params)
    for _ in range(count):
        rows = algorithm.ask(1)
        algorithm.tell(rows, values[algorithm.space.index(rows)])
    return algorithm


def test_the_next_query_has_the_highest_expected_improvement() -> None:
    """Over every architecture of the space, by a dense process and the textbook formula."""
    space = spaces.get("transnas_macro")
    values = made_up(space)
    algorithm = told("transnas_macro", 25, values, greedy=0)
    chosen = int(space.index(algorithm.ask(1))[0])
    (process,) = algorithm._models
    rows = space.enumerate()
    y = values[space.index(algorithm._rows)]
    mean, std = dense(process, algorithm._features(algorithm._rows), y, algorithm._features(rows))
    best = TargetTransform("mixed").fit_transform(y).max()
    total = np.sqrt(std**2 + process.noise)
    gain = (mean - best) * norm.cdf((mean - best) / total) + total * norm.pdf((mean - best) / total)
    gain[space.index(algorithm._rows)] = -1
    assert gain[chosen] == pytest.approx(gain.max(), rel=2e-3)
    assert gain.max() > 2 * np.sort(gain)[-100]


class Score:
    """A stand-in for a surrogate of another data set."""

    def __init__(self, space: spaces.SearchSpace) -> None:
        self.weights = np.random.default_rng(3).random(space.length)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return rows @ self.weights


@pytest.mark.parametrize("name", ["nasbench201", "nasbench101"])
def test_with_transfer_two_in_three_of_the_first_are_those_it_predicts_best(name: str) -> None:
    space, score = spaces.get(name), Score(spaces.get(name))
    algorithm = TauZeroSearch(space, 0, initial=9, transfer=score)
    rows = np.concatenate([algorithm.ask(4), algorithm.ask(5)])
    assert len(np.unique(space.index(rows))) == 9
    led, lucky = rows[[0, 1, 3, 4, 6, 7]], rows[[2, 5, 8]]
    everything = np.sort(score.predict(space.enumerate()))[::-1]
    if name == "nasbench201":  # candidates are the whole space
        np.testing.assert_allclose(np.sort(score.predict(led))[::-1], everything[:6], rtol=1e-6)
    else:  # each is the best of 4,000 draws: among the first percent
        assert score.predict(led).min() > everything[len(everything) // 100]
    assert score.predict(lucky).mean() < score.predict(led).min()


def test_greedy_queries_have_the_highest_mean() -> None:
    space = spaces.get("transnas_macro")
    values = made_up(space)
    # From three times the initial architectures on, here 24, every second query is greedy: 26 is, 27 is not.
    algorithm = told("transnas_macro", 25, values, greedy=0.5, initial=8)
    (process,) = algorithm._models
    for turn in (True, False):
        row = algorithm.ask(1)
        seen = space.index(algorithm._rows)
        mean, _ = dense(
            process, algorithm._features(algorithm._rows), values[seen], algorithm._features(space.enumerate())
        )
        mean[seen] = -np.inf
        assert (mean[space.index(row)[0]] > mean.max() - 1e-3) == turn
        algorithm.tell(row, values[space.index(row)])


def test_two_in_three_of_the_first_are_large() -> None:
    space = spaces.get("nasbench201")
    column = space.descriptor_names.index("log_parameters")
    sizes = np.sort(space.descriptors(space.enumerate())[:, column])
    share = [
        np.searchsorted(sizes, space.descriptors(TauZeroSearch(space, seed, initial=9).ask(9))[:, column]) / len(sizes)
        for seed in range(20)
    ]
    third = np.arange(9) % 3 == 2
    assert np.mean(np.array(share)[:, ~third]) > 0.8
    assert np.mean(np.array(share)[:, third]) < 0.65
    uniform = [TauZeroSearch(space, seed, initial=9, large=1).ask(9) for seed in range(20)]
    assert space.descriptors(np.concatenate(uniform))[:, column].mean() < np.quantile(sizes, 0.7)


def test_what_is_asked_in_a_batch_or_waits_is_asked_once() -> None:
    space = spaces.get("transnas_macro")
    algorithm = told("transnas_macro", 20, made_up(space))
    first, second = algorithm.ask(6), algorithm.ask(6)
    assert len(np.unique(np.concatenate([first, second, algorithm._rows[:20]]), axis=0)) == 32
    twin = pickle.loads(pickle.dumps(algorithm))
    np.testing.assert_array_equal(algorithm.ask(3), twin.ask(3))


def test_equal_networks_are_asked_for_again_only_if_their_values_differ() -> None:
    """A table trains each string: of the best network all strings matter, until two agree exactly."""
    space = spaces.get("nasbench201")
    network = space.index(space.canonical(space.enumerate()))
    members = np.bincount(network, minlength=space.size)
    # Few networks of many strings are good: whoever exploits meets equal networks at once.
    rng = np.random.default_rng(0)
    same = np.where(members[network] > 20, 90.0, 70.0) + made_up(space) * 0.01
    differ = same + rng.normal(0, 0.5, space.size)
    repeats = {}
    for label, values in (("same", same), ("differ", differ)):
        algorithm = told("nasbench201", 45, values, large=1)
        asked = network[space.index(algorithm._rows)]
        repeats[label] = len(asked) - len(np.unique(asked))
        assert algorithm._equal_networks_agree() == (label == "same")
    assert repeats["same"] == 1
    assert repeats["differ"] > 5


def test_nothing_is_left_of_an_exhausted_space() -> None:
    space = spaces.get("transnas_macro")
    algorithm = told("transnas_macro", 12, made_up(space))
    algorithm.ask(1)
    assert algorithm._next_of_all(space.enumerate()).shape == (0, space.length)


# -- what it finds ------------------------------------------------------------------------------


def test_beats_random_search_and_evolution() -> None:
    space = spaces.get("transnas_macro")
    goal = search.ArrayObjective(space, made_up(space))
    spread = goal.table.std()
    final = {
        name: np.mean([search.run(name, goal, 40, seed).best_value for seed in range(5)])
        for name in ("tauzero", "random_search", "regularized_evolution")
    }
    assert final["tauzero"] > max(final["random_search"], final["regularized_evolution"]) + 0.1 * spread


def test_finds_the_best_of_a_real_table(nasbench201_store: Path) -> None:
    goal = search.TableObjective(benchmarks.load("nasbench201", nasbench201_store), "cifar10")
    found = [search.run("tauzero", goal, 64, seed).best_value == goal.optimum for seed in range(5)]
    assert sum(found) >= 4


def test_climbs_in_a_space_that_cannot_be_listed() -> None:
    """DARTS: more convolutions than any of four times as many random architectures has."""
    space = spaces.get("darts")
    columns = [space.descriptor_names.index(f"{cell}_convolutions") for cell in ("normal", "reduce")]

    def value(rows: np.ndarray) -> np.ndarray:
        return space.descriptors(rows)[:, columns].sum(axis=1)

    algorithm = TauZeroSearch(space, 0, pool=100, initial=6, large=1, refit=10)
    for _ in range(26):
        rows = algorithm.ask(1)
        algorithm.tell(rows, value(rows))
    assert len(np.unique(space.canonical(algorithm._rows), axis=0)) == 26
    assert algorithm._values.max() > value(space.sample(100, 0)).max()


def test_the_recommended_is_better_than_the_luckiest() -> None:
    space = spaces.get("transnas_macro")
    descriptors = space.descriptors(space.enumerate())
    truth = 80 + 3 * (descriptors / descriptors.std(axis=0)).sum(axis=1)
    regrets = []
    for seed in range(10):
        noisy = truth + np.random.default_rng(seed).normal(0, truth.std(), space.size)
        algorithm = TauZeroSearch(space, seed, initial=80, large=1)
        rows = algorithm.ask(80)
        algorithm.tell(rows, noisy[space.index(rows)])
        answers = np.stack([rows[noisy[space.index(rows)].argmax()], algorithm.recommend()])
        regrets.append(truth.max() - truth[space.index(answers)])
    lucky, recommended = np.mean(regrets, axis=0)
    assert recommended < lucky - 0.1 * truth.std()
    with pytest.raises(RuntimeError, match="before any value was told"):
        TauZeroSearch(space, 0).recommend()


def test_scores_that_know_the_answer_are_used() -> None:
    """A function that no graph feature shows: found at once with a score, or a surrogate, that goes with it."""
    space = spaces.get("transnas_macro")
    values = 80 + np.random.default_rng(0).normal(size=space.size)

    class Oracle:
        def predict(self, rows: np.ndarray) -> np.ndarray:
            return np.exp(values[space.index(rows)] / 10)

    def best(**params: object) -> float:
        return float(told("transnas_macro", 20, values, **params)._values.max())

    table = {"index": np.arange(space.size), "score": values**3}
    assert best(transfer=Oracle()) == values.max()
    assert best(proxies=table) == values.max()
    assert best() < values.max()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"initial": 1}, "'initial' parameter of TauZeroSearch must be an integer ≥ 2"),
        ({"large": 0}, "'large' parameter"),
        ({"greedy": 1.5}, "'greedy' parameter of TauZeroSearch must be a number from 0 to 1"),
        ({"refit": 0}, "'refit' parameter"),
        ({"pool": 10}, "'pool' parameter of TauZeroSearch must be an integer ≥ 100"),
        ({"max_rows": 1.5}, "'max_rows' parameter"),
        ({"targets": ()}, "'targets' parameter"),
        ({"targets": "mixed"}, "'targets' parameter"),
        ({"targets": ("mix",)}, "Did you mean 'mixed'"),
        ({"transfer": 3}, "'transfer' parameter"),
    ],
)
def test_bad_parameters(params: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TauZeroSearch("nasbench201", 0, **params)
