"""Objectives that several processes evaluate: the same search whatever their number."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tauzero import search, spaces
from tauzero.search import Evaluation, MultiFidelityAlgorithm, Objective, ParallelObjective
from tauzero.search.parallel_objective import _Evaluating, _Rows

SPACE = spaces.get("nasbench201")


class Noted(Objective):
    """Counts its calls; the value is a function of architecture and epochs, the seconds tell the process."""

    fidelities = (3, 9)
    full_epochs = 9
    label = "noted"

    def __init__(self) -> None:
        self.space = SPACE
        self.calls: list[int] = []

    def evaluate(self, genotypes: npt.ArrayLike, epochs: npt.ArrayLike | None = None) -> Evaluation:
        rows = self.space.validate(genotypes)
        self.calls.append(len(rows))
        at = np.full(len(rows), 9) if epochs is None else self.check_epochs(epochs, len(rows))
        return Evaluation(rows.sum(axis=1) * 1.0 + at / 10, np.full(len(rows), float(os.getpid())))


class Alternating(MultiFidelityAlgorithm):
    """Random architectures, each at both budgets."""

    name = "alternating"

    def _propose_at(self, n: int) -> Any:
        return np.repeat(self.space.sample(n // 2, self._rng), 2, axis=0), np.tile([3, 9], n // 2)

    def _observe_at(self, genotypes: Any, epochs: Any, values: Any) -> None:
        pass


def test_in_this_process_it_is_the_objective_itself() -> None:
    inner = Noted()
    with ParallelObjective(inner, workers=1) as outer:
        found = search.run("random_search", outer, 12, 0, batch_size=4)
        expected = search.run("random_search", Noted(), 12, 0, batch_size=4)
        np.testing.assert_array_equal(found.values, expected.values)
        assert inner.calls == [4, 4, 4]
        outer.evaluate(found.genotypes)
        assert inner.calls == [4, 4, 4]  # remembered
        assert (outer.label, outer.fidelities, outer.full_epochs) == ("noted", (3, 9), 9)
        both = search.run(Alternating(SPACE, 1, fidelities=(3, 9)), outer, 8, batch_size=4)
        np.testing.assert_array_equal(both.values, both.genotypes.sum(axis=1) + both.epochs / 10)


def test_costs_go_around_and_arguments_are_checked() -> None:
    costed = search.WithCosts(Noted(), {"sum": lambda rows: rows.sum(axis=1)})
    with pytest.raises(ValueError, match="the other way round"):
        ParallelObjective(costed)
    around = search.WithCosts(ParallelObjective(Noted(), workers=1), {"sum": lambda rows: rows.sum(axis=1)})
    assert search.run("random_search", around, 3, 0).costs["sum"].shape == (3,)
    for options, words in {
        "engine": ({"engine": "threads"}, "'local'"),
        "workers": ({"workers": 0}, "'workers'"),
    }.values():
        with pytest.raises(ValueError, match=words):
            ParallelObjective(Noted(), **options)  # type: ignore[arg-type]


def test_rows_are_divided_until_one_is_to_blame() -> None:
    rows = SPACE.sample(3, 0)
    task = _Rows(np.arange(3), rows, np.array([3, 9, 9]))
    first, second = task.after_a_loss()
    assert (first.places.tolist(), second.places.tolist()) == ([0], [1, 2])
    np.testing.assert_array_equal(second.genotypes, rows[1:])
    assert second.epochs is not None
    assert second.epochs.tolist() == [9, 9]
    (again,) = first.after_a_loss()
    assert again.tries == 1
    with pytest.raises(RuntimeError, match="ended abruptly twice"):
        _Evaluating(Noted()).given_up(again)


@pytest.mark.slow
def test_two_processes_find_the_same() -> None:
    options: dict[str, Any] = {"batch_size": 3, "image_size": 8, "channels": 2, "device": "cpu"}
    objective = search.ProxyObjective(SPACE, ["synflow", "nwot"], reference=4, **options)
    found = []
    for workers in (1, 2):
        with ParallelObjective(objective, workers=workers) as outer:
            found.append(search.run("regularized_evolution", outer, 12, 0, batch_size=4, params={"population_size": 4}))
            if workers == 2:
                assert outer._opened is not None
        assert outer._opened is None
    np.testing.assert_array_equal(found[0].index, found[1].index)
    np.testing.assert_array_equal(found[0].values, found[1].values)
    plain = search.run(
        "regularized_evolution", objective, 12, 0, batch_size=4, params={"population_size": 4, "sample_size": 10}
    )
    np.testing.assert_allclose(plain.values, found[0].values, rtol=1e-9)
