"""The contract of a surrogate: a scikit-learn estimator over genotypes, with uncertainty."""

from __future__ import annotations

__all__ = ["Surrogate"]

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, overload

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import NotFittedError

from tauzero.encoders import EncoderLike, resolve
from tauzero.spaces import Genotypes, SearchSpace, get
from tauzero.surrogates._familiarity import Familiarity
from tauzero.surrogates._features import FeatureMap, feature_map
from tauzero.surrogates._target import TargetTransform
from tauzero.surrogates._validation import check_integer

Floats = npt.NDArray[np.float64]
#: Parameters that are no plain values: files keep them apart or leave them out.
NOT_SAVED = frozenset({"space", "progress", "encoders"})
_CHUNK = 65_536
_ANCHORS = 1_000  # training rows that new architectures are compared with
_SCORES = 2_000  # conformity scores that are kept
State = tuple[dict[str, Any], dict[str, npt.NDArray[Any]], dict[str, str]]


class Surrogate(RegressorMixin, BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
    """Predicts a metric of architectures from their genotypes.

    Subclasses store their constructor's arguments unchanged, and write `_fit`, `_predict`, `_state` and
    `_restore`. What this class adds for all of them: validation; equal networks in the training set are
    merged (their targets averaged, so a duplicate adds weight, not rows); targets are fitted through a
    monotone `TargetTransform`; a network that occurs more than once in a prediction is computed once;
    saving and loading without pickle.

    Attributes
    ----------
    n_train_
        Different networks that the model was fitted on.
    unseen_, unseen_std_
        Prediction of the transformed target of each of these by a model that was not fitted on it, and its
        standard deviation, ``float64[n_train_]``, NaN where there is none: what stacks are weighted by and
        intervals are calibrated on.
    conformity_
        Sorted ``float64[m]``: left-out errors in units of the predicted deviation, what intervals are read from.
    anchors_
        ``int8[m, L]``: training rows that `ood_score` compares with.
    metadata_
        Plain values that describe the model (the card of a pretrained one); saved with it.
    """

    name: ClassVar[str]
    space: SearchSpace | str
    encoders: Sequence[EncoderLike] = ()
    target: str
    random_state: int
    unseen_: Floats
    unseen_std_: Floats
    _extended: FeatureMap
    _estimator_type = "regressor"

    # -- to be written by a surrogate ---------------------------------------------------------

    @abstractmethod
    def _fit(self, rows: Genotypes, target: Floats, weight: Floats) -> None:
        """Fit different canonical rows to transformed targets; `weight` says how many measurements each had.

        Sets `unseen_` and `unseen_std_` for the rows that some part of the model was not fitted on: left-out
        folds of an ensemble (`_folds.py`), leave-one-out in closed form, or out-of-bag rows.
        """

    @abstractmethod
    def _predict(self, rows: Genotypes, *, with_std: bool) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the transformed target; the latter may be zeros unless `with_std`."""

    @property
    def _features(self) -> FeatureMap:
        """The features of the space, and of the encoders that the user added."""
        return self._extended if len(self.encoders) else feature_map(self.space_)

    def _join_encoders(self) -> None:
        """Make the feature map, before fitting or restoring, if there are encoders to join."""
        if len(self.encoders):
            joined = tuple(resolve(item, self.space_) for item in self.encoders)
            if not (hasattr(self, "_extended") and self._extended.extra == joined):
                self._extended = FeatureMap(self.space_, joined)

    def _share_features(self, other: Surrogate) -> None:
        """Use the feature map of another model with the same encoders: members of a stack encode once."""
        if len(self.encoders):
            self._extended = other._extended

    @abstractmethod
    def _state(self) -> State:
        """Plain values, arrays and texts (by file name) that `_restore` needs."""

    @abstractmethod
    def _restore(self, plain: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], texts: dict[str, str]) -> None:
        """Take back what `_state` gave."""

    # -- fitting ------------------------------------------------------------------------------

    @property
    def space_(self) -> SearchSpace:
        """The search space itself, also where its name was passed."""
        return get(self.space)

    def fit(self, genotypes: npt.ArrayLike, y: npt.ArrayLike) -> Surrogate:
        """Fit the model.

        Parameters
        ----------
        genotypes
            ``int8[n, L]``, members of the space, n ≥ 1. Equal networks are merged.
        y
            ``float[n]``: the metric, larger is better (accuracies in percent).

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there are no rows, the lengths differ, or a target is NaN or infinite.
        """
        check_integer(self, "random_state", 0)
        rows, values = self._check_training(genotypes, y)
        self._fit_networks(*self._merge(rows, values))
        return self

    def _fit_networks(self, rows: Genotypes, values: Floats, weight: Floats) -> None:
        """Fit different canonical rows to targets in their own unit; `fit` without its checks and merging."""
        self._join_encoders()
        self.target_ = TargetTransform(self.target)
        transformed = self.target_.fit_transform(values)
        self.n_train_ = len(rows)
        self.metadata_: dict[str, Any] = {}
        self.unseen_ = np.full(len(rows), np.nan)
        self.unseen_std_ = np.full(len(rows), np.nan)
        try:
            self._fit(rows, transformed, weight)
        except BaseException:
            del self.target_  # half fitted is not fitted
            raise
        self._calibrate(rows, transformed)

    def _check_training(self, genotypes: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Genotypes, Floats]:
        rows = self.space_.validate(genotypes)
        try:
            given = np.asarray(y)
            # Text such as "93.1" would be converted without a word, complex numbers be cut.
            values = None if given.dtype.kind in "USMmc" else given.astype(np.float64)
        except (TypeError, ValueError):
            values = None
        if values is None:
            raise ValueError("The 'y' argument must hold numbers. Got values that are none.")
        if values.ndim != 1 or len(values) != len(rows):
            raise ValueError(
                f"The 'y' argument must have one value per architecture, shape ({len(rows)},). Got {values.shape}."
            )
        if not len(rows):
            raise ValueError(f"{type(self).__name__} needs at least one training architecture. Got none.")
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise ValueError(
                f"The 'y' argument must be finite. Got {len(bad)} NaN or infinite of {len(values)} values, the first "
                f"({values[bad[0]]}) in row {bad[0]}: drop those rows before fitting."
            )
        return rows, values

    def _merge(self, rows: Genotypes, values: Floats) -> tuple[Genotypes, Floats, Floats]:
        """Average the targets of equal networks, rows in the order of the space."""
        distinct, inverse = self.space_.distinct(rows)
        counts = np.bincount(inverse)
        return distinct, np.bincount(inverse, weights=values) / counts, counts.astype(np.float64)

    def _calibrate(self, rows: Genotypes, target: Floats) -> None:
        """Keep what intervals and the out-of-distribution score compare with."""
        known = np.isfinite(self.unseen_) & np.isfinite(self.unseen_std_)
        scale = np.maximum(self.unseen_std_[known], 1e-9)
        scores = np.sort(np.abs(target[known] - self.unseen_[known]) / scale)
        if len(scores) > _SCORES:  # equally spaced ranks, rounded up
            scores = scores[np.ceil(np.arange(1, _SCORES + 1) * len(scores) / _SCORES).astype(np.int64) - 1]
        self.conformity_ = scores
        chosen = np.arange(len(rows))
        if len(rows) > _ANCHORS:
            chosen = np.sort(np.random.default_rng(self.random_state).choice(len(rows), _ANCHORS, replace=False))
        self.anchors_ = rows[chosen]
        self.__dict__.pop("_familiarity", None)

    # -- predicting ---------------------------------------------------------------------------

    def _check_fitted(self) -> None:
        if not hasattr(self, "target_"):
            raise NotFittedError(
                f"This {type(self).__name__} is not fitted yet. Call 'fit' or load a saved model first."
            )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "target_")

    @overload
    def predict(
        self, genotypes: npt.ArrayLike, return_std: Literal[False] = False, *, return_interval: None = None
    ) -> Floats: ...

    @overload
    def predict(
        self, genotypes: npt.ArrayLike, return_std: Literal[True], *, return_interval: None = None
    ) -> tuple[Floats, Floats]: ...

    @overload
    def predict(
        self, genotypes: npt.ArrayLike, return_std: Literal[False] = False, *, return_interval: float
    ) -> tuple[Floats, Floats]: ...

    @overload
    def predict(
        self, genotypes: npt.ArrayLike, return_std: Literal[True], *, return_interval: float
    ) -> tuple[Floats, Floats, Floats]: ...

    def predict(
        self,
        genotypes: npt.ArrayLike,
        return_std: bool = False,
        *,
        return_interval: float | None = None,
    ) -> Floats | tuple[Floats, Floats] | tuple[Floats, Floats, Floats]:
        """Predict the metric.

        Parameters
        ----------
        genotypes
            ``int8[n, L]``; any n, a whole space in one call.
        return_std
            Return the standard deviation of the prediction too.
        return_interval
            A level in (0, 1), such as 0.9: also return an interval that covers the metric of a network drawn
            like the training set with this probability, by conformal prediction over rows that the model left
            out (Barber et al., Annals of Statistics 49, 2021, "CV+"; scores scaled by the predicted deviation
            as in Lei et al., JASA 113, 2018, eq. 10). Outside of what it was trained on nothing is promised:
            see `ood_score`.

        Returns
        -------
        ``float64[n]`` in the unit of the training targets (percent for accuracies); with options a tuple of
        it, the standard deviation ``float64[n]``, and the interval ``float64[n, 2]`` (lower, upper ends).

        Raises
        ------
        ValueError
            If there are too few calibrated rows for an interval of that level.
        """
        self._check_fitted()
        rows, inverse = self.space_.distinct(self.space_.validate(genotypes))
        uncertain = return_std or return_interval is not None
        quantile = None if return_interval is None else self._conformal_quantile(return_interval)
        mean, std = self._predict(rows, with_std=uncertain)
        predicted = self.target_.inverse(mean)
        answer = [predicted[inverse]]
        if return_std:
            # Half the width of the interval of one standard deviation either way, in the unit of y.
            spread = (self.target_.inverse(mean + std) - self.target_.inverse(mean - std)) / 2
            answer.append(np.maximum(spread, 0.0)[inverse])
        if quantile is not None:
            ends = [self.target_.inverse(mean - quantile * std), self.target_.inverse(mean + quantile * std)]
            answer.append(np.stack(ends, axis=1)[inverse])
        return answer[0] if len(answer) == 1 else tuple(answer)  # type: ignore[return-value] # two or three of them

    def _conformal_quantile(self, level: float) -> float:
        """Multiple of the standard deviation whose interval covers a share `level` of new networks."""
        if isinstance(level, bool) or not isinstance(level, int | float | np.floating) or not 0 < level < 1:
            raise ValueError(
                f"The 'return_interval' argument must be a level between 0 and 1, such as 0.9. Got {level!r}."
            )
        scores = self.conformity_
        rounding = 1e-9  # 0.9 / (1 - 0.9) is a little more than 9
        rank = int(np.ceil(level * (len(scores) + 1) - rounding))
        if rank > len(scores):
            least = int(np.ceil(level / (1 - level) - rounding))
            raise ValueError(
                f"An interval of level {level} needs at least {least} training networks that the model was checked on. "
                f"This {type(self).__name__} has {len(scores)}: use a lower level, or more training rows."
            )
        return float(scores[rank - 1])

    @cached_property
    def _familiarity(self) -> Familiarity:
        return Familiarity.fit(self._features(self.anchors_))

    def ood_score(self, genotypes: npt.ArrayLike) -> Floats:
        """How unlike the training set architectures are, ``float64[n]``, at least 0.

        The larger of two: the distance of an architecture's graph features to its nearest training rows, and how far
        they leave the range of the training set; each in units of what 95 % of the training rows stay below when
        they are left out. Above 1 an architecture is unlike what was learned from: ranks, deviations and intervals
        there rest on extrapolation (``docs/transfer.md`` has measurements; intervals widened by this factor
        still covered cells one vertex larger than any in training).
        """
        self._check_fitted()
        rows, inverse = self.space_.distinct(self.space_.validate(genotypes))
        score = np.empty(len(rows))
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, start + _CHUNK)
            score[part] = self._familiarity.score(self._features(rows[part]))
        return score[inverse]

    def on(self, space: SearchSpace | str) -> Surrogate:
        """Return this model for larger cells of the same kind, such as ``"nasbench201x(nodes=5)"``; see `extend`."""
        from tauzero.surrogates.extended import extend

        found = extend(self, space)
        assert isinstance(found, Surrogate)
        return found

    # -- files --------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write the model into a folder (JSON, safetensors, text; no pickle), atomically. Returns the folder."""
        from tauzero.surrogates._files import save_surrogate

        self._check_fitted()
        return save_surrogate(self, Path(folder))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = True
        return tags
