"""Checks of the parameters that the encoders made from unlabelled samples share."""

from __future__ import annotations

__all__ = ["check_integer", "check_number"]

import numbers


def check_integer(encoder: str, parameter: str, value: object, least: int) -> int:
    """Return a parameter as `int`.

    Raises
    ------
    ValueError
        Unless it is an integer of at least `least`.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < least:
        raise ValueError(
            f"The {parameter!r} parameter of {encoder} must be an integer of at least {least}. Got {value!r} instead."
        )
    return int(value)


def check_number(encoder: str, parameter: str, value: object, low: float, high: float) -> float:
    """Return a parameter as `float`.

    Raises
    ------
    ValueError
        Unless it is a number in [low, high].
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not low <= float(value) <= high:
        raise ValueError(
            f"The {parameter!r} parameter of {encoder} must be a number from {low} to {high}. Got {value!r} instead."
        )
    return float(value)
