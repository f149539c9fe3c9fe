"""The report: studies, evaluations, sweeps and searches as one HTML page.

Sources (`_registry.SOURCES`) are read and turned into figures (`_registry.FIGURES`), which `_page` renders with the
templates beside it. Charts are plain values of plotly's schema; the page's script draws them.
"""

from __future__ import annotations

__all__ = ["report"]

from tauzero.evaluation._report._report import report
