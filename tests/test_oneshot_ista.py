"""ISTA-NAS: the sparse code and its gates, sparsity at every step, freezing, absorption, resuming."""

import json

import numpy as np
import pytest
import torch
from oneshot_helpers import TINY as TINY_SPACE
from oneshot_helpers import stripes_training

from tauzero import spaces
from tauzero.search import oneshot
from tauzero.search.oneshot._gates import Gates
from tauzero.search.oneshot._operations import GatedOperation, SearchNorm
from tauzero.search.oneshot._registry import find, supernet_class
from tauzero.search.oneshot._settings import resolve
from tauzero.search.oneshot._sparse_code import SparseCode, SparseOptions, groups_of
from tauzero.search.oneshot.base import Moment

MOMENT = Moment(0, 1, 0, 1)
TINY = {"channels": 4, "cells_per_stage": 1, "num_images": 128, "batch_size": 32, "image_size": 8, "ranked": 3}
TINY_DARTS = TINY | {"layers": 2, "channels": 2}


def supernet_of(space_name, method="ista-nas", seed=0, dtype=torch.float32, **options):
    space = spaces.get(space_name)
    family = supernet_class(space)
    small = TINY_DARTS if space_name == "darts" else TINY
    known = {k: v for k, v in (small | options).items() if not (space_name == "darts" and k == "cells_per_stage")}
    known = {k: v for k, v in known.items() if not (space_name != "darts" and k == "layers")}
    setup = resolve(find(method), family, space, preset="smoke", options=known)
    net = family(space, 10, setup.supernet, torch.Generator().manual_seed(seed)).to(dtype)
    made = find(method)(setup.method)
    made.begin(net, torch.Generator().manual_seed(seed + 1))
    return net, made


def run(method, space="nasbench201", **options):
    small = dict(TINY_DARTS if space == "darts" else TINY)
    small.pop("cells_per_stage" if space == "darts" else "layers", None)
    return oneshot.run(method, space, "digits", preset="smoke", device="cpu", **(small | options))


def code_of(space_name, seed=0, **options):
    net, _ = supernet_of(space_name)
    return net, SparseCode(net, SparseOptions(**{"initial": 1.0} | options), torch.Generator().manual_seed(seed))


# -- the code -------------------------------------------------------------------------------------


def test_choices_of_darts_are_nodes_with_two_inputs():
    net, _ = supernet_of("darts")
    groups = groups_of(net, choose_none=False)
    assert [len(g.places) for g in groups] == [7 * n for n in (2, 3, 4, 5)] * 2
    assert all(g.size == 2 for g in groups)
    for group in groups:
        targets = {net.edges[e][1] for e in group.places[:, 1]}
        assert len(targets) == 1
        assert len(set(group.places[:, 0])) == 1


def test_choices_of_nasbench201_are_edges_without_none():
    net, _ = supernet_of("nasbench201")
    groups = groups_of(net, choose_none=False)
    assert [(len(g.places), g.size) for g in groups] == [(4, 1)] * 6
    assert all(net.none not in g.places[:, 2] for g in groups)
    assert [len(g.places) for g in groups_of(net, choose_none=True)] == [5] * 6


@pytest.mark.parametrize("space_name", ["nasbench201", "darts"])
def test_gates_are_those_of_the_paper(space_name):
    _, code = code_of(space_name)
    gates = code.gates()
    weights = gates.weights.detach().double().numpy()
    b = code.b.detach().double().numpy()
    seen = np.zeros(code.shape, dtype=bool)
    for g, group in enumerate(code.groups):
        kept = np.zeros(len(group.places))
        kept[code.support[g]] = code.z[g][code.support[g]]
        A = np.zeros_like(code.matrices[g])
        A[:, code.support[g]] = code.matrices[g][:, code.support[g]]
        # w = bᵀA − zᵀ(AᵀA − I), everything restricted to the support
        w = b[g] @ A - kept @ (A.T @ A - np.eye(len(kept)))
        for place, value, stays in zip(group.places, w, np.isin(np.arange(len(w)), code.support[g]), strict=True):
            assert weights[tuple(place)] == pytest.approx(value if stays else 0.0, abs=1e-5)
            seen[tuple(place)] |= stays
    np.testing.assert_array_equal(gates.active, seen)


def test_gradients_reach_b_through_b_transposed_a_only():
    _, code = code_of("nasbench201")
    weights = code.gates().weights
    factors = torch.randn(weights.shape, generator=torch.Generator().manual_seed(5))
    (gradient,) = torch.autograd.grad((weights * factors).sum(), code.b)
    for g, group in enumerate(code.groups):
        j = code.support[g][0]
        expected = code.matrices[g][:, j] * float(factors[tuple(group.places[j])])
        np.testing.assert_allclose(gradient[g].numpy(), expected, rtol=1e-5)


