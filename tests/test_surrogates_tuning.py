"""Tuned surrogates: what is chosen, on which rows, from which candidates; files, seeds and errors."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
import pytest
from sklearn.base import clone
from surrogate_helpers import SMALL, accuracy, rows, small

from tauzero import encoders, evaluation, spaces, surrogates
from tauzero.spaces import MissingExtraError
from tauzero.surrogates import Surrogate, _registry
from tauzero.surrogates._tuning import SEARCH_SPACES, Choice, Integer, Real, Tuned

SPACE = "nasbench201"
CELLS = rows(SPACE, 40)
Y = accuracy(SPACE, CELLS) + np.random.default_rng(0).normal(0, 1.0, 40)
NEW = rows(SPACE, 60, seed=9)


class Stub(Surrogate):
    """Predicts the truth with noise, the more the farther `quality` is from 7; keeps what it was given."""

    name = "stub"
    seen: list[tuple[str, float, npt.NDArray[Any], npt.NDArray[Any]]] = []  # noqa: RUF012 - shared on purpose

    def __init__(
        self,
        space: spaces.SearchSpace | str,
        *,
        quality: float = 0.0,
        level: int | None = None,
        target: str = "identity",
        random_state: int = 0,
    ) -> None:
        self.space, self.quality, self.level = space, quality, level
        self.target, self.random_state = target, random_state

    def _fit(self, rows: Any, target: Any, weight: Any) -> None:
        if self.quality > 9:
            raise ValueError("this candidate cannot be fitted")
        Stub.seen.append(("fit", self.quality, rows, self.target_.inverse(target)))

    def _predict(self, rows: Any, *, with_std: bool) -> tuple[Any, Any]:
        Stub.seen.append(("predict", self.quality, rows, np.zeros(0)))
        noise = np.random.default_rng(0).normal(0, abs(self.quality - 7), len(rows))
        return self.target_.transform(accuracy(self.space, rows)) + noise, np.ones(len(rows))

    def _state(self) -> Any:
        return {}, {}, {}

    def _restore(self, plain: Any, arrays: Any, texts: Any) -> None:
        pass


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the stub with a search space of its own."""
    monkeypatch.setitem(sys.modules, "stub_module", SimpleNamespace(Stub=Stub))
    monkeypatch.setitem(_registry._SURROGATES, "stub", ("stub_module", "Stub"))
    monkeypatch.setitem(SEARCH_SPACES, "stub", {"quality": Real(-10.0, 10.0), "level": Integer(1, 3)})
    monkeypatch.setattr(Stub, "seen", [])


def tuned(name: str, tune: int = 4, **params: Any) -> Tuned:
    model = surrogates.create(name, SPACE, tune=tune, **(SMALL.get(name, {}) | params))
    assert isinstance(model, Tuned)
    return model


# -- what is chosen ---------------------------------------------------------------------------


@pytest.mark.usefixtures("stub")
def test_the_optimum_of_a_known_function_is_found() -> None:
    model = tuned("stub", 60).fit(CELLS, Y)
    assert model.best_params_["quality"] == pytest.approx(7.0, abs=1.0)
    assert model.best_score_ == max(t["score"] for t in model.trials_ if t["score"] is not None)
    assert model.best_score_ > model.trials_[0]["score"] + 0.3
    assert model.trials_[0]["params"] == {"quality": 0.0, "level": None}
    failed = [t for t in model.trials_ if t["params"]["quality"] > 9]
    assert failed  # and are not chosen
    assert all(t["score"] is None for t in failed)


