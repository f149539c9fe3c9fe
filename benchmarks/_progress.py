"""How long work tells how far it is."""

from __future__ import annotations

__all__ = ["Progress", "silent"]

from collections.abc import Callable
from typing import TypeAlias

#: Called with the finished fraction, 0 to 1, and what is being done.
Progress: TypeAlias = Callable[[float, str], None]


def silent(fraction: float, text: str) -> None:
    """Tell nobody."""
    del fraction, text
