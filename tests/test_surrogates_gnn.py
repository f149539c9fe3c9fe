"""The graph networks: invariances, layers against slow second implementations, members against networks alone."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tauzero import spaces
from tauzero.surrogates._gnn_directed import FlowLayer, TransformerLayer
from tauzero.surrogates._gnn_layers import AttentionLayer, ConvolutionLayer, GraphContext, Linear
from tauzero.surrogates._gnn_model import ARCHITECTURES, CellNetworks
from tauzero.surrogates._gnn_tensors import GraphTensors, graph_tensors

each_space = pytest.mark.parametrize("space", spaces.names())
each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


@cache
def cells_of(space: str, n: int) -> spaces.CellGraphs:
    the_space = spaces.get(space)
    found = the_space.distinct(the_space.sample(4 * n, 0))[0]
    return the_space.graphs(found[np.linspace(0, len(found) - 1, n).astype(int)])


@cache
def batch_of(space: str, n: int = 40, num_features: int = 3) -> GraphTensors:
    features = np.random.default_rng(0).normal(size=(n, num_features)).astype(np.float32)
    return graph_tensors(cells_of(space, n), features, relations=True)


def generators(members: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(k) for k in range(members)]


def networks(architecture: str = "gin", *, members: int = 2, num_features: int = 3, layers: int = 2) -> CellNetworks:
    made = CellNetworks(
        architecture=architecture,
        width=16,
        layers=layers,
        num_features=num_features,
        outputs=1,
        dropout=0.5,
        seeds=list(range(members)),
    )
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():  # as after training: some parameters are 0 to begin with
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return made


def topological_orders(batch: GraphTensors, seed: int) -> Tensor:
    """A random order of each cell's vertices in which every edge goes forwards, ``int64[n, V]``."""
    n, v = batch.ops.shape
    edges = batch.adjacency.numpy() > 0
    level = np.zeros((n, v))
    for vertex in range(1, v):
        level[:, vertex] = np.where(edges[:, :vertex, vertex], level[:, :vertex] + 1, 0).max(axis=1)
    return torch.from_numpy(np.argsort(level + np.random.default_rng(seed).random((n, v)), axis=1))


def reordered(batch: GraphTensors, order: Tensor) -> GraphTensors:
    row = torch.arange(len(order))[:, None]
    return GraphTensors(
        batch.adjacency[row[:, :, None], order[:, :, None], order[:, None, :]],
        batch.ops[row, order],
        batch.structure[row, order],
        (order == batch.output[:, None]).int().argmax(dim=1),
        batch.features,
        batch.relations[row[:, :, None], order[:, :, None], order[:, None, :]],
    )


def padded(graphs: spaces.CellGraphs, extra: int) -> spaces.CellGraphs:
    adjacency = np.pad(graphs.adjacency, ((0, 0), (0, extra), (0, extra)))
    return spaces.CellGraphs(adjacency, np.pad(graphs.ops, ((0, 0), (0, extra))), graphs.num_nodes)


# -- invariances ------------------------------------------------------------------------------


@each_architecture
@each_space
@torch.inference_mode()
def test_vertex_order_does_not_matter(space: str, architecture: str) -> None:
    batch, made = batch_of(space), networks(architecture)
    expected = made(batch)
    assert expected.shape == (2, 40, 1)
    assert len(expected[0].unique()) > 30  # it tells cells apart
    for seed in range(2):
        order = topological_orders(batch, seed)
        # The chains of these spaces are all equally long: there is one order only.
        assert (order != torch.arange(order.shape[1])).any() == (space not in {"nasbench_macro", "natsbench_size"})
        torch.testing.assert_close(made(reordered(batch, order)), expected, rtol=1e-5, atol=1e-5)


@each_architecture
@torch.inference_mode()
def test_another_topological_order_of_a_cell(architecture: str) -> None:
    """Two vertices that no path joins change places: everything is made anew from the graph."""
    adjacency = np.zeros((2, 5, 5), dtype=np.uint8)
    adjacency[:, 0, 1] = adjacency[:, 0, 2] = adjacency[:, 1, 3] = adjacency[:, 2, 4] = adjacency[:, 3, 4] = 1
    adjacency[1] = adjacency[1][np.ix_([0, 2, 1, 3, 4], [0, 2, 1, 3, 4])]
    ops = np.array([[1, 5, 6, 7, 2], [1, 6, 5, 7, 2]], dtype=np.int8)
    graphs = spaces.CellGraphs(adjacency, ops, np.array([5, 5], dtype=np.int8))
    batch = graph_tensors(graphs, np.zeros((2, 0), dtype=np.float32), relations=True)
    (first, second), _ = networks(architecture, num_features=0)(batch)[..., 0]
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)


