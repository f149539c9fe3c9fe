"""Supernets: what they compute under gates, against the networks' room and against sums written out."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from oneshot_helpers import TINY, batch, supernet
from torch import nn
from torch.nn import functional

from tauzero import networks, spaces
from tauzero.search import oneshot
from tauzero.search.oneshot._operations import BorderPooling, GatedOperation, SearchNorm

NB201, DARTS = "nasbench201", "darts"
SHAPES = {NB201: {"channels": 4, "cells_per_stage": 2}, DARTS: {"channels": 4, "layers": 4}, TINY: {"channels": 4}}


def gates_of(net: oneshot.Supernet, seed: int, share: float = 0.5) -> oneshot.Gates:
    """Random positive weights, a share of the operations being active."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(net.shape, generator=generator, dtype=torch.float64) + 0.1
    active = (torch.rand(net.shape, generator=generator) < share).numpy()
    return oneshot.Gates(weights, active)


# -- the whole network ------------------------------------------------------------------------


def copied(net: oneshot.Supernet, row: np.ndarray) -> networks.CellNetwork:
    """The stand-alone network of a row with the supernet's weights."""
    built = networks.build(net.space, row, 10, 0, dtype=torch.float64, **SHAPES[net.space.name])
    gates = net.one_hot(row)
    for mine, theirs in ((net.stem, built.stem), (net.classifier, built.classifier)):
        theirs.load_state_dict(mine.state_dict(), strict=False)
    for k, (block, cell) in enumerate(zip(net.blocks, built.cells, strict=True)):
        if not hasattr(block, "mixed"):
            cell.load_state_dict(block.state_dict(), strict=False)
            continue
        if net.space.name == DARTS:
            cell.preprocess0.load_state_dict(block.preprocess0.state_dict(), strict=False)
            cell.preprocess1.load_state_dict(block.preprocess1.state_dict(), strict=False)
        kind = getattr(block, "kind", 0)
        layers = iter(cell._ops if net.space.name == DARTS else cell.layers)
        for edge in range(len(net.edges)):
            for op in np.flatnonzero(gates.active[kind, edge]):
                target = next(layers)
                module = block.mixed[edge].operation(int(op))
                if module is not None:
                    missing = target.load_state_dict(module.body.state_dict(), strict=False).unexpected_keys
                    assert missing == [], (k, edge, op)
    return built


@pytest.mark.parametrize("name", [NB201, DARTS])
def test_one_hot_gates_are_the_network_of_that_architecture(name: str) -> None:
    options = {"pool_norm": False} if name == DARTS else {}
    net = supernet(name, **SHAPES[name], **options).double()
    images, _ = batch(size=16)
    for row in spaces.get(name).canonical(net.sample(6, torch.Generator().manual_seed(1)), "string"):
        expected = copied(net, row)(images)
        assert torch.allclose(net(images, net.one_hot(row)), expected, atol=1e-9)


def mixed_by_hand(net: oneshot.Supernet, block: nn.Module, inputs: list[torch.Tensor], gates: oneshot.Gates) -> list:
    """States of a cell as the sum over all active operations of weight times norm of operation."""
    states = dict(enumerate(inputs))
    kind = getattr(block, "kind", 0)
    for edge, (source, target) in enumerate(net.edges):
        for op in np.flatnonzero(gates.active[kind, edge]):
            module = block.mixed[edge].operation(int(op))
            if module is None or source not in states:
                continue
            term = module.body(states[source])
            if module.norm is not None:
                mean = term.mean(dim=(0, 2, 3), keepdim=True)
                variance = term.var(dim=(0, 2, 3), keepdim=True, unbiased=False)
                term = (term - mean) / torch.sqrt(variance + 1e-5)
            term = gates.weights[kind, edge, op] * term
            states[target] = states[target] + term if target in states else term
    return states


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_a_mixed_cell_is_the_weighted_sum(share: float) -> None:
    net = supernet(NB201, channels=4, cells_per_stage=1, stages=1).double()
    gates = gates_of(net, 3, share)
    images, _ = batch()
    x = net.stem(images)
    states = mixed_by_hand(net, net.blocks[0], [x], gates)
    expected = net.classifier(net.lastact(states[3]).mean(dim=(2, 3)))
    assert torch.allclose(net(images, gates), expected, atol=1e-9)


def test_a_mixed_darts_network_is_the_weighted_sum() -> None:
    net = supernet(DARTS, channels=4, layers=3).double()
    gates = gates_of(net, 5, 0.9)
    images, _ = batch(4)
    s0 = s1 = net.stem(images)
    for block in net.blocks:
        states = mixed_by_hand(net, block, [block.preprocess0(s0), block.preprocess1(s1)], gates)
        s0, s1 = s1, torch.cat([states[k] for k in range(2, 6)], dim=1)
    expected = net.classifier(s1.mean(dim=(2, 3)))
    assert torch.allclose(net(images, gates), expected, atol=1e-8)


