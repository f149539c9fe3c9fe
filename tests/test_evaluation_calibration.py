"""Evaluation beyond ranks: intervals and likelihoods, further encoders, random judges, tables without positions."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.neighbors import KNeighborsRegressor

from tauzero import encoders, evaluation, spaces
from tauzero.benchmarks import Benchmark, Column, Table
from tauzero.evaluation import holdout_mask, protocol_split, protocols

MACRO = spaces.get("transnas_macro")
DARTS = spaces.get("darts")
CELLS = DARTS.distinct(DARTS.sample(400, 0))[0]


def macro_table(noise: float = 0.5) -> Benchmark:
    rng = np.random.default_rng(0)
    y = 60 + MACRO.descriptors(MACRO.enumerate())[:, -1] + noise * rng.standard_normal(MACRO.size)
    columns = (
        Column("toy", "validation_accuracy", 9, None, "percent", y),
        Column("depth", "validation_negative_loss", 9, None, "score", y - 100),
    )
    return Benchmark(Table("toy", MACRO.name, columns, "CC0-1.0", {}))


def darts_table(missing: int = 0) -> Benchmark:
    y = 90 + DARTS.descriptors(CELLS)[:, 0] / 10
    y[:missing] = np.nan
    column = Column("cifar10", "validation_accuracy", 100, None, "percent", y)
    return Benchmark(Table("cells", "darts", (column,), "CC0-1.0", {}, genotypes=CELLS))


# -- measures ---------------------------------------------------------------------------------


def test_coverage_counts_what_lies_inside() -> None:
    ends = np.array([[0.0, 1.0], [0.0, 1.0], [-np.inf, 2.0], [3.0, np.inf], [5.0, 5.0]])
    assert evaluation.coverage([0.5, 1.5, 1.0, 2.0, 5.0], ends) == 3 / 5
    assert evaluation.coverage([1.0], [[0.0, 1.0]]) == 1.0
    with pytest.raises(ValueError, match=r"'interval' argument must have shape \(2, 2\). Got \(2,\)"):
        evaluation.coverage([1.0, 2.0], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"lower ends below upper ends. Got \[2.0, 1.0\] in row 1"):
        evaluation.coverage([1.0, 2.0], [[0.0, 1.0], [2.0, 1.0]])
    with pytest.raises(ValueError, match="lower ends"):
        evaluation.coverage([1.0], [[np.nan, 1.0]])
    with pytest.raises(ValueError, match="'y'"):
        evaluation.coverage([np.nan], [[0.0, 1.0]])


def test_negative_log_likelihood_is_that_of_normal_distributions() -> None:
    rng = np.random.default_rng(0)
    y, mean, std = rng.standard_normal(50), rng.standard_normal(50), rng.random(50) + 0.1
    expected = -norm.logpdf(y, mean, std).mean()
    assert evaluation.negative_log_likelihood(y, mean, std) == pytest.approx(expected, rel=1e-12)
    # The true deviation scores best.
    y = 3.0 * rng.standard_normal(20_000)
    scores = [evaluation.negative_log_likelihood(y, np.zeros(20_000), np.full(20_000, s)) for s in (2.0, 3.0, 4.0)]
    assert np.argmin(scores) == 1
    assert scores[1] == pytest.approx(np.log(3 * np.sqrt(2 * np.pi * np.e)), abs=0.02)
    with pytest.raises(ValueError, match=r"'std' argument must be positive. Got 0.0 at position 1"):
        evaluation.negative_log_likelihood([1.0, 2.0], [1.0, 2.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="same length"):
        evaluation.negative_log_likelihood([1.0, 2.0], [1.0, 2.0], [1.0])


class Oracle(RegressorMixin, BaseEstimator):
    """Predicts the training mean with an interval and a deviation that are given; notes what it was asked."""

    asked: list[tuple[str, int]] = []  # noqa: RUF012 - shared by the clones

    def __init__(self, half: float = 1.0, std: float = 2.0, least: int = 0) -> None:
        self.half = half
        self.std = std
        self.least = least

    def fit(self, genotypes: np.ndarray, y: np.ndarray) -> Oracle:
        self.mean_, self.rows_ = float(np.mean(y)), len(genotypes)
        return self

    def predict(self, genotypes: np.ndarray, return_std: bool = False, return_interval: float | None = None) -> Any:
        if return_interval is not None and self.rows_ < self.least:
            raise ValueError("too few rows")
        Oracle.asked.append(("interval" if return_interval else "std" if return_std else "plain", len(genotypes)))
        mean = np.full(len(genotypes), self.mean_)
        answer: list[np.ndarray] = [mean]
        if return_std:
            answer.append(np.full(len(genotypes), self.std))
        if return_interval is not None:
            answer.append(np.stack([mean - self.half, mean + self.half], axis=1))
        return answer[0] if len(answer) == 1 else tuple(answer)


def test_calibration_is_that_of_unseen_rows() -> None:
    table = macro_table()
    result = evaluation.evaluate(table, None, "all", 50, Oracle(), 2)
    y = table.table("toy", "validation_accuracy")
    for measured in result.per_seed:
        split = protocol_split(MACRO, "all", 50, measured["seed"])
        truth, mean = y[split.test][split.unseen], y[split.train].mean()
        assert measured["coverage_90"] == np.mean(np.abs(truth - mean) <= 1)
        assert measured["width_90"] == pytest.approx(2.0)
        assert measured["nll"] == pytest.approx(-norm.logpdf(truth, mean, 2.0).mean())
    row = result.rows[0]
    assert row["coverage_90"] == pytest.approx(np.mean([m["coverage_90"] for m in result.per_seed]))
    assert {"coverage_90_std", "width_90_std", "nll_std"} <= row.keys()
    assert result.curves("coverage_90")["Oracle"][1] == [row["coverage_90"]]
    json.dumps(result.to_dict(), allow_nan=False)


def test_copies_of_trained_networks_are_no_test_of_calibration() -> None:
    space = spaces.get("nasbench201")
    column = Column("toy", "test_accuracy", 9, None, "percent", space.enumerate().sum(axis=1) * 1.0)
    Oracle.asked.clear()
    evaluation.evaluate(Benchmark(Table("toy", space.name, (column,), "", {})), None, "all", 300, Oracle(), [3])
    split = protocol_split(space, "all", 300, 3)
    assert Oracle.asked == [("plain", 15_625), ("interval", int(split.unseen.sum()))]
    assert split.unseen.sum() < 15_000


def test_many_rows_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "_UNCERTAIN", 500)
    Oracle.asked.clear()
    one, two = (evaluation.evaluate(macro_table(), None, "all", 50, Oracle(), 1).per_seed[0] for _ in range(2))
    assert Oracle.asked == [("plain", 3_206), ("interval", 500)] * 2
    assert one["coverage_90"] == two["coverage_90"]
    monkeypatch.undo()
    whole = evaluation.evaluate(macro_table(), None, "all", 50, Oracle(), 1).per_seed[0]
    assert one["coverage_90"] == pytest.approx(whole["coverage_90"], abs=0.1)


@pytest.mark.parametrize(
    ("model", "known"),
    [
        (KNeighborsRegressor(2), set()),
        (Oracle(least=51), {"nll"}),
        (Oracle(std=0.0), {"coverage_90", "width_90"}),
        (Oracle(least=50), {"nll", "coverage_90", "width_90"}),
    ],
)
def test_what_a_model_does_not_say_is_none(model: Any, known: set[str]) -> None:
    row = evaluation.evaluate(macro_table(), None, "all", 50, {"m": model}, 1).rows[0]
    assert {k for k in ("nll", "coverage_90", "width_90") if row[k] is not None} == known
    assert row["tau"] is not None


def test_a_calibrated_surrogate_covers_nine_in_ten() -> None:
    result = evaluation.evaluate(macro_table(), None, "all", [5, 200], "gaussian_process", 3)
    few, many = result.rows
    assert few["coverage_90"] is None  # too few rows to calibrate on
    assert 0.8 < many["coverage_90"] < 0.98
    assert many["width_90"] == pytest.approx(2 * 1.645 * 0.5, rel=0.35)  # the noise of the table
    assert many["nll"] == pytest.approx(np.log(0.5 * np.sqrt(2 * np.pi * np.e)), abs=0.3)


# -- further encoders -------------------------------------------------------------------------


def hidden() -> tuple[Benchmark, dict[str, Any]]:
    """An accuracy that the graph does not tell, but a proxy does."""
    rng = np.random.default_rng(0)
    quality = rng.standard_normal(MACRO.size)
    column = Column("toy", "validation_accuracy", 9, None, "percent", 70 + quality)
    scores = {"index": np.arange(MACRO.size), "proxy": quality + 0.2 * rng.standard_normal(MACRO.size)}
    return Benchmark(Table("toy", MACRO.name, (column,), "", {})), scores


def test_encoders_reach_the_models_that_take_them() -> None:
    table, scores = hidden()
    models = {
        "gp": "gaussian_process",
        "knn": KNeighborsRegressor(3),
        "own": ("gaussian_process", {"encoders": ["onehot"]}),
    }
    for given in ([("proxy_scores", {"scores": scores})], (encoders.create("proxy_scores", MACRO, scores=scores),)):
        gp, knn, own = evaluation.evaluate(table, None, "all", 60, models, 1, encoders=given).rows
        assert (gp["encoders"], knn["encoders"], own["encoders"]) == (["proxy_scores"], [], ["onehot"])
        assert gp["tau"] > 0.7
        assert abs(knn["tau"]) < 0.2
        assert abs(own["tau"]) < 0.2
    plain = evaluation.evaluate(table, None, "all", 60, "gaussian_process", 1).rows[0]
    assert plain["encoders"] == []
    assert abs(plain["tau"]) < 0.2


def test_bad_encoders() -> None:
    table, scores = hidden()
    with pytest.raises(ValueError, match="'encoders' argument needs a model with the parameter 'encoders'"):
        evaluation.evaluate(table, None, "all", 60, KNeighborsRegressor(3), 1, encoders=["onehot"])
    for single in ("onehot", ("proxy_scores", {"scores": scores}), encoders.create("onehot", MACRO), 3):
        with pytest.raises(ValueError, match="must be a list of encoders"):
            evaluation.evaluate(table, None, "all", 60, "gaussian_process", 1, encoders=single)
    with pytest.raises(spaces.UnknownNameError, match="encoder 'zen'"):
        evaluation.evaluate(table, None, "all", 60, "gaussian_process", 1, encoders=["zen"])
    with pytest.raises(ValueError, match="encoder of transnas_macro was expected"):
        evaluation.evaluate(table, None, "all", 60, "gaussian_process", 1, encoders=[encoders.create("onehot", DARTS)])


# -- tables without positions, and random judges ----------------------------------------------


@pytest.mark.parametrize("protocol", ["all", "unique", "heldout"])
def test_splits_of_a_table_that_cannot_be_enumerated(protocol: str) -> None:
    twice = np.concatenate([CELLS, CELLS.reshape(-1, 4)[:, [1, 0, 3, 2]].reshape(CELLS.shape)])
    split = protocol_split("darts", protocol, 50, 1, architectures=twice)
    again = protocol_split("darts", protocol, 50, 1, architectures=twice)
    np.testing.assert_array_equal(split.train, again.train)
    np.testing.assert_array_equal(split.test, again.test)
    assert not set(split.train.tolist()) & set(split.test.tolist())
    copies = np.isin(split.test % 400, split.train % 400)
    np.testing.assert_array_equal(split.unseen, ~copies)
    assert copies.any() == (protocol == "all")
    if protocol == "heldout":
        mask = holdout_mask("darts", architectures=twice)
        np.testing.assert_array_equal(split.test, np.flatnonzero(mask))
        assert 0.2 <= mask.mean() < 0.21
        np.testing.assert_array_equal(mask[:400], mask[400:])
    with pytest.raises(spaces.NotEnumerableError):
        protocol_split("darts", protocol, 50, 1)
    with pytest.raises(ValueError, match=r"'available' argument must have shape \(800,\)"):
        protocol_split("darts", protocol, 50, 1, architectures=twice, available=np.ones(3, bool))


def test_evaluating_a_table_that_cannot_be_enumerated() -> None:
    table = darts_table(missing=40)
    result = evaluation.evaluate(table, None, "all", [30, 60], "gaussian_process", 2)
    assert [row["test"] for row in result.rows] == [330, 300]
    assert result.rows[1]["tau"] == result.rows[1]["tau_unseen"] > 0.6  # different networks, all of them
    assert result.noise_ceiling is None
    assert "darts-all: trained on 30 random architectures, judged on the 330 others" in result.splits[0]
    with pytest.raises(ValueError, match="1 to 360"):
        evaluation.evaluate(table, None, "all", 361, "gaussian_process", 1)


def test_architectures_of_an_enumerable_space_may_be_given() -> None:
    whole = protocol_split(MACRO, "unique", 30, 2)
    given = protocol_split(MACRO, "unique", 30, 2, architectures=MACRO.enumerate())
    np.testing.assert_array_equal(whole.train, given.train)
    np.testing.assert_array_equal(whole.test, given.test)
    np.testing.assert_array_equal(holdout_mask(MACRO), holdout_mask(MACRO, architectures=MACRO.enumerate()))


@pytest.mark.parametrize("protocol", ["all", "unique", "heldout"])
def test_random_judges(protocol: str) -> None:
    space = spaces.get("transnas_micro")
    whole = protocol_split(space, protocol, 40, 3)
    some = protocol_split(space, protocol, 40, 3, test=200)
    np.testing.assert_array_equal(some.train, whole.train)
    assert len(some.test) == len(some.unseen) == 200
    assert (np.diff(some.test) > 0).all()
    assert set(some.test.tolist()) <= set(whole.test.tolist())
    place = np.searchsorted(whole.test, some.test)
    np.testing.assert_array_equal(some.unseen, whole.unseen[place])
    assert some.text == f"{whole.text}; of these 200 at random"
    assert not np.array_equal(some.test, protocol_split(space, protocol, 40, 4, test=200).test)
    np.testing.assert_array_equal(whole.test, protocol_split(space, protocol, 40, 3, test=len(whole.test)).test)
    for bad in (0, 1, len(whole.test) + 1, 2.0, True):
        with pytest.raises(ValueError, match=f"'test' argument must be an integer from 2 to {len(whole.test):,}"):
            protocol_split(space, protocol, 40, 3, test=bad)


def test_evaluating_on_random_judges() -> None:
    table = macro_table()
    result = evaluation.evaluate(table, None, "all", 60, KNeighborsRegressor(3), [5], test=200)
    split = protocol_split(MACRO, "all", 60, 5, test=200)
    rows, y = MACRO.enumerate(), table.table("toy", "validation_accuracy")
    model = KNeighborsRegressor(3).fit(rows[split.train], y[split.train])
    assert result.rows[0]["test"] == 200
    assert result.rows[0]["tau"] == evaluation.kendall_tau(y[split.test], model.predict(rows[split.test]))
    with pytest.raises(ValueError, match="'test'"):
        evaluation.evaluate(table, None, "all", 60, KNeighborsRegressor(3), [5], test=4_000)


def test_each_dataset_is_judged_by_its_own_metric() -> None:
    result = evaluation.evaluate(macro_table(), "depth", "all", 60, KNeighborsRegressor(3), 1)
    assert (result.dataset, result.metric) == ("depth", "validation_negative_loss")
    assert result.rows[0]["mae"] < 5


@pytest.mark.slow
def test_workers_judge_tables_without_positions_alike() -> None:
    scores = {"arch": DARTS.to_string(CELLS), "zen": np.arange(400.0)}
    given = [("proxy_scores", {"scores": scores})]
    results = [
        evaluation.evaluate(darts_table(), None, "all", 40, "gaussian_process", 2, encoders=given, test=100, n_jobs=n)
        for n in (1, 2)
    ]
    plain = [[{k: v for k, v in m.items() if not k.endswith("_s")} for m in r.per_seed] for r in results]
    assert plain[0] == plain[1]
