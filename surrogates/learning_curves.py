"""Predictors over learning curves: what a network's first epochs say about its last.

`create` makes one by name and `names` lists them; `curves_from` reads the curves of a table with their cost, and
`tau_by_cost` measures how well predictors rank for the training that they need.
"""

from __future__ import annotations

__all__ = [
    "CurvePredictor",
    "EarlyStopping",
    "Extrapolation",
    "LcSVR",
    "LearningCurves",
    "SumOfCurve",
    "create",
    "curves_from",
    "names",
    "tau_by_cost",
]

from typing import Any

from tauzero.spaces import unknown_name
from tauzero.surrogates._curves_base import CurvePredictor, LearningCurves
from tauzero.surrogates._curves_cost import curves_from, tau_by_cost
from tauzero.surrogates._curves_extrapolation import Extrapolation
from tauzero.surrogates._curves_sums import EarlyStopping, SumOfCurve
from tauzero.surrogates._curves_svr import LcSVR

_PREDICTORS: dict[str, type[CurvePredictor]] = {
    EarlyStopping.name: EarlyStopping,
    Extrapolation.name: Extrapolation,
    LcSVR.name: LcSVR,
    SumOfCurve.name: SumOfCurve,
}


def names() -> list[str]:
    """Names of all predictors over learning curves, sorted."""
    return sorted(_PREDICTORS)


def create(name: str, **params: Any) -> CurvePredictor:
    """Make a predictor over learning curves.

    Parameters
    ----------
    name
        One of `names`.
    **params
        Parameters of that predictor; all take ``losses``.

    Raises
    ------
    UnknownNameError
        If there is no such predictor.
    ValueError
        If it has no such parameter.
    """
    if name not in _PREDICTORS:
        raise unknown_name("curve predictor", name, _PREDICTORS)
    made = _PREDICTORS[name]
    known = set(made._get_param_names())
    wrong = sorted(set(params) - known)
    if wrong:
        raise ValueError(
            f"The curve predictor {name!r} has no parameter {', '.join(map(repr, wrong))}. "
            f"Known: {', '.join(sorted(known))}."
        )
    return made(**params)
