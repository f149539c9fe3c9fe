"""The contract of a surrogate: a scikit-learn estimator over genotypes, with uncertainty."""

from __future__ import annotations

__all__ = ["Surrogate"]

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal, overload

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import NotFittedError

from tauzero.spaces import Genotypes, SearchSpace, get
from tauzero.surrogates._target import TargetTransform
from tauzero.surrogates._validation import check_integer

Floats = npt.NDArray[np.float64]
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
    unseen_
        Prediction of the transformed target of each of these by a model that was not fitted on it,
        ``float64[n_train_]``, NaN where there is none: what stacks and deviations are calibrated on. Only on
        surrogates that can tell (`gaussian_process`, `lightgbm`).
    metadata_
        Plain values that describe the model (the card of a pretrained one); saved with it.
    """

    name: ClassVar[str]
    space: SearchSpace | str
    target: str
    random_state: int
    unseen_: Floats
    _estimator_type = "regressor"

    # -- to be written by a surrogate ---------------------------------------------------------

    @abstractmethod
    def _fit(self, rows: Genotypes, target: Floats, weight: Floats) -> None:
        """Fit different canonical rows to transformed targets; `weight` says how many measurements each had."""

    @abstractmethod
    def _predict(self, rows: Genotypes, *, with_std: bool) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the transformed target; the latter may be zeros unless `with_std`."""

    @property
    def _reads_features(self) -> bool:
        """Whether predictions depend on the space's feature map, whose fingerprint is then saved with the model."""
        return False

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
        self.target_ = TargetTransform(self.target)
        transformed = self.target_.fit_transform(values)
        self.n_train_ = len(rows)
        self.metadata_: dict[str, Any] = {}
        try:
            self._fit(rows, transformed, weight)
        except BaseException:
            del self.target_  # half fitted is not fitted
            raise

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
        space = self.space_
        index = space.index(space.canonical(rows))
        distinct, inverse, counts = np.unique(index, return_inverse=True, return_counts=True)
        mean = np.bincount(inverse.reshape(-1), weights=values) / counts
        return np.ascontiguousarray(space.enumerate()[distinct]), mean, counts.astype(np.float64)

    # -- predicting ---------------------------------------------------------------------------

    def _check_fitted(self) -> None:
        if not hasattr(self, "target_"):
            raise NotFittedError(
                f"This {type(self).__name__} is not fitted yet. Call 'fit' or load a saved model first."
            )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "target_")

    @overload
    def predict(self, genotypes: npt.ArrayLike, return_std: Literal[False] = False) -> Floats: ...

    @overload
    def predict(self, genotypes: npt.ArrayLike, return_std: Literal[True]) -> tuple[Floats, Floats]: ...

    def predict(
        self,
        genotypes: npt.ArrayLike,
        return_std: bool = False,
    ) -> Floats | tuple[Floats, Floats]:
        """Predict the metric.

        Parameters
        ----------
        genotypes
            ``int8[n, L]``; any n, a whole space in one call.
        return_std
            Return the standard deviation of the prediction too.

        Returns
        -------
        ``float64[n]`` in the unit of the training targets (percent for accuracies), or a pair of such.
        """
        self._check_fitted()
        space = self.space_
        index = space.index(space.canonical(space.validate(genotypes)))
        distinct, inverse = np.unique(index, return_inverse=True)
        inverse = inverse.reshape(-1)
        rows = space.enumerate()[distinct]
        mean, std = self._predict(rows, with_std=return_std)
        predicted = self.target_.inverse(mean)
        if not return_std:
            return predicted[inverse]
        # Half the width of the interval of one standard deviation either way, in the unit of y.
        spread = (self.target_.inverse(mean + std) - self.target_.inverse(mean - std)) / 2
        return predicted[inverse], np.maximum(spread, 0.0)[inverse]

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
