"""The contract of a predictor that reads the beginning of a learning curve."""

from __future__ import annotations

__all__ = ["CurvePredictor", "Floats", "LearningCurves", "check_curves", "last_seen"]

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, overload

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator

Floats = npt.NDArray[np.float64]
Epochs = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LearningCurves:
    """What is known of some architectures after some epochs of training.

    Attributes
    ----------
    values
        ``float64[n, t]``: the metric (accuracies in percent); NaN where nothing was measured.
    epochs
        ``int64[t]``: after how many epochs, ascending.
    each_seconds
        ``float64[n, t]``: training seconds up to each of these epochs; NaN where no time is known.
    one_run
        Whether the epochs are checkpoints of one training, or trainings of their own, whose times add up.
    """

    values: Floats
    epochs: Epochs
    each_seconds: Floats
    one_run: bool = False

    @property
    def seconds(self) -> Floats:
        """Simulated training seconds that each curve cost, ``float64[n]``."""
        return self.each_seconds[:, -1] if self.one_run else self.each_seconds.sum(axis=1)

    def until(self, epoch: int) -> LearningCurves:
        """The curves up to an epoch."""
        count = int(np.searchsorted(self.epochs, epoch, side="right"))
        if not count:
            raise ValueError(f"The 'epoch' argument must be at least the first epoch, {self.epochs[0]}. Got {epoch!r}.")
        return LearningCurves(self.values[:, :count], self.epochs[:count], self.each_seconds[:, :count], self.one_run)


