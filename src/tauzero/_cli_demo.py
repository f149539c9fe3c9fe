"""``tauzero demo``."""

from __future__ import annotations

__all__ = ["demo"]


def demo() -> None:
    """Show the whole product in one go."""