@pytest.mark.parametrize(("name", "size"), [(TINY, 8), (DARTS, 4)])
def test_gradients_of_gates(name: str, size: int) -> None:
    net = supernet(name, channels=4, **({"layers": 1} if name == DARTS else {"cells_per_stage": 1})).double()
    images, labels = batch(4, size)
    gates = gates_of(net, 7, 0.7)
    weights = gates.weights.clone().requires_grad_()

    def loss(weights: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(net(images, oneshot.Gates(weights, gates.active)), labels)

    (found,) = torch.autograd.grad(loss(weights), weights)
    assert (found.numpy()[~gates.active] == 0).all()
    inner = [tuple(at) for at in np.argwhere(gates.active) if at[2] != net.none][:12]
    for at in inner:
        step = torch.zeros_like(weights)
        step[at] = 1e-5
        with torch.no_grad():
            expected = (loss(weights + step) - loss(weights - step)) / 2e-5
        assert float(found[at]) == pytest.approx(float(expected), abs=1e-7)


@pytest.mark.parametrize("name", [TINY, DARTS])
def test_what_is_not_active_is_not_computed(name: str) -> None:
    net = supernet(name, **SHAPES[name])
    calls: list[tuple[int, int, int]] = []
    for kind, edge, mixed in net.all_mixed_edges():
        for op in range(net.shape[2]):
            module = mixed.operation(op)
            if module is not None:
                module.register_forward_hook(lambda *_, at=(kind, edge, op): calls.append(at))
    images = batch(2)[0].float()
    row = net.sample(1, torch.Generator().manual_seed(2))[0]
    gates = net.one_hot(row)
    net(images, gates)
    counted = {at: calls.count(at) for at in calls}
    used = {tuple(int(k) for k in at) for at in np.argwhere(gates.active) if at[2] != net.none}
    if name == TINY:  # edges off every path are left out as well
        on_path = np.flatnonzero(net.space.active_edges(row[None])[0])
        used = {at for at in used if at[1] in on_path}
    assert counted == {at: len(net.mixed_edges(at[0], at[1])) for at in used}
    calls.clear()
    net(images, net.all_active(torch.ones(net.shape)))
    cells = sum(len(net.mixed_edges(kind, 0)) for kind in range(len(net.kinds)))
    assert len(calls) == cells * len(net.edges) * (len(net.operations) - 1)


def test_one_hot_gates_keep_less_memory_than_all() -> None:
    net = supernet(NB201, channels=4, cells_per_stage=1)
    images, labels = batch(8)
    full = oneshot.step_cost(net, net.all_active(torch.ones(net.shape)), images.float(), labels, repeats=1)
    one = oneshot.step_cost(net, net.one_hot(np.full(6, 3, dtype=np.int8)), images.float(), labels, repeats=1)
    assert 0 < one.saved_mb < full.saved_mb / 1.5
    assert one.seconds > 0


def test_measuring_keeps_no_memory() -> None:
    """What a pass saved is freed, though its node and the measurement both knew of it."""
    status = Path("/proc/self/statm")
    if not status.exists():
        pytest.skip("needs Linux's /proc")
    net = supernet(NB201, channels=8, cells_per_stage=1)
    images, labels = batch(64, size=32)
    gates = net.all_active(torch.ones(net.shape))

    def resident() -> float:
        return int(status.read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    saved = [oneshot.step_cost(net, gates, images.float(), labels, repeats=1).saved_mb for _ in range(2)]
    before = resident()
    for _ in range(4):
        oneshot.step_cost(net, gates, images.float(), labels, repeats=1)
    assert saved[0] == saved[1] > 50
    assert resident() - before < 2 * saved[0]


def test_a_cell_without_connection_is_zero_and_differentiable() -> None:
    net = supernet(TINY, channels=4)
    images, labels = batch(4)
    logits = net(images.float(), net.one_hot(np.zeros(3, dtype=np.int8)))
    functional.cross_entropy(logits, labels).backward()
    assert torch.isfinite(logits).all()


# -- parts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2])
def test_partial_channels(stride: int) -> None:
    """Xu et al., section 3.2: a quarter goes through the operations, the rest past them, then a shuffle."""
    net = supernet(DARTS, channels=8, layers=3, partial=4).double()
    mixed = net.mixed_edges(1 if stride == 2 else 0, 0)[0]
    assert mixed.stride == stride
    channels = next(m for m in mixed.modules() if isinstance(m, SearchNorm)).num_features
    x = torch.randn(2, 4 * channels, 8, 8, dtype=torch.float64)
    weights = torch.rand(8, dtype=torch.float64)
    found = mixed(x, [(op, weights[op]) for op in range(1, 8)], torch.tensor(0.3))
    through = sum(weights[op] * mixed.operation(op)(x[:, :channels]) for op in range(1, 8))
    rest = x[:, channels:] if stride == 1 else functional.max_pool2d(x[:, channels:], 2)
    both = torch.cat([through, rest], dim=1)
    # Channel g·c + k of four groups of c comes to place 4·k + g.
    shuffled = torch.stack([both[:, g * channels + k] for k in range(channels) for g in range(4)], dim=1)
    assert torch.allclose(found, 0.3 * shuffled)


def test_partial_channels_pass_none_by() -> None:
    net = supernet(TINY, channels=8, partial=4).double()
    mixed = net.mixed_edges(0, 0)[0]
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64)
    out = mixed(x, [])
    assert torch.equal(out[:, 0::4], torch.zeros(2, 2, 4, 4, dtype=torch.float64))
    assert torch.equal(out[:, [1, 2, 3, 5, 6, 7]], x[:, 2:].reshape(2, 3, 2, 4, 4).transpose(1, 2).reshape(2, 6, 4, 4))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("affine", "running"), list(itertools.product([True, False], repeat=2)))