def test_what_stays_is_strongest_and_on_different_edges():
    _, code = code_of("darts", seed=0)
    collisions = 0
    for g, group in enumerate(code.groups):
        z, support = np.abs(code.z[g]), code.support[g]
        edges = group.places[support, 1]
        assert len(support) == 2 == len(set(edges.tolist()))
        assert z[support[0]] == z.max()
        assert z[support[1]] == z[group.places[:, 1] != edges[0]].max()
        collisions += len(set(group.places[np.argsort(-z)[:2], 1])) == 1
    assert collisions, "the rule of different edges was never needed: choose another seed"


def test_recovery_starts_from_the_previous_vector_and_tells_the_move():
    _, code = code_of("nasbench201")
    before = [code._kept(g) for g in range(6)]
    with torch.no_grad():
        code.b.add_(0.5 * torch.randn(code.b.shape, generator=torch.Generator().manual_seed(0)))
    moved = code.recover(range(6))
    for g in range(6):
        assert moved[g] == pytest.approx(np.linalg.norm(code._kept(g) - before[g]))
    assert (moved > 0).all()
    np.testing.assert_allclose(code.recover(range(6)), 0.0, atol=1e-6)


# -- sparsity -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("space_name", "per_cell"), [("nasbench201", 6), ("darts", 8)])
@pytest.mark.parametrize("method", ["ista-nas", "ista-nas-one-stage"])
def test_every_pass_computes_the_supported_operations_only(monkeypatch, space_name, per_cell, method):
    counts, original = [0], GatedOperation.forward

    def counted(self, *args, **kwargs):
        counts[0] += 1
        return original(self, *args, **kwargs)

    monkeypatch.setattr(GatedOperation, "forward", counted)
    passes = []
    family = supernet_class(spaces.get(space_name))
    both = family._both

    def watched(self, images, gates):
        counts[0] = 0
        out = both(self, images, gates)
        cells = 2 if space_name == "darts" else 3
        passes.append((counts[0], cells))
        return out

    monkeypatch.setattr(family, "_both", watched)
    run(method, space_name, epochs=1, ranked=0)
    assert len(passes) > 4
    # Never more than the derived architecture has; fewer on NB201 where a node does not reach the output.
    assert all(0 < count <= per_cell * cells for count, cells in passes)


def test_operations_outside_the_support_get_no_gradient():
    net, method = supernet_of("nasbench201")
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    net(images, method.gates(MOMENT)).sum().backward()
    active = method.code.active()
    for kind, edge, module in net.all_mixed_edges():
        for op in range(5):
            operation = module.operation(op)
            for weight in [] if operation is None else operation.parameters():
                assert (weight.grad is not None) == active[kind, edge, op]


# -- one stage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("space_name", ["nasbench201", "darts"])
def test_absorption_changes_nothing(space_name):
    net, method = supernet_of(space_name, "ista-nas-one-stage", dtype=torch.float64)
    images = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    before = net(images, method.gates(MOMENT)).detach()
    method._freeze(np.arange(len(method.code.groups)))
    frozen = net(images, method.gates(MOMENT)).detach()
    method.absorb()
    method.searched = 1
    gates = method.gates(MOMENT)
    assert gates.weights is None
    after = net(images, gates).detach()
    assert float((before - frozen).abs().max()) <= 1e-5
    assert float((before - after).abs().max()) <= 1e-5
    assert float(before.std()) > 1e-3
    # The gates do matter: without them the function is another one.
    plain = net(images, Gates(torch.ones(net.shape, dtype=torch.float64) * 2, method.code.active())).detach()
    assert float((before - plain).abs().max()) > 1e-3


def norms_of(net):
    return [m for _, _, edge in net.all_mixed_edges() for m in edge.modules() if isinstance(m, SearchNorm)]


def training_of(monkeypatch, **options):
    """Run the one-stage method and return (method, per-epoch snapshots)."""
    from tauzero.search.oneshot.ista_nas_one_stage import ISTANASOneStage

    seen = []
    original = ISTANASOneStage.epoch_end

    def watched(self, training, epoch):
        untouched = all((n.weight == 1).all() and (n.bias == 0).all() for n in norms_of(self.supernet))
        trained = all(n.weight.requires_grad for n in norms_of(self.supernet))
        before = self.searched, self.frozen.copy(), [s.copy() for s in self.code.support], self.fixed.clone()
        original(self, training, epoch)
        seen.append((untouched, trained, before, self))

    monkeypatch.setattr(ISTANASOneStage, "epoch_end", watched)
    return run("ista-nas-one-stage", **options), seen


