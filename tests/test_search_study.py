"""Studies: each figure against a slow second implementation, equal queries, and the same result after any stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy.stats import rankdata, wilcoxon
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression
from study_helpers import LINEAR, NOISE, ROWS, SECONDS, SPACE, TEST, toy_benchmark

from tauzero import search
from tauzero.benchmarks._folder_lock import FolderInUseError
from tauzero.search import StudyResult, _registry, _study_figures, _study_trial
from tauzero.search._study_folder import StudyFolder
from tauzero.search._study_sources import read_scores
from tauzero.search._study_trial import Outcomes, Trials, TrialWork
from tauzero.spaces import BenchmarkFormatError

BOTH = ["random_search", "regularized_evolution"]
TABLE = toy_benchmark()
WHOLE: dict[str, Any] = {
    "trials": 4,
    "budget": 20,
    "train": 8,
    "surrogate": LinearRegression(),
    "predicted_budget": 60,
    "proxies": ["size"],
    "proxy_table": {"index": np.arange(SPACE.size), "size": (SPACE.canonical(ROWS) == 3).sum(axis=1)},
    "workers": 1,
}


def studied(out: Path, algorithms: Any = BOTH, objectives: Any = "table", table: Any = TABLE, **options: Any) -> Any:
    return search.study(table, algorithms, objectives, out=out, **{**WHOLE, **options})


def frames(result: StudyResult) -> list[pd.DataFrame]:
    """All frames without what a stopwatch said."""
    return [result.trials.drop(columns="wall_s"), result.curves, result.tests, result.gains]


def assert_same(a: StudyResult, b: StudyResult) -> None:
    for left, right in zip(frames(a), frames(b), strict=True):
        pd.testing.assert_frame_equal(left, right, check_exact=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    return studied(tmp_path_factory.mktemp("study") / "whole", BOTH, ["table", "surrogate", "proxy"])


# -- trials -----------------------------------------------------------------------------------


def test_look_up_is_the_search_of_that_seed(whole: StudyResult) -> None:
    objective = search.TableObjective(TABLE)
    for row in whole.trials[whole.trials["objective"] == "table"].to_dict("records"):
        expected = search.run(row["algorithm"], objective, 20, row["trial"])
        found = whole.trajectory("table", row["algorithm"], row["trial"])
        for name in ("genotypes", "index", "values", "seconds", "epochs"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        best = int(expected.index[expected.best_position])
        assert row["index"] == best
        assert row["arch"] == SPACE.to_string(ROWS[[best]])[0]
        assert row["value"] == row["validation_accuracy"] == LINEAR[best]
        assert row["test_accuracy"] == TEST[best]
        assert row["regret"] == LINEAR.max() - LINEAR[best]
        assert row["test_regret"] == TEST.max() - TEST[best]
        assert row["simulated_s"] == pytest.approx(SECONDS[expected.index].sum())
        assert (row["queries"], row["true_queries"], row["repeats"]) == (20, 20, expected.repeats)
        assert row["stopped"] == "budget"
    assert whole.optimum == LINEAR.max()
    assert len(whole.trials) == 3 * 2 * 4


def test_predictions_and_scores_spend_the_same_true_queries(whole: StudyResult) -> None:
    assert set(whole.trials["true_queries"]) == {20}
    labels = SPACE.classes()
    size = WHOLE["proxy_table"]["size"]
    for trial in range(4):
        trained = [whole.trajectory("surrogate", name, trial).index[:8] for name in BOTH]
        np.testing.assert_array_equal(*trained)  # one surrogate for all algorithms of a trial
        model = LinearRegression().fit(ROWS[trained[0]], LINEAR[trained[0]])
        for name in BOTH:
            # The whole way once more: search over all predictions, then the best new ones by a loop.
            for objective, known, values in (
                ("surrogate", trained[0].tolist(), model.predict(ROWS)),
                ("proxy", [], (rankdata(size) - 0.5) / SPACE.size * 100),
            ):
                found = whole.trajectory(objective, name, trial)
                way = search.run(name, search.ArrayObjective(SPACE, values), 60, trial)
                seen, wanted = {labels[k] for k in known}, list(known)
                order = sorted(range(60), key=lambda k, way=way: -_at(way, k))
                for k in way.index[order]:
                    if labels[k] not in seen and len(wanted) < 20:
                        seen.add(labels[k])
                        wanted.append(int(k))
                assert len(wanted) == 20
                assert found.index.tolist() == wanted
                np.testing.assert_array_equal(found.values, LINEAR[wanted])
                np.testing.assert_array_equal(found.seconds, SECONDS[wanted])
                row = whole.trials.query("objective == @objective and algorithm == @name and trial == @trial").iloc[0]
                assert row["regret"] == LINEAR.max() - LINEAR[wanted].max()
                assert row["queries"] == 60
    phases = pq.read_table(whole.folder / "trials/surrogate-random_search", partitioning=None)["phase"].to_pylist()
    assert phases == (["train"] * 8 + ["verify"] * 12) * 4


def _at(way: search.Trajectory, query: int) -> float:
    column = way.values  # noqa: PD011 - no pandas here
    return float(column[query])


def test_test_accuracy_is_never_looked_at(whole: StudyResult, tmp_path: Path) -> None:
    other = studied(tmp_path / "s", BOTH, ["table", "surrogate", "proxy"], table=toy_benchmark(TEST[::-1].copy()))
    kept = ["index", "regret", "value", "true_queries"]
    pd.testing.assert_frame_equal(whole.trials[kept], other.trials[kept])
    assert not whole.trials["test_accuracy"].equals(other.trials["test_accuracy"])


def test_one_noisy_run_as_the_signal_is_judged_by_the_mean(tmp_path: Path) -> None:
    result = studied(tmp_path / "s", signal=0)
    noisy = search.TableObjective(TABLE, seed=0)
    for row in result.trials.to_dict("records"):
        best = search.run(row["algorithm"], noisy, 20, row["trial"])
        chosen = int(best.index[best.best_position])
        assert row["value"] == (LINEAR + NOISE)[chosen]
        assert row["regret"] == LINEAR.max() - LINEAR[chosen]
    assert result.optimum == LINEAR.max()
    short = studied(tmp_path / "short", epoch=12)
    assert short.trials["value"][0] == (LINEAR / 2 + NOISE)[short.trials["index"][0]]
    assert short.trials["simulated_s"].max() < 20 * 15


def test_without_queries_left_the_best_prediction_is_chosen(tmp_path: Path) -> None:
    result = studied(tmp_path / "s", ["random_search"], "surrogate", budget=8, train=8, trials=3)
    for row in result.trials.to_dict("records"):
        known = result.trajectory("surrogate", "random_search", row["trial"]).index
        assert len(known) == 8
        model = LinearRegression().fit(ROWS[known], LINEAR[known])
        way = search.run("random_search", search.ArrayObjective(SPACE, model.predict(ROWS)), 60, row["trial"])
        assert row["index"] == way.index[way.best_position]
        assert row["index"] not in known
        assert np.isnan(row["value"])
        assert row["regret"] == LINEAR.max() - LINEAR[row["index"]]
    last = result.curves.query("axis == 'queries'").iloc[-1]
    assert last["mean"] == pytest.approx(result.trials["regret"].mean())


def test_simulated_seconds_limit_all_ways(tmp_path: Path) -> None:
    result = studied(tmp_path / "s", BOTH, ["table", "surrogate", "proxy"], budget=None, seconds=1_500.0, train=5)
    assert set(result.trials["stopped"]) == {"seconds"}
    assert (result.trials["simulated_s"] <= 1_500).all()
    for row in result.trials.to_dict("records"):
        found = result.trajectory(row["objective"], row["algorithm"], row["trial"])
        if row["objective"] == "table":
            expected = search.run(row["algorithm"], search.TableObjective(TABLE), seed=row["trial"], seconds=1_500.0)
            np.testing.assert_array_equal(found.index, expected.index)
        assert found.simulated_seconds + 149 > 1_500  # nothing that costs at most 149 s would have fitted in


def test_a_space_smaller_than_the_budget_and_repeats(tmp_path: Path) -> None:
    result = studied(tmp_path / "all", ["random_search"], budget=20_000, trials=1)
    (row,) = result.trials.to_dict("records")
    assert (row["stopped"], row["true_queries"], row["regret"]) == ("exhausted", SPACE.size, 0.0)
    assert len(result.curves.query("axis == 'queries'")) == 300
    few = studied(
        tmp_path / "few", ["regularized_evolution"], trials=2, budget=60,
        params={"regularized_evolution": {"population_size": 3, "sample_size": 3}},
    )  # fmt: skip
    assert (few.trials["repeats"] > 0).all()  # counted apart, and free
    assert (few.trials["true_queries"] == 60).all()
    # A search on predictions that has nothing left to verify says so.
    short = studied(
        tmp_path / "short", ["regularized_evolution"], "proxy", trials=1, budget=60, predicted_budget=60,
        params={"regularized_evolution": {"population_size": 3, "sample_size": 3}},
    )  # fmt: skip
    assert short.trials["true_queries"][0] == short.trials["queries"][0] == 60


# -- frames -----------------------------------------------------------------------------------


def test_curves_against_loops(whole: StudyResult) -> None:
    for (objective, algorithm, axis), some in whole.curves.groupby(["objective", "algorithm", "axis"]):
        ways = [whole.trajectory(objective, algorithm, trial) for trial in range(4)]
        assert some["x"].is_monotonic_increasing
        assert set(some["trials"]) == {4}
        if axis == "queries":
            assert some["x"].tolist() == list(range(1, 21))
        else:
            assert some["x"].iloc[0] >= max(way.seconds[0] for way in ways)
            assert some["x"].iloc[-1] == max(way.simulated_seconds for way in ways)
        for row in some.iloc[:: 7 if axis == "queries" else 31].to_dict("records"):
            regrets, tests = [], []
            for way in ways:
                clock = np.cumsum(way.seconds)
                done = int(row["x"]) if axis == "queries" else int((clock <= row["x"]).sum())
                best = max(range(done), key=lambda k, way=way: _at(way, k))
                regrets.append(LINEAR.max() - LINEAR[way.index[best]])
                tests.append(TEST[way.index[best]])
            assert row["mean"] == pytest.approx(np.mean(regrets))
            assert row["std"] == pytest.approx(np.std(regrets, ddof=1))
            for name, q in (("q10", 0.1), ("q25", 0.25), ("median", 0.5), ("q75", 0.75), ("q90", 0.9)):
                assert row[name] == pytest.approx(np.quantile(regrets, q))
            assert row["test_mean"] == pytest.approx(np.mean(tests))
            assert row["test_std"] == pytest.approx(np.std(tests, ddof=1))


def test_paired_tests_and_gains(tmp_path: Path) -> None:
    result = studied(tmp_path / "s", [*BOTH, "local_search"], ["table", "surrogate"], trials=9, surrogate=_forest())
    final = {key: some["regret"].to_numpy() for key, some in result.trials.groupby(["objective", "algorithm"])}
    assert len(result.tests) == 2 * 3
    p_values = []
    for row in result.tests.to_dict("records"):
        a, b = (final[row["objective"], row[name]] for name in ("algorithm_a", "algorithm_b"))
        assert row["trials"] == 9
        assert row["mean_difference"] == pytest.approx((a - b).mean())
        assert (row["wins"], row["ties"], row["losses"]) == ((a < b).sum(), (a == b).sum(), (a > b).sum())
        difference = np.round(a - b, 9)
        expected = wilcoxon(difference).pvalue if difference.any() else 1.0
        assert row["p_value"] == pytest.approx(expected)
        p_values.append(row["p_value"])
    assert result.tests["p_adjusted"].tolist() == pytest.approx(_slow_holm(p_values))
    assert sorted(result.gains["algorithm"]) == sorted([*BOTH, "local_search"])
    for row in result.gains.to_dict("records"):
        gain = final["table", row["algorithm"]] - final["surrogate", row["algorithm"]]
        assert row["objective"] == "surrogate"
        assert row["mean_gain"] == pytest.approx(gain.mean())
        assert row["std"] == pytest.approx(gain.std(ddof=1))
    winner = result.winners()["table"]
    means = {name: final["table", name].mean() for name in [*BOTH, "local_search"]}
    assert winner["algorithm"] == min(means, key=lambda name: means[name])
    summary = result.summary()
    assert summary["regret_mean"].tolist() == pytest.approx([final[key].mean() for key in _keys(summary)])
    assert summary["regret_q90"].tolist() == pytest.approx([np.quantile(final[key], 0.9) for key in _keys(summary)])


def _forest() -> Any:
    return RandomForestRegressor(5, random_state=0)


def _keys(summary: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(summary["objective"], summary["algorithm"], strict=True))


def _slow_holm(p: list[float]) -> list[float]:
    """Holm's definition: reject in order while p ≤ α / (number left); the adjusted p is the least such α."""
    return [min(1.0, max((sum(q >= r for q in p)) * r for r in p if r <= own)) for own in p]