class CurvePredictor(BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
    """Predicts how good a network will be in the end from what is known early in its training.

    Subclasses store their constructor's arguments unchanged and write `_predict`, and `_fit` where something is
    learned. Curves are ``float[n, t]``, one row per architecture; NaN stands for "not measured", anywhere in a
    row. Predictions are ``float64[n]``, larger is better; NaN for a row without any value.

    Parameters
    ----------
    losses
        The curves are losses: smaller is better. They are negated first, so that a prediction is minus a loss.
    """

    name: ClassVar[str]
    needs_fit: ClassVar[bool] = False  # whether final values of other architectures are needed
    has_std: ClassVar[bool] = False  # whether `return_std` is possible
    last_only: ClassVar[bool] = False  # whether only the last value of a curve is read
    losses: bool

    def fit(
        self,
        curves: npt.ArrayLike,
        y: npt.ArrayLike | None = None,
        epochs: npt.ArrayLike | None = None,
        *,
        genotypes: npt.ArrayLike | None = None,
    ) -> CurvePredictor:
        """Learn from architectures whose final value is known; predictors that learn nothing check their input.

        Parameters
        ----------
        curves
            ``float[n, t]``, NaN where nothing was measured.
        y
            ``float[n]``: the final metric, larger is better. Not needed unless ``needs_fit``.
        epochs
            ``int[t]``: after how many epochs each column was measured, ascending; None for 1 to t.
        genotypes
            ``int8[n, L]``: the architectures, for predictors that read them too.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a shape is wrong, a value is infinite, or `y` is missing or not finite where it is needed.
        """
        values, at = check_curves(curves, epochs, losses=self.losses)
        if not self.needs_fit:
            return self
        target = _check_target(self, values, y)
        self._fit(values, target, at, genotypes)
        self.epochs_ = at
        return self

    @overload
    def predict(
        self,
        curves: npt.ArrayLike,
        epochs: npt.ArrayLike | None = None,
        *,
        genotypes: npt.ArrayLike | None = None,
        return_std: Literal[False] = False,
    ) -> Floats: ...

    @overload
    def predict(
        self,
        curves: npt.ArrayLike,
        epochs: npt.ArrayLike | None = None,
        *,
        genotypes: npt.ArrayLike | None = None,
        return_std: Literal[True],
    ) -> tuple[Floats, Floats]: ...

    def predict(
        self,
        curves: npt.ArrayLike,
        epochs: npt.ArrayLike | None = None,
        *,
        genotypes: npt.ArrayLike | None = None,
        return_std: bool = False,
    ) -> Floats | tuple[Floats, Floats]:
        """Predict the final metric, or a score that ranks like it.

        Parameters
        ----------
        curves, epochs, genotypes
            As for `fit`; a fitted predictor takes the epochs that it was fitted with.
        return_std
            Return the standard deviation of the prediction too (`has_std` says who can).

        Returns
        -------
        ``float64[n]``, larger is better, NaN for rows without a value; with `return_std` a pair of such arrays.

        Raises
        ------
        ValueError
            If a shape is wrong or a value infinite, or a deviation is asked for that there is not.
        NotFittedError
            If this predictor has to be fitted first.
        """
        if return_std and not self.has_std:
            raise ValueError(
                f"The 'return_std' argument must be False: {type(self).__name__} is a score without a deviation. "
                "Extrapolation and LcSVR have one."
            )
        self._check_fitted()
        values, at = check_curves(curves, epochs, losses=self.losses)
        fitted = getattr(self, "epochs_", None)
        if fitted is not None and not np.array_equal(fitted, at):
            raise ValueError(
                f"The 'epochs' argument must be those of the training curves, {fitted.tolist()}. Got {at.tolist()}."
            )
        known = np.isfinite(values).any(axis=1)
        mean, std = np.full(len(values), np.nan), np.full(len(values), np.nan)
        if known.any():
            chosen = None if genotypes is None else np.asarray(genotypes)
            if chosen is not None and len(chosen) != len(values):
                raise ValueError(
                    f"The 'genotypes' argument must have one row per curve, {len(values)}. Got {len(chosen)}."
                )
            mean[known], std[known] = self._predict(values[known], at, None if chosen is None else chosen[known])
        return (mean, std) if return_std else mean

    def _check_fitted(self) -> None:
        from sklearn.exceptions import NotFittedError

        if self.needs_fit and not hasattr(self, "epochs_"):
            raise NotFittedError(
                f"This {type(self).__name__} is not fitted yet. Call 'fit' with curves of architectures whose "
                "final metric is known."
            )

    def __sklearn_is_fitted__(self) -> bool:
        return not self.needs_fit or hasattr(self, "epochs_")

    def _fit(self, values: Floats, y: Floats, epochs: Epochs, genotypes: npt.ArrayLike | None) -> None:
        """Learn from valid input; `values` are larger where better."""
        raise NotImplementedError

    @abstractmethod
    def _predict(
        self, values: Floats, epochs: Epochs, genotypes: npt.NDArray[np.generic] | None
    ) -> tuple[Floats, Floats]:
        """Predict rows with at least one value each; the second part is the deviation (NaN without `has_std`)."""


def check_curves(curves: npt.ArrayLike, epochs: npt.ArrayLike | None, *, losses: bool = False) -> tuple[Floats, Epochs]:
    """Values ``float64[n, t]``, larger is better, and epochs ``int64[t]``; `ValueError` if that is not what came."""
    if losses not in {True, False}:
        raise ValueError(f"The 'losses' parameter must be True or False. Got {losses!r} instead.")
    values = _numbers("curves", curves)
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(
            f"The 'curves' argument must have one row per architecture and at least one column, [n, t]. "
            f"Got shape {values.shape}."
        )
    infinite = np.argwhere(np.isinf(values))
    if len(infinite):
        row, column = infinite[0].tolist()
        raise ValueError(
            f"The 'curves' argument must be finite, or NaN where nothing was measured. Got {values[row, column]} in "
            f"row {row}, column {column}: replace it by NaN, or by the value of a network that learned nothing."
        )
    count = values.shape[1]
    if epochs is None:
        at = np.arange(1, count + 1)
    else:
        given = _numbers("epochs", epochs)
        if given.shape != (count,) or not np.array_equal(given, np.floor(given)) or given[0] < 1:
            raise ValueError(
                f"The 'epochs' argument must hold one positive integer for each of the {count} columns. Got {epochs!r}."
            )
        if (np.diff(given) <= 0).any():
            raise ValueError(f"The 'epochs' argument must be ascending. Got {given.astype(np.int64).tolist()}.")
        at = given.astype(np.int64)
    return (-values if losses else values), at


def _numbers(argument: str, given: npt.ArrayLike) -> Floats:
    try:
        array = np.asarray(given)
        # Text such as "93.1" would be converted without a word, complex numbers be cut.
        values = None if array.dtype.kind in "USMmc" else array.astype(np.float64)
    except (TypeError, ValueError):
        values = None
    if values is None:
        raise ValueError(f"The {argument!r} argument must hold numbers. Got values that are none.")
    return values


def _check_target(predictor: CurvePredictor, values: Floats, y: npt.ArrayLike | None) -> Floats:
    if y is None:
        raise ValueError(f"{type(predictor).__name__} learns from final values: pass the 'y' argument. Got None.")
    target = _numbers("y", y)
    if target.shape != (len(values),):
        raise ValueError(f"The 'y' argument must have one value per curve, ({len(values)},). Got shape {target.shape}.")
    bad = np.flatnonzero(~np.isfinite(target))
    if len(bad):
        raise ValueError(
            f"The 'y' argument must be finite. Got {target[bad[0]]} in row {bad[0]}: drop such rows before fitting."
        )
    empty = np.flatnonzero(~np.isfinite(values).any(axis=1))
    if len(empty) or not len(values):
        where = f"row {empty[0]} is NaN throughout" if len(empty) else "no row"
        raise ValueError(
            f"The 'curves' argument must have a value in every training row, and at least one row. Got {where}."
        )
    return target


def last_seen(values: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Last value of each row that is not NaN, ``float64[n]``, and its column; every row must have one."""
    column = values.shape[1] - 1 - np.argmax(np.isfinite(values)[:, ::-1], axis=1)
    return values[np.arange(len(values)), column], column
