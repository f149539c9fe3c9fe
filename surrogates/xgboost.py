"""Gradient boosting by XGBoost on graph features (extra `xgboost`)."""

from __future__ import annotations

__all__ = ["XGBoost"]

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.encoders import EncoderLike
from tauzero.spaces import Genotypes, MissingExtraError, SearchSpace
from tauzero.surrogates._cross_fit import CrossFitted, Features
from tauzero.surrogates._validation import check_integer, check_number
from tauzero.surrogates.base import Floats, State


def _library() -> Any:
    try:
        import xgboost
    except ImportError as error:
        raise MissingExtraError(
            "The surrogate 'xgboost' needs the package xgboost. Install it with: pip install 'tauzero[xgboost]'"
        ) from error
    return xgboost


class XGBoost(CrossFitted):
    """Gradient boosted trees by XGBoost (Chen and Guestrin, KDD 2016), cross-fitted as `LightGBM` is.

    Trees grow leaf by leaf on binned features. A model is saved as XGBoost's own JSON.

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
    num_leaves
        Leaves of a tree, at most; None chooses by the size of the training set.
    min_child_weight
        Measurements in a leaf, at least.
    feature_fraction, subsample
        Share of features per tree, and of rows per round.
    n_jobs
        Threads; None uses all cores. Sums that threads share are rounded differently, so that another number
        of them may change the last digits.
    random_state
        Seed of folds and subsampling.

    Raises
    ------
    MissingExtraError
        On fitting or loading, if the package is not installed.
    """

    name = "xgboost"

    def __init__(
        self,
        space: SearchSpace | str,
        *,
        encoders: Sequence[EncoderLike] = (),
        target: str = "mixed",
        members: int | None = None,
        num_trees: int | None = None,
        learning_rate: float | None = None,
        num_leaves: int | None = None,
        min_child_weight: float = 2.0,
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
        self.min_child_weight = min_child_weight
        self.feature_fraction = feature_fraction
        self.subsample = subsample
        self.n_jobs = n_jobs
        self.random_state = random_state

    # -- fitting ------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        self._check_members()
        if self.num_trees is not None:
            check_integer(self, "num_trees", 1)
        if self.num_leaves is not None:
            check_integer(self, "num_leaves", 2)
        if self.learning_rate is not None:
            check_number(self, "learning_rate", 1e-6, 1.0)
        check_number(self, "min_child_weight", 0.0, 1e9)
        check_number(self, "feature_fraction", 1e-3, 1.0)
        check_number(self, "subsample", 1e-3, 1.0)

    def _parameters(self, n: int) -> tuple[dict[str, Any], int]:
        small, single = n < 1_000, n >= 20_000
        leaves = self.num_leaves or int(np.clip(n // 8, 7, 16 if small else 127 if single else 31))
        rounds = self.num_trees or (100 if small else 1_000 if single else 400)
        return {
            "objective": "reg:squarederror",
            "tree_method": "hist",
            "device": "cpu",
            "grow_policy": "lossguide",
            "max_depth": 0,
            "max_leaves": leaves,
            "max_bin": 64,
            "learning_rate": self.learning_rate or (0.12 if small else 0.08),
            "min_child_weight": self.min_child_weight,
            "colsample_bytree": self.feature_fraction,
            "subsample": max(self.subsample, min(1.0, 1.5 / n)),
            "reg_lambda": 1.0,
            "nthread": self.n_jobs or 0,
            "verbosity": 0,
        }, rounds

    def _fit(self, rows: Genotypes, target: Floats, weight: Floats) -> None:
        _library()
        self._check_parameters()
        x = self._cross_fit(rows, target, weight)
        self._calibrate_spread(x, target)

    def _train_member(self, x: Features, target: Floats, weight: Floats, seed: int) -> Any:
        xgboost = _library()
        params, rounds = self._parameters(len(x))
        data = xgboost.QuantileDMatrix(x, target, weight=weight, max_bin=params["max_bin"], nthread=params["nthread"])
        return xgboost.train(params | {"seed": seed}, data, num_boost_round=rounds)

    # -- prediction ---------------------------------------------------------------------------

    def _member_latent(self, model: Any, x: Features) -> Floats:
        if not len(x):
            return np.zeros(0)
        return np.asarray(model.inplace_predict(x), dtype=np.float64)

    # -- files --------------------------------------------------------------------------------

    def _state(self) -> State:
        plain = {"noise": self.noise_, "typical_disagreement": self.typical_disagreement_}
        texts = {f"booster{k}.txt": m.save_raw("json").decode() for k, m in enumerate(self._models)}
        return plain, {}, texts

    def _restore(self, plain: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], texts: dict[str, str]) -> None:
        del arrays
        xgboost = _library()
        self.noise_ = float(plain["noise"])
        self.typical_disagreement_ = float(plain["typical_disagreement"])
        ordered = sorted(texts, key=lambda name: int(name.removeprefix("booster").removesuffix(".txt")))
        if not ordered:
            raise ValueError("there is no boosted model in it")
        try:
            self._models = [
                xgboost.Booster({"nthread": self.n_jobs or 0}, model_file=bytearray(texts[k].encode())) for k in ordered
            ]
        except xgboost.core.XGBoostError as error:
            raise ValueError(f"XGBoost cannot read its own text: {error}") from error
        columns = len(self._features.names)
        if any(m.num_features() != columns for m in self._models):
            raise ValueError(f"its trees do not read {columns} features")
