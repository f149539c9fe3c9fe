"""Fitting graph networks: losses against slow loops, members apart, folds, further metrics, fine-tuning, files."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from surrogate_helpers import SMALL, accuracy, rows, small

from tauzero import evaluation, spaces, surrogates
from tauzero.surrogates._gnn_losses import LOSSES, loss_per_member
from tauzero.surrogates._gnn_model import ARCHITECTURES, CellNetworks, GraphTensors, graph_tensors
from tauzero.surrogates._gnn_training import Recipe, train
from tauzero.surrogates.gnn import GNN

CELLS = rows("nasbench201", 64)
Y = accuracy("nasbench201", CELLS) + np.random.default_rng(0).normal(0, 0.1, len(CELLS))
OTHERS = rows("nasbench201", 160)[64:]


def gnn(space: str = "nasbench201", **params: Any) -> GNN:
    made = small("gnn", space, **params)
    assert isinstance(made, GNN)
    return made


# -- losses -----------------------------------------------------------------------------------


def slow_loss(kind: str, predicted: list[float], goal: list[float], weights: list[float]) -> float:
    """Squared error plus a term that ranks, written as loops."""
    n = len(goal)
    loss = sum(w * (p - g) ** 2 for w, p, g in zip(weights, predicted, goal, strict=True)) / n
    if kind == "mse" or n < 2:
        return loss
    if kind == "listwise":
        order = sorted(range(n), key=lambda i: -goal[i])
        total = 0.0
        for place, i in enumerate(order):
            total -= math.log(math.exp(4 * predicted[i]) / sum(math.exp(4 * predicted[j]) for j in order[place:]))
        return loss + total / n
    if kind == "warp":
        discounts = [1 / math.log2(2 + sum(g > mine for g in goal)) for mine in goal]
        total = 0.0
        for i in range(n):
            wrong = []
            for j in range(n):
                hinge = 0.1 - (predicted[i] - predicted[j])
                if goal[i] > goal[j] and hinge > 0:
                    wrong.append(hinge)
            cost = sum(1 / t for t in range(1, len(wrong) + 1))
            total += discounts[i] / (sum(discounts) / n) * (cost * sum(wrong) / len(wrong) if wrong else 0.0)
        return loss + total / n
    pairs = []
    for k in range(1, min(n, 9)):
        for i in range(n):
            gap, truth = predicted[i] - predicted[i - k], goal[i] - goal[i - k]
            if kind == "hinge":
                sign = (truth > 0) - (truth < 0)
                pairs.append(max(0.0, 0.1 - gap * sign) if abs(truth) > 1e-6 else 0.0)
            else:
                probability = 1 / (1 + math.exp(-4 * gap))
                pairs.append(-math.log(probability if truth > 0 else 1 - probability))
    return loss + sum(pairs) / len(pairs)


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("n", [1, 2, 5, 9, 20])
def test_losses_match_slow_loops(kind: str, n: int) -> None:
    rng = np.random.default_rng(n)
    predicted, weights = rng.normal(size=(3, n)), rng.uniform(0.5, 2, (3, n))
    goal = rng.integers(0, 4, (3, n)).astype(float)  # ties
    loss = loss_per_member(kind, *(torch.from_numpy(values) for values in (predicted, goal, weights)))
    expected = [slow_loss(kind, *(v[k].tolist() for v in (predicted, goal, weights))) for k in range(3)]
    np.testing.assert_allclose(loss.numpy(), expected)


@pytest.mark.parametrize("kind", LOSSES)
def test_each_loss_is_least_where_the_order_is_right(kind: str) -> None:
    goal = torch.linspace(-1, 1, 12, dtype=torch.float64)[None]
    weights = torch.ones_like(goal)
    right = loss_per_member(kind, goal, goal, weights)
    for scale in (-1.0, 0.0):
        assert loss_per_member(kind, scale * goal, goal, weights) > right + 0.1


def test_warp_costs_more_among_the_best() -> None:
    goal = torch.arange(10, dtype=torch.float64)[None]
    best, worst = goal.clone(), goal.clone()
    best[0, [8, 9]] = best[0, [9, 8]]
    worst[0, [0, 1]] = worst[0, [1, 0]]
    top, bottom = (float(loss_per_member("warp", p, goal, torch.ones_like(goal))) for p in (best, worst))
    assert top > 1.5 * bottom


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns(loss: str) -> None:
    model = gnn(loss=loss, width=16, layers=2, epochs=15, learning_rate=1e-2).fit(CELLS, Y)
    tau = evaluation.kendall_tau(accuracy("nasbench201", OTHERS), model.predict(OTHERS))
    assert tau > 0.4
    assert np.abs(model.predict(CELLS) - Y).mean() < Y.std()  # in the unit of y


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_learns(architecture: str, tmp_path: Path) -> None:
    model = gnn(architecture=architecture, width=16, epochs=15, learning_rate=1e-2, features=False).fit(CELLS, Y)
    assert evaluation.kendall_tau(accuracy("nasbench201", OTHERS), model.predict(OTHERS)) > 0.4
    again = surrogates.load(model.save(tmp_path / "m"))
    assert again.get_params()["architecture"] == architecture
    for mine, its in zip(model.predict(OTHERS, return_std=True), again.predict(OTHERS, return_std=True), strict=True):
        np.testing.assert_array_equal(mine, its)


# -- training ---------------------------------------------------------------------------------


def tensors(cells: spaces.Genotypes) -> GraphTensors:
    none = np.zeros((len(cells), 0), dtype=np.float32)
    return graph_tensors(spaces.get("nasbench201").graphs(cells), none, relations=True)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_members_trained_together_are_those_trained_alone(architecture: str) -> None:
    """Same rows, batches and start: clipping and the optimiser must not mix members."""
    recipe = Recipe(loss="hinge", auxiliary_weight=0.0, epochs=2, batch_size=16, learning_rate=0.02, weight_decay=0.01)
    goal, weights = torch.from_numpy(Y - Y.mean()).float()[:, None], torch.ones(64)
    learnt = [np.arange(0, 60), np.arange(4, 64)]

    def trained(members: list[int]) -> CellNetworks:
        shape: dict[str, Any] = {"architecture": architecture, "width": 8, "layers": 1, "num_features": 0}
        made = CellNetworks(**shape, outputs=1, dropout=0.0, seeds=members)
        rngs = [np.random.default_rng(k) for k in range(2)]
        rngs[0].integers(1 << 62)  # the first member's generator also seeds dropout: drawn before either trains
        chosen = [rngs[k] for k in members]
        train(made, tensors(CELLS), goal, weights, [learnt[k] for k in members], recipe, chosen, None)
        return made

    together = trained([0, 1])
    alone = trained([0])
    for name, value in together.state_dict().items():
        torch.testing.assert_close(value.chunk(2)[0], alone.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    model = gnn().fit(CELLS[:20], Y[:20])
    model.predict(CELLS, return_std=True)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(456)  # and does not matter
    again = gnn().fit(CELLS[:20], Y[:20])
    np.testing.assert_array_equal(again.predict(CELLS), model.predict(CELLS))


@pytest.mark.parametrize("n", [35, 36])
def test_progress_is_told_each_step(n: int) -> None:
    """Members go together, each without a tenth: 31 or 32 rows are two batches."""
    told: list[tuple[int, int]] = []
    gnn(members=2, batch_size=16, progress=lambda done, total: told.append((done, total))).fit(CELLS[:n], Y[:n])
    assert told == [(k, 3 * 2) for k in range(1, 3 * 2 + 1)]


def test_a_last_batch_of_one_row_is_left_out() -> None:
    """It has no pairs."""
    recipe = Recipe(loss="hinge", auxiliary_weight=0, epochs=1, batch_size=16, learning_rate=0.1, weight_decay=0)
    assert [recipe.steps(n) for n in (1, 15, 16, 17, 18, 32, 33, 34)] == [1, 1, 1, 1, 2, 2, 2, 3]


@pytest.mark.parametrize("space", spaces.names())
def test_without_graph_features(space: str) -> None:
    the_space = spaces.get(space)
    cells = the_space.distinct(the_space.sample(60, 0))[0][:30]
    model = gnn(space, features=False).fit(cells, accuracy(space, cells) + np.linspace(0, 1, len(cells)))
    assert model._tensors(cells).features.shape == (len(cells), 0)
    predicted: npt.NDArray[np.float64] = model.predict(cells)
    assert np.isfinite(predicted).all()
    assert len(set(predicted)) > 1


def test_small_models_are_the_ones_meant() -> None:
    assert gnn().get_params()["epochs"] == SMALL["gnn"]["epochs"]


# -- uncertainty ------------------------------------------------------------------------------


def test_members_differ_and_their_disagreement_widens_the_deviation() -> None:
    model = gnn(members=3).fit(CELLS, Y)
    latent = model._latent(model._tensors(CELLS))
    assert latent.shape == (3, 64)
    spread = latent.std(axis=0)
    assert spread.min() > 0
    mean, std = model._predict(CELLS, with_std=True)
    np.testing.assert_allclose(mean, latent.mean(axis=0), atol=1e-6)
    assert (np.diff(std[np.argsort(spread)]) >= 0).all()
    assert std[spread.argmin()] < model.noise_ * 1.5


def test_members_leave_out_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `unseen_` holds is the prediction of the member whose training rows the row is not among."""
    from tauzero.surrogates import _gnn_training

    learnt: list[npt.NDArray[np.int64]] = []

    def spy(*given: Any) -> None:
        learnt.extend(given[4])
        train(*given)

    monkeypatch.setattr(_gnn_training, "train", spy)
    model = gnn(members=10).fit(CELLS, Y)
    assert np.isfinite(model.unseen_).all()
    assert (model.unseen_std_ > 0).all()
    merged = spaces.get("nasbench201").distinct(CELLS)[0]
    latent = model._latent(model._tensors(merged))
    left_out = np.stack([~np.isin(np.arange(64), r) for r in learnt])
    assert (left_out.sum(axis=0) == 1).all()
    np.testing.assert_allclose(model.unseen_, latent[left_out.argmax(axis=0), np.arange(64)], atol=1e-6)
    assert model.predict(OTHERS, return_interval=0.9)[1].shape == (len(OTHERS), 2)