def test_holm_and_signs() -> None:
    # Holm 1979: with 0.01, 0.04, 0.03 the factors are 3, 1, 2, and the sequence may not fall.
    assert _study_figures.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert _study_figures.holm([]) == []
    assert _study_figures.holm([0.9, 0.8]) == [1.0, 1.0]
    assert _study_figures.paired(np.zeros(5)) == 1.0
    # Six differences of one sign: two of the 2**6 signings are as extreme.
    assert _study_figures.paired(np.arange(1.0, 7.0)) == pytest.approx(2 / 64)


def test_columns_are_a_contract(whole: StudyResult) -> None:
    assert whole.trials.columns.tolist() == [
        "objective", "algorithm", "trial", "queries", "true_queries", "repeats", "simulated_s", "wall_s", "stopped",
        "index", "arch", "value", "validation_accuracy", "test_accuracy", "regret", "test_regret",
    ]  # fmt: skip
    assert whole.curves.columns.tolist() == [
        "objective", "algorithm", "axis", "x", "trials", "mean", "std", "q10", "q25", "median", "q75", "q90",
        "test_mean", "test_std",
    ]  # fmt: skip
    assert whole.tests.columns.tolist() == [
        "objective", "algorithm_a", "algorithm_b", "trials", "mean_difference", "p_value", "p_adjusted", "wins", "ties",
        "losses",
    ]  # fmt: skip
    assert whole.gains.columns.tolist() == [
        "algorithm", "objective", "trials", "mean_gain", "std", "p_value", "p_adjusted",
    ]  # fmt: skip
    loaded = StudyResult.load(whole.folder)
    assert_same(loaded, whole)
    assert loaded.facts == whole.facts == {**json.loads((whole.folder / "study.json").read_text()), "finished": True}
    assert (loaded.facts["format"], loaded.facts["version"]) == ("tauzero.study", 1)


