"""The report in a browser: it renders, answers, logs nothing, asks for nothing, and fits a phone."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from report_helpers import (
    ALGORITHMS,
    evaluation_json,
    made_up_table,
    write_oneshot,
    write_search,
    write_study,
    write_sweep,
)

import tauzero as tz
from tauzero.evaluation import report

pytestmark = pytest.mark.slow
#: Trajectories of fifteen algorithms are the most that a figure shall show readably.
MANY = tuple(f"a_rather_long_algorithm_{k}" for k in range(15))


def _browser() -> str:
    """Path of a Chromium; without one the tests are skipped, in CI they fail."""
    named = os.environ.get("TAUZERO_BROWSER")
    for name in (named,) if named else ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name or "")
        if found:
            return found
    reason = "no Chromium is installed (`make browser` installs one, TAUZERO_BROWSER names another)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    path = _browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One page with every kind of source."""
    folder = tmp_path_factory.mktemp("browser")
    result = tz.evaluation.evaluate(made_up_table(), "cifar10", "all", [40, 200], ["bayesian_linear"], 1, keep=0)
    evaluated = folder / "evaluation"
    tz.evaluation.save_predictions(result.predictions, evaluated / "predictions.parquet")
    (evaluated / "evaluation.json").write_text(json.dumps(evaluation_json()), encoding="utf-8")
    sources = [
        write_study(folder / "study"),
        evaluated,
        write_sweep(folder / "sweep"),
        write_search(folder / "run.parquet"),
        write_oneshot(folder / "oneshot" / "a").parent,
        write_study(folder / "many", MANY, ("table",)),
    ]
    write_oneshot(folder / "oneshot" / "b", "gdas")
    write_oneshot(folder / "oneshot" / "c", seed=1)
    return report(sources, folder / "page.html", benchmark=made_up_table(), title="Everything")


@dataclass
class Opened:
    """A page, and what it did beside showing itself."""

    page: Any
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


def _open(chromium: Any, file: Path, options: dict[str, Any]) -> Opened:
    context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    found = Opened(context.new_page())
    found.page.on("request", lambda r: found.requests.append(r.url))
    found.page.on("console", lambda m: found.messages.append(f"{m.type}: {m.text}"))
    found.page.on("pageerror", lambda e: found.messages.append(str(e)))
    found.page.goto(file.as_uri())
    found.page.wait_for_selector("html[data-ready=true]", timeout=120_000)
    return found


@pytest.fixture(scope="module")
def desk(chromium: Any, file: Path) -> Opened:
    """The page on a desk's screen, shared by the tests that put back what they change: opening takes its seconds."""
    return _open(chromium, file, {})


