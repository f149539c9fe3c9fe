"""The graph network: invariances, both directions, losses against slow loops, and what fitting leaves alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from surrogate_helpers import SMALL, accuracy, rows, small
from torch import Tensor

from tauzero import spaces
from tauzero.surrogates._gnn_model import CellNetwork, GraphTensors, graph_tensors
from tauzero.surrogates.gnn import GNN

each_space = pytest.mark.parametrize("space", spaces.names())


def batch_of(space: str, n: int = 40, num_features: int = 3) -> GraphTensors:
    features = np.random.default_rng(0).normal(size=(n, num_features)).astype(np.float32)
    return graph_tensors(spaces.get(space).graphs(rows(space, n)), features)


def network(num_features: int = 3, layers: int = 2) -> CellNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = CellNetwork(16, layers, num_features, dropout=0.5)
        with torch.no_grad():  # as after training: the two ε of a layer are 0 to begin with
            for parameter in made.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return made.eval()


def relabelled(batch: GraphTensors, seed: int) -> GraphTensors:
    """Every cell with its vertices in another order."""
    n, v = batch.ops.shape
    rng = np.random.default_rng(seed)
    order = torch.from_numpy(np.stack([rng.permutation(v) for _ in range(n)]))
    row = torch.arange(n)[:, None]
    return GraphTensors(
        batch.adjacency[row[:, :, None], order[:, :, None], order[:, None, :]],
        batch.ops[row, order],
        batch.structure[row, order],
        (order == batch.output[:, None]).int().argmax(dim=1),
        batch.features,
    )


def padded(batch: GraphTensors, extra: int) -> GraphTensors:
    pad = torch.nn.functional.pad
    return GraphTensors(
        pad(batch.adjacency, (0, extra, 0, extra)),
        pad(batch.ops, (0, extra)),
        # An isolated vertex lies on no path: its depths are those of padding.
        torch.cat([batch.structure, batch.structure[:, -1:].repeat(1, extra, 1)], dim=1),
        batch.output,
        batch.features,
    )


# -- the network ------------------------------------------------------------------------------


@each_space
@torch.inference_mode()
def test_vertex_order_does_not_matter(space: str) -> None:
    batch, made = batch_of(space), network()
    expected = made(batch)
    assert expected.shape == (40,)
    assert len(expected.unique()) > 30  # it tells cells apart
    for seed in range(3):
        torch.testing.assert_close(made(relabelled(batch, seed)), expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_another_topological_order_of_a_cell() -> None:
    """Two vertices that no path joins change places: structure features are made anew from the graph."""
    adjacency = np.zeros((2, 5, 5), dtype=np.uint8)
    adjacency[:, 0, 1] = adjacency[:, 0, 2] = adjacency[:, 1, 3] = adjacency[:, 2, 4] = adjacency[:, 3, 4] = 1
    adjacency[1] = adjacency[1][np.ix_([0, 2, 1, 3, 4], [0, 2, 1, 3, 4])]
    ops = np.array([[1, 5, 6, 7, 2], [1, 6, 5, 7, 2]], dtype=np.int8)
    graphs = spaces.CellGraphs(adjacency, ops, np.array([5, 5], dtype=np.int8))
    first, second = network(0)(graph_tensors(graphs, np.zeros((2, 0), dtype=np.float32)))
    torch.testing.assert_close(first, second)


@each_space
@torch.inference_mode()
def test_padding_does_not_matter(space: str) -> None:
    batch, made = batch_of(space), network()
    for extra in (1, 4):
        torch.testing.assert_close(made(padded(batch, extra)), made(batch), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_both_directions_matter() -> None:
    batch = batch_of("nasbench101")
    made = network()
    expected = made(batch)
    reversed_edges = batch._replace(adjacency=batch.adjacency.transpose(1, 2).contiguous())
    assert not torch.allclose(made(reversed_edges), expected, atol=1e-3)
    for direction in ("forwards", "backwards"):
        # What one direction carries is not carried by the other.
        deaf = network()
        for layer in deaf.layers:
            convolution: Any = getattr(layer, direction)
            original = convolution.forward
            convolution.forward = lambda x, adjacency, f=original: f(x, torch.zeros_like(adjacency))
        assert not torch.allclose(deaf(batch), expected, atol=1e-3)


@torch.inference_mode()
def test_information_travels_along_and_against_edges() -> None:
    """Input → a → output: after one round the output knows a along the edge, the input knows a against it."""
    adjacency = torch.zeros(1, 3, 3)
    adjacency[0, 0, 1] = adjacency[0, 1, 2] = 1
    layer: Any = network(layers=1).layers[0]
    h = torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(0))
    other = h.clone()
    other[0, 1] += torch.randn(16, generator=torch.Generator().manual_seed(1))
    along, against = adjacency.transpose(1, 2), adjacency
    changed = (layer(h, along, against) - layer(other, along, against)).abs().amax(dim=2)[0]
    assert (changed > 1e-4).all()
    silent = torch.zeros_like(adjacency)
    only_along = (layer(h, along, silent) - layer(other, along, silent)).abs().amax(dim=2)[0]
    assert only_along[2] > 1e-4
    assert only_along[0] == 0


def test_structure_features() -> None:
    """Input → a → b → output, input → output, and a vertex without edges behind the output."""
    adjacency = np.zeros((1, 5, 5), dtype=np.uint8)
    adjacency[0, 0, 1] = adjacency[0, 1, 2] = adjacency[0, 2, 3] = adjacency[0, 0, 3] = 1
    graphs = spaces.CellGraphs(adjacency, np.array([[1, 5, 6, 2, 0]], dtype=np.int8), np.array([4], dtype=np.int8))
    made = graph_tensors(graphs, np.zeros((1, 0), dtype=np.float32))
    assert made.output.tolist() == [3]
    ln = np.log1p
    np.testing.assert_allclose(made.structure[0, :, 0], ln([0, 1, 1, 2, 0]), rtol=1e-6)  # edges in
    np.testing.assert_allclose(made.structure[0, :, 1], ln([2, 1, 1, 0, 0]), rtol=1e-6)  # edges out
    np.testing.assert_allclose(made.structure[0, :, 2] * 5, [0, 1, 2, 3, -1], rtol=1e-6)  # longest from the input
    np.testing.assert_allclose(made.structure[0, :, 3] * 5, [3, 2, 1, 0, -1], rtol=1e-6)  # longest to the output
    np.testing.assert_allclose(made.structure[0, :, 4], [1, 0, 1, 0, 0])  # edge into the output
    np.testing.assert_allclose(made.structure[0, :, 5], ln([2] * 5), rtol=1e-6)


# -- losses -----------------------------------------------------------------------------------


def slow_loss(kind: str, predicted: list[float], goal: list[float], weights: list[float]) -> float:
    """Squared error plus the mean over pairs (i, i - k mod n), k = 1 … 8, written as loops."""
    n = len(goal)
    loss = sum(w * (p - g) ** 2 for w, p, g in zip(weights, predicted, goal, strict=True)) / n
    if kind == "mse" or n < 2:
        return loss
    pairs = []
    for k in range(1, min(n, 9)):
        for i in range(n):
            gap, truth = predicted[i] - predicted[i - k], goal[i] - goal[i - k]
            if kind == "hinge":
                sign = (truth > 0) - (truth < 0)
                pairs.append(max(0.0, 0.1 - gap * sign) if abs(truth) > 1e-6 else 0.0)
            else:
                probability = 1 / (1 + np.exp(-4 * gap))
                pairs.append(-np.log(probability if truth > 0 else 1 - probability))
    return loss + sum(pairs) / len(pairs)


@pytest.mark.parametrize("kind", ["mse", "hinge", "bce"])
@pytest.mark.parametrize("n", [1, 2, 5, 9, 20])
def test_losses_match_slow_loops(kind: str, n: int) -> None:
    rng = np.random.default_rng(n)
    predicted, weights = rng.normal(size=n), rng.uniform(0.5, 2, n)
    goal = rng.integers(0, 4, n).astype(float)  # ties
    given = [torch.from_numpy(values) for values in (predicted, goal, weights)]
    loss = float(GNN("nasbench201", loss=kind)._loss(*given))
    assert loss == pytest.approx(slow_loss(kind, predicted.tolist(), goal.tolist(), weights.tolist()))


@pytest.mark.parametrize("kind", ["mse", "hinge", "bce"])
def test_losses_decrease(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: list[float] = []
    loss = GNN._loss

    def spy(self: GNN, *given: Tensor) -> Tensor:
        value = loss(self, *given)
        losses.append(float(value.detach()))
        return value

    monkeypatch.setattr(GNN, "_loss", spy)
    cells = rows("nasbench201", 64)
    small("gnn", "nasbench201", loss=kind, epochs=30, width=16).fit(cells, accuracy("nasbench201", cells))
    steps = len(losses) // 30
    assert np.mean(losses[-3 * steps :]) < 0.7 * np.mean(losses[: 3 * steps])


# -- fitting ----------------------------------------------------------------------------------


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    cells = rows("nasbench201", 20)
    model = small("gnn", "nasbench201").fit(cells, accuracy("nasbench201", cells))
    model.predict(cells, return_std=True)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(456)  # and does not matter
    again = small("gnn", "nasbench201").fit(cells, accuracy("nasbench201", cells))
    np.testing.assert_array_equal(again.predict(cells), model.predict(cells))


@pytest.mark.parametrize("n", [32, 33])
def test_progress_is_told_each_step(n: int) -> None:
    """A last batch of one row is left out: it has no pairs."""
    told: list[tuple[int, int]] = []
    cells = rows("nasbench201", n)
    model = small("gnn", "nasbench201", members=2, progress=lambda done, total: told.append((done, total)))
    model.fit(cells, accuracy("nasbench201", cells))
    total = 2 * 3 * 2  # members, epochs, batches of sixteen
    assert told == [(k, total) for k in range(1, total + 1)]


def test_members_differ_and_their_disagreement_widens_the_deviation() -> None:
    cells = rows("nasbench201", 30)
    model = small("gnn", "nasbench201", members=3).fit(cells, accuracy("nasbench201", cells))
    latent = model._latent(model._tensors(cells))
    assert latent.shape == (3, 30)
    assert latent.std(axis=0).min() > 0
    mean, std = model._predict(cells, with_std=True)
    np.testing.assert_allclose(mean, latent.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(std, np.sqrt(latent.var(axis=0) + model.noise_**2), atol=1e-6)


@each_space
def test_without_graph_features(space: str) -> None:
    cells = rows(space, 30)
    model = small("gnn", space, features=False).fit(cells, accuracy(space, cells))
    assert model._tensors(cells).features.shape == (30, 0)
    predicted: npt.NDArray[np.float64] = model.predict(cells)
    assert np.isfinite(predicted).all()
    assert len(set(predicted)) > 1


def test_small_models_are_the_ones_meant() -> None:
    assert small("gnn", "nasbench201").get_params()["epochs"] == SMALL["gnn"]["epochs"]