def test_few_files(whole: StudyResult) -> None:
    inside = [path.relative_to(whole.folder).as_posix() for path in whole.folder.rglob("*") if path.is_file()]
    assert len(inside) == 1 + 4 + 3 * 2


# -- who takes part ---------------------------------------------------------------------------


class _Short(search.MultiFidelityAlgorithm):
    """Random architectures at alternating budgets."""

    name = "short"

    def _propose_at(self, n: int) -> Any:
        return self.space.sample(n, self._rng), np.resize(np.array(self.fidelities), n)

    def _observe_at(self, genotypes: Any, epochs: Any, values: Any) -> None:
        pass


class _Weighing(search.RandomSearch):
    """Takes costs."""

    name = "weighing"
    multi_objective = True


def test_all_takes_those_that_fit_and_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {name: _registry._ALGORITHMS[name] for name in (*BOTH, "proxy_evolution")}
    monkeypatch.setattr(_registry, "_ALGORITHMS", {**known, "short": _Short, "weighing": _Weighing})
    options = {"trials": 2, "budget": 10, "train": 4}
    result = studied(tmp_path / "a", "all", ["table", "surrogate"], proxies=(), proxy_table=None, **options)
    took = {(entry["objective"], entry["algorithm"]) for entry in result.facts["plan"]}
    assert took == {("table", "short"), *((o, name) for o in ("table", "surrogate") for name in BOTH)}
    reasons = {(e["objective"], e["algorithm"]): e["reason"] for e in result.facts["left_out"]}
    assert "weighs accuracy against costs" in reasons["table", "weighing"]
    assert "training budgets" in reasons["surrogate", "short"]
    assert "thousands of untrained networks" in reasons["table", "proxy_evolution"]
    epochs = result.trajectory("table", "short", 0).epochs
    assert set(epochs) <= {12, 200}
    # With scores at hand evolution by proxies takes part; a table of one budget leaves the other out.
    scored = studied(tmp_path / "b", "all", table=toy_benchmark(short=False), **options)
    assert {entry["algorithm"] for entry in scored.facts["plan"]} == {*BOTH, "proxy_evolution"}
    first = scored.trajectory("table", "proxy_evolution", 0).genotypes[:5]
    assert ((first == 3).sum(axis=1) >= 4).all()  # the best by the score of 3,000 random ones
    with pytest.raises(ValueError, match=r"'weighing' cannot take part .* costs"):
        studied(tmp_path / "c", ["weighing"], **options)
    assert not (tmp_path / "c").exists()