def test_a_norm_with_a_gate_is_the_norm_times_the_gate(training: bool, affine: bool, running: bool) -> None:
    gated = SearchNorm(4, affine=affine, track_running_stats=running).double().train(training)
    plain = nn.BatchNorm2d(4, affine=affine, track_running_stats=running).double().train(training)
    if affine:
        with torch.no_grad():
            gated.weight.copy_(torch.rand(4))
            gated.bias.copy_(torch.rand(4))
    if running:
        gated.running_mean.copy_(torch.rand(4))
    plain.load_state_dict(gated.state_dict())
    x = torch.randn(3, 4, 5, 5, dtype=torch.float64)
    gate = torch.tensor(-0.7, dtype=torch.float64, requires_grad=True)
    found, expected = gated(x, gate), gate * plain(x)
    assert torch.allclose(found, expected, atol=1e-12)
    assert gated(x).shape == x.shape
    direction = torch.randn_like(x)
    assert torch.allclose(*(torch.autograd.grad(out, gate, direction)[0] for out in (found, expected)))
    if running and training:
        plain(x)
        assert torch.allclose(gated.running_var, plain.running_var)
        assert gated.num_batches_tracked == plain.num_batches_tracked


def test_channels_last_give_the_same_gradients() -> None:
    norm = SearchNorm(8, affine=False, track_running_stats=False)
    x, direction, gate = torch.randn(16, 8, 8, 8), torch.randn(16, 8, 8, 8), torch.tensor(0.2, requires_grad=True)
    found = []
    for order in (torch.contiguous_format, torch.channels_last):
        images = x.to(memory_format=order).requires_grad_()
        found.append(torch.autograd.grad(norm(images, gate), [gate, images], direction.to(memory_format=order)))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(*found, strict=True))


def test_pooling_on_the_cpu_is_pytorchs() -> None:
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64, requires_grad=True)
    expected = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    found = BorderPooling()(x)
    assert torch.allclose(found, expected)
    direction = torch.randn_like(found)
    assert torch.allclose(*(torch.autograd.grad(out, x, direction)[0] for out in (found, expected)))


@pytest.mark.parametrize("name", [NB201, DARTS])
def test_norms_follow_poolings_and_skips_where_wanted(name: str) -> None:
    def norms(**options: bool) -> dict[str, SearchNorm | None]:
        net = supernet(name, **SHAPES[name], **options)
        mixed = net.mixed_edges(0, 0)[0]
        operations = {op: mixed.operation(k) for k, op in enumerate(net.operations)}
        return {op: module.norm for op, module in operations.items() if module is not None}

    off, on = norms(pool_norm=False), norms(pool_norm=True, skip_norm=True, affine=True, running_statistics=True)
    assert [op for op, found in off.items() if found is None] == [
        op for op in off if "pool" in op or op == "skip_connect"
    ]
    assert all(found is not None and found.affine and found.track_running_stats for found in on.values())
    assert not any(found.affine or found.track_running_stats for found in off.values() if found is not None)