@pytest.mark.parametrize(("n", "members", "known"), [(3, 5, 0), (50, 1, 5), (50, 2, 10), (60, 12, 60)])
def test_rows_with_a_left_out_prediction(n: int, members: int, known: int) -> None:
    assert np.isfinite(gnn(members=members).fit(CELLS[:n], Y[:n]).unseen_).sum() == known


def test_large_training_sets_leave_out_little() -> None:
    model = gnn(members=3)
    assert model._left_out(4_999, 0).sum(axis=1).tolist() == [500] * 3
    assert model._left_out(6_000, 0).sum(axis=1).tolist() == [300] * 3


# -- further metrics --------------------------------------------------------------------------


def test_auxiliary_metrics_are_learnt_by_the_shared_network() -> None:
    """A precise second metric helps where the target itself is mostly noise."""
    rng = np.random.default_rng(3)
    truth = accuracy("nasbench201", CELLS)
    noisy = truth + rng.normal(0, 3 * truth.std(), len(truth))
    params: dict[str, Any] = {
        "width": 16,
        "layers": 2,
        "epochs": 60,
        "auxiliary_weight": 3.0,
        "features": False,
    }
    taus = []
    for auxiliary in (None, truth[:, None]):
        model = gnn(**params).fit(CELLS, noisy, auxiliary)
        assert model.predict(OTHERS).shape == (len(OTHERS),)
        taus.append(evaluation.kendall_tau(accuracy("nasbench201", OTHERS), model.predict(OTHERS)))
    assert taus[1] > taus[0] + 0.05


