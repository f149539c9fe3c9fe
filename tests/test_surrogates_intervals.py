"""Intervals in closed form, the out-of-distribution score, and that no row is judged by what was fitted on it."""

from __future__ import annotations

import sys
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from surrogate_helpers import accuracy, rows, small

from tauzero import spaces, surrogates
from tauzero.surrogates import Surrogate

Floats = npt.NDArray[np.float64]
SPACE = spaces.get("nasbench201")
CELLS = rows(SPACE, 40)
Y = accuracy(SPACE, CELLS) + np.random.default_rng(0).normal(0, 1.0, 40)


class Toy(Surrogate):
    """Predicts 0 ± `deviation`; says that it erred by `errors` in units of `deviation` on rows left out."""

    name = "toy"

    def __init__(
        self, space: Any, *, errors: Any = (), deviation: float = 0.2, target: str = "identity", random_state: int = 0
    ) -> None:
        self.space, self.errors, self.deviation = space, errors, deviation
        self.target, self.random_state = target, random_state

    def _fit(self, rows: spaces.Genotypes, target: Floats, weight: Floats) -> None:
        known = slice(0, len(self.errors))
        self.unseen_[known] = target[known] + self.deviation * np.asarray(self.errors)
        self.unseen_std_[known] = self.deviation

    def _predict(self, rows: spaces.Genotypes, *, with_std: bool) -> tuple[Floats, Floats]:
        return np.zeros(len(rows)), np.full(len(rows), self.deviation if with_std else 0.0)

    def _state(self) -> Any:
        return {}, {}, {}

    def _restore(self, plain: Any, arrays: Any, texts: Any) -> None:
        pass


#: Parameters with which a surrogate leaves out many rows, and weights its rows by nothing that depends on all targets.
COMPLETE: dict[str, dict[str, Any]] = {"gnn": {"members": 5}, "mlp": {"loss": "mae"}}


# -- intervals --------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 4, 9, 10, 19, 20, 39])
@pytest.mark.parametrize("level", [0.1, 0.5, 0.68, 0.9, 0.95])
def test_the_quantile_has_the_rank_of_split_conformal_prediction(n: int, level: float) -> None:
    """The ⌈level·(n + 1)⌉-th smallest of n scaled errors, whatever their sign and order."""
    rng = np.random.default_rng(n)
    errors = rng.permutation(np.arange(1.0, n + 1) / n) * rng.choice([-1, 1], n)
    model = Toy(SPACE, errors=errors).fit(CELLS, Y)
    np.testing.assert_allclose(model.conformity_, np.arange(1, n + 1) / n)
    exact = Fraction(str(level))
    rank = ceil(exact * (n + 1))
    if rank > n:
        least = ceil(exact / (1 - exact))
        with pytest.raises(ValueError, match=rf"of level {level} needs at least {least} .* This Toy has {n}: use a"):
            model.predict(CELLS, return_interval=level)
        return
    mean, std, interval = model.predict(CELLS[:3], return_std=True, return_interval=level)
    half = rank / n * model.deviation  # on the transformed scale
    np.testing.assert_allclose(interval, np.tile(model.target_.inverse(np.array([-half, half])), (3, 1)))
    np.testing.assert_array_equal(mean, model.predict(CELLS[:3]))
    # Without a transform that bends, the interval is that many deviations either way.
    np.testing.assert_allclose(interval, np.stack([mean - rank / n * std, mean + rank / n * std], axis=1), rtol=1e-6)


def test_few_rows_are_just_enough_or_not() -> None:
    """Nine rows carry an interval of 90 %, eight do not."""
    assert Toy(SPACE, errors=np.ones(9)).fit(CELLS, Y).predict(CELLS, return_interval=0.9)[1].shape == (40, 2)
    with pytest.raises(ValueError, match="needs at least 9 training networks"):
        Toy(SPACE, errors=np.ones(8)).fit(CELLS, Y).predict(CELLS, return_interval=0.9)
    with pytest.raises(ValueError, match="has 0: use a lower level"):
        Toy(SPACE).fit(CELLS, Y).predict(CELLS, return_interval=0.1)


@pytest.mark.parametrize("level", [0, 1, -0.1, 90, True, "0.9", float("nan")])
def test_levels_that_are_none(level: Any) -> None:
    model = Toy(SPACE, errors=np.ones(20)).fit(CELLS, Y)
    with pytest.raises(ValueError, match=r"'return_interval' argument must be a level between 0 and 1"):
        model.predict(CELLS, return_interval=level)


def test_many_scores_are_thinned_on_the_safe_side() -> None:
    cells = rows("nasbench201", 3_000)
    errors = np.random.default_rng(1).standard_normal(3_000)
    model = Toy(SPACE, errors=errors).fit(cells, accuracy(SPACE, cells))
    assert len(model.conformity_) == 2_000
    for level in (0.1, 0.5, 0.9, 0.99):
        exact = np.sort(np.abs(errors))[int(np.ceil(level * 3_001)) - 1]
        assert exact <= model._conformal_quantile(level) < exact + 0.1


def test_coverage_of_exchangeable_errors() -> None:
    """Over draws of 19 calibration errors and one new, the interval of level 0.8 covers the new one in 80 %: 16/20."""
    rng = np.random.default_rng(2)
    covered = []
    model = Toy(SPACE, errors=np.ones(19)).fit(CELLS, Y)
    for _ in range(4_000):
        errors = np.abs(rng.standard_t(3, 20))
        model.conformity_ = np.sort(errors[:19])
        covered.append(errors[19] <= model._conformal_quantile(0.8))
    assert np.mean(covered) == pytest.approx(0.8, abs=0.025)  # four standard errors


