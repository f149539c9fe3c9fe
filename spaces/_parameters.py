"""Names of spaces that have parameters: ``nasbench201x(nodes=6,operations=none+skip_connect+conv_3x3)``."""

from __future__ import annotations

__all__ = ["check_bound", "check_operations", "parse_name", "written_name"]

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tauzero.spaces.errors import unknown_name

_NAME = re.compile(r"(\w+)(?:\((.*)\))?", re.DOTALL)
_FORM = "Expected a form like 'nasbench201x(nodes=6,operations=none+skip_connect+conv_3x3)'."


def parse_name(text: str) -> tuple[str, dict[str, Any]]:
    """Split a name into that of the registry and its parameters: integers, tuples of names joined by ``+``, or names.

    Raises
    ------
    ValueError
        If the part in brackets is not a list of NAME=VALUE.
    """
    match = _NAME.fullmatch(text.strip())
    if match is None or match[2] is None:
        return (text if match is None else match[1]), {}
    found: dict[str, Any] = {}
    for part in (p.strip() for p in match[2].split(",")):
        key, equals, value = (p.strip() for p in part.partition("="))
        if not part and not match[2].strip():
            continue
        if not (key.isidentifier() and equals and value) or key in found:
            raise ValueError(f"Cannot read the parameters of the search space {text!r}. {_FORM}")
        found[key] = int(value) if value.isdecimal() else tuple(value.split("+")) if "+" in value else value
    return match[1], found


def written_name(kind: str, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The one name of a space with these parameters; defaults are left out (and may therefore never change)."""
    own = {k: v for k, v in values.items() if v != defaults[k]}
    inside = ",".join(f"{k}={'+'.join(v) if isinstance(v, tuple) else v}" for k, v in own.items())
    return f"{kind}({inside})" if own else kind


def check_bound(kind: str, parameter: str, value: object, least: int, most: int) -> int:
    """Return an integer parameter; `ValueError` if it is none or out of bounds."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= most:
        raise ValueError(
            f"The '{parameter}' parameter of {kind} must be an integer from {least} to {most}. Got {value!r}."
        )
    return int(value)


def check_operations(kind: str, given: object, known: Sequence[str], synonyms: Mapping[str, str]) -> tuple[str, ...]:
    """Return operations in the order of `known`; `ValueError` if one is unknown or named twice, or there are none.

    Parameters
    ----------
    kind
        Name of the space.
    given
        Names of operations; one name stands for itself.
    known
        Those that the space can have, in their order.
    synonyms
        What else they are called, such as in the notation of a space's authors.
    """
    names = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else [given]
    chosen = [synonyms.get(name, name) if isinstance(name, str) else name for name in names]
    for name in chosen:
        if name not in known:
            raise unknown_name(f"operation of {kind}", name, known)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"The 'operations' parameter of {kind} must name operations, each once. Got {names!r}.")
    return tuple(name for name in known if name in chosen)