@pytest.mark.slow
def test_transfer_is_refused_from_the_judging_table_and_marked_from_others(tmp_path: Path) -> None:
    params = {"tauzero": {"transfer": "nasbench201-cifar100"}}
    options = {"trials": 1, "budget": 4, "params": params}
    same = toy_benchmark(name="nasbench201", dataset="cifar100")
    with pytest.raises(ValueError, match=r"trained on nasbench201/cifar100, the very table"):
        studied(tmp_path / "a", ["tauzero"], table=same, **options)
    other = toy_benchmark(name="nasbench201", dataset="cifar10")
    result = studied(tmp_path / "b", ["tauzero"], table=other, **options)
    assert result.facts["transfer"] == {"tauzero": ["nasbench201/cifar100"]}
    assert "With transfer: tauzero starts from weights trained on nasbench201/cifar100." in result.facts["notes"]
    with pytest.raises(ValueError, match=r"'surrogate' starts from, 'multi-space', was trained on nasbench201/cifar10"):
        studied(tmp_path / "c", BOTH, "surrogate", table=other, surrogate="transfer")
    with pytest.raises(ValueError, match="fitted on the random look-ups of each trial"):
        studied(tmp_path / "c", BOTH, "surrogate", surrogate="nasbench201-cifar10")
    assert not (tmp_path / "c").exists()


