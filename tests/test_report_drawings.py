"""Drawings of cells: nothing overlaps, edges go from left to right, and every operation stands on them."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tauzero as tz
from tauzero.evaluation._report._cells import draw, drawings, short_name
from tauzero.evaluation._report._layout import _crossings, _spread, layered


@st.composite
def graphs(draw_: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    n = draw_(st.integers(2, 10))
    pairs = list(itertools.combinations(range(n), 2))
    return n, draw_(st.lists(st.sampled_from(pairs), unique=True, max_size=14))


@given(graphs())
@settings(max_examples=80, deadline=None)
def test_layers_are_longest_paths_and_nothing_overlaps(case: tuple[int, list[tuple[int, int]]]) -> None:
    n, edges = case
    plan = layered(n, edges)
    graph = nx.DiGraph(edges)
    graph.add_nodes_from(range(n))
    longest = dict.fromkeys(range(n), 0)
    for v in nx.topological_sort(graph):
        for w in graph.successors(v):
            longest[w] = max(longest[w], longest[v] + 1)
    assert plan.layer == [longest[v] for v in range(n)]
    assert plan.layers == max(longest.values()) + 1
    for a, b in itertools.combinations(range(n), 2):
        assert plan.layer[a] != plan.layer[b] or abs(plan.y[a] - plan.y[b]) > 0.999
    for (u, v), route in plan.routes.items():
        assert len(route) == plan.layer[v] - plan.layer[u] - 1
    assert min(plan.y, default=0) >= 0


def test_order_removes_crossings_that_need_not_be() -> None:
    plan = layered(6, [(0, 5), (1, 4), (2, 3)])  # drawn in the given order, three edges cross
    left = np.argsort([plan.y[v] for v in (0, 1, 2)])
    right = np.argsort([plan.y[v] for v in (5, 4, 3)])
    assert left.tolist() == right.tolist()


def test_crossings_are_counted() -> None:
    assert _crossings([[0, 1], [2, 3]], [(0, 3), (1, 2)]) == 1
    assert _crossings([[0, 1], [2, 3]], [(0, 2), (1, 3), (0, 3)]) == 0


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_spread_is_the_nearest_with_gaps(wanted: list[float]) -> None:
    """Against a solver of the quadratic programme."""
    from scipy.optimize import minimize

    found = np.array(_spread(wanted, [1.0] * (len(wanted) - 1)))
    assert (np.diff(found) >= 1 - 1e-9).all()
    gaps = [{"type": "ineq", "fun": lambda x, k=k: x[k + 1] - x[k] - 1} for k in range(len(wanted) - 1)]
    start = np.arange(len(wanted)) * 1.0
    best = minimize(lambda x: ((x - wanted) ** 2).sum(), start, constraints=gaps, method="SLSQP")
    assert ((found - wanted) ** 2).sum() <= best.fun + 1e-4


def test_edges_must_go_upwards() -> None:
    with pytest.raises(ValueError, match="from a lower to a higher vertex below 3"):
        layered(3, [(2, 1)])


def boxes(svg: str) -> list[tuple[float, float, float, float, str]]:
    """Left, top, width, height and text of each operation."""
    found = []
    for group in ET.fromstring(svg).iter("g"):
        rectangle, text = group.find("rect"), group.find("text")
        if rectangle is not None and text is not None:
            found.append((*(float(rectangle.get(k, "")) for k in ("x", "y", "width", "height")), text.text or ""))
    return found


@pytest.mark.parametrize("name", tz.spaces.names())
def test_drawings_of_every_space(name: str) -> None:
    """Well-formed, inside their frame, boxes apart from one another, and as many as there are operations."""
    space = tz.spaces.get(name)
    for row in space.sample(25, seed=1):
        parts = draw(space, row)
        assert len(parts) == (2 if name == "darts" else 1)
        for _, svg in parts:
            frame = ET.fromstring(svg)
            width, height = (float(frame.get(k, "")) for k in ("width", "height"))
            assert frame.get("role") == "img"
            assert frame.get("aria-label")
            found = boxes(svg)
            for x, y, w, h, text in found:
                assert x >= 0, text
                assert y >= 0, text
                assert x + w <= width + 1, text
                assert y + h <= height + 1, text
            for a, b in itertools.combinations(found, 2):
                apart = a[0] + a[2] <= b[0] or b[0] + b[2] <= a[0] or a[1] + a[3] <= b[1] or b[1] + b[3] <= a[1]
                assert apart, (a, b)


def test_nasbench201_operations_stand_on_their_edges() -> None:
    space = tz.spaces.get("nasbench201")
    (row,) = space.from_string(["|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|"])
    ((_, svg),) = draw(space, row)
    assert sorted(text for *_, text in boxes(svg)) == ["avg pool 3×3", "conv 1×1", "conv 3×3", "skip"]
    assert "1 to 2: skip (without effect)" in svg  # node 2 leads nowhere
    assert len(re.findall(r'class="edge dead"', svg)) == 1
    assert len(re.findall(r'class="edge"', svg)) == 3


def test_an_empty_cell_is_drawn() -> None:
    space = tz.spaces.get("nasbench201")
    ((_, svg),) = draw(space, np.zeros(6, dtype=np.int8))
    assert 'aria-label="no operations"' in svg


def test_nasbench101_has_a_box_for_each_vertex_and_a_path_for_each_edge() -> None:
    space = tz.spaces.get("nasbench101")
    row = space.sample(1, seed=2)[0]
    ((_, svg),) = draw(space, row)
    graph = space.graphs(row[None])
    used = int((graph.adjacency[0].any(axis=0) | graph.adjacency[0].any(axis=1)).sum())
    assert len(boxes(svg)) == used
    assert svg.count('class="edge"') == int(graph.adjacency[0].sum())


def test_darts_cells_have_eight_operations_each() -> None:
    space = tz.spaces.get("darts")
    row = space.sample(1, seed=0)[0]
    for name, svg in draw(space, row):
        texts = [text for *_, text in boxes(svg)]
        assert name in {"normal", "reduce"}
        assert sum(t not in {"+", "output", "cell k−1", "cell k−2"} for t in texts) == 8
        assert texts.count("+") == 4


def test_what_cannot_be_drawn_keeps_its_name() -> None:
    (unknown,) = drawings("no_such_space", "abc", "Number 1", ("a line",))
    assert (unknown.svg, unknown.code, unknown.lines) == ("", "abc", ("a line",))
    (wrong,) = drawings("nasbench201", "abc", "Number 1", ())
    assert (wrong.svg, wrong.code) == ("", "abc")


def test_names_of_operations() -> None:
    names = ("nor_conv_3x3", "skip_connect", "sep_conv_5x5", "avg_pool_3x3", "block_c8")
    assert [short_name(n) for n in names] == ["conv 3×3", "skip", "sep conv 5×5", "avg pool 3×3", "block c8"]