def test_unknown_auxiliary_values_have_no_gradient() -> None:
    recipe = Recipe(loss="mse", auxiliary_weight=0.5, epochs=1, batch_size=16, learning_rate=0.01, weight_decay=0.0)
    from tauzero.surrogates import _gnn_training

    rng = np.random.default_rng(0)
    predicted = torch.from_numpy(rng.normal(size=(2, 7, 3))).requires_grad_()
    goal = torch.from_numpy(rng.normal(size=(2, 7, 3)))
    goal[0, 3, 1] = goal[1, :, 2] = math.nan
    weights = torch.from_numpy(rng.uniform(1, 2, (2, 7)))
    loss = _gnn_training._loss(recipe, predicted, goal, weights)
    loss.backward()  # type: ignore[no-untyped-call]
    expected = 0.0
    for member in range(2):
        for row in range(7):
            for column in range(3):
                error = float((predicted - goal)[member, row, column].detach()) ** 2
                share = 1 / 7 if column == 0 else 0.5 / 14
                expected += 0.0 if math.isnan(error) else share * float(weights[member, row]) * error
    assert float(loss.detach()) == pytest.approx(expected)
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()
    assert predicted.grad[0, 3, 1] == 0
    assert (predicted.grad[1, :, 2] == 0).all()


def test_auxiliary_metrics_of_equal_networks_are_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(GNN, "_fit", lambda self, *given: seen.append(self._auxiliary))
    order = np.array([2, 0, 1, 0, 1])
    values = np.array([[1.0, 5.0], [2.0, np.nan], [3.0, np.nan], [4.0, 7.0], [np.nan, np.nan]])
    model = gnn().fit(CELLS[order], Y[order], values)
    inverse = spaces.get("nasbench201").distinct(CELLS[order])[1]
    expected = {0: [3.0, 7.0], 1: [3.0, np.nan], 2: [1.0, 5.0]}
    for row, cell in enumerate(order.tolist()):
        np.testing.assert_array_equal(seen[0][inverse[row]], expected[cell])
    assert model._auxiliary is None  # nothing is left for the next fit