def test_scores_of_a_table() -> None:
    rng = np.random.default_rng(1)
    good, bad = rng.normal(size=SPACE.size), rng.normal(size=SPACE.size)
    canonical = SPACE.index(SPACE.canonical(ROWS))
    good, bad = good[canonical], bad[canonical]  # equal networks have equal scores
    frame = pd.DataFrame({"index": np.arange(SPACE.size), "good": good, "bad": bad})
    values, columns, notes = read_scores(SPACE, frame, ["good", "-bad"])
    ranks = [(rankdata(scores) - 0.5) / SPACE.size * 100 for scores in (good, -bad)]
    np.testing.assert_allclose(values, np.mean(ranks, axis=0))
    assert (columns, notes) == (["good", "-bad"], [])
    some = frame[SPACE.classes() > 5]
    values, _, notes = read_scores(SPACE, some.assign(ntk_condition=-some["good"]), ["ntk_condition"])
    missing = SPACE.classes() <= 5
    assert values[missing].max() < values[~missing].min()
    assert "lack scores" in notes[0]
    assert np.argmax(values) == np.argmax(np.where(missing, -np.inf, good))  # tauzero knows that it is to be low


def test_proxies_are_scored_on_demand(tmp_path: Path) -> None:
    from tauzero import networks

    options = {"proxies": "params", "proxy_table": None, "trials": 2, "budget": 5, "predicted_budget": 30}
    result = studied(tmp_path / "s", ["random_search"], "proxy", **options)
    params = networks.count_parameters(SPACE, ROWS)
    for trial in range(2):
        found = result.trajectory("proxy", "random_search", trial)
        assert (np.diff(params[found.index]) <= 0).all()
        asked = search.run("random_search", search.ArrayObjective(SPACE, params), 30, trial)
        assert params[found.index[0]] == asked.best_value