def test_tuning_helps_where_the_defaults_are_wrong() -> None:
    """Single-row leaves follow the noise; on these targets larger ones are right."""
    cells = rows(SPACE, 120, seed=3)
    noisy = accuracy(SPACE, cells) + np.random.default_rng(1).normal(0, 4.0, 120)
    truth = accuracy(SPACE, NEW)
    given = {"num_trees": 6, "max_features": 1.0, "target": "mixed"}
    plain = surrogates.create("extra_trees", SPACE, **given).fit(cells, noisy)
    model = tuned("extra_trees", 8, **given).fit(cells, noisy)
    assert model.best_params_["min_samples_leaf"] > 1
    assert model.best_score_ > model.trials_[0]["score"]
    better = evaluation.kendall_tau(truth, model.predict(NEW))
    assert better > evaluation.kendall_tau(truth, plain.predict(NEW)) + 0.03


@pytest.mark.parametrize("name", ["extra_trees", "gaussian_process", "lightgbm", "svr"])
def test_one_candidate_is_the_default(name: str) -> None:
    """To the last digit: the surrogate inside sees what it would see outside."""
    model, plain = tuned(name, 1).fit(CELLS, Y), small(name, SPACE).fit(CELLS, Y)
    for here, there in zip(
        model.predict(NEW, return_std=True, return_interval=0.8),
        plain.predict(NEW, return_std=True, return_interval=0.8),
        strict=True,
    ):
        np.testing.assert_array_equal(here, there)
    np.testing.assert_array_equal(model.ood_score(NEW), plain.ood_score(NEW))
    np.testing.assert_array_equal(model.unseen_, plain.unseen_)
    defaults = plain.get_params(deep=False)
    assert model.best_params_ == {k: defaults[k] for k in SEARCH_SPACES[name] if k not in SMALL.get(name, {})}


def test_the_best_candidate_is_what_predicts() -> None:
    model = tuned("gaussian_process", 9).fit(CELLS, Y)
    plain = surrogates.create("gaussian_process", SPACE, **model.best_params_).fit(CELLS, Y)
    np.testing.assert_array_equal(model.predict(NEW), plain.predict(NEW))


def test_few_combinations_are_all_tried_once() -> None:
    model = tuned("gaussian_process", 30).fit(CELLS, Y)
    assert [t["params"]["target"] for t in model.trials_] == ["mixed", "identity", "rank", "normal", "log_error"]
    assert [t["number"] for t in model.trials_] == [0, 1, 2, 3, 4]


def test_the_score_is_tau_on_rows_left_out() -> None:
    """Once more by hand."""
    from tauzero.surrogates._folds import fold_numbers

    model = tuned("gaussian_process", 1, random_state=4).fit(CELLS, Y)
    order = np.argsort(spaces.get(SPACE).index(CELLS))
    cells, y = CELLS[order], Y[order]
    fold = fold_numbers(40, 5, 4)
    predicted = np.empty(40)
    for k in range(5):
        inside = surrogates.create("gaussian_process", SPACE, random_state=4).fit(cells[fold != k], y[fold != k])
        predicted[fold == k] = inside.predict(cells[fold == k])
    assert model.best_score_ == pytest.approx(evaluation.kendall_tau(y, predicted))


@pytest.mark.usefixtures("stub")
def test_given_parameters_are_not_tuned() -> None:
    model = tuned("stub", 5, quality=2.5, target="rank", random_state=3).fit(CELLS, Y)
    assert {q for _, q, *_ in Stub.seen} == {2.5}
    assert all(set(t["params"]) == {"level"} for t in model.trials_)
    assert (model.model_.get_params()["target"], model.model_.get_params()["random_state"]) == ("rank", 3)
    with pytest.raises(ValueError, match=r"All parameters of 'stub' that can be tuned are given: level, quality"):
        tuned("stub", quality=1.0, level=2)


# -- on which rows ----------------------------------------------------------------------------


