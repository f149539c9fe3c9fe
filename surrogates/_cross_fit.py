"""What cross-fitted ensembles share: every member leaves another fold of the training set out."""

from __future__ import annotations

__all__ = ["CrossFitted", "LightGBMParameters"]

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tauzero.spaces import Genotypes
from tauzero.surrogates._feature_surrogate import FeatureSurrogate
from tauzero.surrogates._folds import fold_numbers, left_out_spread, scaled_deviation
from tauzero.surrogates._validation import check_integer, check_number
from tauzero.surrogates.base import Floats

Features = npt.NDArray[np.float32]
_FEW = 1_000  # rows below which many members of few features each are better
_SINGLE_FROM = 20_000  # rows from which one model is enough


class CrossFitted(FeatureSurrogate):
    """An ensemble over folds: rows left out tell how far predictions miss, disagreement tells where.

    A subclass writes `_train_member` and `_member_latent`, keeps the parameters `members` and `n_jobs`, and
    saves `_models`.
    """

    members: int | None
    n_jobs: int | None
    _members_of_few: ClassVar[int] = 5  # members below `_FEW` rows
    _models: list[Any]

    @abstractmethod
    def _train_member(self, x: Features, target: Floats, weight: Floats, seed: int) -> Any:
        """Fit one model to ``float32[n, d]`` and ``float64[n]``."""

    @abstractmethod
    def _member_latent(self, model: Any, x: Features) -> Floats:
        """Predictions of one model, ``float64[n]``."""

    def _check_members(self) -> None:
        if self.members is not None:
            check_integer(self, "members", 1)
        if self.n_jobs is not None:
            check_integer(self, "n_jobs", 1)

    def _cross_fit(self, rows: Genotypes, target: Floats, weight: Floats) -> Features:
        """Fit the members and set `unseen_`; returns the features of the training rows, ``float32[n, d]``."""
        x = self._features(rows)
        n = len(rows)
        members = self.members or (self._members_of_few if n < _FEW else 5 if n < _SINGLE_FROM else 1)
        seeds = np.random.SeedSequence(self.random_state).generate_state(members + 1).astype(np.int64) % (1 << 30)
        folds = fold_numbers(n, max(members, 2), int(seeds[-1]))
        self._models = []
        self._left_out = folds == np.arange(members)[:, None]
        if n >= 4:
            for member in range(members):
                # A single member is judged on one fifth and then fitted to everything.
                inside = folds != member if members > 1 else fold_numbers(n, 5, int(seeds[-1])) != 0
                model = self._train_member(x[inside], target[inside], weight[inside], int(seeds[member]))
                self._leave_out(model, x, ~inside)
                if members > 1:
                    self._models.append(model)
        if not self._models:
            self._models.append(self._train_member(x, target, weight, int(seeds[0])))
        return x

    def _leave_out(self, model: Any, x: Features, outside: npt.NDArray[np.bool_]) -> None:
        """Keep what a member says of the rows that it was not fitted on."""
        self.unseen_[outside] = self._member_latent(model, x[outside])

    def _calibrate_spread(self, x: Features, target: Floats) -> None:
        """Scale the members' disagreement to the error on rows left out."""
        known = np.isfinite(self.unseen_)
        error = (self.unseen_[known] - target[known]) ** 2
        self.noise_ = float(np.sqrt(error.mean())) if known.any() else 1.0
        latent = self._latent(x)
        left_out = self._left_out if len(latent) > 1 else np.zeros(latent.shape, dtype=np.bool_)
        spread, self.typical_disagreement_ = left_out_spread(latent, left_out)
        self.unseen_std_[known] = scaled_deviation(spread, self.typical_disagreement_, self.noise_)[known]

    def _latent(self, x: Features) -> Floats:
        """Predictions of every member, ``float64[members, n]``."""
        return np.stack([self._member_latent(model, x) for model in self._models])

    def _predict_features(self, x: Features, *, with_std: bool) -> tuple[Floats, Floats]:
        del with_std
        latent = self._latent(x)
        mean, spread = latent.mean(axis=0), latent.std(axis=0)
        return mean, scaled_deviation(spread, self.typical_disagreement_, self.noise_)


class LightGBMParameters(CrossFitted):
    """Parameters of the surrogates that LightGBM grows trees for; what is None is chosen by the training set's size."""

    num_trees: int | None
    learning_rate: float | None
    num_leaves: int | None
    min_child_samples: int | None
    feature_fraction: float | None
    subsample: float

    def _check_parameters(self) -> None:
        self._check_members()
        for parameter in ("num_trees", "num_leaves", "min_child_samples"):
            if getattr(self, parameter) is not None:
                check_integer(self, parameter, 1)
        if self.learning_rate is not None:
            check_number(self, "learning_rate", 1e-6, 1.0)
        if self.feature_fraction is not None:
            check_number(self, "feature_fraction", 1e-3, 1.0)
        check_number(self, "subsample", 1e-3, 1.0)

    def _parameters(self, n: int, seed: int) -> tuple[dict[str, Any], int]:
        """LightGBM's parameters for n rows, and the number of rounds.

        The library's defaults learn nothing from 30 rows (`min_child_samples` is 20); here leaf sizes and the
        number of leaves grow with the training set.
        """
        small = n < _FEW
        leaves = self.num_leaves or int(np.clip(n // 8, 7, 16 if small else 31 if n < _SINGLE_FROM else 127))
        trees = self.num_trees or (100 if small else 400 if n < _SINGLE_FROM else 1_000)
        return {
            "objective": "regression",
            "learning_rate": self.learning_rate or (0.12 if small else 0.08 if n < _SINGLE_FROM else 0.1),
            "num_leaves": leaves,
            "min_data_in_leaf": self.min_child_samples or int(np.clip(n // 100, 2, 20)),
            "min_data_in_bin": 1 if small else 3,
            "max_bin": 63,
            "feature_fraction": self.feature_fraction or (0.2 if small else 0.5),
            "bagging_fraction": max(self.subsample, min(1.0, 1.5 / n)),  # the library fails on a sample of no row
            "bagging_freq": 1,
            "lambda_l2": 1.0,
            "num_threads": self.n_jobs or 0,
            "deterministic": True,
            "force_row_wise": True,
            "verbose": -1,
            "seed": seed,
        }, trees
