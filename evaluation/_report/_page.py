"""Sections → one HTML page that holds everything it needs: data, style, script and the charting library."""

from __future__ import annotations

__all__ = ["render"]

import base64
import dataclasses
import gzip
import hashlib
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from tauzero import __version__
from tauzero.evaluation._report._parts import Chart, Column, Drawings, Figure, Provenance, Section, Table, number
from tauzero.spaces import MissingExtraError

_INSTALL = "A report needs the extra 'report': pip install 'tauzero[report]'."


def render(title: str, sections: Sequence[Section]) -> str:
    """Make the page.

    Parameters
    ----------
    title
        Heading of the page; as everything else that comes from data, it is escaped.
    sections
        What the page shows, in this order.

    Raises
    ------
    MissingExtraError
        If plotly or Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
        from plotly.offline import get_plotlyjs, get_plotlyjs_version
    except ImportError as error:
        raise MissingExtraError(f"{_INSTALL} ({error})") from error
    library: str = get_plotlyjs()
    script = _template("page.js")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page: str = environment.from_string(_template("page.html")).render(
        title=title,
        version=__version__,
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        # What the template marks as safe is made here: templates, the library, JSON without angle brackets, drawings.
        # Only these two scripts run: even a tag that slipped in with the data would not.
        hashes=" ".join(_hash(text) for text in (script, library)),
        style=_template("page.css"),
        script=script,
        # Packed, since it is more than twice as large as all the rest of the page.
        library=base64.b64encode(gzip.compress(library.encode(), 9, mtime=0)).decode(),
        library_version=get_plotlyjs_version(),
        sections=_numbered(sections),
    )
    return page


def _template(name: str) -> str:
    return files("tauzero.evaluation._report").joinpath("templates", name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """What a content security policy knows an inline script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _numbered(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """Sections and figures as the template reads them, with anchors and numbers."""
    counts = {"Figure": 0, "Table": 0}
    shown = []
    for k, section in enumerate(sections, 1):
        figures = []
        for figure in section.figures:
            word = "Table" if isinstance(figure.body, Table) else "Figure"
            counts[word] += 1
            figures.append(
                {
                    "id": f"{word.lower()}-{counts[word]}-{_slug(figure.title)}",
                    "label": f"{word} {counts[word]}",
                    "title": figure.title,
                    "caption": figure.caption,
                    **_body(figure),
                }
            )
        shown.append(
            {
                "id": f"{_slug(section.kind)}-{k}",
                "title": section.title,
                "facts": section.facts,
                "notes": section.notes,
                "figures": figures,
                "origin": _origin(section.provenance),
            }
        )
    return shown


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:48] or "x"


def _body(figure: Figure) -> dict[str, Any]:
    body = figure.body
    if isinstance(body, Chart):
        spec = _spec(body)
        return {
            "kind": "chart",
            "alt": body.label,
            "height": body.height,
            "min_width": body.min_width,
            "spec": _json(spec),
        }
    if isinstance(body, Drawings):
        items = [
            {"title": d.title, "lines": d.lines, "code": d.code, "svg": d.svg} for d in body.items
        ]  # fmt: skip
        return {"kind": "drawing", "drawings": items}
    rows = [[_cell(value, column) for value, column in zip(row, body.columns, strict=True)] for row in body.rows]
    return {"kind": "table", "columns": body.columns, "rows": rows}


def _spec(chart: Chart) -> dict[str, Any]:
    """What the page's script draws a chart from; traces that several views share stand there once."""
    traces: list[str] = []
    known: dict[str, int] = {}
    views = []
    for view in chart.views:
        numbers = []
        for trace in view.data:
            text = json.dumps(trace, sort_keys=True)
            if text not in known:
                known[text] = len(traces)
                traces.append(text)
            numbers.append(known[text])
        views.append({"data": numbers, "layout": view.layout})
    return {
        "traces": [json.loads(text) for text in traces],
        "views": views,
        "controls": [dataclasses.asdict(control) for control in chart.controls],
        "legend": [dataclasses.asdict(entry) for entry in chart.legend],
    }


def _json(value: Any) -> str:
    """JSON that cannot end the script element in which it stands."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").replace("\u2028", "\\u2028")


def _cell(value: Any, column: Column) -> dict[str, Any]:
    key, text = value if isinstance(value, tuple) else (value, None)
    if column.numeric:
        plain = None if key is None or key != key else key  # noqa: PLR0124 - NaN
        return {"key": plain, "text": number(key) if text is None else text, "numeric": True, "code": False}
    shown = str(key if text is None else text) if key is not None else "–"
    return {"key": key if text is not None else None, "text": shown, "numeric": False, "code": column.code}


def _origin(provenance: Provenance) -> str:
    """Lines of text below each figure."""
    lines = [f"command   {provenance.command or 'not recorded'}"]
    if provenance.seeds:
        lines.append(f"seeds     {provenance.seeds}")
    lines.append(f"source    {provenance.source}")
    if provenance.settings:
        lines.append("settings  " + ", ".join(f"{name} {_plain(value)}" for name, value in provenance.settings.items()))
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions.items())
    lines.append(f"versions  {versions or 'not recorded'}; page by tauzero {__version__}")
    if provenance.machine:
        lines.append(f"machine   {provenance.machine}")
    return "\n".join(lines)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
