"""The stack: weights from unseen predictions only, equal networks merged before folds, members by size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import kendalltau
from surrogate_helpers import accuracy, rows, small

from tauzero import spaces, surrogates
from tauzero.surrogates import Surrogate, _cross_fit, _features, auto, gnn
from tauzero.surrogates.auto import Auto

Floats = npt.NDArray[np.float64]
SPACE = spaces.get("nasbench201")
CELLS = rows(SPACE, 60, seed=1)
Y = accuracy(SPACE, CELLS) + np.random.default_rng(0).normal(0, 0.5, 60)


@pytest.fixture(scope="module")
def model() -> Auto:
    return Auto(SPACE).fit(CELLS, Y)


class Member(Surrogate):
    """A member with given predictions of rows that it was fitted on, and of rows that it has not seen."""

    name = "member"

    def __init__(self, space: Any, *, target: str = "identity", unseen: Any = None, random_state: int = 0) -> None:
        self.space = space
        self.target = target
        self.unseen = unseen
        self.random_state = random_state

    def _fit(self, rows: spaces.Genotypes, target: Floats, weight: Floats) -> None:
        self._memory = dict(zip(map(bytes, rows), target, strict=True))
        self.unseen_ = self.unseen(target)

    def _predict(self, rows: spaces.Genotypes, *, with_std: bool) -> tuple[Floats, Floats]:
        mean = np.array([self._memory.get(bytes(row), 0.0) for row in rows])  # training rows without any error
        return mean, np.ones(len(rows))

    def _predict_features(self, x: Any, *, with_std: bool) -> tuple[Floats, Floats]:
        return np.zeros(len(x)), np.ones(len(x))

    def _state(self) -> Any:
        raise NotImplementedError

    def _restore(self, plain: Any, arrays: Any, texts: Any) -> None:
        raise NotImplementedError


def stacked(monkeypatch: pytest.MonkeyPatch, **unseen: Any) -> Auto:
    members = {name: Member(SPACE, unseen=function) for name, function in unseen.items()}
    monkeypatch.setattr(Auto, "_candidates", lambda self, n: dict(members))
    return Auto(SPACE).fit(CELLS, Y)


def test_weights_and_scores(model: Auto) -> None:
    assert sum(model.weights_.values()) == pytest.approx(1)
    assert all(weight >= 0 for weight in model.weights_.values())
    assert set(model.members_) == {name for name, weight in model.weights_.items() if weight > 0}
    assert set(model.scores_) == set(model.weights_)
    assert all(-1 <= tau <= 1 for tau in model.scores_.values())


def test_scores_are_those_of_unseen_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    noise = {"a": rng.normal(0, 0.5, 60), "b": rng.normal(0, 2.0, 60)}
    made = stacked(monkeypatch, a=lambda t: t + noise["a"], b=lambda t: t + noise["b"])
    order = np.argsort(SPACE.index(CELLS))
    truth = Y[order]
    z = (truth - truth.mean()) / truth.std()
    for name, given in noise.items():
        assert made.scores_[name] == pytest.approx(kendalltau(truth, z + given).statistic, abs=1e-6)
    assert made.weights_["a"] > made.weights_["b"]


def test_a_member_that_memorises_gets_no_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Perfect on the rows it was fitted on, noise on others: only unseen predictions may count."""
    rng = np.random.default_rng(4)
    made = stacked(
        monkeypatch,
        memory=lambda t: rng.normal(0, 3, len(t)),
        honest=lambda t: t + rng.normal(0, 0.2, len(t)),
    )
    assert made.weights_ == {"memory": 0.0, "honest": 1.0}
    assert list(made.members_) == ["honest"]


