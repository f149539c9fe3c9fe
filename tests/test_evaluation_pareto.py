"""Hypervolume against closed forms, inclusion and exclusion, and Monte Carlo."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tauzero.evaluation import hypervolume

few = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 7), st.integers(1, 5)),
    elements=st.integers(-2, 4).map(float) | st.floats(-2, 4, width=16),
)


def slow(points: np.ndarray, reference: np.ndarray) -> float:
    """Union of boxes by inclusion and exclusion over all subsets."""
    boxes = np.maximum(points - reference, 0.0)
    return sum(
        (-1) ** (size + 1) * np.min(boxes[list(some)], axis=0).prod()
        for size in range(1, len(boxes) + 1)
        for some in itertools.combinations(range(len(boxes)), size)
    )


@settings(deadline=None)
@given(few, st.integers(-2, 2))
def test_inclusion_and_exclusion(points: np.ndarray, corner: int) -> None:
    reference = np.full(points.shape[1], float(corner))
    found = hypervolume(points, reference)
    np.testing.assert_allclose(found, slow(points, reference), rtol=1e-9, atol=1e-9)
    assert found >= 0


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_monte_carlo(k: int) -> None:
    """A front on a sphere and points below it; 200,000 draws: 5 standard deviations of a share."""
    rng = np.random.default_rng(k)
    points = np.abs(rng.normal(size=(60, k)))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    points[::4] *= 0.7
    draws = rng.random((200_000, k))
    inside = np.zeros(len(draws), dtype=bool)
    for point in points:
        inside |= (draws <= point).all(axis=1)
    assert hypervolume(points, np.zeros(k)) == pytest.approx(inside.mean(), abs=5 * 0.5 / np.sqrt(200_000))


@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_staircase(n: int) -> None:
    """(i, n + 1 - i): squares below a staircase, n (n + 1) / 2 of them; a third objective stacks them."""
    steps = np.arange(1, n + 1.0)
    stairs = np.column_stack([steps, steps[::-1]])
    assert hypervolume(stairs, [0, 0]) == n * (n + 1) / 2
    assert hypervolume(np.column_stack([stairs, np.full(n, 3.0)]), [0, 0, 1]) == n * (n + 1)
    assert hypervolume(stairs * [2, 10], [0, 0]) == 20 * n * (n + 1) / 2
    # Corners of a simplex-shaped pile of unit cubes: all (a, b, c) ≥ 1 with a + b + c = n + 2.
    pile = [(a, b, n + 2 - a - b) for a in range(1, n + 1) for b in range(1, n + 2 - a)]
    assert hypervolume(pile, [0, 0, 0]) == n * (n + 1) * (n + 2) / 6
    # The same in four dimensions.
    pile4 = [
        (a, b, c, n + 3 - a - b - c) for a, b, c in itertools.product(range(1, n + 1), repeat=3) if a + b + c < n + 3
    ]
    assert hypervolume(pile4, [0] * 4) == n * (n + 1) * (n + 2) * (n + 3) / 24


def test_what_adds_nothing() -> None:
    front = [[3.0, 1.0], [1.0, 3.0]]
    more = [*front, [1.0, 1.0], [3.0, 1.0], [9.0, 0.0], [-1.0, 9.0]]
    assert hypervolume(more, [0, 0]) == hypervolume(front, [0, 0]) == 5
    assert hypervolume([[0.0, 5.0]], [0, 0]) == 0
    assert hypervolume(np.empty((0, 2)), [0, 0]) == 0
    assert hypervolume([[2.0], [7.0]], [1.0]) == 6


@pytest.mark.parametrize(
    ("points", "reference", "message"),
    [
        ([1.0, 2.0], [0, 0], r"'points' argument of hypervolume must be a finite matrix \[n, k\].* Got shape \(2,\)"),
        ([[1.0, np.nan]], [0, 0], "Got shape .* with NaN or infinity"),
        ([[1.0, 2.0]], [0], r"'reference' argument of hypervolume .* shape \(2,\). Got \[0.0\]"),
        ([[1.0, 2.0]], [0, np.inf], "'reference' argument"),
    ],
)
def test_bad_arguments(points: list, reference: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hypervolume(points, reference)