def test_evolution_by_proxies_shares_its_scores(tmp_path: Path) -> None:
    params = {"proxy_evolution": {"warm_up": 64, "population_size": 8}}
    options = {"proxies": "params", "proxy_table": None, "params": params, "trials": 2, "budget": 10}
    result = studied(tmp_path / "s", ["proxy_evolution"], **options)
    for trial in range(2):
        alone = search.run(
            "proxy_evolution",
            search.TableObjective(TABLE),
            10,
            trial,
            params={**params["proxy_evolution"], "score": "params"},
        )
        np.testing.assert_array_equal(result.trajectory("table", "proxy_evolution", trial).index, alone.index)
    with pytest.raises(ValueError, match="parameters of proxy_evolution was"):  # by other scores it is another search
        studied(tmp_path / "s", ["proxy_evolution"], **{**options, "proxies": "flops"})


# -- going on ---------------------------------------------------------------------------------


class Counting:
    """Counts trials, and may stop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.real = _study_trial.Bench.trial
        self.ran: list[tuple[str, str, int]] = []
        self.stop_after: int | None = None
        counting = self

        def trial(bench: Any, *arguments: Any) -> Any:
            return counting(bench, *arguments)

        monkeypatch.setattr(_study_trial.Bench, "trial", trial)

    def __call__(self, bench: Any, objective: str, algorithms: Any, trial: int) -> Any:
        if self.stop_after is not None and len(self.ran) >= self.stop_after:
            raise KeyboardInterrupt
        self.ran += [(objective, name, trial) for name in algorithms]
        return self.real(bench, objective, algorithms, trial)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    return Counting(monkeypatch)


@pytest.mark.parametrize("stop_after", [1, 7, 14, 20])
def test_an_interrupted_study_goes_on(whole: StudyResult, tmp_path: Path, counting: Counting, stop_after: int) -> None:
    everything = ["table", "surrogate", "proxy"]
    counting.stop_after = stop_after
    with pytest.raises(KeyboardInterrupt):
        studied(tmp_path / "s", BOTH, everything)
    with pytest.raises(BenchmarkFormatError, match="not been finished"):
        StudyResult.load(tmp_path / "s")
    before = set(counting.ran)
    counting.ran, counting.stop_after = [], None
    seen: list[tuple[int, int]] = []
    result = studied(tmp_path / "s", BOTH, everything, progress=lambda done, total: seen.append((done, total)))
    lost = before & set(counting.ran)  # of a task that was not finished
    assert len(lost) <= 2
    assert len(before | set(counting.ran)) == 24
    assert seen[0] == (len(before) - len(lost), 24)
    assert seen[-1] == (24, 24)
    assert_same(result, whole)
    assert {p.name for p in result.folder.iterdir()} == {p.name for p in whole.folder.iterdir()}


def test_more_trials_algorithms_and_objectives_extend(whole: StudyResult, tmp_path: Path, counting: Counting) -> None:
    out = tmp_path / "s"
    studied(out, ["random_search"], "table", trials=2)
    counting.ran = []
    studied(out, BOTH, "table")
    assert set(counting.ran) == {("table", name, t) for name in BOTH for t in range(4)} - {
        ("table", "random_search", t) for t in range(2)
    }
    counting.ran = []
    fewer = studied(out, BOTH, ["surrogate", "proxy"], trials=1)
    assert {objective for objective, _, _ in counting.ran} == {"surrogate", "proxy"}
    assert fewer.trials.groupby("objective").size().to_dict() == {"table": 8, "surrogate": 2, "proxy": 2}
    assert fewer.gains["trials"].tolist() == [1] * 4
    again = studied(out, BOTH, ["table", "surrogate", "proxy"])
    assert_same(again, whole)
    counting.ran = []
    fewer = studied(out, ["random_search"], trials=1)  # nothing shrinks
    assert counting.ran == []
    assert_same(fewer, whole)
    assert len(list(out.rglob("*.parquet"))) == 4 + 6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"budget": 21}, "budget was 20, now it is 21"),
        ({"signal": 0}, 'signal was "mean", now it is 0'),
        ({"epoch": 12}, "epoch was null, now it is 12"),
        ({"train": 9}, "surrogate: train was 8, now it is 9"),
        ({"kind": "ucb"}, 'surrogate: kind was "mean", now it is "ucb"'),
        ({"surrogate": LinearRegression(positive=True)}, "surrogate: surrogate_params was"),
        ({"predicted_budget": 61}, "surrogate: predicted_budget was 60"),
        ({"proxies": ["-size"]}, "proxy: proxies was"),
        ({"params": {"random_search": {"replace": True}}}, "parameters of random_search was"),
        ({"table": toy_benchmark(short=False)}, None),
    ],
)
def test_other_settings_are_refused_by_name(whole: StudyResult, options: dict[str, Any], words: str | None) -> None:
    before = {path: path.read_bytes() for path in whole.folder.rglob("*") if path.is_file()}
    arguments = {"out": whole.folder, "objectives": ["table", "surrogate", "proxy"], **options}
    if words is None:
        studied(**arguments)  # what no search sees may be missing
    else:
        with pytest.raises(ValueError, match=words):
            studied(**arguments)
        assert {path: path.read_bytes() for path in whole.folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"budget": 0}, "'budget' argument"),
        ({"budget": None}, "needs a budget"),
        ({"budget": None, "seconds": -1.0}, "'seconds' argument"),
        ({"trials": 0}, "number of trials ≥ 1"),
        ({"objectives": "guess"}, "objective of a study 'guess'"),
        ({"algorithms": ["guess"]}, "search algorithm 'guess'"),
        ({"algorithms": []}, "at least one"),
        ({"params": {"guess": {}}}, "search algorithm 'guess'"),
        ({"objectives": "surrogate", "train": 21}, "training rows are looked up, and count"),
        ({"objectives": "surrogate", "surrogate": "guess"}, "surrogate 'guess'"),
        ({"objectives": "surrogate", "kind": "guess"}, "'guess'"),
        ({"objectives": "proxy", "predicted_budget": 19}, "at least 20"),
        ({"objectives": "proxy", "proxies": ["guess"]}, "'guess'"),
        ({"objectives": "proxy", "proxy_table": None, "proxies": ["guess"]}, "'guess'"),
        ({"engine": "threads"}, "'local', 'ray'"),
        ({"workers": 0}, "'workers'"),
        ({"address": "auto"}, "engine='ray'"),
        ({"batch_size": 0}, "'batch_size'"),
        ({"signal": 5}, "run 5"),
        ({"dataset": "mnist"}, "'mnist'"),
    ],
)
def test_wrong_arguments_leave_no_folder(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        studied(tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()


def test_wrong_parameters_of_an_algorithm_name_the_trial(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"parameters \['colour'\] do not fit .*trial 0 of random_search"):
        studied(tmp_path / "s", ["random_search"], params={"random_search": {"colour": 1}})


def test_damage_is_reported_and_can_be_repaired(whole: StudyResult, tmp_path: Path) -> None:
    out = tmp_path / "s"
    studied(out, BOTH, ["table", "surrogate", "proxy"])
    part = next(out.glob("trials/table-random_search/*"))
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(BenchmarkFormatError, match="delete it, and its trials are run again"):
        studied(out)
    part.unlink()
    (out / "curves.parquet").write_bytes(b"PAR1")
    with pytest.raises(BenchmarkFormatError, match="damaged"):
        StudyResult.load(out)
    assert_same(studied(out), whole)
    (out / "study.json").write_text("{", encoding="utf-8")
    with pytest.raises(BenchmarkFormatError, match="damaged"):
        studied(out)
    (out / "study.json").unlink()
    with pytest.raises(ValueError, match=r"no study.json"):
        studied(out)
    with pytest.raises(FileNotFoundError, match="no folder of a study"):
        StudyResult.load(out)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(OSError, match="must be a folder"):
        studied(file)


def test_one_study_at_a_time(tmp_path: Path) -> None:
    with StudyFolder(tmp_path), pytest.raises(FolderInUseError, match=f"Another study .*process {os.getpid()} "):
        studied(tmp_path)
    assert list(tmp_path.iterdir()) == []


# -- workers ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_several_processes_give_the_same(whole: StudyResult, tmp_path: Path) -> None:
    two = studied(tmp_path / "two", BOTH, ["table", "surrogate", "proxy"], workers=2)
    assert_same(two, whole)
    for name in ("curves", "tests", "gains"):
        assert (two.folder / f"{name}.parquet").read_bytes() == (whole.folder / f"{name}.parquet").read_bytes()


def test_long_tasks_are_divided_and_lost_ones_are_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_study_trial, "_BOX", 0.0)
    work = TrialWork(_design())
    tasks = [Trials("table", ("random_search",), tuple(range(5)))]
    ran = []
    while tasks:
        outcomes: Outcomes = work.do(tasks.pop())
        ran += [outcome.trial for outcome in outcomes.done]
        tasks += outcomes.rest
    assert sorted(ran) == list(range(5))
    task = Trials("table", ("random_search",), (3, 4, 5))
    assert [part.numbers for part in task.after_a_loss()] == [(3,), (4, 5)]
    (again,) = Trials("table", ("random_search",), (3,)).after_a_loss()
    assert again.tries == 1
    with pytest.raises(RuntimeError, match=r"trial 3 of random_search .* ended abruptly twice"):
        work.given_up(again)


def _design() -> Any:
    from tauzero.search._study_design import Design

    return Design(
        benchmark=TABLE, dataset="toy", metric=None, run=None, epoch=None, budget=5, seconds=None, batch_size=1,
        train=2, predicted_budget=10, surrogate="gaussian_process", surrogate_params={}, kind="mean", proxies=(),
        proxy_options={},
    )  # fmt: skip


#: Dies at each step of writing each file (before it is in place, half written, just after), then resumes.
KILLS = """
import os, sys
from pathlib import Path
import numpy as np
from study_helpers import SPACE, toy_benchmark
from tauzero import search