def test_drop_path_spares_identities_and_keeps_the_mean() -> None:
    net = supernet(TINY, channels=4, stages=1, cells_per_stage=1)
    skip, conv = GatedOperation(nn.Identity(), 4, net.options.norms, norm=False), net.mixed_edges(0, 0)[0].operation(3)
    x, keep = torch.randn(6, 4, 4, 4), torch.tensor([0.0, 2.0] * 3).reshape(6, 1, 1, 1)
    assert torch.equal(skip(x, None, keep), x)
    assert torch.equal(conv(x, None, keep), conv(x) * keep)
    images, row = batch(500)[0].float(), np.array([0, 3, 0], dtype=np.int8)
    seen: list[torch.Tensor] = []
    net.mixed_edges(0, 1)[0].register_forward_hook(lambda _, __, out: seen.append(out.detach()))
    net.drop_path = 0.3
    net(images, net.one_hot(row))
    dropped = (seen[0] == 0).all(dim=(1, 2, 3))
    assert abs(float(dropped.float().mean()) - 0.3) < 0.07
    net.eval()
    net(images, net.one_hot(row))
    assert torch.allclose(seen[0][~dropped], seen[1][~dropped] / 0.7, atol=1e-5)


def test_auxiliary_head() -> None:
    net = supernet(DARTS, channels=4, layers=3, auxiliary=True)
    images, gates = batch(2, 32)[0].float(), net.all_active(torch.ones(net.shape))
    logits, second = net.forward_with_auxiliary(images, gates)
    assert logits.shape == second.shape == (2, 10)
    assert net.eval().forward_with_auxiliary(images, gates)[1] is None
    with pytest.raises(ValueError, match="layers ≥ 2"):
        supernet(DARTS, layers=1, auxiliary=True)


def test_gates_of_another_shape_are_refused() -> None:
    net = supernet(TINY, channels=4)
    images = batch(2)[0].float()
    with pytest.raises(ValueError, match=r"must be 'weights' \[1, 3, 4\].*Got \[1, 3, 5\]"):
        net(images, oneshot.Gates(torch.ones(1, 3, 5), np.ones((1, 3, 4), dtype=np.bool_)))
    with pytest.raises(ValueError, match="active"):
        net(images, oneshot.Gates(None, np.ones((1, 3, 4))))
    with pytest.raises(ValueError, match="must be a multiple of 'partial'"):
        supernet(TINY, channels=6, partial=4)


# -- architectures ----------------------------------------------------------------------------


def test_strongest_operations() -> None:
    net = supernet(TINY)
    strengths = np.random.default_rng(0).random((1, 3, 4))
    assert net.genotype(strengths).tolist() == strengths[0].argmax(-1).tolist()


@pytest.mark.parametrize("none", [True, False])
def test_darts_keeps_two_edges_and_never_none(none: bool) -> None:
    net = supernet(DARTS, channels=4, layers=3, none=none)
    strengths = np.random.default_rng(1).random(net.shape)
    strengths[:, :, 0] += 5.0  # none, or a maximum pooling that is best everywhere
    row = net.genotype(strengths)
    net.space.validate(row[None])
    for kind, node in itertools.product(range(2), range(4)):
        edges = net.nodes[node]
        best = {e: max(strengths[kind, e, int(none) :]) for e in edges}
        expected = sorted(sorted(edges, key=lambda e: -best[e])[:2])
        a, b, x, y = row.reshape(2, 4, 4)[kind, node]
        assert [edges[a], edges[b]] == expected
        assert [x, y] == [strengths[kind, e, int(none) :].argmax() for e in expected]
    gates = net.one_hot(row)
    assert gates.active.sum() == 16
    chosen = np.where(gates.active, strengths + 10.0, strengths)
    assert net.genotype(chosen).tolist() == row.tolist()


@pytest.mark.parametrize("name", [TINY, DARTS])
def test_samples_follow_the_logits(name: str) -> None:
    net = supernet(name, **SHAPES[name])
    generator = torch.Generator().manual_seed(0)
    uniform = net.sample(200, generator)
    net.space.validate(uniform)
    logits = torch.zeros(net.shape)
    logits[:, :, 3] = 8.0
    rows = net.sample(50, generator, logits)
    assert (net.log_probability(rows, logits) > net.log_probability(uniform, logits).mean()).all()
    if name == TINY:
        assert net.space.is_connected(uniform).all()
        assert (rows == 3).mean() > 0.95
        every = net.space.enumerate()
        assert np.exp(net.log_probability(every, torch.randn(net.shape))).sum() == pytest.approx(1.0)
        with pytest.raises(RuntimeError, match="'none' has taken over"):
            net.sample(1, generator, torch.tensor([1e4, 0.0, 0.0, 0.0]).expand(net.shape))