@each_architecture
@each_space
@torch.inference_mode()
def test_padding_does_not_matter(space: str, architecture: str) -> None:
    """Depths have a unit of their own: a cell reads the same in a space with room for more vertices."""
    graphs, made = cells_of(space, 20), networks(architecture, num_features=0)
    none = np.zeros((20, 0), dtype=np.float32)
    expected = made(graph_tensors(graphs, none, relations=True))
    for extra in (1, 4):
        bigger = graph_tensors(padded(graphs, extra), none, relations=True)
        torch.testing.assert_close(made(bigger), expected, rtol=1e-5, atol=1e-5)


@each_architecture
@torch.inference_mode()
def test_both_directions_matter(architecture: str) -> None:
    """Edges that are turned round change the prediction, all else left as it was."""
    batch, made = batch_of("nasbench101"), networks(architecture)
    expected = made(batch)
    if architecture == "transformer":
        above = (batch.relations > 7) * 6
        turned = batch._replace(relations=torch.where(batch.relations > 1, batch.relations + 6 - 2 * above, 1).byte())
    else:
        order = torch.arange(7).flip(0).expand(40, 7)
        turned = reordered(batch._replace(adjacency=batch.adjacency.transpose(1, 2).contiguous()), order)
    assert not torch.allclose(made(turned), expected, atol=1e-3)


# -- members ----------------------------------------------------------------------------------