@pytest.mark.usefixtures("stub")
def test_only_training_rows_are_looked_at_and_never_those_left_out() -> None:
    """Rows of copies are one network: it stands on one side of every fold."""
    space = spaces.get(SPACE)
    largest = np.bincount(space.classes()).argmax()
    copies = space.enumerate()[space.classes() == largest][:6]
    training = np.concatenate([CELLS, CELLS[:10], copies])
    y = np.r_[Y, Y[:10] + 0.5, np.arange(6.0) + 80]
    model = tuned("stub", 6).fit(training, y)
    known = set(space.index(space.canonical(training)).tolist())
    fits = [s for s in Stub.seen if s[0] == "fit"]
    predictions = [s for s in Stub.seen if s[0] == "predict"]
    scored = [t for t in model.trials_ if t["score"] is not None]
    assert len(predictions) == 5 * len(scored) >= 20
    for _, _, cells, _ in Stub.seen:
        assert set(space.index(cells).tolist()) <= known
    for (_, q, inside, values), (_, p, outside, _) in zip(fits, predictions, strict=False):
        assert q == p
        inner, outer = set(space.index(inside).tolist()), set(space.index(outside).tolist())
        assert not inner & outer
        assert inner | outer == known
        assert len(inner) == len(inside) == len(values)
    assert len(fits[-1][2]) == len(known)  # the last fit is to everything
    before = model.best_params_
    model.predict(NEW)
    assert model.best_params_ is before


@pytest.mark.usefixtures("stub")
def test_new_rows_change_nothing_that_was_chosen() -> None:
    """The same training rows, whatever comes to be predicted and whatever its accuracy is."""
    first = tuned("stub", 8).fit(CELLS, Y)
    first.predict(NEW)
    again = tuned("stub", 8).fit(CELLS, Y)
    assert again.trials_ == first.trials_


@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize(("n", "tried"), [(1, 0), (3, 0), (4, 6), (7, 6)])
def test_with_hardly_any_rows_the_defaults_are_taken(n: int, tried: int) -> None:
    model = tuned("stub", 6).fit(CELLS[:n], Y[:n])
    assert len(model.trials_) == tried
    if not tried:
        assert model.best_params_ == {"quality": 0.0, "level": None}
        assert model.best_score_ is None


@pytest.mark.usefixtures("stub")
def test_equal_targets_choose_nothing() -> None:
    model = tuned("stub", 6).fit(CELLS, np.full(40, 93.0))
    assert model.trials_ == []


@pytest.mark.usefixtures("stub")
def test_defaults_that_cannot_be_fitted_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stub, "_fit", lambda *_: (_ for _ in ()).throw(ValueError("not with these rows")))
    with pytest.raises(ValueError, match="not with these rows"):
        tuned("stub").fit(CELLS, Y)


# -- seeds, progress, other libraries' state --------------------------------------------------


@pytest.mark.usefixtures("stub")
def test_seeds() -> None:
    first, again, other = (tuned("stub", 8, random_state=s).fit(CELLS, Y) for s in (0, 0, 1))
    assert first.trials_ == again.trials_
    assert [t["params"] for t in other.trials_] != [t["params"] for t in first.trials_]
    np.testing.assert_array_equal(first.predict(NEW), again.predict(NEW))