@pytest.mark.parametrize(
    ("auxiliary", "message"),
    [
        (np.zeros(64), r"'auxiliary' argument must have a row .* shape \(64, k\)\. Got \(64,\)"),
        (np.zeros((63, 2)), r"Got \(63, 2\)"),
        (np.full((64, 2), np.inf), r"'auxiliary' argument must be finite or NaN\. Got inf in row 0, column 0"),
        (np.full((64, 2), "1"), "'auxiliary' argument must hold numbers"),
        ([[1.0], [1.0, 2.0]] * 32, "'auxiliary' argument must hold numbers"),
    ],
)
def test_bad_auxiliary_metrics(auxiliary: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gnn().fit(CELLS, Y, auxiliary)


def test_auxiliary_metrics_and_files(tmp_path: Path) -> None:
    unknown = np.full((64, 1), np.nan)
    model = gnn(members=2).fit(CELLS, Y, np.column_stack([Y**2, unknown]))
    again = surrogates.load(model.save(tmp_path / "m"))
    np.testing.assert_array_equal(again.predict(OTHERS), model.predict(OTHERS))


# -- fine-tuning ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GNN without features, trained on cells of NAS-Bench-101."""
    cells = rows("nasbench101", 60)
    model = gnn("nasbench101", architecture="gcn", members=2, width=16, layers=2, epochs=5, features=False)
    return model.fit(cells, accuracy("nasbench101", cells)).save(tmp_path_factory.mktemp("source") / "m")


def test_weights_of_another_space_are_the_start(source: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(source, tmp_path / "source")
    given = dict(surrogates.load(folder)._networks.state_dict())  # type: ignore[attr-defined]
    # A step of no size: what comes out is what went in.
    model = gnn(members=3, pretrained=folder, epochs=1, learning_rate=1e-8).fit(CELLS, Y)
    assert model._shape == {"architecture": "gcn", "width": 16, "layers": 2}
    for name, value in model._networks.state_dict().items():
        for member in range(3):
            start = given[name][member % 2] if name in given else None
            if name.startswith("head."):
                assert not torch.allclose(value[member], start, atol=1e-3)  # another space: another target
            elif name == "hidden.weight":  # the new model's features join below the pooled states
                torch.testing.assert_close(value[member, :48], start, atol=1e-6, rtol=0)
                assert value.shape[1] > 48
            elif not name.startswith("features."):
                torch.testing.assert_close(value[member], start, atol=1e-6, rtol=0)
    expected = model.predict(OTHERS)
    saved = model.save(tmp_path / "tuned")
    assert str(tmp_path) not in (saved / "model.json").read_text(encoding="utf-8")
    assert model.pretrained == folder
    shutil.rmtree(folder)
    np.testing.assert_array_equal(surrogates.load(saved).predict(OTHERS), expected)


def test_the_head_is_kept_for_the_same_target(tmp_path: Path) -> None:
    first = gnn(members=2, width=16, layers=2, epochs=10).fit(CELLS, Y)
    folder = first.save(tmp_path / "m")
    model = gnn(members=2, pretrained=str(folder), epochs=1, learning_rate=1e-8).fit(CELLS, Y)
    np.testing.assert_allclose(model.predict(OTHERS), first.predict(OTHERS), atol=1e-3)
    further = gnn(members=2, pretrained=str(folder), epochs=1, learning_rate=1e-8).fit(CELLS, Y, Y[:, None])
    np.testing.assert_allclose(further.predict(OTHERS), first.predict(OTHERS), atol=1e-3)


def test_a_start_from_the_same_cells_helps(tmp_path: Path) -> None:
    params: dict[str, Any] = {"members": 2, "width": 16, "layers": 2, "features": False}
    folder = gnn(epochs=30, **params).fit(OTHERS, accuracy("nasbench201", OTHERS)).save(tmp_path / "m")
    taus = []
    for pretrained in (None, folder):
        model = gnn(epochs=8, pretrained=pretrained, **params).fit(CELLS[:16], Y[:16])
        taus.append(evaluation.kendall_tau(Y[16:], model.predict(CELLS[16:])))
    assert taus[1] > taus[0] + 0.05


def test_starts_that_cannot_be(source: Path, tmp_path: Path) -> None:
    other = gnn("nasbench101").fit(rows("nasbench101", 20), np.arange(20.0)).save(tmp_path / "features")
    with pytest.raises(ValueError, match=r"'pretrained' parameter .* features of nasbench101 .* features=False"):
        gnn(pretrained=other).fit(CELLS, Y)
    gnn(pretrained=other, features=False).fit(CELLS, Y)  # then there are none to disagree about
    boosted = small("lightgbm", "nasbench201").fit(CELLS, Y).save(tmp_path / "lightgbm")
    with pytest.raises(ValueError, match=r"must name a saved GNN\. Got a LightGBM"):
        gnn(pretrained=boosted).fit(CELLS, Y)
    with pytest.raises(spaces.UnknownNameError, match="nowhere"):
        gnn(pretrained="nowhere").fit(CELLS, Y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"architecture": "gim"}, r"architecture 'gim'\. Did you mean 'gin'\? Known: 'flow', 'gat'"),
        ({"loss": "list"}, r"loss 'list'.*Known: 'bce', 'hinge', 'listwise', 'mse', 'warp'"),
        ({"auxiliary_weight": -1}, r"'auxiliary_weight' parameter of GNN must be a number from"),
    ],
)
def test_bad_parameters(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gnn(**params).fit(CELLS, Y)
