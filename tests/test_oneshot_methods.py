"""One-shot methods: their gradients against exact ones, and that each finds the one cell that can work."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from oneshot_helpers import TINY, batch, stripes_training, supernet
from torch.func import functional_call
from torch.nn import functional

from tauzero.search import oneshot
from tauzero.search.oneshot._controller import Controller
from tauzero.search.oneshot._data import Images
from tauzero.search.oneshot._settings import resolve

MOMENT = oneshot.Moment(epoch=0, epochs=2, step=0, steps=3)
#: One edge, four operations: only one of them can tell stripes apart.
ONE_EDGE = "nasbench201x(nodes=2,operations=none+skip_connect+conv_1x1+conv_3x3)"


def begun(name: str, net: oneshot.Supernet, **options: Any) -> Any:
    """A method that has begun with a supernet."""
    chosen = oneshot.find(name)
    method = chosen(chosen.Options(**options))
    method.begin(net, torch.Generator().manual_seed(3))
    return method


def double_training(name: str, **options: Any) -> oneshot.Training:
    """A training in double precision of a small supernet on random images."""
    net = supernet(TINY, channels=2, stages=1, cells_per_stage=1).double()
    chosen = oneshot.find(name)
    setup = resolve(chosen, type(net), net.space, preset="paper", options={"batch_size": 8, "epochs": 4, **options})
    images = Images(batch(24, seed=1), batch(24, seed=2), 10, "random", augment=False, held_out=True)
    return oneshot.Training(net, chosen(setup.method), setup.settings, images, seed=5)


def first_batches(training: oneshot.Training) -> tuple[Any, Any]:
    """A batch of either half."""
    return tuple((pixels[:8], labels[:8]) for pixels, labels in (training.images.train, training.images.validation))


# -- DARTS ------------------------------------------------------------------------------------


def test_darts_gates_are_the_softmax() -> None:
    method = begun("darts-v1", supernet(TINY, channels=2))
    gates = method.gates(MOMENT)
    assert gates.active.all()
    assert torch.allclose(gates.weights, torch.softmax(method.alpha, -1))
    assert 1e-4 < float(method.alpha.detach().std()) < 1e-2


def exact_second_order(training: oneshot.Training, train: Any, validation: Any) -> torch.Tensor:
    """Gradient for α of the validation loss after a step of the weights, through the graph of that step."""
    net, alpha = training.supernet, training.method.alpha
    group = training.weight_optimiser.param_groups[0]
    names = [name for name, _ in net.named_parameters()]
    weights = dict(net.named_parameters())

    def loss(values: dict[str, torch.Tensor], some: Any) -> torch.Tensor:
        gates = net.all_active(alpha.softmax(-1))
        return functional.cross_entropy(functional_call(net, values, (some[0], gates)), some[1])

    gradients = torch.autograd.grad(loss(weights, train), list(weights.values()), create_graph=True)
    stepped = {}
    for name, gradient in zip(names, gradients, strict=True):
        step = gradient + group["weight_decay"] * weights[name]
        buffer = training.weight_optimiser.state.get(weights[name], {}).get("momentum_buffer")
        stepped[name] = weights[name] - group["lr"] * (step if buffer is None else step + group["momentum"] * buffer)
    (found,) = torch.autograd.grad(loss(stepped, validation), alpha)
    return found


@pytest.mark.parametrize("with_momentum", [False, True])
def test_second_order_gradient(with_momentum: bool) -> None:
    training = double_training("darts-v2", difference=1e-4, learning_rate=0.5)
    train, validation = first_batches(training)
    if with_momentum:
        training._weights(MOMENT, train)
    with torch.no_grad():
        training.method.alpha.normal_(generator=torch.Generator().manual_seed(0))
    before = [p.detach().clone() for p in training.supernet.parameters()]
    _, found = training.method.gradient(training, MOMENT, train, validation)
    assert all(torch.equal(p, kept) for p, kept in zip(training.supernet.parameters(), before, strict=True))
    expected = exact_second_order(training, train, validation)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    first = torch.autograd.grad(training.loss(validation, training.method.gates(MOMENT)), training.method.alpha)[0]
    assert float((first - expected).norm() / expected.norm()) > 0.05  # what the second order adds can be seen


def test_second_order_without_a_gradient_of_the_weights() -> None:
    training = double_training("darts-v2")
    for parameter in training.supernet.parameters():
        parameter.requires_grad_(False)
    training.supernet.classifier.bias.requires_grad_(True)
    _, found = training.method.gradient(training, MOMENT, *first_batches(training))
    assert torch.isfinite(found).all()


# -- GDAS -------------------------------------------------------------------------------------


def test_gumbel_samples_follow_the_softmax() -> None:
    """The largest of log p + Gumbel noise is a draw from p, whatever the temperature."""
    method = begun("gdas", supernet(TINY, channels=2))
    with torch.no_grad():
        method.alpha.copy_(torch.tensor([0.0, 1.0, -1.0, 0.5]).expand(1, 3, 4))
        counts = sum(method.gates(MOMENT).active for _ in range(2000))
    expected = 2000 * method.strengths()
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert statistic < 27.9  # 99.9 % of chi-squared with 9 degrees of freedom
    assert (counts.sum(axis=-1) == 2000).all()


def test_straight_through_gradient() -> None:
    """Weights are 1 in value; the gradient is that of the soft sample."""
    method = begun("gdas", supernet(TINY, channels=2).double())
    method._tau = 0.7
    state = method.generator.get_state()
    gates = method.gates(MOMENT)
    assert gates.weights.detach().numpy()[gates.active] == pytest.approx(1.0)
    assert (gates.active.sum(-1) == 1).all()
    upstream = torch.randn(gates.weights.shape, dtype=torch.float64) * torch.from_numpy(gates.active)
    (found,) = torch.autograd.grad(gates.weights, method.alpha, upstream)
    method.generator.set_state(state)
    noise = -torch.log(torch.empty(1, 3, 4).exponential_(generator=method.generator))
    log = method.alpha.detach().log_softmax(-1)
    soft = ((log + noise) / 0.7).softmax(-1)
    expected = torch.zeros_like(found)
    for edge in range(3):  # the Jacobian of softmax((log softmax α + g) / τ), row by row
        p = log[0, edge].exp()
        inner = (torch.eye(4) - p[None]).double()
        outer = (torch.diag(soft[0, edge]) - soft[0, edge][:, None] * soft[0, edge]) / 0.7
        expected[0, edge] = upstream[0, edge] @ outer @ inner
    assert torch.allclose(found, expected)
    with torch.no_grad():
        assert method.gates(MOMENT).weights is None  # for the weights' step nothing is multiplied


def test_temperature_falls_linearly() -> None:
    training = double_training("gdas")
    seen = []
    for epoch in range(4):
        training.method.epoch_start(training, epoch)
        seen.append(training.method.figures()["tau"])
    assert seen == pytest.approx([10.0, 6.7, 3.4, 0.1])


# -- SETN, RSPS -------------------------------------------------------------------------------


def test_setn_takes_the_most_probable_of_all_cells() -> None:
    training = double_training("setn", candidates=1)
    with torch.no_grad():
        training.method.alpha.normal_(generator=torch.Generator().manual_seed(1))
    assert training.method.derive(training).tolist() == training.method.alpha[0].argmax(-1).tolist()
    assert (training.method.gates(MOMENT).active.sum(-1) == 1).all()


def test_setn_draws_where_a_space_cannot_be_written_down() -> None:
    net = supernet("darts", channels=4, layers=3)
    method = begun("setn", net, candidates=3)
    with torch.no_grad():
        method.alpha[:, :, 4] += 6.0

    class Fake:
        def best(self, rows: np.ndarray, images: int) -> np.ndarray:
            self.rows = rows
            return rows[0]

    fake = Fake()
    method.derive(fake)
    assert fake.rows.shape == (3, 32)
    assert (fake.rows.reshape(-1, 4)[:, 2:] == 3).mean() > 0.9


def test_candidates_are_compared_on_the_same_images() -> None:
    training = double_training("rsps", candidates=20, candidate_images=16)
    seen: list[torch.Tensor] = []
    training.supernet.stem.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    training.method.derive(training)
    assert len(seen) == 20
    assert all(torch.equal(x, training.images.validation[0][:16]) for x in seen)


# -- ENAS -------------------------------------------------------------------------------------


def controller(space: str, seed: int = 0) -> Controller:
    options = {"channels": 4, "layers": 3} if space == "darts" else {"channels": 4}
    return Controller(
        supernet(space, **options),
        hidden=8,
        layers=1,
        tanh=2.5,
        temperature=1.0,
        generator=torch.Generator().manual_seed(seed),
    )


def test_controller_writes_valid_cells_with_their_probability() -> None:
    made = controller("darts")
    with torch.no_grad():
        rows, log, entropy = made(100, torch.Generator().manual_seed(1))
    supernet("darts", channels=4, layers=3).space.validate(rows)
    most = sum(math.log(k) for node in range(2, 6) for k in (node, node - 1, 7, 7)) * 2
    assert (log < 0).all()
    assert (entropy <= most + 1e-4).all()
    assert (entropy > 0.9 * most).all()  # hardly trained weights: nearly uniform


def test_controller_probabilities_add_up() -> None:
    made = controller(TINY)
    rows, log, _ = made(4000, torch.Generator().manual_seed(1))
    found = {tuple(row): float(value) for row, value in zip(rows.tolist(), log.exp().detach(), strict=True)}
    assert len(found) == 64
    assert sum(found.values()) == pytest.approx(1.0, abs=1e-4)


def test_reinforce_gradient() -> None:
    """Minus the mean of (reward − baseline) ∇ log p, the baseline moving before each sample is judged."""
    method = begun("enas", supernet(TINY, channels=2), baseline_decay=0.9)
    _, log, _ = method.controller(3, torch.Generator().manual_seed(2))
    rewards = np.array([0.2, 0.8, 0.5])
    singles = [torch.autograd.grad(log[k], method.parameters(), retain_graph=True, allow_unused=True) for k in range(3)]
    found = method.gradients(log, rewards)
    baseline = 0.2
    total: list[torch.Tensor] = [torch.zeros_like(p) for p in method.parameters()]
    for k, reward in enumerate(rewards.tolist()):
        baseline = 0.9 * baseline + 0.1 * reward
        total = [
            t if single is None else t - (reward - baseline) * single / 3
            for t, single in zip(total, singles[k], strict=True)
        ]
    for one, expected in zip(found, total, strict=True):
        assert one is None or torch.allclose(one, expected, atol=1e-6)
    assert method.state_dict()["baseline"] == pytest.approx(baseline)


def test_controller_learns_what_is_rewarded() -> None:
    training = double_training("enas", architecture_learning_rate=0.02, temperature=1.0)
    method = training.method
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        rows, log, _ = method.controller(20, generator)
        training.step_architecture(method.gradients(log, (rows == 2).mean(axis=1)))
    with torch.no_grad():
        rows = method.controller(200, generator)[0]
    assert (rows == 2).mean() > 0.6


# -- PC-DARTS ---------------------------------------------------------------------------------


def test_edge_normalisation() -> None:
    method = begun("pc-darts", supernet("darts", channels=8, layers=3, partial=4))
    with torch.no_grad():
        method.beta.normal_(generator=torch.Generator().manual_seed(0))
    gates = method.gates(MOMENT)
    for node, edges in enumerate(([0, 1], [2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12, 13])):
        assert method.supernet.nodes[node] == tuple(edges)
        assert torch.allclose(gates.edges[:, edges], method.beta[:, edges].softmax(-1))
    expected = gates.weights * gates.edges[:, :, None]
    assert np.allclose(method.strengths(), expected.detach().numpy(), atol=1e-6)


# -- ISTA-NAS ---------------------------------------------------------------------------------


def test_the_value_of_a_sparse_network_is_with_its_gates() -> None:
    training = double_training("ista-nas", initial=1.0)
    training._one_epoch()
    row = training.method.derive(training)
    with torch.no_grad():
        gates = training.method.gates(MOMENT)
    assert float(gates.weights[torch.from_numpy(gates.active)].std()) > 0
    value = training.method.value(training, row)
    assert value == training.accuracy(gates) == training.method.search_accuracy(training, value)


# -- all --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in oneshot.names() if n not in {"rsps", "ista-nas-one-stage"}])
def test_the_architecture_waits_for_the_end_of_the_warm_up(name: str) -> None:
    training = double_training(name, warmup=0.5, architecture_learning_rate=0.1)
    weights = [p.detach().clone() for p in training.supernet.parameters()]
    before = [p.detach().clone() for p in training.method.parameters()]
    for epoch in range(3):
        training._one_epoch()
        moved = not all(torch.equal(a, b) for a, b in zip(before, training.method.parameters(), strict=True))
        assert moved == (epoch >= 2)
    assert not all(torch.equal(a, b) for a, b in zip(weights, training.supernet.parameters(), strict=True))
    judged = [row["architecture_loss"] is not None for row in training.history]
    assert judged == [False, False, training.method.steps_architecture]


def test_the_published_warm_up() -> None:
    net = supernet(TINY)
    setup = resolve(oneshot.find("pc-darts"), type(net), net.space, preset="paper", options={})
    assert setup.settings.warmup * setup.settings.epochs == 15


@pytest.mark.parametrize("name", [name for name in oneshot.names() if name != "ista-nas-one-stage"])  # has none
def test_an_architecture_step_leaves_the_weights_as_they_are(name: str) -> None:
    training = double_training(name)
    if not training.method.steps_architecture or training.method.joint:
        pytest.skip("has no architecture steps")
    train, validation = first_batches(training)
    training._weights(oneshot.Moment(3, 4, 0, 3), train)
    weights = copy.deepcopy(training.supernet.state_dict())
    before = [p.detach().clone() for p in training.method.parameters()]
    training._architecture(oneshot.Moment(3, 4, 1, 3), train, validation)
    assert all(torch.equal(value, weights[key]) for key, value in training.supernet.state_dict().items())
    assert not all(torch.equal(a, b) for a, b in zip(before, training.method.parameters(), strict=True))


#: Methods whose gates are one number on each edge at a time. Where a cell has one edge, the norm behind it undoes the
#: number, and its gradient is zero: there they cannot learn, and are judged on three edges alone.
_RELATIVE = {"gdas"}
#: Their own evidence is in test_oneshot_ista.py.
_SPARSE = {"ista-nas", "ista-nas-one-stage"}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", [name for name in oneshot.names() if name not in _RELATIVE | _SPARSE])
def test_finds_the_only_operation_that_can_work(name: str, seed: int) -> None:
    training = stripes_training(name, ONE_EDGE, seed, epochs=4)
    training.run(lambda done, total: None)
    row = training.method.derive(training)
    space = training.supernet.space
    assert space.to_string(row[None]) == ["|nor_conv_3x3~0|"]
    scores = training.method.scores(training, space.enumerate())
    assert scores[3] > 95.0 > 75.0 > scores[:3].max()


@pytest.mark.parametrize("name", [name for name in oneshot.names() if name not in _SPARSE])
def test_finds_a_cell_that_can_work(name: str) -> None:
    for seed in range(3 if name in _RELATIVE else 1):
        training = stripes_training(name, TINY, seed, epochs=6 if name in _RELATIVE else 3)
        training.run(lambda done, total: None)
        row = training.method.derive(training)
        on_path = training.supernet.space.active_edges(row[None])[0]
        assert (row[on_path] == 3).any(), (seed, row)
        if name in _RELATIVE:  # and for the right reason: the strongest operation of the shortest path
            assert row[1] == 3


def test_a_gate_alone_before_a_norm_has_no_gradient() -> None:
    training = stripes_training("gdas", ONE_EDGE, 0)
    gates = oneshot.Gates(torch.full((1, 1, 4), 0.5, requires_grad=True), np.array([[[False, False, False, True]]]))
    loss = training.loss((training.images.train[0][:32], training.images.train[1][:32]), gates)
    assert float(torch.autograd.grad(loss, gates.weights)[0].abs().max()) < 1e-4