table = toy_benchmark()
replace = Path.replace

def study(out):
    return search.study(table, ["random_search", "local_search"], "table", out=out, trials=3, budget=6, workers=1,
                        checkpoint_every=0.0)

def die_at(step, how):
    count = 0
    def dying(self, target):
        nonlocal count
        count += 1
        if count == step and how == "torn":
            self.write_bytes(self.read_bytes()[: self.stat().st_size // 2])
        if count == step and how != "after":
            os._exit(9)
        replace(self, target)
        if count == step:
            os._exit(9)
    Path.replace = dying

def frames(result):
    return [result.trials.drop(columns="wall_s"), result.curves, result.tests, result.gains]

root = Path(sys.argv[1])
steps = 0
def counted(self, target):
    global steps
    steps += 1
    return replace(self, target)
Path.replace = counted
whole = study(root / "whole")
Path.replace = replace
for how in ("before", "torn", "after"):
    for step in range(1, steps + 1):
        out = root / f"{how}{step}"
        child = os.fork()
        if not child:
            die_at(step, how)
            study(out)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9, (how, step)
        again = study(out)
        assert all(a.equals(b) for a, b in zip(frames(again), frames(whole))), (how, step)
        files = [sorted(p.relative_to(top).as_posix() for p in top.rglob("*")) for top in (out, root / "whole")]
        assert files[0] == files[1], (how, step, files[0])
print(steps)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_at_any_step_of_writing_loses_nothing(tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(tmp_path)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 11  # facts, six trials, two merged files, four frames
