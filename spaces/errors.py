"""The errors that tauzero raises on purpose; all of them are `ValueError` or `RuntimeError` subclasses."""

from __future__ import annotations

__all__ = [
    "BenchmarkFormatError",
    "InvalidGenotypeError",
    "MissingExtraError",
    "NotEnumerableError",
    "TauzeroError",
    "UnknownNameError",
    "unknown_name",
]

from collections.abc import Iterable
from difflib import get_close_matches


class TauzeroError(Exception):
    """Base class: everything that tauzero raises on purpose can be caught with it."""


class InvalidGenotypeError(TauzeroError, ValueError):
    """Genotypes of the wrong shape, dtype or value range for their search space."""


class UnknownNameError(TauzeroError, ValueError):
    """A name (space, benchmark, dataset, metric, encoder, …) that is not there; the message lists those that are."""


class NotEnumerableError(TauzeroError, ValueError):
    """All architectures were asked for, or a position among them, in a space too large to write down."""


class BenchmarkFormatError(TauzeroError, ValueError):
    """A table file that is truncated, foreign, malicious or of an unsupported version."""


class MissingExtraError(TauzeroError, ImportError):
    """A feature whose optional dependency is not installed; the message says what to install."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """Build the one form of error for a name that is not known.

    Parameters
    ----------
    kind
        What was asked for, for example ``"dataset"``.
    name
        The value that came.
    known
        The names that there are; listed in the message, the closest one suggested.
    """
    names = sorted(known)
    close = get_close_matches(str(name), names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    listing = ", ".join(repr(n) for n in names) if names else "none"
    return UnknownNameError(f"Unknown {kind} {name!r}.{hint} Known: {listing}.")