@pytest.mark.usefixtures("stub")
def test_progress_and_silence(capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    np.random.seed(5)  # noqa: NPY002 - shows that it is not used
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    steps: list[tuple[int, int]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tuned("stub", 5, progress=lambda done, total: steps.append((done, total))).fit(CELLS, Y)
    assert steps == [(k, 5) for k in range(1, 6)]
    assert optuna.logging.get_verbosity() == before
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("stub")
def test_an_interrupted_study_leaves_no_model_and_optuna_as_it_was() -> None:
    before = optuna.logging.get_verbosity()

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    model = tuned("stub", 5, progress=stop)
    with pytest.raises(KeyboardInterrupt):
        model.fit(CELLS, Y)
    assert optuna.logging.get_verbosity() == before
    assert not hasattr(model, "target_")
    assert not hasattr(model, "_values")


# -- files and encoders -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["extra_trees", "gaussian_process", "lightgbm"])
def test_saved_and_loaded_without_optuna(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = {"members": 2, "n_jobs": 1} if name == "lightgbm" else {}
    model = tuned(name, 3, **params).fit(CELLS, Y)
    model.save(tmp_path / "model")
    monkeypatch.setitem(sys.modules, "optuna", None)
    loaded = surrogates.load(tmp_path / "model")
    assert isinstance(loaded, Tuned)
    for here, there in zip(
        loaded.predict(NEW, return_std=True, return_interval=0.8),
        model.predict(NEW, return_std=True, return_interval=0.8),
        strict=True,
    ):
        np.testing.assert_array_equal(here, there)
    assert loaded.best_params_ == model.best_params_
    assert loaded.trials_ == model.trials_
    assert loaded.best_score_ == model.best_score_
    assert clone(loaded).get_params() == model.get_params()


def test_encoders_reach_the_surrogate(tmp_path: Path) -> None:
    model = tuned("gaussian_process", 2, encoders=("onehot",)).fit(CELLS, Y)
    plain = surrogates.create("gaussian_process", SPACE, encoders=("onehot",), **model.best_params_).fit(CELLS, Y)
    np.testing.assert_array_equal(model.predict(NEW), plain.predict(NEW))
    assert model._features.names == plain._features.names
    assert model._features.extra[0].name == encoders.create("onehot", SPACE).name
    loaded = surrogates.load(model.save(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.predict(NEW), model.predict(NEW))


# -- search spaces and errors -----------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(SEARCH_SPACES))
def test_search_spaces_fit_their_surrogates(name: str) -> None:
    """Every parameter exists, its default is inside, and both ends of every range can be fitted."""
    defaults = surrogates.create(name, SPACE).get_params(deep=False)
    ends: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for parameter, part in SEARCH_SPACES[name].items():
        assert parameter in defaults
        if isinstance(part, Choice):
            assert defaults[parameter] in part.values
            low, high = part.values[0], part.values[-1]
        else:
            low, high = part.low, part.high
            assert defaults[parameter] is None or low <= defaults[parameter] <= high
        ends[0][parameter], ends[1][parameter] = low, high
    for params in ends:
        model = surrogates.create(name, SPACE, **(params | SMALL.get(name, {})))
        assert np.isfinite(model.fit(CELLS, Y).predict(NEW)).all()


def test_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("auto", "tuned"):
        with pytest.raises(spaces.UnknownNameError, match=rf"surrogate that can be tuned '{name}'\. .*Known: .*'svr'"):
            surrogates.create(name, SPACE, tune=3)
    with pytest.raises(spaces.UnknownNameError, match=r"surrogate that can be tuned 'lightgmb'\. Did you mean"):
        surrogates.create("tuned", SPACE, surrogate="lightgmb").fit(CELLS, Y)
    for bad in (0, -1, 2.5, "30", True):
        with pytest.raises(ValueError, match=r"'tune' argument must be a number of candidates of at least 1"):
            surrogates.create("lightgbm", SPACE, tune=bad)
    with pytest.raises(ValueError, match=r"'lightgbm' has no parameter 'depth'\. Known"):
        surrogates.create("lightgbm", SPACE, tune=3, depth=2)
    with pytest.raises(spaces.UnknownNameError, match=r"search space 'nasbench21'\. Did you mean"):
        surrogates.create("lightgbm", "nasbench21", tune=3)
    for parameter, bad in (("trials", 0), ("folds", 1)):
        with pytest.raises(ValueError, match=rf"The '{parameter}' parameter of Tuned must be an integer of at least"):
            surrogates.create("tuned", SPACE, **{parameter: bad}).fit(CELLS, Y)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r'`pip install "tauzero\[optuna\]"`'):
        surrogates.create("lightgbm", SPACE, tune=3)
    with pytest.raises(MissingExtraError, match=r'`pip install "tauzero\[optuna\]"`'):
        surrogates.create("tuned", SPACE).fit(CELLS, Y)
