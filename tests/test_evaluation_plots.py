"""Plots: drawn without pyplot or a display, with what the docstrings promise on them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from tauzero import evaluation
from tauzero.evaluation import plots

RNG = np.random.default_rng(0)
TRUTH = 90 + 4 * RNG.random(5000) ** 0.3
TRUTH[:50] = 10.0
GUESS = TRUTH + 0.3 * RNG.standard_normal(5000)
REGRET = np.sort(RNG.random((5, 40)) ** 3, axis=1)[:, ::-1]


def texts(figure: Figure) -> str:
    """Every text of a drawn figure."""
    figure.canvas.draw()
    axes = figure.axes
    found = [t for a in axes for t in (a.get_title(), a.get_xlabel(), a.get_ylabel(), *(x.get_text() for x in a.texts))]
    found += [t.get_text() for a in axes if a.get_legend() for t in a.get_legend().get_texts()]
    found += [t.get_text() for a in axes for t in (*a.get_xticklabels(), *a.get_yticklabels())]
    return "\n".join([*found, figure._suptitle.get_text() if figure._suptitle else ""])


def test_predicted_vs_true_dense() -> None:
    figure = plots.predicted_vs_true(TRUTH, GUESS, title="Toy", train=[1000, 2000])
    shown = texts(figure)
    assert f"Kendall τ = {evaluation.kendall_tau(TRUTH, GUESS):.3f} over 5,000 architectures" in shown
    assert "true accuracy (%)" in shown
    assert "predicted accuracy (%)" in shown
    assert "trained on" in shown
    low, high = figure.axes[0].get_xlim()
    assert low > 80  # zoomed past the failed networks
    values = np.stack([TRUTH, GUESS])
    outside = ((values < low) | (values > high)).any(axis=0).sum()
    assert f"{outside} points outside" in shown
    assert len(figure.axes) == 2  # with a colour bar: density, not a cloud
    assert figure.axes[0].get_xlim() == figure.axes[0].get_ylim()


def test_predicted_vs_true_few() -> None:
    figure = plots.predicted_vs_true(TRUTH[:100], GUESS[:100], zoom=None)
    assert len(figure.axes) == 1
    assert "outside" not in texts(figure)
    assert figure.axes[0].get_xlim()[0] < 10


def test_predicted_vs_true_of_constants() -> None:
    texts(plots.predicted_vs_true([5.0, 5.0], [5.0, 5.0]))
    with pytest.raises(ValueError, match="finite"):
        plots.predicted_vs_true([5.0, np.nan], [5.0, 5.0])
    with pytest.raises(ValueError, match="'zoom'"):
        plots.predicted_vs_true([5.0, 6.0], [5.0, 5.0], zoom=1.0)


def test_scores() -> None:
    huge = np.exp((TRUTH - 90) * 30)
    holes = np.where(np.arange(5000) < 7, -np.inf, TRUTH)
    figure = plots.score_vs_accuracy({"huge": huge, "holes": holes, "none": np.full(5000, np.nan)}, TRUTH, title="All")
    shown = texts(figure)
    assert "huge (rank, 1 = lowest)" in shown
    assert "7 not finite" in shown
    assert "none: no finite scores" in shown
    assert f"ρ = {evaluation.spearman(TRUTH, huge):.3f}" in shown
    with pytest.raises(ValueError, match="'bad' must have shape"):
        plots.score_vs_accuracy({"bad": [1.0]}, TRUTH)
    with pytest.raises(ValueError, match="at least one score"):
        plots.score_vs_accuracy({}, TRUTH)


def test_regret_curves() -> None:
    reached = np.concatenate([REGRET[:, :20], np.zeros((5, 20))], axis=1)
    figure = plots.regret_curves({"a": REGRET, "b": reached}, n_train=10, title="Search")
    shown = texts(figure)
    axes = figure.axes[0]
    assert axes.get_yscale() == "log"
    assert "0" in [t.get_text() for t in axes.get_yticklabels()]  # the optimum has a place on a logarithmic axis
    assert "25% to 75% quantiles of 5 seeds" in shown
    assert "surrogate trained" in shown
    assert "regret (percentage points)" in shown
    line = next(line for line in axes.lines if line.get_label() == "a")
    np.testing.assert_allclose(line.get_ydata(), np.maximum(REGRET.mean(axis=0), axes.get_ylim()[0]))
    linear = plots.regret_curves({"a": [1.0, 0.5, 0.0]})
    assert linear.axes[0].get_yscale() == "linear"
    assert "one run" in texts(linear)
    texts(plots.regret_curves({"a": np.zeros((2, 5))}, log=True))
    for bad in ([[-1.0]], [[np.nan]], np.empty((0, 3))):
        with pytest.raises(ValueError, match="finite regrets ≥ 0"):
            plots.regret_curves({"a": bad})
    with pytest.raises(ValueError, match="at least one curve"):
        plots.regret_curves({})


def test_tau_vs_train_size() -> None:
    figure = plots.tau_vs_train_size(
        {"a": ([78, 156], [0.7, 0.8], [0.01, 0.02]), "b": ([78], [0.6], None)}, noise_ceiling=0.9105
    )
    shown = texts(figure)
    assert "0.910" in shown or "0.911" in shown
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["78", "156"]
    with pytest.raises(ValueError, match="at least one model"):
        plots.tau_vs_train_size({})


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_save(tmp_path: Path, suffix: str) -> None:
    path = plots.save(plots.regret_curves({"a": REGRET}), tmp_path / f"new folder/r.{suffix}")
    assert path.stat().st_size > 1000
    assert [p.name for p in path.parent.iterdir()] == [f"r.{suffix}"]


def test_neither_pyplot_nor_torch_is_imported() -> None:
    code = (
        "import sys, tauzero.evaluation as e; assert 'matplotlib' not in sys.modules; "
        "e.plots.regret_curves({'a': [1.0, 0.5]}).canvas.draw(); "
        "assert 'matplotlib.pyplot' not in sys.modules; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