def test_equally_good_members_share(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    errors = rng.normal(0, 0.8, (2, 60))
    made = stacked(monkeypatch, a=lambda t: t + errors[0], b=lambda t: t + errors[1])
    assert 0.25 <= made.weights_["a"] <= 0.75


def test_rows_without_unseen_prediction_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are chosen where all members say something; a member's score is that of all that it says."""
    noise = np.random.default_rng(6).normal(0, 0.3, 60)
    known = np.arange(60) < 30

    made = stacked(
        monkeypatch,
        a=lambda t: np.where(known, t, -t),  # its errors are where b says nothing
        b=lambda t: np.where(known, t + noise, np.nan),
    )
    assert made.scores_["b"] == pytest.approx(kendalltau(*order_of_fit(known, noise)).statistic, abs=1e-6)
    assert made.scores_["a"] < 0.5
    assert made.weights_ == {"a": 1.0, "b": 0.0}


def test_a_blend_says_nothing_where_a_member_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = np.random.default_rng(5).normal(0, 0.8, (2, 60))
    known = np.arange(60) < 40
    made = stacked(monkeypatch, a=lambda t: t + errors[0], b=lambda t: np.where(known, t + errors[1], np.nan))
    assert min(made.weights_.values()) > 0
    np.testing.assert_array_equal(np.isfinite(made.unseen_), known)


def order_of_fit(known: npt.NDArray[np.bool_], noise: Floats) -> tuple[Floats, Floats]:
    """Standardised targets of the known rows as the stack sees them, and noisy predictions of them."""
    truth = Y[np.argsort(SPACE.index(CELLS))]
    z = (truth - truth.mean()) / truth.std()
    return z[known], (z + noise)[known]


def test_nothing_outside_the_training_set_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    _features.feature_map(SPACE)  # scales come from an unlabelled sample, once per process
    encoded: list[spaces.Genotypes] = []
    call = _features.FeatureMap.__call__

    def spy(self: Any, genotypes: npt.ArrayLike) -> Any:
        encoded.append(np.array(genotypes))
        return call(self, genotypes)

    def forbidden(*given: Any, **named: Any) -> None:
        raise AssertionError("fit looks at the space")

    monkeypatch.setattr(_features.FeatureMap, "__call__", spy)
    monkeypatch.setattr(Auto, "predict", forbidden)
    monkeypatch.setattr(type(SPACE), "sample", forbidden)
    Auto(SPACE).fit(CELLS, Y)
    allowed = {bytes(row) for row in CELLS}
    assert encoded
    for batch in encoded:
        assert {bytes(row) for row in batch} <= allowed


def test_duplicates_are_merged_before_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of a network cannot be on both sides of a fold: folds are of different networks."""
    sizes: list[int] = []
    folds = _cross_fit.fold_numbers

    def spy(n: int, *given: Any) -> Any:
        sizes.append(n)
        return folds(n, *given)

    monkeypatch.setattr(_cross_fit, "fold_numbers", spy)
    seen: list[spaces.Genotypes] = []
    fit = Auto._fit

    def fit_spy(self: Auto, given: spaces.Genotypes, *rest: Any) -> None:
        seen.append(given)
        fit(self, given, *rest)

    monkeypatch.setattr(Auto, "_fit", fit_spy)
    equal = SPACE.enumerate()[SPACE.classes() == np.bincount(SPACE.classes()).argmax()][:50]
    made = Auto(SPACE).fit(np.concatenate([CELLS, CELLS, equal]), np.concatenate([Y, Y + 1, np.full(50, 80.0)]))
    assert made.n_train_ in {60, 61}
    assert set(sizes) == {made.n_train_}
    assert len(np.unique(SPACE.classes()[SPACE.index(seen[0])])) == made.n_train_


@pytest.mark.parametrize(
    ("n", "kinds"),
    [
        (1, {"gaussian_process"}),
        (19, {"gaussian_process"}),
        (20, {"gaussian_process", "lightgbm"}),
        (149, {"gaussian_process", "lightgbm"}),
        (150, None),
        (6_000, None),
        (6_001, {"lightgbm", "gnn"}),  # exact Gaussian processes would take too long
    ],
)
def test_members_by_size(n: int, kinds: set[str] | None) -> None:
    names = Auto(SPACE)._candidates(n)
    assert {m.name for m in names.values()} == (kinds or {"gaussian_process", "lightgbm", "gnn"})


def test_few_passes_over_many_rows() -> None:
    sizes = (150, auto._MANY_ROWS, auto._MANY_ROWS + 1)
    networks = [Auto(SPACE)._candidates(n)["gnn"].get_params() for n in sizes]
    assert not any(network["features"] for network in networks)
    assert networks[0]["epochs"] > networks[-1]["epochs"] == 20
    assert [network["members"] for network in networks] == [3, 3, 2]


def test_the_seed_reaches_all_members() -> None:
    made = Auto(SPACE, random_state=9)._candidates(200)
    assert {m.random_state for m in made.values()} == {9}


def test_prediction_is_the_weighted_mean_of_the_members(model: Auto) -> None:
    judged = rows(SPACE, 25, seed=8)

    latent = sum(
        model.weights_[name] * model.target_.transform(member.predict(judged))
        for name, member in model.members_.items()
    )
    np.testing.assert_allclose(model.predict(judged), model.target_.inverse(latent), atol=1e-6)


def test_auto_beats_or_matches_its_members(model: Auto) -> None:
    judged = rows(SPACE, 400, seed=8)
    truth = accuracy(SPACE, judged)
    best = max(
        kendalltau(truth, surrogates.create(name, SPACE).fit(CELLS, Y).predict(judged)).statistic
        for name in ("gaussian_process", "lightgbm")
    )
    assert kendalltau(truth, model.predict(judged)).statistic > best - 0.03


def test_a_graph_network_in_the_stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is weighed after the others, takes its share of their weights, and comes back from a file."""
    monkeypatch.setattr(auto, "_GNN_ROWS", 50)
    monkeypatch.setattr(gnn, "_STEPS", 1)  # as few epochs as there may be
    made = Auto(SPACE).fit(CELLS, Y)
    assert list(made.weights_)[-1] == "gnn"
    assert list(made.scores_) == list(made.weights_)
    assert sum(made.weights_.values()) == pytest.approx(1)
    # Force it in: with so few rows and steps it may have got no weight.
    members = {"lightgbm": small("lightgbm", SPACE), "gnn": small("gnn", SPACE, features=False)}
    monkeypatch.setattr(Auto, "_candidates", lambda self, n: dict(members))
    monkeypatch.setattr(Auto, "_choose_weights", lambda self, *given: vars(self).update(FORCED))
    forced = Auto(SPACE).fit(CELLS, Y)
    network, boosting = (forced.members_[k] for k in ("gnn", "lightgbm"))
    np.testing.assert_array_equal(np.isfinite(forced.unseen_), np.isfinite(network.unseen_ + boosting.unseen_))
    again = surrogates.load(forced.save(tmp_path / "model"))
    judged = rows(SPACE, 20, seed=8)
    for mine, its in zip(forced.predict(judged, return_std=True), again.predict(judged, return_std=True), strict=True):
        np.testing.assert_array_equal(mine, its)


FORCED: dict[str, Any] = {"weights_": {"lightgbm": 0.5, "gnn": 0.5}, "scores_": {"lightgbm": 0.1, "gnn": 0.1}}
