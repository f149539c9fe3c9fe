"""Support vector regression on the beginning of a learning curve, and optionally on the architecture."""

from __future__ import annotations

__all__ = ["LcSVR"]

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.encoders import EncoderLike, resolve
from tauzero.spaces import SearchSpace, get
from tauzero.surrogates._curves_base import CurvePredictor, Epochs, Floats
from tauzero.surrogates._features import FeatureMap, feature_map
from tauzero.surrogates._folds import fold_numbers
from tauzero.surrogates._target import TargetTransform
from tauzero.surrogates._validation import check_integer, check_number

_CHUNK = 65_536
_CHOOSE_ROWS = 500  # the kernel and the penalty are chosen on at most so many rows: their cost grows with the square
_PENALTIES = (1.0, 10.0, 100.0)
_WIDTHS = (0.01, 0.03, 0.1, 0.3, 1.0)
_SHARE = 1.0
_OTHER_SHARES = (0.1, 0.3, 3.0)
_FEWEST = 10  # rows below which nothing is chosen


class LcSVR(CurvePredictor):
    """ν-support vector regression on learning curves (Baker et al., ICLR 2018 workshop, section 3.1).

    Reads the values, their first and their second differences, and with `space` the architecture, as in the paper; the
    final value comes from other architectures that were trained to the end. Penalty, width of the kernel and the
    weight of the architecture are chosen by cross-validation within the training rows (the paper draws them at
    random); copies of one network, or of one curve, stay in one fold.

    Parameters
    ----------
    losses
        The curves are losses. What is predicted is `y`, in any case.
    space
        A search space or its name: `fit` and `predict` then need the genotypes. None for the curve only.
    encoders
        Encoders of that space whose features join its own, such as proxy scores.
    nu
        ν of the regression: about the share of rows that become support vectors.
    folds
        Of the cross-validation.
    target
        Transform of `y` that is fitted (`tauzero.surrogates.TARGETS`).
    random_state
        Seed of the folds.

    Attributes
    ----------
    penalty_, width_, share_
        What was chosen: C, γ of the kernel, and the weight of the architecture beside a curve of weight 1.
    noise_
        Root mean squared error on rows left out, of the transformed target: the standard deviation.
    """

    name = "lc_svr"
    needs_fit = True
    has_std = True

    def __init__(
        self,
        *,
        losses: bool = False,
        space: SearchSpace | str | None = None,
        encoders: Sequence[EncoderLike] = (),
        nu: float = 0.5,
        folds: int = 5,
        target: str = "mixed",
        random_state: int = 0,
    ) -> None:
        self.losses = losses
        self.space = space
        self.encoders = encoders
        self.nu = nu
        self.folds = folds
        self.target = target
        self.random_state = random_state

    # -- features -----------------------------------------------------------------------------

    def _curve_features(self, values: Floats) -> Floats:
        """Values with gaps filled from the value before (else after), and their differences, ``float64[n, 3t-3]``."""
        filled = _filled(values)
        parts = [filled, np.diff(filled, axis=1), np.diff(filled, n=2, axis=1)]
        return np.concatenate([p for p in parts if p.shape[1]], axis=1)

    def _columns(self, values: Floats, genotypes: npt.ArrayLike | None) -> tuple[Floats, Floats]:
        """Standardised curve and architecture features; a unit of distance in each is a typical one."""
        curve = (self._curve_features(values) - self._mean) / self._scale
        curve /= np.sqrt(curve.shape[1])
        if self._map is None:
            return curve, np.zeros((len(curve), 0))
        x = self._map(genotypes if genotypes is not None else ()).astype(np.float64)
        for group in self._map.groups:
            x[:, group] /= np.sqrt(len(group) * len(self._map.groups))
        return curve, x

    def _check_genotypes(self, genotypes: npt.ArrayLike | None, n: int) -> None:
        if self.space is None:
            if genotypes is not None:
                raise ValueError("The 'genotypes' argument is read with a 'space' only: LcSVR(space=…).")
        elif genotypes is None:
            raise ValueError(
                f"This LcSVR reads architectures of {get(self.space).name}: pass the 'genotypes' argument. Got None."
            )
        elif len(get(self.space).validate(genotypes)) != n:
            raise ValueError(
                f"The 'genotypes' argument must have one row per curve, {n}. Got {len(np.asarray(genotypes))}."
            )

    # -- fitting ------------------------------------------------------------------------------

    def _fit(self, values: Floats, y: Floats, epochs: Epochs, genotypes: npt.ArrayLike | None) -> None:
        del epochs
        check_integer(self, "folds", 2)
        check_integer(self, "random_state", 0)
        check_number(self, "nu", 1e-3, 1.0)
        self._check_genotypes(genotypes, len(values))
        self._map: FeatureMap | None = None
        if self.space is not None:
            space = get(self.space)
            extra = tuple(resolve(item, space) for item in self.encoders)
            self._map = FeatureMap(space, extra) if extra else feature_map(space)
        raw = self._curve_features(values)
        self._mean, spread = raw.mean(axis=0), raw.std(axis=0)
        self._scale = np.where(spread > 0, spread, 1.0)
        self.target_ = TargetTransform(self.target)
        goal = self.target_.fit_transform(y)
        blocks = self._columns(values, genotypes)
        if genotypes is not None and self.space is not None:
            same = get(self.space).distinct(genotypes)[1]
        else:
            same = np.unique(_filled(values), axis=0, return_inverse=True)[1].reshape(-1)
        self._choose(blocks, goal, same)
        self._model = self._regression(self.penalty_, self.width_).fit(self._joined(blocks, self.share_), goal)

    def _regression(self, penalty: float, width: float) -> Any:
        from sklearn.svm import NuSVR

        return NuSVR(nu=float(self.nu), C=penalty, gamma=width)

    @staticmethod
    def _joined(blocks: tuple[Floats, Floats], share: float) -> Floats:
        return np.concatenate([blocks[0], np.sqrt(share) * blocks[1]], axis=1)

    def _choose(self, blocks: tuple[Floats, Floats], goal: Floats, same: npt.NDArray[np.intp]) -> None:
        """Pick penalty, width and share by the error on rows left out; the same rows tell the deviation."""
        self.penalty_, self.width_, self.share_ = 10.0, 0.1, _SHARE
        self.noise_ = 1.0  # of a standardised target, when there is nothing to judge by
        rng = np.random.default_rng(self.random_state)
        chosen = np.arange(len(goal))
        if len(goal) > _CHOOSE_ROWS:
            chosen = np.sort(rng.choice(len(goal), _CHOOSE_ROWS, replace=False))
        groups, member = np.unique(same[chosen], return_inverse=True)
        if len(groups) < _FEWEST:
            return
        fold = fold_numbers(len(groups), min(self.folds, len(groups)), self.random_state)[member]
        self.noise_ = np.inf

        def judge(share: float, width: float, penalty: float) -> None:
            x, y = self._joined(blocks, share)[chosen], goal[chosen]
            missed = np.empty(len(chosen))
            for left_out in range(int(fold.max()) + 1):
                out = fold == left_out
                model = self._regression(penalty, width).fit(x[~out], y[~out])
                missed[out] = model.predict(x[out]) - y[out]
            error = float(np.sqrt(np.mean(missed**2)))
            if error < self.noise_:
                self.noise_, self.penalty_, self.width_, self.share_ = error, penalty, width, share

        for width, penalty in product(_WIDTHS, _PENALTIES):
            judge(_SHARE, width, penalty)
        if self._map is not None:  # in turns: all combinations would take twice as long
            for share in _OTHER_SHARES:
                judge(share, self.width_, self.penalty_)
            for width, penalty in product(_WIDTHS, _PENALTIES):
                judge(self.share_, width, penalty)

    def _predict(self, values: Floats, epochs: Epochs, genotypes: Any) -> tuple[Floats, Floats]:
        del epochs
        self._check_genotypes(genotypes, len(values))
        latent = np.empty(len(values))
        for start in range(0, len(values), _CHUNK):
            part = slice(start, start + _CHUNK)
            blocks = self._columns(values[part], None if genotypes is None else genotypes[part])
            latent[part] = self._model.predict(self._joined(blocks, self.share_))
        upper, lower = self.target_.inverse(latent + self.noise_), self.target_.inverse(latent - self.noise_)
        return self.target_.inverse(latent), (upper - lower) / 2


def _filled(values: Floats) -> Floats:
    """Replace NaN by the value before it in the row, at the start by the first one."""
    known = np.isfinite(values)
    column = np.maximum.accumulate(np.where(known, np.arange(values.shape[1]), 0), axis=1)
    filled = np.take_along_axis(values, column, axis=1)
    first = values[np.arange(len(values)), np.argmax(known, axis=1)]
    return np.where(np.isnan(filled), first[:, None], filled)
