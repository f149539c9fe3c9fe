"""Encoders pretrained on the unlabelled space: what they learn, what is remembered, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tauzero import encoders, spaces, surrogates
from tauzero.encoders import Encoder, GraphAutoencoder, MaskedPretraining
from tauzero.encoders import _pretraining_cache as cache
from tauzero.encoders._pretraining_base import PretrainedEncoder
from tauzero.encoders._pretraining_flow import flow_vectors
from tauzero.spaces import CellGraphs

LEARNED: list[type[PretrainedEncoder]] = [GraphAutoencoder, MaskedPretraining]
TINY: dict[str, Any] = {"dimension": 5, "epochs": 1, "sample": 100}


@pytest.fixture(params=LEARNED, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> type[PretrainedEncoder]:
    return request.param


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An empty memory, as in a new process."""
    known: dict[str, Any] = {}
    monkeypatch.setattr(cache, "_known", known)
    return known


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the encoders that have been trained."""
    done: list[str] = []
    train = PretrainedEncoder._train

    def counted(self: PretrainedEncoder) -> dict[str, Any]:
        done.append(self.name)
        return train(self)

    monkeypatch.setattr(PretrainedEncoder, "_train", counted)
    return done


# -- what is remembered -----------------------------------------------------------------------


def test_a_second_use_trains_nothing(
    kind: type[PretrainedEncoder], forgetful: dict[str, Any], trainings: list[str], data_folder: Path
) -> None:
    rows = spaces.get("nasbench201").sample(20, 0)
    first = kind("nasbench201", **TINY).transform(rows)
    assert trainings == [kind.name]
    np.testing.assert_array_equal(kind("nasbench201", **TINY).transform(rows), first)
    forgetful.clear()
    np.testing.assert_array_equal(kind("nasbench201", canonical=False, **TINY).transform(rows).shape, first.shape)
    np.testing.assert_array_equal(kind("nasbench201", **TINY).transform(rows), first)
    assert trainings == [kind.name]
    assert [p.name.rpartition("-")[0] for p in (data_folder / "encoders").iterdir()] == [f"{kind.name}-nasbench201"]


def test_every_parameter_counts(forgetful: dict[str, Any], trainings: list[str]) -> None:
    for change in ({}, {"dimension": 4}, {"epochs": 0}, {"sample": 90}, {"seed": 1}):
        GraphAutoencoder("nasbench201", **(TINY | change)).arrays()
    GraphAutoencoder("transnas_micro", **TINY).arrays()
    MaskedPretraining("nasbench201", **TINY).arrays()
    assert len(trainings) == len(forgetful) == 7


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "other", "nan"])
def test_a_damaged_file_is_ignored_and_written_again(
    damage: str, forgetful: dict[str, Any], trainings: list[str], data_folder: Path
) -> None:
    from safetensors.numpy import load, save

    encoder = GraphAutoencoder("nasbench201", **TINY)
    weights = encoder.arrays()
    (path,) = (data_folder / "encoders").iterdir()
    good = path.read_bytes()
    changed = {k: v.copy() for k, v in weights.items()}
    changed["mean.bias"][0] = np.nan
    path.write_bytes(
        {
            "empty": b"",
            "cut": good[:-7],
            "text": b"no weights at all",
            "other": save({"x": np.zeros(3, dtype=np.float32)}),
            "nan": save(changed),
        }[damage]
    )
    forgetful.clear()
    again = GraphAutoencoder("nasbench201", **TINY).arrays()
    assert len(trainings) == 2
    for name, value in weights.items():
        np.testing.assert_array_equal(again[name], value)
        np.testing.assert_array_equal(load(path.read_bytes())[name], value)


def test_a_data_folder_that_cannot_be_written_to_is_passed_over(
    forgetful: dict[str, Any], trainings: list[str], data_folder: Path
) -> None:
    data_folder.parent.mkdir(parents=True, exist_ok=True)
    data_folder.write_text("a file where the folder should be", encoding="utf-8")
    assert GraphAutoencoder("nasbench201", **TINY).arrays()
    assert GraphAutoencoder("nasbench201", **TINY).arrays()
    assert len(trainings) == 1


def test_arrays_make_an_equal_encoder(
    kind: type[PretrainedEncoder], forgetful: dict[str, Any], trainings: list[str], data_folder: Path
) -> None:
    encoder = kind("nasbench201", **TINY)
    rows = encoder.space.sample(30, 1)
    features, arrays = encoder.transform(rows), encoder.arrays()
    forgetful.clear()
    for path in (data_folder / "encoders").iterdir():
        path.unlink()
    twin = encoders.create(kind.name, "nasbench201", arrays=arrays, **encoder.get_params())
    np.testing.assert_array_equal(twin.transform(rows), features)
    assert len(trainings) == 1
    assert json.dumps(encoder.get_params())


def test_arrays_that_do_not_fit(kind: type[PretrainedEncoder]) -> None:
    arrays = kind("nasbench201", **TINY).arrays()
    for wrong in ({}, {"x": np.zeros(3)}, dict(list(arrays.items())[1:])):
        with pytest.raises(ValueError, match=f"'arrays' argument of {kind.__name__}"):
            kind("nasbench201", arrays=wrong, **TINY).arrays()
    with pytest.raises(ValueError, match="'arrays' argument"):
        kind("nasbench201", arrays=arrays, **(TINY | {"dimension": 6})).transform(np.ones((1, 6)))


def test_a_saved_model_needs_no_training(
    kind: type[PretrainedEncoder],
    forgetful: dict[str, Any],
    trainings: list[str],
    data_folder: Path,
    tmp_path: Path,
) -> None:
    space = spaces.get("nasbench201")
    rows = space.sample(40, 2, unique=True)
    y = (rows == 3).sum(axis=1) + 0.1 * rows[:, 0]
    model = surrogates.create("gaussian_process", space, encoders=[(kind.name, TINY)], iterations=3).fit(rows, y)
    assert sum(name.startswith(kind.name) for name in model._features.names) == 5
    model.save(tmp_path / "model")
    forgetful.clear()
    for path in (data_folder / "encoders").iterdir():
        path.unlink()
    again = surrogates.load(tmp_path / "model")
    others = space.sample(50, 3)
    np.testing.assert_allclose(again.predict(others), model.predict(others), rtol=1e-6)
    assert len(trainings) == 1


# -- randomness -------------------------------------------------------------------------------


def test_same_seed_same_weights_and_global_state_untouched(
    kind: type[PretrainedEncoder], forgetful: dict[str, Any]
) -> None:
    import torch

    state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - must stay as it is
    first = kind("nasbench201", **TINY)._train()
    torch.rand(3)
    second = kind("nasbench201", **TINY)._train()
    other = kind("nasbench201", **(TINY | {"seed": 1}))._train()
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value)
    assert any((other[name] != value).any() for name, value in first.items())
    torch.set_rng_state(state)
    expected = torch.rand(3)
    torch.set_rng_state(state)
    kind("nasbench201", **TINY)._train()
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(np.random.get_state()[1], legacy)  # noqa: NPY002


# -- what is learned --------------------------------------------------------------------------


def whole_model(kind: type[PretrainedEncoder], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, CellGraphs]:
    """A model trained on some cells of NAS-Bench-201 with its heads, and 600 other cells, as tensors and as graphs."""
    import torch

    from tauzero.encoders._pretraining_network import Pretraining, batch_of

    space = spaces.get("nasbench201")
    encoder = kind(space, dimension=16, epochs=15, sample=2_000)
    monkeypatch.setattr(Pretraining, "kept", Pretraining.state_dict)
    weights = encoder._train()
    model = encoder._make().eval()
    model.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
    seen = space.index(space.distinct(space.sample(2_000, 0, unique=True))[0])
    new = np.setdiff1d(space.index(space.canonical(space.enumerate())), seen)
    rows = space.enumerate()[np.random.default_rng(0).choice(new, 600, replace=False)]
    graphs = space.graphs(rows)
    return model, batch_of(graphs, torch.float32, torch.device("cpu")), graphs


def test_autoencoder_reconstructs_cells_that_it_has_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from tauzero.encoders._pretraining_network import edge_logits

    model, batch, _ = whole_model(GraphAutoencoder, monkeypatch)
    with torch.inference_mode():
        z = model.mean(model.encoder(batch))
        right = model.operations(z).argmax(dim=-1) == batch.ops
        edges = (edge_logits(z, model.form) + model.offset > 0) == (batch.adjacency > 0)
    assert right[batch.present].float().mean() > 0.98
    assert edges[batch.pairs()].float().mean() > 0.9
    shares = torch.stack([(batch.adjacency > 0)[batch.pairs()].float().mean()])
    assert 0.2 < shares.item() < 0.8  # neither guess alone would be right so often


def test_masked_network_foresees_flow_and_fills_in(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from tauzero.encoders._pretraining_network import MASKED

    model, batch, graphs = whole_model(MaskedPretraining, monkeypatch)
    flow = flow_vectors(graphs, heads=4, seed=0)
    targets = MaskedPretraining("nasbench201")._targets(graphs)
    with torch.inference_mode():
        told = model.flow(model.embed(batch)).numpy()
        hidden = batch._replace(ops=batch.ops.clone())
        hidden.ops[:, 1] = MASKED
        guess = model.operations(model.encoder(hidden))[:, 1]
    varies = flow.std(axis=0) > 1e-9
    error = ((told - targets)[:, varies] ** 2).mean()
    assert error < 0.75  # 1 for who knows only the mean
    present = batch.ops[:, 1] > 0
    # Which of four operations is hidden cannot be known; but it is none of the structure, and there is one.
    loss = torch.nn.functional.cross_entropy(guess[present], batch.ops[present, 1])
    assert loss < np.log(4) + 0.15


@pytest.mark.parametrize("name", [kind.name for kind in LEARNED])
def test_order_of_vertices_does_not_matter(name: str) -> None:
    space = spaces.get("darts")
    rows = space.sample(40, 5)
    encoder = encoders.create(name, space, canonical=False, **TINY)
    np.testing.assert_allclose(encoder.transform(rows), encoder.transform(space.canonical(rows)), atol=1e-5)
    assert encoder.feature_names == [f"z{k}@{cell}" for cell in ("normal", "reduce") for k in range(5)]


def test_padding_changes_nothing(kind: type[PretrainedEncoder]) -> None:
    import torch

    from tauzero.encoders._pretraining_network import batch_of

    space = spaces.get("nasbench101")
    graphs = space.graphs(space.sample(30, 6))
    wide = CellGraphs(
        np.pad(graphs.adjacency, [(0, 0), (0, 3), (0, 3)]), np.pad(graphs.ops, [(0, 0), (0, 3)]), graphs.num_nodes
    )
    model = kind(space, **TINY)._model
    with torch.inference_mode():
        a, b = (model.embed(batch_of(g, torch.float64, torch.device("cpu"))) for g in (graphs, wide))
    np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-10)


def test_masked_network_does_not_see_what_is_hidden() -> None:
    """Hidden operations and edges do not reach the states: cells that differ in nothing else look the same."""
    import torch

    from tauzero.encoders._pretraining_network import MASKED, CellBatch, CellEncoder

    encoder = CellEncoder(8, 2)
    ops = torch.tensor([[1, 4, MASKED, 2]])
    hidden = torch.zeros(1, 4, 4)
    hidden[0, 1, 2] = hidden[0, 2, 1] = 1
    adjacency = torch.zeros(1, 4, 4)
    adjacency[0, 0, 1] = adjacency[0, 2, 3] = 1
    output = torch.tensor([3])
    shown = encoder(CellBatch(adjacency, ops, output))
    asked = encoder(CellBatch(adjacency, ops, output, hidden))
    assert (shown - asked).abs().max() > 1e-3  # the network knows that it is asked
    seen: list[CellBatch] = []

    from tauzero.encoders._pretraining_masked import MaskedCells

    model = MaskedCells(3, 2)
    forward = model.encoder.forward
    model.encoder.forward = lambda batch: (seen.append(batch), forward(batch))[1]
    graphs = spaces.get("nasbench101").graphs(spaces.get("nasbench101").sample(64, 7))
    batch = CellBatch(
        torch.from_numpy(graphs.adjacency.astype(np.float32)),
        torch.from_numpy(graphs.ops.astype(np.int64)),
        torch.from_numpy(graphs.num_nodes.astype(np.int64) - 1),
    )
    model.loss(batch, torch.zeros(64, 2), torch.Generator().manual_seed(0)).backward()
    masked, whole = seen
    assert masked.hidden is not None
    assert whole.hidden is None
    assert not masked.adjacency[masked.hidden > 0].any()
    assert 0.1 < (masked.ops == MASKED).sum() / (batch.ops > 0).sum() < 0.3
    assert batch.adjacency[masked.hidden > 0].any()
    assert torch.equal(masked.hidden, masked.hidden.transpose(1, 2))
    assert not (masked.ops == MASKED)[batch.ops == 0].any()


# -- parameters -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("dimension", 0),
        ("dimension", 2.5),
        ("epochs", -1),
        ("epochs", True),
        ("sample", 1),
        ("seed", -1),
        ("seed", "0"),
        ("device", "gpu"),
        ("device", None),
    ],
)
def test_bad_parameters(kind: type[PretrainedEncoder], parameter: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"The '{parameter}' parameter of {kind.__name__} must be"):
        encoders.create(kind.name, "nasbench201", **{parameter: value})


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    arrays = GraphAutoencoder("nasbench201", **TINY).arrays()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch finds no CUDA device here: use 'cpu'"):
        GraphAutoencoder("nasbench201", device="cuda", **TINY).arrays()
    # Weights that somebody trained there can be used here.
    elsewhere: Encoder = GraphAutoencoder("nasbench201", device="cuda", arrays=arrays, **TINY)
    here = GraphAutoencoder("nasbench201", device="auto", **TINY)
    rows = here.space.sample(5, 0)
    np.testing.assert_array_equal(elsewhere.transform(rows), here.transform(rows))
