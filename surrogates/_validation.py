"""Parameter checks in scikit-learn's form of words."""

from __future__ import annotations

__all__ = ["check_integer", "check_number"]

import numbers
from typing import Any


def check_integer(estimator: Any, parameter: str, least: int) -> None:
    """Raise `ValueError` unless a parameter of an estimator is an integer of at least `least`."""
    value = getattr(estimator, parameter)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(
            f"The {parameter!r} parameter of {type(estimator).__name__} must be an integer of at least {least}. "
            f"Got {value!r} instead."
        )


def check_number(estimator: Any, parameter: str, low: float, high: float) -> None:
    """Raise `ValueError` unless a parameter of an estimator is a number in [low, high]."""
    value = getattr(estimator, parameter)
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not low <= float(value) <= high:
        raise ValueError(
            f"The {parameter!r} parameter of {type(estimator).__name__} must be a number from {low} to {high}. "
            f"Got {value!r} instead."
        )
