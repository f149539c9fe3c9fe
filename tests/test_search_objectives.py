"""Objectives that compute on demand: proxies of untrained networks, and real training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from tauzero import networks, proxies, search, spaces
from tauzero.search import Evaluation, ProxyObjective, TrainingObjective, run
from tauzero.search import proxy_objective as module

SPACE = spaces.get("nasbench201")
TINY: dict[str, Any] = {"channels": 4, "cells_per_stage": 1}
#: Two convolutions in a row; all zeros, whose output does not depend on the image; and the first written with a
#: dead operation, an equal network.
CELLS = SPACE.from_string(
    [
        "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|skip_connect~2|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
        "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|skip_connect~2|",
    ]
)
DEAD = SPACE.from_string(
    [
        "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|",
        "|none~0|+|none~0|nor_conv_1x1~1|+|nor_conv_3x3~0|none~1|none~2|",
    ]
)


# -- proxies ----------------------------------------------------------------------------------


def test_one_proxy_is_its_score() -> None:
    rows = SPACE.sample(6, 0)
    goal = ProxyObjective(SPACE, "synflow", seed=3, **TINY)
    got = goal.evaluate(rows)
    scores = proxies.score(SPACE, rows, "synflow", seed=3, **TINY)["synflow"].to_numpy()
    np.testing.assert_allclose(got.values[np.isfinite(scores)], scores[np.isfinite(scores)])
    assert (got.seconds > 0).all()
    assert goal.label == "synflow"


def test_each_network_is_scored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scored: list[int] = []
    real = proxies.score

    def counted(space: object, rows: np.ndarray, *args: object, **kwargs: object) -> object:
        scored.append(len(rows))
        return real(space, rows, *args, **kwargs)

    monkeypatch.setattr(proxies, "score", counted)
    goal = ProxyObjective(SPACE, "synflow", **TINY)
    assert (SPACE.canonical(DEAD)[0] == SPACE.canonical(DEAD)[1]).all()
    first = goal.evaluate(np.concatenate([DEAD, CELLS]))
    assert scored == [0, 3]  # checking the names scores nothing; five rows are three networks
    again = goal.evaluate(CELLS)
    assert (scored, goal.evaluated) == ([0, 3], 3)
    np.testing.assert_array_equal(again.values, first.values[2:])
    np.testing.assert_array_equal(again.seconds, first.seconds[2:])  # what it took when it was measured


def test_an_undefined_score_has_a_defined_value() -> None:
    values = ProxyObjective(SPACE, "synflow", **TINY).evaluate(CELLS).values
    assert values[1] == -1e30
    assert values[0] == values[2] > -1e30
    assert ProxyObjective(SPACE, "synflow", undefined=-5.0, **TINY).evaluate(CELLS[1:2]).values == [-5.0]


def test_shares_of_a_reference() -> None:
    rng = np.random.default_rng(0)
    known = np.sort(rng.integers(0, 12, 20).astype(float))
    m = len(known)
    # At the reference's own scores: mean ranks of ties.
    np.testing.assert_allclose(module._share(known, known), (rankdata(known) - 0.5) / m)
    # Strictly increasing everywhere, within (1/4m, 1 - 1/4m), an undefined score below all.
    x = np.concatenate([-np.geomspace(1e12, 1e-3, 40) + known[0], np.linspace(known[0], known[-1], 100)])
    x = np.concatenate([x, known[-1] + np.geomspace(1e-3, 1e12, 40)])
    x = np.unique(x)
    shares = module._share(x, known)
    assert (np.diff(shares) > 0).all()
    assert 0.25 / m < shares[0] < shares[-1] < 1 - 0.25 / m
    assert module._share(np.array([np.nan]), known)[0] == 0.25 / m
    constant = module._share(np.array([-1.0, 0.0, 1.0]), np.zeros(8))
    np.testing.assert_allclose(constant[1], 0.5)
    assert constant[0] < 0.5 < constant[2]


def test_proxies_that_count_what_is_written_do_not_share_equal_networks() -> None:
    values = ProxyObjective(SPACE, "params", **TINY).evaluate(DEAD).values
    np.testing.assert_array_equal(values, networks.count_parameters(SPACE, DEAD, **TINY))


@pytest.mark.parametrize("rule", [None, "log_rank"])
def test_several_proxies_are_ranked_in_one_fixed_sample(rule: Any) -> None:
    asked = ["params", "flops"]
    goal = ProxyObjective(SPACE, asked, seed=2, rule=rule, reference=30, **TINY)
    rows = SPACE.sample(8, 5)
    values = goal.evaluate(rows).values
    reference = SPACE.sample(30, 2)
    slow = []
    for row in rows:
        shares = []
        for count in (networks.count_parameters, networks.count_flops):
            known = count(SPACE, reference, **TINY)
            (mine,) = count(SPACE, row[None], **TINY)
            levels = np.unique(known)
            mean_ranks = [(known < level).mean() + (known == level).mean() / 2 for level in levels]
            assert levels[0] <= mine <= levels[-1]
            shares.append(np.interp(mine, levels, mean_ranks))
        slow.append(np.mean(np.log(shares) if rule == "log_rank" else shares))
    np.testing.assert_allclose(values, slow)
    # Another search with the same arguments sees the same function, in any order and batch.
    other = ProxyObjective(SPACE, asked, seed=2, rule=rule, reference=30, **TINY)
    np.testing.assert_allclose(other.evaluate(rows[::-1]).values[::-1], values)
    assert other.evaluate(rows[::-1]).seconds[0] > other.reference_seconds > 0


def test_proxies_in_a_search() -> None:
    result = run("regularized_evolution", ProxyObjective(SPACE, "flops", **TINY), 60, 0, batch_size=10)
    index = result.index
    np.testing.assert_array_equal(result.values, networks.count_flops(SPACE, SPACE.enumerate()[index], **TINY))
    assert result.simulated_seconds > 0
    aggregate = ProxyObjective(SPACE, "te_nas", **TINY)
    assert aggregate.label == "te_nas (rank of ntk_condition, linear_regions)"


def test_bad_arguments_of_a_proxy_objective() -> None:
    with pytest.raises(spaces.UnknownNameError, match="synflow"):
        ProxyObjective(SPACE, "sinflow")
    with pytest.raises(ValueError, match="no option 'chanels'"):
        ProxyObjective(SPACE, "synflow", chanels=4)
    with pytest.raises(ValueError, match="'reference' argument of ProxyObjective"):
        ProxyObjective(SPACE, "synflow", reference=1)
    with pytest.raises(ValueError, match="'rule' argument of ProxyObjective"):
        ProxyObjective(SPACE, "synflow", rule="median")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'undefined' argument of ProxyObjective"):
        ProxyObjective(SPACE, "synflow", undefined=np.nan)


# -- training ---------------------------------------------------------------------------------


def digits(epochs: Any = 2, **settings: Any) -> TrainingObjective:
    return TrainingObjective(
        SPACE, "digits", epochs, **{"image_size": 8, "batch_size": 32, "device": "cpu", **TINY, **settings}
    )


@pytest.fixture(scope="module")
def trained() -> tuple[TrainingObjective, Evaluation]:
    goal = digits((1, 2))
    return goal, goal.evaluate(CELLS)


def test_training_learns(trained: tuple[TrainingObjective, Evaluation]) -> None:
    goal, got = trained
    assert got.values[0] > 60  # chance is 10
    assert got.values[1] < 20  # its output does not depend on the image
    assert got.values[0] == got.values[2]
    assert goal.evaluated == 2
    assert (got.seconds > 0).all()
    assert (goal.fidelities, goal.full_epochs) == ((1, 2), 2)
    assert goal.label == "validation accuracy after 2 epochs of training"
    assert "digits" in goal.notes[0]
    # A whole number of the 359 validation images.
    assert got.values[0] * 359 / 100 == pytest.approx(round(got.values[0] * 359 / 100))


def test_training_is_decided_by_seed_architecture_and_epochs(trained: tuple[TrainingObjective, Evaluation]) -> None:
    goal, got = trained
    torch_state = torch.get_rng_state()
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - the global state is what must not be used
    assert digits(2).evaluate(CELLS[:1]).values[0] == got.values[0]  # neither order nor other budgets matter
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(torch_state, torch.get_rng_state())
    short = goal.evaluate(CELLS[:1], [1])
    assert goal.evaluated == 3
    assert short.values[0] != got.values[0]
    assert digits(1, seed=1).evaluate(CELLS[:1]).values[0] != short.values[0]


def test_the_recipe_is_that_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learning rates and settings that the optimiser really gets, over 2 epochs of 3 batches."""
    seen: list[tuple[float, ...]] = []
    real = torch.optim.SGD.step

    def step(self: Any, closure: Any = None) -> Any:
        (group,) = self.param_groups
        seen.append((group["lr"], group["momentum"], group["weight_decay"], float(group["nesterov"])))
        return real(self, closure)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    rng = np.random.default_rng(0)
    data = (rng.standard_normal((100, 3, 8, 8)).astype(np.float32), np.arange(100) % 4)
    goal = TrainingObjective(SPACE, data, 2, validation=0.25, batch_size=25, device="cpu", augment=True, **TINY)
    goal.evaluate(CELLS[:1])
    rates = [0.1 * (1 + np.cos(np.pi * k / 6)) / 2 for k in range(6)]
    np.testing.assert_allclose(seen, [(rate, 0.9, 5e-4, 1.0) for rate in rates])