@pytest.fixture
def opened(desk: Opened, chromium: Any, file: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    """The shared page, or one of a test's own with its options."""
    options = getattr(request, "param", None)
    found = desk if options is None else _open(chromium, file, options)
    yield found
    assert found.messages == []
    assert [url for url in found.requests if not url.startswith(("blob:", "data:"))] == [file.as_uri()]
    if options is not None:
        found.page.context.close()


def until(page: Any, expression: str) -> None:
    """Wait until an expression is true; playwright's own waiting evaluates texts in the page, which forbids it."""
    end = time.monotonic() + 20
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"still not: {expression}"
        page.wait_for_timeout(50)


def test_every_chart_is_drawn(opened: Opened) -> None:
    page = opened.page
    count = page.locator(".plot").count()
    assert count >= 12
    assert (
        page.locator(".plot .main-svg .plot, .plot .main-svg .heatmaplayer image, .plot .main-svg .points").count() > 0
    )
    sizes = page.evaluate(
        "[...document.querySelectorAll('.plot')].map(p => p.querySelector('.main-svg'))"
        ".map(s => [s.clientWidth, s.clientHeight])"
    )
    assert len(sizes) == count
    assert all(width > 300 and height > 200 for width, height in sizes)
    assert page.locator("#no-charts").count() == 0
    drawn = page.evaluate("[...document.querySelectorAll('.plot')].map(p => p.data.length)")
    assert min(drawn) > 0


def test_hovering_shows_values(opened: Opened) -> None:
    plot = opened.page.locator(".plot").first
    plot.scroll_into_view_if_needed()
    box = plot.locator(".nsewdrag").first.bounding_box()
    opened.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    opened.page.wait_for_selector(".plot .hoverlayer .legend text", timeout=10_000)
    shown = " ".join(plot.locator(".hoverlayer text").all_text_contents())
    assert all(name in shown for name in ALGORITHMS)
    assert " to " in shown


def test_tables_sort_by_click_and_by_keyboard(opened: Opened) -> None:
    page = opened.page
    table = page.locator("table").first
    heading = table.locator("th", has_text="regret, pp")
    column = table.locator("th").all_text_contents().index("regret, pp")

    def values() -> list[float]:
        cells = table.locator(f"tbody td:nth-child({column + 1})").all_text_contents()
        return [float(text.split(" ± ")[0]) for text in cells]

    before = values()
    assert heading.get_attribute("aria-sort") is None
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert values() == sorted(before)
    heading.locator("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert values() == sorted(before, reverse=True)
    names = table.locator("th", has_text="algorithm")
    names.locator("button").press("Space")
    assert heading.get_attribute("aria-sort") is None
    shown = table.locator("tbody td:nth-child(2)").all_text_contents()
    assert shown == sorted(shown)
    # What is missing stands last, whatever the direction.
    page.evaluate(
        "(() => { const cell = document.querySelector('table tbody td:nth-child(4)');"
        " delete cell.dataset.key; cell.textContent = '–'; })()"
    )
    for _ in range(2):
        heading.locator("button").click()
        assert table.locator("tbody td:nth-child(4)").all_text_contents()[-1] == "–"


def test_controls_change_the_chart(opened: Opened) -> None:
    page = opened.page
    figure = page.locator("figure.chart").first
    title = "document.querySelector('.plot').layout.{}"
    assert page.evaluate(title.format("yaxis.type")) == "log"
    figure.get_by_label("Scale").select_option("linear")
    assert page.evaluate(title.format("yaxis.type")) == "linear"
    figure.get_by_label("Over").select_option("simulated time")
    assert "hours" in page.evaluate(title.format("xaxis.title.text"))
    filled = "document.querySelector('.plot').data.filter(t => t.fill === 'tonexty').length"
    assert page.evaluate(filled) == len(ALGORITHMS)
    figure.get_by_label("Line and band").select_option("median alone")
    assert page.evaluate(filled) == 0
    for label, option in (("Scale", "logarithmic"), ("Over", "queries"), ("Line and band", "median, quartiles")):
        figure.get_by_label(label).select_option(option)
    assert page.evaluate(title.format("yaxis.type")) == "log"


def test_legend_hides_and_shows(opened: Opened) -> None:
    page = opened.page
    button = page.locator("figure.chart").first.locator(".legend button", has_text=ALGORITHMS[1])
    own = f"t.legendgroup === '{ALGORITHMS[1]}' && t.visible !== false"
    shown = f"document.querySelector('.plot').data.filter(t => {own}).length"
    assert page.evaluate(shown) == 3
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert page.evaluate(shown) == 0
    button.press("Enter")
    assert page.evaluate(shown) == 3


def _background(page: Any) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_dark_and_light(opened: Opened) -> None:
    page = opened.page
    text = "document.querySelector('.plot').layout.font.color"
    light = _background(page), page.evaluate(text)
    button = page.locator("#theme")
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    dark = _background(page), page.evaluate(text)
    assert dark[0] != light[0]
    assert dark[1] != light[1]
    button.click()
    assert (_background(page), page.evaluate(text)) == light


@pytest.mark.parametrize("opened", [{"color_scheme": "dark"}], indirect=True)
def test_dark_by_the_systems_wish(opened: Opened) -> None:
    assert _background(opened.page) == "rgb(20, 23, 27)"


@pytest.mark.parametrize(
    "opened", [{"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}], indirect=True
)
def test_a_phone_scrolls_in_one_direction_only(opened: Opened) -> None:
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    wide = page.evaluate(
        "[...document.querySelectorAll('main *')]"
        ".filter(e => !e.closest('.scroller') && e.getBoundingClientRect().right > 360.5)"
        ".map(e => e.outerHTML.slice(0, 90))"
    )
    assert wide == []
    sizes = page.evaluate(
        "[...document.querySelectorAll('.plot .xtick text')].map(t => parseFloat(getComputedStyle(t).fontSize))"
    )
    assert min(sizes) >= 11


def test_paper_is_light_and_has_no_controls(opened: Opened, tmp_path: Path) -> None:
    page = opened.page
    page.locator("#theme").click()
    dark = _background(page)
    page.emulate_media(media="print")
    until(page, "document.documentElement.dataset.theme === 'light'")
    assert _background(page) == "rgb(255, 255, 255)"
    for hidden in (".controls select", "#theme", ".contents", ".copy"):
        assert not page.locator(hidden).first.is_visible(), hidden
    assert page.locator(".origin pre").first.is_visible()
    widths = page.evaluate("[...document.querySelectorAll('.plot')].map(p => p.getBoundingClientRect().width)")
    assert max(widths) <= 680  # an A4 page less its margins
    tables = page.evaluate("[...document.querySelectorAll('table')].map(t => t.getBoundingClientRect().width)")
    assert max(tables) <= 680
    page.emulate_media(media="screen")
    until(page, "document.documentElement.dataset.theme === 'dark'")
    assert _background(page) == dark
    page.locator("#theme").click()
    assert page.pdf(path=str(tmp_path / "page.pdf"), prefer_css_page_size=True)[:5] == b"%PDF-"


def test_copy_and_contents(opened: Opened) -> None:
    page = opened.page
    page.locator("details.origin summary").first.click()
    button = page.locator(".copy").first
    button.click()
    until(page, "document.querySelector('.copy').textContent !== 'Copy'")
    assert "tauzero study --benchmark nasbench201" in page.evaluate("getSelection().toString()")
    link = page.locator(".contents a", has_text="Predicted against true").first
    link.click()
    target = link.get_attribute("href")
    until(page, f"Math.abs(document.querySelector('{target}').getBoundingClientRect().top) < 60")


def test_accessible_names_and_contrast(opened: Opened) -> None:
    page = opened.page
    for role, least in (("img", 20), ("region", 5), ("navigation", 1), ("main", 1)):
        assert page.get_by_role(role).count() >= least, role
    unnamed = page.evaluate(
        "[...document.querySelectorAll('[role=img],[role=region],button,select,nav')]"
        ".filter(e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.closest('label'))).length"
    )
    assert unnamed == 0
    for theme in ("light", "dark"):
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        colours = page.evaluate(
            "['--paper','--soft','--text','--muted','--link']"
            ".map(n => getComputedStyle(document.documentElement).getPropertyValue(n).trim())"
        )
        paper, soft, *inks = colours
        for ink in inks:
            assert _contrast(ink, paper) >= 4.5, (theme, ink)
            assert _contrast(ink, soft) >= 4.5, (theme, ink)
    page.evaluate("document.documentElement.dataset.theme = 'light'")


def _contrast(a: str, b: str) -> float:
    """Ratio of WCAG 2.1, section 1.4.3."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_hostile_data_do_nothing(chromium: Any, tmp_path: Path) -> None:
    evil = "<img src=x onerror=\"document.title='owned'\"></script><script>document.title='owned'</script>"
    page_file = report(write_study(tmp_path / "study", (evil, "fine")), tmp_path / "page.html", title=evil)
    page = chromium.new_page()
    messages: list[str] = []
    page.on("console", lambda m: messages.append(m.text))
    page.on("pageerror", lambda e: messages.append(str(e)))
    page.goto(page_file.as_uri())
    page.wait_for_selector("html[data-ready=true]", timeout=60_000)
    plot = page.locator(".plot").first
    box = plot.locator(".nsewdrag").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector(".plot .hoverlayer .legend text", timeout=10_000)
    assert page.title() == evil  # shown as it is, not run
    assert evil[:20] in plot.locator(".hoverlayer").text_content()
    assert messages == []
    page.close()
