"""The Weisfeiler-Lehman kernel against a loop over dictionaries, and its Gaussian process against refits."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import OptimizeResult, approx_fprime
from surrogate_helpers import accuracy, rows

from tauzero import evaluation, spaces
from tauzero.surrogates import wl_gaussian_process
from tauzero.surrogates._wl_labels import vertex_labels
from tauzero.surrogates.wl_gaussian_process import WLGaussianProcess

Floats = npt.NDArray[np.float64]
each_space = pytest.mark.parametrize("space", ["nasbench101", "nasbench201"])


def noisy(space: str, n: int, seed: int = 0) -> tuple[spaces.Genotypes, Floats]:
    cells = rows(space, n, seed)
    return cells, accuracy(space, cells) + np.random.default_rng(seed).normal(0, 0.5, n)


def slow_labels(graphs: spaces.CellGraphs, row: int, rounds: int) -> list[Counter[Any]]:
    """Counts of nested tuples: a label is spelled out, nothing is hashed."""
    ops, edges = graphs.ops[row].tolist(), graphs.adjacency[row].tolist()
    present = [v for v in range(int(graphs.num_nodes[row])) if ops[v] > 0]
    label: dict[int, Any] = {v: ops[v] for v in present}
    found = [Counter(label.values())]
    for _ in range(rounds):
        refined = {}
        for v in present:
            reads = sorted((repr(label[u]), edges[u][v]) for u in present if edges[u][v])
            read_by = sorted((repr(label[w]), edges[v][w]) for w in present if edges[v][w])
            # Parallel edges repeat a label in the multiset.
            below = sorted(text for text, times in reads for _ in range(times))
            above = sorted(text for text, times in read_by for _ in range(times))
            refined[v] = (label[v], tuple(below), tuple(above))
        label = refined
        found.append(Counter(label.values()))
    return found


def slow_cosines(space: str, cells: spaces.Genotypes, rounds: int, *, contract: bool) -> Floats:
    graphs = spaces.get(space).graphs(cells)
    if contract:
        graphs = graphs.contract(spaces.operation_code("skip_connect"))
    counts = [slow_labels(graphs, row, rounds) for row in range(len(cells))]
    out = np.empty((rounds + 1, len(cells), len(cells)))
    for h in range(rounds + 1):
        for i, a in enumerate(counts):
            for j, b in enumerate(counts):
                product = sum(times * b[h][label] for label, times in a[h].items())
                lengths = sum(t * t for t in a[h].values()) * sum(t * t for t in b[h].values())
                out[h, i, j] = product / np.sqrt(lengths)
    return out


@each_space
@pytest.mark.parametrize("contract", [False, True])
def test_cosines_against_dictionaries(space: str, contract: bool) -> None:
    """Between training rows, and between others and training rows (labels that were never seen)."""
    cells = rows(space, 16, seed=3)
    expected = slow_cosines(space, cells, 2, contract=contract)
    model = WLGaussianProcess(space, rounds=2, contract_skips=contract)
    model._learn_labels(model._labels(cells[:10]))
    counts = model._normalised(model._labels(cells))
    for dense in (0, 10_000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(wl_gaussian_process, "_DENSE", dense)
            for h, (a, b) in enumerate(zip(counts, model._transposed(np.float64), strict=True)):
                assert isinstance(b, np.ndarray) == bool(dense)
                np.testing.assert_allclose(model._cosines(a, b), expected[h][:, :10], atol=1e-12)
    assert expected[2].mean() < expected[0].mean()  # refinement tells more cells apart


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_labels_do_not_depend_on_the_order_of_vertices(seed: int) -> None:
    """Of a random graph and the same with its inner vertices renamed."""
    rng = np.random.default_rng(seed)
    v = int(rng.integers(3, 8))
    adjacency = np.triu(rng.integers(0, 3, (v, v)), 1).astype(np.uint8)
    ops = np.r_[1, rng.integers(3, 7, v - 2), 2].astype(np.int8)
    order = np.r_[0, 1 + rng.permutation(v - 2), v - 1]
    graphs = spaces.CellGraphs(
        np.stack([adjacency, adjacency[np.ix_(order, order)]]), np.stack([ops, ops[order]]), np.full(2, v, np.int8)
    )
    first, second = np.moveaxis(vertex_labels({"cell": graphs}, 4), 1, 0)
    np.testing.assert_array_equal(first[:, order], second)


def test_kinds_of_cell_are_told_apart() -> None:
    graphs = spaces.get("nasbench101").graphs(rows("nasbench101", 5))
    both = vertex_labels({"normal": graphs, "reduction": graphs}, 2)
    normal, reduction = np.split(both, 2, axis=2)
    assert not set(normal[normal > 0].tolist()) & set(reduction[reduction > 0].tolist())
    np.testing.assert_array_equal(normal > 0, reduction > 0)
    np.testing.assert_array_equal(normal > 0, np.broadcast_to(graphs.mask, normal.shape))


def kernel(model: WLGaussianProcess, cosines: Floats) -> Floats:
    linear, squared = np.exp(model.parameters_[:-1]).reshape(2, -1)
    return np.tensordot(linear, cosines, 1) + np.tensordot(squared, cosines**2, 1)


@each_space
def test_leave_one_out_and_predictions_against_refitting(space: str) -> None:
    cells, y = noisy(space, 26)
    the_space = spaces.get(space)
    # Eight rows count twice: their noise has half the variance.
    model = WLGaussianProcess(space, target="identity").fit(
        np.concatenate([cells[:20], cells[:8]]), np.concatenate([y[:20], y[:8]])
    )
    order = np.argsort(the_space.index(cells[:20]))
    target = ((y[:20] - y[:20].mean()) / y[:20].std())[order]
    everything = the_space.canonical(np.concatenate([cells[:20][order], cells[20:]]))
    full = kernel(model, slow_cosines(space, everything, model.rounds, contract=True))
    noise = np.exp(model.parameters_[-1]) / np.where(order < 8, 2.0, 1.0) + 1e-8
    for left_out in range(20):
        others = np.flatnonzero(np.arange(20) != left_out)
        solved = np.linalg.solve(full[np.ix_(others, others)] + np.diag(noise[others]), full[others, left_out])
        assert model.unseen_[left_out] == pytest.approx(solved @ target[others], abs=1e-6)
        variance = full[left_out, left_out] - solved @ full[others, left_out] + noise[left_out]
        assert model.unseen_std_[left_out] == pytest.approx(model._inflation * np.sqrt(variance), rel=1e-5)
    solved = np.linalg.solve(full[:20, :20] + np.diag(noise), full[:20, 20:])
    mean, std = model._predict(everything[20:], with_std=True)
    np.testing.assert_allclose(mean, target @ solved, atol=1e-4)
    variance = np.diag(full)[20:] - (solved * full[:20, 20:]).sum(axis=0) + np.exp(model.parameters_[-1])
    np.testing.assert_allclose(std, model._inflation * np.sqrt(variance), rtol=1e-3)


def test_gradient_against_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    objectives: list[Any] = []

    def spy(function: Any, start: Floats, **named: Any) -> OptimizeResult:
        objectives.append(function)
        return OptimizeResult(x=start)

    monkeypatch.setattr(wl_gaussian_process, "minimize", spy)
    cells, y = noisy("nasbench201", 25)
    model = WLGaussianProcess("nasbench201").fit(np.concatenate([cells, cells[:9]]), np.concatenate([y, y[:9] + 1]))
    (objective,) = objectives
    start = model.parameters_
    for point in (start, start + np.random.default_rng(1).normal(0, 1, len(start))):
        numeric = approx_fprime(point, lambda p: objective(p)[0], 1e-6)
        np.testing.assert_allclose(objective(point)[1], numeric, rtol=2e-4, atol=2e-4)


@each_space
def test_learns_and_knows_its_error(space: str) -> None:
    cells, y = noisy(space, 240)
    model = WLGaussianProcess(space, target="identity").fit(cells[:80], y[:80])
    mean, std = model.predict(cells[80:], return_std=True)
    assert evaluation.kendall_tau(y[80:], mean) > 0.6
    assert 0.5 < np.mean(np.abs(y[80:] - mean) < std) < 0.85


def test_thinned_training_sets_and_few_variance_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    cells, y = noisy("nasbench201", 80)
    model = WLGaussianProcess("nasbench201", max_rows=50, max_optimise=20).fit(cells, y)
    assert np.isfinite(model.unseen_).sum() == np.isfinite(model.unseen_std_).sum() == 50
    judged = rows("nasbench201", 60, seed=5)
    mean, std = model._predict(judged, with_std=True)
    monkeypatch.setattr(wl_gaussian_process, "_VARIANCE_ROWS", 30)
    monkeypatch.setattr(wl_gaussian_process, "_CHUNK_ENTRIES", 350)
    same, wider = model._predict(judged, with_std=True)
    np.testing.assert_allclose(same, mean, atol=1e-5)
    assert (wider >= std - 1e-5).all()
    assert (wider > std + 1e-5).any()