@each_architecture
@torch.inference_mode()
def test_members_are_networks_of_their_own(architecture: str) -> None:
    batch = batch_of("nasbench101")
    together = networks(architecture, members=3)
    expected = together(batch)
    assert (expected[0] - expected[1]).abs().max() > 1e-3
    rows = torch.stack([torch.randperm(40, generator=g) for g in generators(3)])
    own_batches = together(batch.take(rows))
    for k in range(3):
        alone = networks(architecture, members=1)
        alone.load_state_dict({name: value.chunk(3)[k] for name, value in together.state_dict().items()})
        torch.testing.assert_close(alone(batch)[0], expected[k], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(own_batches[k], expected[k][rows[k]], rtol=1e-5, atol=1e-5)


def test_initialisation_is_that_of_torch_and_of_the_seed() -> None:
    made = Linear(400, 30, generators(2)).requires_grad_(False)
    assert made.weight.abs().max() <= 1 / 20
    assert made.weight.std() == pytest.approx(1 / 20 / math.sqrt(3), rel=0.05)
    assert not torch.equal(made.weight[0], made.weight[1])
    torch.testing.assert_close(made.weight[:1], Linear(400, 30, generators(1)).weight.detach())


@torch.no_grad()
def test_dropout_only_with_a_generator() -> None:
    batch, made = batch_of("nasbench201"), networks()
    assert torch.equal(made(batch), made(batch))
    dropped = [made(batch, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(dropped[0], dropped[1])
    assert not torch.equal(dropped[0], dropped[2])
    made.dropout = 0.0
    assert torch.equal(made(batch, torch.Generator()), made(batch))


# -- layers against slow implementations ------------------------------------------------------


def example(n: int = 6) -> tuple[Tensor, GraphContext]:
    """States ``[2, n, 7, 16]`` and the edges of cells, for two members."""
    batch = batch_of("nasbench101", n)
    h = torch.randn(2, n, 7, 16, generator=torch.Generator().manual_seed(0))
    along = batch.adjacency.float().transpose(1, 2)[None]
    return h, GraphContext(along, batch.relations[None])


@torch.no_grad()
def test_gin_is_pytorch_geometrics() -> None:
    from torch_geometric.nn import DenseGINConv

    h, context = example()
    layer = ConvolutionLayer("gin", 16, generators(2))
    layer.epsilon.copy_(torch.tensor([[0.1, -0.3], [0.5, 0.0]]))
    made = layer.aggregate(h, context.along)
    for member in range(2):
        for direction, adjacency in enumerate((context.along[0], context.along[0].transpose(1, 2))):
            reference = DenseGINConv(torch.nn.Identity(), eps=float(layer.epsilon[member, direction]))
            part = made[member, ..., 16 * direction : 16 * (direction + 1)]
            torch.testing.assert_close(part, reference(h[member], adjacency), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_gat_is_pytorch_geometrics() -> None:
    from torch_geometric.nn import DenseGATConv

    h, context = example()
    layer = AttentionLayer(16, generators(2))
    layer.map.bias.zero_()
    made = layer.aggregate(h, context.along)
    for member in range(2):
        for direction, adjacency in enumerate((context.along[0], context.along[0].transpose(1, 2))):
            columns = slice(16 * direction, 16 * (direction + 1))
            heads = slice(4 * direction, 4 * (direction + 1))
            reference = DenseGATConv(16, 4, heads=4, bias=False)
            reference.lin.weight.copy_(layer.map.weight[member][:, columns].T)
            reference.att_src.copy_(layer.neighbour[member, :, :, heads])
            reference.att_dst.copy_(layer.centre[member, :, :, heads])
            expected = reference(h[member], adjacency.clone())
            torch.testing.assert_close(made[member, ..., columns], expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_gcn_matches_slow_loops() -> None:
    h, context = example()
    made = ConvolutionLayer("gcn", 16, generators(2)).aggregate(h, context.along)
    for cell, along in enumerate(context.along[0]):
        edges = {(u, w) for u in range(7) for w in range(7) if along[w, u] > 0 or u == w}
        leaving = [sum(a == u for a, _ in edges) for u in range(7)]
        entering = [sum(b == u for _, b in edges) for u in range(7)]
        for w in range(7):
            ahead = sum(h[1, cell, a] / math.sqrt(leaving[a] * entering[b]) for a, b in edges if b == w)
            back = sum(h[1, cell, b] / math.sqrt(leaving[a] * entering[b]) for a, b in edges if a == w)
            torch.testing.assert_close(made[1, cell, w], torch.cat([ahead, back]), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_flow_matches_a_recursion() -> None:
    h, context = example()
    layer: Any = FlowLayer(16, generators(2))
    made = layer(h, context)
    member = 1
    for cell, along in enumerate(context.along[0]):
        x = torch.nn.functional.layer_norm(h[member, cell], (16,))

        def state(v: int, direction: int, x: Tensor = x, along: Tensor = along) -> Tensor:
            before = [u for u in range(7) if (along[v, u] if direction == 0 else along[u, v]) > 0]
            message = sum((state(u, direction) for u in before), torch.zeros(16))
            k = 2 * member + direction
            mapped = x[v] @ layer.own.weight[k] + layer.own.bias[k, 0] + message @ layer.message[k]
            gate, candidate = torch.sigmoid(mapped[:16]), torch.tanh(mapped[16:])
            return gate * candidate + (1 - gate) * message / max(len(before), 1)

        for v in range(7):
            both = torch.cat([state(v, 0), state(v, 1)])
            expected = h[member, cell, v] + both @ layer.out.weight[member] + layer.out.bias[member, 0]
            torch.testing.assert_close(made[member, cell, v], expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_attention_matches_slow_loops() -> None:
    h, context = example()
    layer: Any = TransformerLayer(16, generators(2))
    layer.bias.normal_(generator=torch.Generator().manual_seed(3))
    made = layer.attend(h, context.relations)
    member = 1
    for cell, relation in enumerate(context.relations[0]):
        query, key, value = layer.query(h)[member, cell].view(7, 3, 4, 4).unbind(1)
        for v in range(7):
            for head in range(4):
                related = [u for u in range(7) if relation[v, u] > 0]
                scores = torch.stack(
                    [query[v, head] @ key[u, head] / 2 + layer.bias[member, int(relation[v, u]), head] for u in related]
                )
                weights = scores.softmax(0)
                expected = sum(w * value[u, head] for w, u in zip(weights, related, strict=True))
                found = made[member, cell, v, 4 * head : 4 * head + 4]
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


# -- tensors ----------------------------------------------------------------------------------


def test_structure_features() -> None:
    """Input → a → b → output, input → output, and a vertex without edges behind the output."""
    adjacency = np.zeros((1, 5, 5), dtype=np.uint8)
    adjacency[0, 0, 1] = adjacency[0, 1, 2] = adjacency[0, 2, 3] = adjacency[0, 0, 3] = 1
    graphs = spaces.CellGraphs(adjacency, np.array([[1, 5, 6, 2, 0]], dtype=np.int8), np.array([4], dtype=np.int8))
    made = graph_tensors(graphs, np.zeros((1, 0), dtype=np.float32))
    assert made.output.tolist() == [3]
    assert made.relations.shape == (1, 0, 0)
    ln = np.log1p
    np.testing.assert_allclose(made.structure[0, :, 0], ln([0, 1, 1, 2, 0]), rtol=1e-6)  # edges in
    np.testing.assert_allclose(made.structure[0, :, 1], ln([2, 1, 1, 0, 0]), rtol=1e-6)  # edges out
    np.testing.assert_allclose(made.structure[0, :, 2] * 8, [0, 1, 2, 3, -1], rtol=1e-6)  # longest from the input
    np.testing.assert_allclose(made.structure[0, :, 3] * 8, [3, 2, 1, 0, -1], rtol=1e-6)  # longest to the output
    np.testing.assert_allclose(made.structure[0, :, 4], [1, 0, 1, 0, 0])  # edge into the output
    np.testing.assert_allclose(made.structure[0, :, 5], ln([2] * 5), rtol=1e-6)


@each_space
def test_relations_are_shortest_paths(space: str) -> None:
    import networkx as nx

    batch = batch_of(space, 15)
    for adjacency, relation in zip(batch.adjacency.numpy(), batch.relations.numpy(), strict=True):
        lengths = dict(nx.all_pairs_shortest_path_length(nx.from_numpy_array(adjacency, create_using=nx.DiGraph)))
        for u in range(len(adjacency)):
            for w in range(len(adjacency)):
                below, above = lengths[u].get(w), lengths[w].get(u)
                expected = 1 if u == w else 1 + min(below, 6) if below else 7 + min(above, 6) if above else 0
                assert relation[u, w] == expected
