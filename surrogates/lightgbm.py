"""Gradient boosting on graph features."""

from __future__ import annotations

__all__ = ["LightGBM"]

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tauzero.encoders import EncoderLike
from tauzero.spaces import Genotypes, SearchSpace
from tauzero.surrogates._feature_surrogate import FeatureSurrogate
from tauzero.surrogates._folds import fold_numbers, scaled_deviation, typical_spreads
from tauzero.surrogates._validation import check_integer, check_number
from tauzero.surrogates.base import Floats, State

if TYPE_CHECKING:
    from lightgbm import Booster


class LightGBM(FeatureSurrogate):
    """Gradient boosted trees (Ke et al., NeurIPS 2017), cross-fitted.

    Every member leaves another fold of the training set out, so the rows left out tell how far predictions
    miss; that and the members' disagreement make the standard deviation. The library's defaults learn nothing
    from 30 rows (`min_child_samples` is 20); here leaf sizes and the number of leaves grow with the training set.

    Parameters
    ----------
    space
        A search space or its name.
    encoders
        Further encoders whose features join the space's own, such as proxy scores.
    target
        Transform of the accuracies that is fitted (`tauzero.surrogates.TARGETS`).
    members
        Folds, and models; 1 fits a single model to everything (its deviation then comes from a split of
        its own). None: 5 below 20,000 rows, else 1.
    num_trees
        Boosting rounds; None chooses by the size of the training set.
    learning_rate
        Shrinkage; None chooses by the size of the training set.
    num_leaves, min_child_samples
        Size of trees and of leaves; None chooses by the size of the training set.
    feature_fraction, subsample
        Share of features per tree, and of rows per round.
    n_jobs
        Threads; None uses what OpenMP allows. The result does not depend on it.
    random_state
        Seed of folds and subsampling.
    """

    name = "lightgbm"

    def __init__(
        self,
        space: SearchSpace | str,
        *,
        encoders: Sequence[EncoderLike] = (),
        target: str = "normal",
        members: int | None = None,
        num_trees: int | None = None,
        learning_rate: float | None = None,
        num_leaves: int | None = None,
        min_child_samples: int | None = None,
        feature_fraction: float = 0.5,
        subsample: float = 0.8,
        n_jobs: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.space = space
        self.encoders = encoders
        self.target = target
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

    def _parameters(self, n: int) -> tuple[dict[str, Any], int]:
        small = n < 1_000
        leaves = self.num_leaves or int(np.clip(n // 8, 7, 16 if small else 31 if n < 20_000 else 127))
        trees = self.num_trees or (100 if small else 400 if n < 20_000 else 1_000)
        return {
            "objective": "regression",
            "learning_rate": self.learning_rate or (0.12 if small else 0.08 if n < 20_000 else 0.1),
            "num_leaves": leaves,
            "min_data_in_leaf": self.min_child_samples or int(np.clip(n // 100, 2, 20)),
            "min_data_in_bin": 1 if small else 3,
            "max_bin": 63,
            "feature_fraction": self.feature_fraction,
            "bagging_fraction": max(self.subsample, min(1.0, 1.5 / n)),  # the library fails on a sample of no row
            "bagging_freq": 1,
            "lambda_l2": 1.0,
            "num_threads": self.n_jobs or 0,
            "deterministic": True,
            "force_row_wise": True,
            "verbose": -1,
        }, trees

    def _fit(self, rows: Genotypes, target: Floats, weight: Floats) -> None:
        import lightgbm

        for parameter in ("members", "num_trees", "num_leaves", "min_child_samples"):
            if getattr(self, parameter) is not None:
                check_integer(self, parameter, 1)
        if self.n_jobs is not None:
            check_integer(self, "n_jobs", 1)
        if self.learning_rate is not None:
            check_number(self, "learning_rate", 1e-6, 1.0)
        check_number(self, "feature_fraction", 1e-3, 1.0)
        check_number(self, "subsample", 1e-3, 1.0)
        features = self._features(rows)
        n = len(rows)
        members = self.members or (5 if n < 20_000 else 1)
        seeds = np.random.SeedSequence(self.random_state).generate_state(members + 1).astype(np.int64) % (1 << 30)
        folds = fold_numbers(n, max(members, 2), int(seeds[-1]))
        self._models: list[Booster] = []
        if n >= 4:
            for member in range(members):
                # A single member is judged on one fifth and then fitted to everything.
                inside = folds != member if members > 1 else fold_numbers(n, 5, int(seeds[-1])) != 0
                params, trees = self._parameters(int(inside.sum()))
                params["seed"] = int(seeds[member])
                booster = self._train(lightgbm, params, trees, features[inside], target[inside], weight[inside])
                self.unseen_[~inside] = booster.predict(features[~inside], num_threads=self.n_jobs or 0)
                if members > 1:
                    self._models.append(booster)
        if not self._models:
            params, trees = self._parameters(n)
            params["seed"] = int(seeds[0])
            self._models.append(self._train(lightgbm, params, trees, features, target, weight))
        known = np.isfinite(self.unseen_)
        error = (self.unseen_[known] - target[known]) ** 2
        self.noise_ = float(np.sqrt(error.mean())) if known.any() else 1.0
        inside_spread, self.typical_disagreement_ = typical_spreads(self._latent, features, self._features.unlabelled)
        self.unseen_std_[known] = scaled_deviation(inside_spread, float(inside_spread.mean()), self.noise_)[known]

    @staticmethod
    def _train(  # noqa: PLR0917
        lightgbm: Any,
        params: dict[str, Any],
        trees: int,
        features: npt.NDArray[np.float32],
        target: Floats,
        weight: Floats,
    ) -> Booster:
        data = lightgbm.Dataset(features, target, weight=weight, params=params)
        booster: Booster = lightgbm.train(params, data, num_boost_round=trees)
        return booster

    # -- prediction ---------------------------------------------------------------------------

    def _latent(self, features: npt.NDArray[np.float32]) -> Floats:
        """Predictions of every member, ``float64[members, n]``."""
        return np.stack([np.asarray(m.predict(features, num_threads=self.n_jobs or 0)) for m in self._models])

    def _predict_features(self, x: npt.NDArray[np.float32], *, with_std: bool) -> tuple[Floats, Floats]:
        del with_std
        latent = self._latent(x)
        mean, spread = latent.mean(axis=0), latent.std(axis=0)
        return mean, scaled_deviation(spread, self.typical_disagreement_, self.noise_)

    # -- files --------------------------------------------------------------------------------

    def _state(self) -> State:
        plain = {"noise": self.noise_, "typical_disagreement": self.typical_disagreement_}
        texts = {f"booster{k}.txt": m.model_to_string() for k, m in enumerate(self._models)}
        return plain, {}, texts

    def _restore(self, plain: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], texts: dict[str, str]) -> None:
        import lightgbm

        del arrays
        self.noise_ = float(plain["noise"])
        self.typical_disagreement_ = float(plain["typical_disagreement"])
        ordered = sorted(texts, key=lambda name: int(name.removeprefix("booster").removesuffix(".txt")))
        if not ordered:
            raise ValueError("there is no boosted model in it")
        try:
            self._models = [lightgbm.Booster(model_str=texts[name]) for name in ordered]
        except lightgbm.basic.LightGBMError as error:
            raise ValueError(f"LightGBM cannot read its own text: {error}") from error
