"""One model for several spaces: what it learns, what it says of spaces that it has not seen, transfer, and files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from surrogate_helpers import accuracy, rows

from tauzero import evaluation, spaces, surrogates
from tauzero.surrogates import ModelFormatError, MultiSpaceGNN
from tauzero.surrogates._files import MODEL_FORMAT
from tauzero.surrogates._gnn_tensors import STRUCTURE
from tauzero.surrogates._multi_space_encoder import JoinedFeatures, TransferEncoder
from tauzero.surrogates.transfer import Transfer

TINY: dict[str, Any] = {"members": 2, "width": 12, "layers": 2, "steps": 60, "batch_size": 32}
SHIPPED = Path(surrogates.__file__).parent / "pretrained" / "multi-space"


def source(space: str, n: int = 120, scale: float = 1.0) -> tuple[str, Any, Any]:
    cells = rows(space, n)
    return space, cells, scale * accuracy(space, cells)


@pytest.fixture(scope="module")
def sources() -> list[tuple[str, Any, Any]]:
    """Two data sets over the same cells, in other units, and one over another space."""
    return [source("nasbench201"), source("nasbench201", scale=-0.01), source("nasbench101")]


@pytest.fixture(scope="module")
def model(sources: list[tuple[str, Any, Any]]) -> MultiSpaceGNN:
    return MultiSpaceGNN(**TINY).fit(sources, ["up", "down", "other"])


@pytest.fixture(scope="module")
def learnt() -> MultiSpaceGNN:
    """Enough steps to know what matters in two spaces."""
    given = [source("nasbench201", 300), source("transnas_micro", 300)]
    return MultiSpaceGNN(**(TINY | {"steps": 200, "width": 16})).fit(given)


# -- learning and predicting ------------------------------------------------------------------


def test_learns_every_source_and_carries_over_to_a_space_without_rows(learnt: MultiSpaceGNN) -> None:
    assert learnt.sources_ == {"nasbench201:0": "nasbench201", "transnas_micro:1": "transnas_micro"}
    for space, label in (("nasbench201", "nasbench201:0"), ("transnas_micro", None), ("nasbench101", None)):
        cells = rows(space, 200, seed=5)
        assert evaluation.kendall_tau(accuracy(space, cells), learnt.predict(cells, space, label)) > 0.5


def test_sources_answer_in_their_own_unit_and_order(model: MultiSpaceGNN) -> None:
    cells = rows("nasbench201", 150, seed=3)
    up, std = model.predict(cells, "nasbench201", "up", return_std=True)
    down = model.predict(cells, "nasbench201", "down")
    assert ((up > 70) & (up < 100)).all()
    assert ((down < -0.7) & (down > -1)).all()
    assert evaluation.kendall_tau(up, -down) > 0.5  # the second data set turns the first one round
    assert ((std > 0) & (std < 20)).all()


def test_the_shared_head_has_no_unit_and_deviations_are_positive(model: MultiSpaceGNN) -> None:
    for name in spaces.names():
        cells = spaces.get(name).sample(20, 1)
        score, std = model.predict(cells, name, return_std=True)
        assert score.shape == std.shape == (20,)
        assert score.dtype == np.float64
        assert (np.abs(score) < 30).all()
        assert (std > 0).all()
        assert model.embed(cells, name).shape == (20, 2 * 2 * 12)
        assert model.predict(cells[:0], name).shape == (0,)


def test_heads_are_linear_in_what_embed_returns(model: MultiSpaceGNN) -> None:
    """Second implementation of the last map, in NumPy."""
    cells = rows("nasbench201", 10, seed=8)
    hidden = model.embed(cells, "nasbench201").reshape(10, 2, 24)
    head = model._networks.head
    weight, bias = (p.detach().numpy() for p in (head.weight, head.bias))
    by_hand = np.einsum("nmh,mho->nmo", hidden, weight.reshape(2, 24, 4)) + bias.reshape(1, 2, 4)
    latent = model._latent(spaces.get("nasbench201"), spaces.get("nasbench201").canonical(cells))
    np.testing.assert_allclose(by_hand.transpose(1, 0, 2), latent, atol=1e-4)
    np.testing.assert_allclose(model.predict(cells, "nasbench201"), by_hand[..., 0].mean(axis=1), atol=1e-4)


def test_equal_networks_and_batch_splits(model: MultiSpaceGNN) -> None:
    space = spaces.get("nasbench201")
    equal = space.enumerate()[space.classes() == np.bincount(space.classes()).argmax()]
    assert len(set(model.predict(equal, space))) == 1
    cells = space.sample(40, 2)
    parts = np.concatenate([model.predict(cells[k : k + 7], space) for k in range(0, 40, 7)])
    np.testing.assert_allclose(parts, model.predict(cells, space), atol=1e-5)


def test_same_seed_same_model_and_duplicates_are_averaged(sources: list[tuple[str, Any, Any]]) -> None:
    params = TINY | {"steps": 5}
    state = torch.get_rng_state()
    first = MultiSpaceGNN(**params).fit(sources)
    assert torch.equal(torch.get_rng_state(), state)
    space, cells, y = sources[0]
    # Every row twice, a unit above and below, and in another order: the same training set.
    doubled = (space, np.concatenate([cells, cells])[::-1], np.concatenate([y + 1, y - 1])[::-1])
    again = MultiSpaceGNN(**params).fit([doubled, *sources[1:]])
    judged = rows("nasbench101", 20, seed=9)
    np.testing.assert_allclose(again.predict(judged, "nasbench101"), first.predict(judged, "nasbench101"), atol=1e-4)
    other = MultiSpaceGNN(**params, random_state=1).fit(sources)
    assert (other.predict(judged, "nasbench101") != first.predict(judged, "nasbench101")).any()


def test_operations_without_data_borrow_from_relatives(model: MultiSpaceGNN) -> None:
    def of(name: str) -> Any:
        return model._networks.embedding[:, STRUCTURE + spaces.operation_code(name)].detach().numpy()

    np.testing.assert_array_equal(of("sep_conv_5x5"), of("conv_3x3"))
    np.testing.assert_array_equal(of("cell_input_0"), of("input"))
    assert (of("conv_1x1") != of("conv_3x3")).any()  # both were learnt from
    assert (of("avg_pool_3x3") != of("max_pool_3x3")).any()


def test_progress_is_reported(sources: list[tuple[str, Any, Any]]) -> None:
    seen: list[tuple[int, int]] = []
    MultiSpaceGNN(**(TINY | {"steps": 3}), progress=lambda done, total: seen.append((done, total))).fit(sources[:1])
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("architecture", ["gat", "transformer"])
def test_other_architectures_fit(architecture: str, sources: list[tuple[str, Any, Any]]) -> None:
    made = MultiSpaceGNN(**(TINY | {"steps": 2, "width": 8}), architecture=architecture).fit(sources[:1])
    assert np.isfinite(made.predict(rows("darts", 5), "darts")).all()


@pytest.mark.parametrize(
    ("given", "names", "message"),
    [
        ([], None, r"'sources' argument must be a list of \(space, genotypes, y\)"),
        ([("nasbench201", [[0] * 6])], None, "no such triple"),
        ([source("nasbench201", 3)], None, "at least 4 different networks. Got 3"),
        ([(*source("nasbench201", 5)[:2], np.arange(4.0))], None, r"shape \(5,\)\. Got float64 of shape \(4,\)"),
        ([(*source("nasbench201", 5)[:2], list("abcde"))], None, "must be numbers"),
        ([(*source("nasbench201", 5)[:2], [1, 2, np.nan, 4, np.inf])], None, "Got 2 NaN or infinite"),
        ([source("nasbench201", 5)] * 2, ["a", "a"], "name each of the 2 sources differently"),
        ([("nasbench21", *source("nasbench201", 5)[1:])], None, "Did you mean 'nasbench201'"),
    ],
)
def test_bad_sources(given: Any, names: Any, message: str) -> None:
    made = MultiSpaceGNN(**TINY)
    with pytest.raises(ValueError, match=message):
        made.fit(given, names)
    with pytest.raises(NotFittedError):
        made.predict(rows("nasbench201", 2), "nasbench201")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"members": 0}, "'members' parameter of MultiSpaceGNN must be an integer of at least 1"),
        ({"steps": 1.5}, "'steps' parameter"),
        ({"batch_size": 1}, "'batch_size' parameter of MultiSpaceGNN must be an integer of at least 2"),
        ({"dropout": 1.0}, "'dropout' parameter"),
        ({"loss": "mean"}, "loss 'mean'"),
        ({"architecture": "gim"}, "Did you mean 'gin'"),
        ({"target": "ranks"}, "Did you mean 'rank'"),
    ],
)
def test_bad_parameters(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiSpaceGNN(**(TINY | params)).fit([source("nasbench201", 8)])


def test_unknown_source(model: MultiSpaceGNN) -> None:
    with pytest.raises(spaces.UnknownNameError, match=r"source of this model 'upp'\. Did you mean 'up'"):
        model.predict(rows("nasbench201", 2), "nasbench201", "upp")


# -- files ------------------------------------------------------------------------------------


def test_save_and_load(model: MultiSpaceGNN, tmp_path: Path) -> None:
    folder = model.save(tmp_path / "model")
    assert sorted(p.name for p in folder.iterdir()) == ["arrays.safetensors", "multi_space.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    cells = rows("transnas_micro", 20)
    for again in (MultiSpaceGNN.load(folder), surrogates.load(folder)):
        assert isinstance(again, MultiSpaceGNN)
        for label in (None, "up", "other"):
            for one, other in zip(
                again.predict(cells, "transnas_micro", label, return_std=True),
                model.predict(cells, "transnas_micro", label, return_std=True),
                strict=True,
            ):
                np.testing.assert_array_equal(one, other)
        assert again.get_params() == model.get_params()
        assert again.sources_ == model.sources_
    model.save(folder)  # replaces the model that is there
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_refuses_folders_with_other_content(model: MultiSpaceGNN, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OSError, match="is no multi-space model; nothing was written"):
        model.save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(NotFittedError):
        MultiSpaceGNN().save(tmp_path / "new")


def test_damaged_files(model: MultiSpaceGNN, tmp_path: Path) -> None:
    folder = model.save(tmp_path / "model")
    content = json.loads((folder / "multi_space.json").read_text())
    with pytest.raises(ModelFormatError, match=r"there is no multi_space\.json"):
        MultiSpaceGNN.load(tmp_path)
    with pytest.raises(spaces.UnknownNameError, match=r"'nowhere'.*'multi-space'"):
        MultiSpaceGNN.load("nowhere")
    for changed in (
        {"params": {}},
        {"params": content["params"] | {"width": 1000}},
        {"params": content["params"] | {"members": "two"}},
        {"sources": content["sources"][:2]},
        {"format": 99},
    ):
        (folder / "multi_space.json").write_text(json.dumps(content | changed))
        with pytest.raises(ModelFormatError):
            MultiSpaceGNN.load(folder)
    (folder / "multi_space.json").write_text(json.dumps(content))
    arrays = (folder / "arrays.safetensors").read_bytes()
    for cut in (0, 5, 200, len(arrays) - 8):
        (folder / "arrays.safetensors").write_bytes(arrays[:cut])
        with pytest.raises(ModelFormatError, match="damaged or incomplete"):
            MultiSpaceGNN.load(folder)


# -- transfer ---------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{}, {"surrogate": "auto"}, {"embedding": True}], ids=str)
def test_adapt_returns_a_surrogate(model: MultiSpaceGNN, params: dict[str, Any], tmp_path: Path) -> None:
    cells, y = source("transnas_micro", 40)[1:]
    adapted = model.adapt("transnas_micro", cells, y, **params)
    assert isinstance(adapted, Transfer)
    judged = spaces.get("transnas_micro").sample(60, 4)
    mean, std, interval = adapted.predict(judged, return_std=True, return_interval=0.8)
    assert (std > 0).all()
    assert ((interval[:, 0] <= mean) & (mean <= interval[:, 1])).all()
    assert (adapted.ood_score(judged) >= 0).all()
    assert np.isfinite(adapted.unseen_).any()
    folder = adapted.save(tmp_path / "adapted")
    assert adapted.source is model  # saving leaves the model as it is
    again = surrogates.load(folder)
    for one, other in zip(
        again.predict(judged, return_std=True, return_interval=0.8), (mean, std, interval), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert json.loads((folder / "model.json").read_text())["format"] == MODEL_FORMAT


def test_knowledge_of_other_spaces_helps_with_few_rows(learnt: MultiSpaceGNN) -> None:
    """The made-up accuracy follows the same rule everywhere: eight rows suffice to place it on the scale."""
    cells, y = source("nasbench101", 8)[1:]
    judged = rows("nasbench101", 300, seed=7)
    truth = accuracy("nasbench101", judged)
    adapted = learnt.adapt("nasbench101", cells, y)
    assert np.abs(adapted.predict(judged) - truth).mean() < 1.5
    plain = surrogates.create("gaussian_process", "nasbench101").fit(cells, y)
    with_transfer, without = (evaluation.kendall_tau(truth, m.predict(judged)) for m in (adapted, plain))
    assert with_transfer > without - 0.02


def test_features_of_a_member_are_the_spaces_and_the_heads(model: MultiSpaceGNN) -> None:
    space = spaces.get("transnas_micro")
    encoder = TransferEncoder(space, model=model, embedding=True)
    assert encoder.feature_names[:4] == ["shared", "up", "down", "other"]
    assert [len(f) for f in encoder.families] == [1, 3, 48]
    cells = space.sample(30, 0)
    np.testing.assert_allclose(encoder.transform(cells)[:, 0], model.predict(cells, space), atol=1e-5)
    base = surrogates.create("gaussian_process", space)._features
    joined = JoinedFeatures(base, encoder)
    features = joined(cells)
    np.testing.assert_array_equal(features[:, : len(base.names)], base(cells))
    assert features.shape == (30, len(joined.names)) == (30, len(base.names) + encoder.dimension)
    assert sorted(np.concatenate(joined.groups).tolist()) == list(range(len(joined.names)))
    assert np.abs(joined.unlabelled[:, len(base.names) :].mean(axis=0)).max() < 0.3  # standardised, cut off at the ends


def test_a_surrogate_with_a_model_as_parameter_can_be_cloned(model: MultiSpaceGNN) -> None:
    made = surrogates.create("transfer", "nasbench201", source=model)
    assert clone(made).source is model


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"source": 3}, "'source' parameter of Transfer must be a fitted MultiSpaceGNN"),
        ({"source": None}, "Got None"),
        ({"source": "multi-spaces"}, "Did you mean 'multi-space'"),
        ({"surrogate": "gnn"}, "surrogate of Transfer 'gnn'"),
    ],
)
def test_bad_parameters_of_transfer(params: dict[str, Any], message: str) -> None:
    _, cells, y = source("nasbench201", 8)
    with pytest.raises(ValueError, match=message):
        surrogates.create("transfer", "nasbench201", **params).fit(cells, y)
    with pytest.raises(NotFittedError):
        surrogates.create("transfer", "nasbench201", source=MultiSpaceGNN()).fit(cells, y)


# -- the model that ships ---------------------------------------------------------------------


def test_shipped_model_and_card() -> None:
    shipped = surrogates.load("multi-space")
    assert isinstance(shipped, MultiSpaceGNN)
    assert set(shipped.sources_.values()) == {"nasbench101", "nasbench201", "transnas_micro"}
    assert len(shipped.sources_) == 11
    assert sum(p.stat().st_size for p in SHIPPED.iterdir()) < 1.5e6
    card = shipped.metadata_
    page = (SHIPPED / "card.md").read_text(encoding="utf-8")
    for figure in card["sources"]:
        assert 0.3 < figure["kendall_tau"] < 1
        assert f"`{figure['source']}`" in page
        assert f"{figure['kendall_tau']:.3f}" in page
    assert set(card["data_licences"]) == {"nasbench101", "nasbench201", "transnas_micro", "nasbench301"}
    assert all(licence in page for licence in card["data_licences"].values())
    assert (Path(__file__).parents[1] / card["command"].split()[1]).is_file()
    assert not re.search(r'["\s=](/|~)\w', json.dumps(card))
    mean = shipped.predict(rows("nasbench201", 20), "nasbench201", "nasbench201/cifar10")
    assert ((mean > 0) & (mean < 100)).all()


@pytest.mark.slow
def test_held_out_figure_of_the_card_is_reproduced(nasbench201_store: Path) -> None:
    from tauzero import benchmarks

    shipped = MultiSpaceGNN.load()
    table = benchmarks.load("nasbench201", str(nasbench201_store))
    held_out = evaluation.holdout_mask(table.space)
    for figure in shipped.metadata_["sources"]:
        if figure["source"].startswith("nasbench201/"):
            truth = table.table(figure["source"].partition("/")[2], figure["metric"])[held_out]
            predicted = shipped.predict(table.architectures[held_out], table.space, figure["source"])
            assert evaluation.kendall_tau(truth, predicted) == pytest.approx(figure["kendall_tau"], abs=1e-3)
