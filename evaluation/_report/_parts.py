"""What a report is made of: sections of figures, each a chart, a table or drawings, and where they come from."""

from __future__ import annotations

__all__ = [
    "Chart",
    "Column",
    "Context",
    "Control",
    "Drawing",
    "Drawings",
    "Figure",
    "LegendEntry",
    "Provenance",
    "Section",
    "Styles",
    "Table",
    "View",
    "number",
    "signed",
]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tauzero.benchmarks import Benchmark

#: Colours of the page's palette that lines take in turn; with another dash in each further round.
COLOURS = 7
_DASHES = ("solid", "dash", "dot")
_SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x")


class Styles:
    """Gives each name one colour, dash and marker, the same in all figures that share this object."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def place(self, name: str) -> int:
        """Which name this is, counted from 0 in the order of their first use."""
        return self._known.setdefault(name, len(self._known))

    def colour(self, name: str, alpha: float | None = None) -> str:
        """Token of a colour that the page's script turns into one of the light or the dark palette."""
        token = f"@{self.place(name) % COLOURS}"
        return token if alpha is None else f"{token}/{alpha:g}"

    def dash(self, name: str) -> str:
        """Dash of a line."""
        return _DASHES[self.place(name) // COLOURS % len(_DASHES)]

    def symbol(self, name: str) -> str:
        """Marker of points."""
        return _SYMBOLS[self.place(name) % len(_SYMBOLS)]


@dataclass(frozen=True)
class Context:
    """What figures may use beside their source.

    Attributes
    ----------
    styles
        Colours by name, the same in all sections of one kind.
    benchmark, dataset, metric
        Table of true accuracies for scores that have none themselves, or None.
    """

    styles: Styles = field(default_factory=Styles)
    benchmark: Benchmark | None = None
    dataset: str | None = None
    metric: str | None = None


@dataclass(frozen=True)
class View:
    """Data and layout of one state of a chart, as plain values of plotly's schema."""

    data: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]


@dataclass(frozen=True)
class Control:
    """A choice between views."""

    label: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class LegendEntry:
    """One name of a chart; traces of `group` are shown and hidden with it."""

    label: str
    group: str
    colour: str
    dash: str | None = None
    symbol: str | None = None


@dataclass(frozen=True)
class Chart:
    """A chart that the charting library draws.

    Attributes
    ----------
    label
        What is seen, for those who do not see it.
    views
        One for each combination of the options of `controls`, the last control running fastest.
    controls
        What a reader can choose; those with one option are left out of the page.
    legend
        Names beside the chart; empty where one name would say nothing.
    height
        In CSS pixels on a wide screen.
    min_width
        Below this many CSS pixels the chart scrolls inside its figure instead of shrinking.

    Raises
    ------
    ValueError
        If the number of views is another.
    """

    label: str
    views: tuple[View, ...]
    controls: tuple[Control, ...] = ()
    legend: tuple[LegendEntry, ...] = ()
    height: int = 420
    min_width: int = 0

    def __post_init__(self) -> None:
        wanted = math.prod(len(control.options) for control in self.controls)
        if len(self.views) != wanted:
            raise ValueError(
                f"A Chart must have one view for each combination of its controls, {wanted}. Got {len(self.views)}."
            )


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, its unit or meaning, whether it holds numbers, and whether code."""

    name: str
    numeric: bool = True
    note: str = ""
    code: bool = False


@dataclass(frozen=True)
class Table:
    """A table that can be sorted.

    `rows` hold values, or pairs of a value to sort by and the text to show; None is shown as a dash and sorted last.
    """

    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Drawing:
    """A drawn architecture: SVG made by this package, a heading and lines above it, its name below."""

    svg: str
    title: str
    lines: tuple[str, ...] = ()
    code: str = ""


@dataclass(frozen=True)
class Drawings:
    """Drawings side by side."""

    items: tuple[Drawing, ...]


@dataclass(frozen=True)
class Figure:
    """One numbered figure or table of a page."""

    title: str
    body: Chart | Table | Drawings
    caption: str = ""


@dataclass(frozen=True)
class Provenance:
    """How the data of a section were made.

    Attributes
    ----------
    source
        File or folder that was read.
    command
        What made it, or None where that was not recorded.
    seeds
        The seeds in words.
    versions
        Package → version.
    machine
        Where it ran.
    settings
        What else decides about the numbers, name → value.
    """

    source: str
    command: str | None = None
    seeds: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """What one source shows."""

    title: str
    kind: str
    facts: Sequence[tuple[str, str]]
    figures: Sequence[Figure]
    provenance: Provenance
    notes: Sequence[str] = ()


def number(value: Any, digits: int = 4) -> str:
    """A number for people: `digits` significant digits, thousands apart, a dash for what is not there."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, int) or not value or (float(value).is_integer() and abs(value) < 1e12):
        text = f"{int(value):,}"
    elif 1000 <= abs(value) < 1e12:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.{digits if abs(value) >= 1e-4 else 2}g}"
    return text.replace("-", "−", 1) if value < 0 else text


def signed(value: float, decimals: int) -> str:
    """A difference with its sign; zero has none."""
    text = f"{value:+.{decimals}f}"
    return text.replace("-", "−") if float(text) else text[1:]
