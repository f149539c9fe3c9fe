"""Gradient boosting on graph features."""

from __future__ import annotations

__all__ = ["LightGBM"]

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from tauzero.encoders import EncoderLike
from tauzero.spaces import Genotypes, SearchSpace, unknown_name
from tauzero.surrogates._cross_fit import Features, LightGBMParameters
from tauzero.surrogates.base import Floats, State

if TYPE_CHECKING:
    from lightgbm import Booster

_OBJECTIVES = ("regression", "lambdarank")
_GRADES = 31  # LightGBM knows relevance grades from 0 to 30
_QUERY = 10_000  # rows that LightGBM admits in one query group
_KNOTS = 33


class _Member(NamedTuple):
    """A booster, and what makes its scores comparable with another's: their mean and deviation over the space."""

    booster: Booster
    shift: float = 0.0
    scale: float = 1.0


class LightGBM(LightGBMParameters):
    """Gradient boosted trees (Ke et al., NeurIPS 2017), cross-fitted.

    Every member leaves another fold of the training set out, so the rows left out tell how far predictions
    miss; that and the members' disagreement make the standard deviation.

    Parameters
    ----------
    space
        A search space or its name.
    encoders
        Further encoders whose features join the space's own, such as proxy scores.
    target
        Transform of the accuracies that is fitted (`tauzero.surrogates.TARGETS`).
    objective
        ``"regression"``: squared error of the transformed target. ``"lambdarank"``: LambdaRank (Burges,
        Microsoft Research TR-2010-82, section 4) on 31 grades of equally many rows, with gains linear in the
        grade; its scores are mapped back to the target by a monotone function learned on rows left out.
    members
        Folds, and models; 1 fits a single model to everything (its deviation then comes from a split of
        its own). None: 10 below 1,000 rows, 5 below 20,000, else 1.
    num_trees
        Boosting rounds; None chooses by the size of the training set.
    learning_rate
        Shrinkage; None chooses by the size of the training set.
    num_leaves, min_child_samples
        Size of trees and of leaves; None chooses by the size of the training set.
    feature_fraction, subsample
        Share of features per tree (None: a fifth below 1,000 rows, else a half), and of rows per round.
    n_jobs
        Threads; None uses what OpenMP allows. The result does not depend on it.
    random_state
        Seed of folds and subsampling.
    """

    name = "lightgbm"
    _members_of_few = 10

    def __init__(
        self,
        space: SearchSpace | str,
        *,
        encoders: Sequence[EncoderLike] = (),
        target: str = "normal",
        objective: str = "regression",
        members: int | None = None,
        num_trees: int | None = None,
        learning_rate: float | None = None,
        num_leaves: int | None = None,
        min_child_samples: int | None = None,
        feature_fraction: float | None = None,
        subsample: float = 0.8,
        n_jobs: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.space = space
        self.encoders = encoders
        self.target = target
        self.objective = objective
        self.members = members
        self.num_trees = num_trees
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.min_child_samples = min_child_samples
        self.feature_fraction = feature_fraction
        self.subsample = subsample
        self.n_jobs = n_jobs
        self.random_state = random_state

    # -- fitting ------------------------------------------------------------------------------

    def _fit(self, rows: Genotypes, target: Floats, weight: Floats) -> None:
        self._check_parameters()
        if self.objective not in _OBJECTIVES:
            raise unknown_name("objective", self.objective, _OBJECTIVES)
        self._knots: npt.NDArray[np.float64] | None = None
        x = self._cross_fit(rows, target, weight)
        if self.objective == "lambdarank":
            known = np.isfinite(self.unseen_)
            scores = self.unseen_[known] if known.sum() >= 4 else self._latent(x).mean(axis=0)
            self._knots = _monotone(scores, target[known] if known.sum() >= 4 else target)
            self.unseen_[known] = _through(self._knots, self.unseen_[known])
        self._calibrate_spread(x, target)

    def _train_member(self, x: Features, target: Floats, weight: Floats, seed: int) -> _Member:
        import lightgbm

        params, trees = self._parameters(len(x), seed)
        if self.objective == "regression":
            data = lightgbm.Dataset(x, target, weight=weight, params=params)
            return _Member(lightgbm.train(params, data, num_boost_round=trees))
        n = len(x)
        groups = np.diff(np.linspace(0, n, -(-n // _QUERY) + 1).astype(np.int64))
        order = np.random.default_rng(seed).permutation(n)  # groups of random rows, one unless there are very many
        grades = np.floor((rankdata(target, "max") - 1) * _GRADES / n).astype(np.int64)
        params |= {
            "objective": "lambdarank",
            "label_gain": list(range(_GRADES)),
            "lambdarank_truncation_level": int(groups.max()),  # the whole ranking counts, not its top alone
            "lambda_l2": 0.0,  # the second derivatives of this objective are far below 1
        }
        data = lightgbm.Dataset(x[order], grades[order], weight=weight[order], group=groups, params=params)
        booster = lightgbm.train(params, data, num_boost_round=trees)
        scores = np.asarray(booster.predict(self._features.unlabelled, num_threads=self.n_jobs or 0))
        return _Member(booster, float(scores.mean()), float(scores.std()) or 1.0)

    # -- prediction ---------------------------------------------------------------------------

    def _member_latent(self, model: _Member, x: Features) -> Floats:
        raw = np.asarray(model.booster.predict(x, num_threads=self.n_jobs or 0), dtype=np.float64)
        scores: Floats = (raw - model.shift) / model.scale
        return scores if self._knots is None else _through(self._knots, scores)

    # -- files --------------------------------------------------------------------------------

    def _state(self) -> State:
        plain = {"noise": self.noise_, "typical_disagreement": self.typical_disagreement_}
        texts = {f"booster{k}.txt": m.booster.model_to_string() for k, m in enumerate(self._models)}
        if self._knots is None:
            return plain, {}, texts
        units = np.array([[m.shift, m.scale] for m in self._models])
        return plain, {"knots": self._knots, "units": units}, texts

    def _restore(self, plain: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], texts: dict[str, str]) -> None:
        import lightgbm

        self.noise_ = float(plain["noise"])
        self.typical_disagreement_ = float(plain["typical_disagreement"])
        ordered = sorted(texts, key=lambda name: int(name.removeprefix("booster").removesuffix(".txt")))
        if not ordered:
            raise ValueError("there is no boosted model in it")
        try:
            boosters = [lightgbm.Booster(model_str=texts[name]) for name in ordered]
        except lightgbm.basic.LightGBMError as error:
            raise ValueError(f"LightGBM cannot read its own text: {error}") from error
        self._knots = arrays.get("knots")
        units = arrays.get("units", np.tile([0.0, 1.0], (len(boosters), 1))).tolist()
        self._models = [_Member(b, *unit) for b, unit in zip(boosters, units, strict=True)]


def _monotone(scores: Floats, target: Floats) -> Floats:
    """Strictly increasing function from scores to targets, as knots ``float64[2, m]`` (scores, targets).

    Isotonic regression (pool adjacent violators) through equally filled bins, with a tenth of a straight line
    so that no two scores become equal.
    """
    from sklearn.isotonic import IsotonicRegression

    spread = float(scores.std())
    if spread == 0 or len(scores) < 2:
        return np.array([[0.0, 1.0], [float(target.mean()), float(target.mean()) + 1e-3]])
    slope = max(float(np.corrcoef(scores, target)[0, 1]) if target.std() > 0 else 0.0, 0.05) * target.std() / spread
    line = target.mean() + max(slope, 1e-6) * (scores - scores.mean())
    stepped = IsotonicRegression().fit(scores, target).predict(scores)
    values = 0.9 * stepped + 0.1 * line
    order = np.argsort(scores, kind="stable")
    bins = np.array_split(order, int(np.clip(len(scores) // 8, 2, _KNOTS)))
    knots = np.array([[scores[b].mean() for b in bins], [values[b].mean() for b in bins]])
    return knots[:, np.r_[True, np.diff(knots[0]) > 0]]


def _through(knots: Floats, scores: Floats) -> Floats:
    """Interpolate between knots; beyond them the line through the outermost two quarters goes on."""
    x, y = knots
    if len(x) == 1:
        return y[0] + (scores - x[0])
    width = max(1, len(x) // 4)
    below = (y[width] - y[0]) / (x[width] - x[0])
    above = (y[-1] - y[-1 - width]) / (x[-1] - x[-1 - width])
    result = np.interp(scores, x, y)
    result += below * np.minimum(scores - x[0], 0.0)
    result += above * np.maximum(scores - x[-1], 0.0)
    return result
