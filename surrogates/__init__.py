"""Surrogates: predictors of a metric from genotypes, with uncertainty.

`create` makes one by name, `names` lists them, `load` reads a saved or a pretrained one and
`pretrained_names` lists those that ship with tauzero.
"""

from __future__ import annotations

__all__ = [
    "TARGETS",
    "ModelFormatError",
    "Surrogate",
    "create",
    "load",
    "names",
    "pretrained_names",
]

from tauzero.surrogates._files import ModelFormatError
from tauzero.surrogates._pretrained import load, pretrained_names
from tauzero.surrogates._registry import create, names
from tauzero.surrogates._target import TARGETS
from tauzero.surrogates.base import Surrogate
