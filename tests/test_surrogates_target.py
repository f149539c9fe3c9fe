"""Target transforms: increasing, inverted, continued beyond the training range; degenerate targets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import norm

from tauzero.spaces import UnknownNameError
from tauzero.surrogates import TARGETS
from tauzero.surrogates._target import TargetTransform

Floats = npt.NDArray[np.float64]
each = pytest.mark.parametrize("kind", TARGETS)
#: Accuracies in percent with up to four digits, ties included; and values of any other sign and size.
PERCENT = hnp.arrays(np.float64, st.integers(1, 60), elements=st.integers(0, 1_000_000).map(lambda k: k / 10_000))
ANY = hnp.arrays(np.float64, st.integers(1, 60), elements=st.integers(-(10**9), 10**9).map(lambda k: k / 1000))
VALUES = st.one_of(PERCENT, ANY)


@each
@settings(deadline=None, max_examples=60)
@given(y=VALUES)
def test_strictly_increasing_and_standardised(kind: str, y: Floats) -> None:
    transformed = TargetTransform(kind).fit_transform(y)
    order = np.argsort(y, kind="stable")
    step = np.diff(y[order])
    # Equal accuracies are one value (to rounding), larger ones a larger value.
    np.testing.assert_allclose(np.diff(transformed[order])[step == 0], 0, atol=1e-9)
    assert (np.diff(transformed[order])[step > 0] > 0).all()
    assert abs(transformed.mean()) < 1e-9
    if len(set(y)) > 1:
        assert transformed.std() == pytest.approx(1)
    else:
        np.testing.assert_array_equal(transformed, 0)


@each
@settings(deadline=None, max_examples=60)
@given(y=VALUES)
def test_inverse_of_transform_is_the_identity_on_training_values(kind: str, y: Floats) -> None:
    made = TargetTransform(kind)
    transformed = made.fit_transform(y)
    scale = 1 + np.abs(y).max()
    np.testing.assert_allclose(made.inverse(transformed), y, atol=1e-7 * scale)
    np.testing.assert_allclose(made.inverse(made.transform(y)), y, atol=1e-7 * scale)
    np.testing.assert_allclose(made.transform(y), transformed, atol=1e-9)


@each
@settings(deadline=None, max_examples=60)
@given(y=VALUES)
def test_extrapolates_monotonically(kind: str, y: Floats) -> None:
    made = TargetTransform(kind)
    made.fit_transform(y)
    latent = np.linspace(-10, 10, 401)
    back = made.inverse(latent)
    assert np.isfinite(back).all()
    assert (np.diff(back) > 0).all()
    spread = max(float(np.ptp(y)), 1.0)
    outside = np.linspace(y.min() - spread, y.max() + spread, 101)
    assert (np.diff(made.transform(outside)) > 0).all()
    assert made.inverse(made.knots_t[-1] + 1.0) > y.max()
    assert made.inverse(made.knots_t[0] - 1.0) < y.min()


@each
def test_many_values_are_thinned_to_knots(kind: str) -> None:
    y = 60 + 30 * np.random.default_rng(0).beta(5, 1, 3_000)
    made = TargetTransform(kind)
    transformed = made.fit_transform(y)
    assert len(made.knots_y) == len(made.knots_t) == 257
    assert (np.diff(made.knots_y) > 0).all()
    assert (np.diff(made.knots_t) > 0).all()
    assert made.knots_y[[0, -1]].tolist() == [y.min(), y.max()]
    np.testing.assert_allclose(made.inverse(made.transform(y)), y, atol=1e-9)
    # A prediction that hits the transformed value misses the accuracy by less than the gap between knots.
    assert (np.abs(made.inverse(transformed) - y) <= np.diff(made.knots_y).max()).all()
    assert np.abs(made.inverse(transformed) - y).mean() < 0.02


@each
def test_single_and_constant_targets(kind: str) -> None:
    for y in ([93.5], [0.0] * 4, [0.1] * 7, [100.0] * 3, [1e6] * 5, [-1e9] * 2, [1e-9] * 3):
        made = TargetTransform(kind)
        np.testing.assert_array_equal(made.fit_transform(y), np.zeros(len(y)))
        assert made.inverse([0.0]).tolist() == y[:1]
        np.testing.assert_array_equal(made.transform(y), np.zeros(len(y)))
        low, high = made.inverse([-1.0, 1.0])
        assert low < y[0] < high


@each
def test_values_that_differ_by_rounding_only(kind: str) -> None:
    made = TargetTransform(kind)
    transformed = made.fit_transform([0.0, 1e-20, 50.0, 50.0 + 1e-14, 90.0])
    assert np.isfinite(transformed).all()
    np.testing.assert_allclose(made.inverse(transformed), [0, 0, 50, 50, 90], atol=1e-9)
    assert np.isfinite(made.inverse([-5.0, 5.0])).all()
    assert np.isfinite(made.transform([-5.0, 100.0])).all()


def test_formulas() -> None:
    y = np.array([90.0, 94.0, 92.0, 10.0])
    z = lambda values: (values - values.mean()) / values.std()  # noqa: E731
    ranks = np.array([2.0, 4.0, 3.0, 1.0])
    normal, log_error = z(norm.ppf((ranks - 0.5) / 4)), z(-np.log(100 - y))
    expected = {
        "identity": z(y),
        "rank": z(ranks),
        "normal": normal,
        "log_error": log_error,
        "mixed": z(normal + log_error),
    }
    assert set(expected) == set(TARGETS)
    for kind, values in expected.items():
        np.testing.assert_allclose(TargetTransform(kind).fit_transform(y), values)
    # Fractions have no known ceiling: a tenth of the range above the best.
    fractions = y / 100
    np.testing.assert_allclose(
        TargetTransform("log_error").fit_transform(fractions), z(-np.log(0.94 + 0.084 - fractions)), rtol=1e-6
    )


@each
def test_state(kind: str) -> None:
    made = TargetTransform(kind)
    made.fit_transform([1.0, 5.0, 2.0])
    again = TargetTransform.from_state(*made.state())
    assert again.kind == kind
    np.testing.assert_array_equal(again.inverse([-2, 0.1, 2]), made.inverse([-2, 0.1, 2]))


def test_unknown_kind() -> None:
    with pytest.raises(UnknownNameError, match=r"target transform 'log'\. .*'identity', 'log_error', 'mixed'"):
        TargetTransform("log")


@each
def test_predictions_beyond_the_range_stay_percentages(kind: str) -> None:
    """A steep lower tail once led to predictions of -65 %."""
    y = np.concatenate([np.linspace(84, 94, 200), [10.0, 33.7, 61.0]])
    made = TargetTransform(kind)
    made.fit_transform(y)
    far = made.inverse([-1e6, made.knots_t[0] - 5, made.knots_t[-1] + 5, 1e6])
    assert (np.diff(far) > 0).all()
    assert far[0] >= 0
    assert far[0] >= 10 - 0.5 * 90
    assert far[-1] <= 94 + 0.5 * (94 - 60)
    assert far[-1] <= 100
    near = np.linspace(made.knots_t[0] - 0.5, made.knots_t[-1] + 0.5, 300)
    np.testing.assert_allclose(made.transform(made.inverse(near)), near, atol=1e-6)