@pytest.mark.parametrize("name", surrogates.names())
def test_intervals_hold_the_mean_and_grow_with_the_level(name: str) -> None:
    model = small(name, SPACE, **COMPLETE.get(name, {})).fit(CELLS, Y)
    judged = SPACE.sample(60, 3)
    mean, narrow = model.predict(judged, return_interval=0.5)
    _, std, wide = model.predict(judged, return_std=True, return_interval=0.85)
    assert narrow.shape == (60, 2)
    for lower, upper in (narrow.T, wide.T):
        assert (lower <= mean).all()
        assert (mean <= upper).all()
    assert (wide[:, 0] <= narrow[:, 0]).all()
    assert (wide[:, 1] >= narrow[:, 1]).all()
    assert (wide[:, 1] > wide[:, 0]).all()
    assert (std > 0).all()


# -- out of distribution ----------------------------------------------------------------------


def test_cells_with_more_vertices_are_unfamiliar() -> None:
    space = spaces.get("nasbench101")
    cells = space.canonical(space.sample(60_000, 0))
    small_cells = space.enumerate()[:2_532]  # all cells of at most five vertices come first
    assert space.num_vertices(small_cells).max() == 5
    chosen = np.random.default_rng(0).permutation(2_532)
    train, fresh = small_cells[chosen[:400]], small_cells[chosen[400:800]]
    far = cells[space.num_vertices(cells) == 7][:400]
    model = Toy(space).fit(train, accuracy(space, train))
    of_train, of_fresh, of_far = (model.ood_score(c) for c in (train, fresh, far))
    assert (of_train >= 0).all()
    assert (of_train <= 1.0).mean() > 0.9
    assert np.median(of_train) < np.median(of_fresh) < np.median(of_far)
    assert (of_fresh > 1).mean() < 0.15  # 5 % but for chance
    assert (of_far > 1).mean() > 0.9


def test_scores_follow_the_network_not_the_row() -> None:
    model = Toy(SPACE).fit(CELLS, Y)
    labels = SPACE.classes()
    equal = SPACE.enumerate()[labels == np.bincount(labels).argmax()]
    assert len(set(model.ood_score(equal).tolist())) == 1
    assert model.ood_score(equal[:0]).shape == (0,)
    with pytest.raises(spaces.InvalidGenotypeError):
        model.ood_score(CELLS + 4)


def test_one_training_row_is_the_only_familiar_one() -> None:
    model = Toy(SPACE).fit(CELLS[:1], Y[:1])
    score = model.ood_score(CELLS)
    assert score[0] == pytest.approx(0, abs=1e-3)
    assert (score[1:] > 0.1).all()


# -- no row is judged by what was fitted on it ------------------------------------------------

#: Ensembles of fixed parameters: what is left out follows from the number of rows and the seed alone.
ENSEMBLES = ("extra_trees", "gnn", "lightgbm", "mlp", "quantile_boosting", "random_forest", "xgboost")


def unseen(name: str, target: Floats, weight: Floats) -> Floats:
    """`unseen_` after fitting to targets that are transformed already."""
    model = small(name, SPACE, **COMPLETE.get(name, {}))
    model._join_encoders()
    different = SPACE.distinct(CELLS)[0]
    model.target_ = surrogates.create("lightgbm", SPACE).fit(CELLS, Y).target_
    model.n_train_ = len(different)
    model.unseen_, model.unseen_std_ = np.full((2, len(different)), np.nan)
    model._fit(different, target, weight)
    return model.unseen_


@pytest.mark.parametrize("name", ENSEMBLES)
def test_a_target_does_not_reach_the_prediction_of_its_own_row(name: str) -> None:
    """Another target in one row changes what others are predicted, and not what it is itself."""
    rng = np.random.default_rng(4)
    target, weight = rng.standard_normal(40), np.ones(40)
    before = unseen(name, target, weight)
    judged = np.flatnonzero(np.isfinite(before))
    assert len(judged) >= 8
    for row in judged[[0, 5]]:
        changed = target.copy()
        changed[row] += 5.0
        after = unseen(name, changed, weight)
        assert after[row] == pytest.approx(before[row], abs=1e-12)
        assert np.nanmax(np.abs(after - before)) > 1e-3


@pytest.mark.parametrize("name", [*ENSEMBLES, "svr"])
def test_copies_of_a_network_are_never_on_two_sides(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folds are of different networks: a training set with many copies is divided as one without."""
    model = small(name, SPACE)
    sizes: list[int] = []
    for module in {
        sys.modules[c.__module__] for c in type(model).__mro__ if c.__module__.startswith("tauzero.surrogates")
    }:
        if hasattr(module, "fold_numbers"):
            folds = module.fold_numbers

            def spy(n: int, *given: Any, folds: Any = folds) -> Any:
                sizes.append(n)
                return folds(n, *given)

            monkeypatch.setattr(module, "fold_numbers", spy)
    labels = SPACE.classes()
    equal = SPACE.enumerate()[labels == np.bincount(labels).argmax()][:30]
    model.fit(np.concatenate([CELLS, equal, CELLS]), np.concatenate([Y, np.full(30, 80.0), Y + 1]))
    assert model.n_train_ in {40, 41}  # the class may be among the forty
    assert set(sizes) <= {model.n_train_}
    assert sizes or name == "random_forest"  # whose rows are left out by bootstrap
    assert len(model.unseen_) == model.n_train_