def test_crops_and_mirror_images() -> None:
    from tauzero.search._training import crop_and_flip

    images = torch.arange(3 * 8 * 8, dtype=torch.float32).reshape(1, 3, 8, 8).repeat(200, 1, 1, 1) + 1
    made = crop_and_flip(images, torch.Generator().manual_seed(0))
    padded = np.pad(images[0].numpy(), ((0, 0), (1, 1), (1, 1)))
    possible = [padded[:, y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
    possible += [image[:, :, ::-1] for image in possible]
    found = [[k for k, image in enumerate(possible) if (image == one).all()] for one in made.numpy()]
    assert {len(places) for places in found} == {1}
    assert {places[0] for places in found} == set(range(18))


def test_training_in_a_search() -> None:
    goal = digits(1, num_images=200)
    result = run("random_search", goal, 3, 0)
    assert (result.epochs.tolist(), len(result)) == ([1, 1, 1], 3)
    weighed = search.WithCosts(goal)
    got = weighed.evaluate(CELLS[:1])
    assert got.costs["params"] == networks.count_parameters(SPACE, CELLS[:1], **TINY)


def test_bad_arguments_of_training() -> None:
    for bad in (0, (2, 1), (), 1.5):
        with pytest.raises(ValueError, match="'epochs' argument of TrainingObjective"):
            digits(bad)
    for name, value in {
        "batch_size": 1, "image_size": 1.5, "seed": -1, "learning_rate": np.nan, "weight_decay": -1, "validation": 0.0
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=f"'{name}' argument of TrainingObjective"):
            digits(**{name: value})
    with pytest.raises(ValueError, match="no option 'width'"):
        digits(width=3)
    with pytest.raises(ValueError, match="'num_images' argument of TrainingObjective"):
        TrainingObjective(SPACE, "somewhere/images", 1)
    with pytest.raises(ValueError, match="must have labels"):
        TrainingObjective(SPACE, np.zeros((10, 3, 8, 8), np.float32), 1)
    with pytest.raises(ValueError, match=r"knows epochs 2\. Got 3"):
        digits(2, num_images=100).evaluate(CELLS[:1], [3])
