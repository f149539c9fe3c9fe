"""digits201, the real table that comes with the package."""

from pathlib import Path

import numpy as np
import pytest

from tauzero import benchmarks, evaluation
from tauzero.benchmarks._embedded import embedded


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> benchmarks.Benchmark:
    monkeypatch.setenv("TAUZERO_DATA", str(tmp_path))
    return benchmarks.load("digits201")


def test_it_is_whole(table: benchmarks.Benchmark) -> None:
    assert table.space.name == "nasbench201"
    assert table.epochs("digits", "test_accuracy") == (1, 2, 3, 4, 5)
    assert table.runs("digits", "test_accuracy") == (0, 1, 2)
    for metric in ("train_accuracy", "validation_accuracy", "test_accuracy"):
        for run in range(3):
            assert np.isfinite(table.table("digits", metric, seed=run)).all()
    assert embedded()["digits201"].stat().st_size < 4_000_000


def test_equal_networks_have_equal_values(table: benchmarks.Benchmark) -> None:
    cells = table.space.enumerate()
    which = table.space.distinct(cells)[1]
    values = table.table("digits", "test_accuracy", seed=0)
    first = np.full(which.max() + 1, np.nan)
    first[which[::-1]] = values[::-1]
    np.testing.assert_array_equal(values, first[which])


def test_noise_ceiling_is_that_of_the_card(table: benchmarks.Benchmark) -> None:
    runs = np.stack([table.table("digits", "test_accuracy", seed=k) for k in range(3)], axis=1)
    ceiling = evaluation.noise_ceiling(runs)
    assert ceiling == pytest.approx(0.582, abs=6e-4)
    card = (Path(__file__).parents[1] / "docs" / "digits201.md").read_text(encoding="utf-8")
    assert f"| 5 | {ceiling:.3f} |" in card