def test_norms_stay_at_one_and_zero_while_searching_and_train_afterwards(monkeypatch):
    result, seen = training_of(monkeypatch, epochs=2, search_epochs=3, freeze_below=0.0)
    assert result.epochs == 5
    assert [untouched for untouched, *_ in seen] == [True, True, True, False, False]
    assert [trained for _, trained, *_ in seen] == [False, False, False, True, True]
    assert [before[0] for *_, before, _ in seen] == [None, None, None, 3, 3]
    rates = [entry["learning_rate"] for entry in result.history]
    assert rates[0] == rates[1] == rates[2] == pytest.approx(0.1)
    assert rates[4] < rates[3] < 0.1


def test_choices_freeze_when_they_no_longer_move(monkeypatch):
    result, seen = training_of(monkeypatch, epochs=1, search_epochs=50, freeze_below=0.05, seed=1)
    shares = [entry["frozen"] for entry in result.history]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert 0 < shares[0] < 1 or len(set(shares)) > 2, "all froze at once: choose another threshold"
    method = seen[-1][-1]
    for _, _, (_, frozen, support, fixed), _ in seen:
        for g in np.flatnonzero(frozen):  # what is frozen stays
            np.testing.assert_array_equal(support[g], method.code.support[g])
        there = ~fixed.isnan()
        torch.testing.assert_close(fixed[there], method.fixed[there], rtol=0, atol=0)
    assert not method.fixed[torch.from_numpy(method.code.active())].isnan().any()


def test_everything_freezes_at_the_first_epoch_under_a_large_threshold():
    result = run("ista-nas-one-stage", epochs=1, freeze_below=1e6, search_epochs=50)
    assert result.epochs == 2
    assert [e["frozen"] for e in result.history] == [1.0, 1.0]


@pytest.mark.parametrize("option", ["affine", "pool_norm", "skip_norm"])
def test_one_stage_needs_its_norms(option):
    with pytest.raises(ValueError, match="norm with a scale behind every operation"):
        run("ista-nas-one-stage", **{option: False})


def test_one_stage_cannot_choose_none():
    with pytest.raises(ValueError, match="'choose_none'"):
        run("ista-nas-one-stage", choose_none=True)


# -- runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("ista-nas", {"epochs": 3}),
        ("ista-nas-one-stage", {"epochs": 1, "search_epochs": 2, "freeze_below": 0.0}),
    ],
)
@pytest.mark.parametrize("stop_after", [1, 2])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, method, options, stop_after):
    whole = run(method, out=tmp_path / "whole", **options)

    def stop(done, total):
        if done == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(method, out=tmp_path / "parts", progress=stop, **options)
    parts = run(method, out=tmp_path / "parts", **options)
    np.testing.assert_array_equal(parts.genotype, whole.genotype)
    for one, other in zip(whole.history, parts.history, strict=True):
        for key in one.keys() - {"seconds", "peak_memory_mb"}:
            assert one[key] == other[key], key
    assert whole.value == parts.value
    json.dumps(parts.as_dict(), allow_nan=False)


def test_the_same_seed_gives_the_same_run_and_another_one_another():
    first, again, other = (run("ista-nas", epochs=1, seed=seed) for seed in (0, 0, 1))
    assert first.history[-1]["train_loss"] == again.history[-1]["train_loss"] != other.history[-1]["train_loss"]


@pytest.mark.parametrize("method", ["ista-nas", "ista-nas-one-stage"])
def test_found_darts_cells_are_members_of_the_space(method):
    found = run(method, "darts", epochs=1, **({"search_epochs": 1} if "stage" in method else {}))
    space = spaces.get("darts")
    space.validate(found.genotype[None])
    assert space.from_string([found.arch]).tolist() == [found.genotype.tolist()]


def test_gradients_of_gates_are_right_for_channels_last_images():
    net, _ = supernet_of("nasbench201", channels=8)
    x = torch.randn(64, 16, 16, 3, generator=torch.Generator().manual_seed(0)).permute(0, 3, 1, 2)
    alpha = torch.zeros(net.shape, requires_grad=True)

    def gradient(images):
        loss = torch.nn.functional.cross_entropy(net(images, net.all_active(alpha.softmax(-1))), torch.arange(64) % 10)
        return torch.autograd.grad(loss, alpha)[0]

    for _ in range(3):
        torch.testing.assert_close(gradient(x), gradient(x.contiguous()), rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("method", ["ista-nas", "ista-nas-one-stage"])
def test_leaves_cells_that_cannot_work_for_one_that_can(method):
    """Labels are visible to 3×3 convolutions alone; runs that begin with such an operation prove nothing."""
    options = {"epochs": 12} if method == "ista-nas" else {"epochs": 1, "search_epochs": 12, "freeze_below": 0.0}
    tried = 0
    for seed in range(40):
        training = stripes_training(method, TINY_SPACE, seed, architecture_learning_rate=0.1, **options)
        if (training.method.favourite() == 3).any():
            continue
        training.run(lambda done, total: None)
        assert (training.method.derive(training) == 3).any(), seed
        tried += 1
        if tried == 2:
            return
    pytest.fail("no run began without a 3×3 convolution")
