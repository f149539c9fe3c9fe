"""Search in spaces that no table covers: surrogates extended to larger cells, mass evolution, the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tauzero import evaluation, search, spaces, surrogates
from tauzero.cli import app
from tauzero.search import ArrayObjective, MassEvolution, Objective, SurrogateObjective, Trajectory, WithCosts, run
from tauzero.search._pareto import crowding_distances, nondominated
from tauzero.search.mass_evolution import survivors
from tauzero.search.objectives import Evaluation
from tauzero.surrogates import MultiSpaceGNN, Surrogate

MODELS = (("nasbench201-cifar10", "nasbench201x"), ("nasbench101-cifar10", "nasbench101x"))
FIVE = spaces.get("nasbench201x")


@pytest.fixture(params=MODELS, ids=[m for m, _ in MODELS])
def extended(request: pytest.FixtureRequest) -> Surrogate:
    name, space = request.param
    return surrogates.load(name).on(space)


# -- surrogates of larger cells -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "space", "least"),
    [
        ("nasbench201-cifar10", "nasbench201x(nodes=4)", 0.93),
        ("nasbench101-cifar10", "nasbench101x(vertices=7,edges=9)", 0.999),
    ],
)
def test_on_cells_of_the_same_size_it_predicts_what_the_model_does(name: str, space: str, least: float) -> None:
    model = surrogates.load(name)
    rows = model.space_.sample(400, 0, unique=True)
    twin = model.on(space)
    assert evaluation.kendall_tau(model.predict(rows), twin.predict(rows)) > least
    # Features of positions are left out.
    near = np.maximum(model._familiarity.distance(model._features(rows)), 1)
    np.testing.assert_allclose(twin.stretch(rows), near, rtol=0.25)


def test_predictions_of_larger_cells(extended: Surrogate) -> None:
    space = extended.space_
    rows = space.sample(300, 1)
    mean = extended.predict(rows)
    np.testing.assert_allclose(extended.predict(space.canonical(rows)), mean, rtol=1e-5)
    np.testing.assert_allclose(extended.predict(rows[::3]), mean[::3], rtol=1e-4)
    both, std, interval = extended.predict(rows, True, return_interval=0.9)
    np.testing.assert_allclose(both, mean, rtol=1e-6)
    assert (interval[:, 0] <= mean).all()
    assert (mean <= interval[:, 1]).all()
    assert (std > 0).all()
    assert (mean <= 100).all()
    score, stretch = extended.ood_score(rows), extended.stretch(rows)
    assert (score >= stretch - 1e-9)[stretch > 1].all()
    # What the published table has is more familiar than what it has not.
    published = space.is_published(rows)
    assert np.median(score[published]) < np.median(score[~published])
    assert (score[~published] > 1).mean() > 0.7


def test_deviations_are_stretched_by_the_distance(extended: Surrogate) -> None:
    rows = extended.space_.sample(100, 2)
    mean, std = extended.predict(rows, True)
    raw = Surrogate.predict(extended, rows, True)[1]
    np.testing.assert_allclose(std, raw * extended.stretch(rows), rtol=1e-6)
    assert (extended.stretch(rows) > 1).any()
    assert mean.shape == (100,)


def test_an_extended_model_is_no_model_to_fit_or_save(extended: Surrogate, tmp_path: Path) -> None:
    rows = extended.space_.sample(4, 0)
    with pytest.raises(ValueError, match="not fitted again"):
        extended.fit(rows, np.arange(4.0))
    with pytest.raises(ValueError, match="Save the model"):
        extended.save(tmp_path / "m")


def test_what_cannot_be_extended_says_why() -> None:
    rows = spaces.get("nasbench201").sample(30, 0, unique=True)
    y = (rows == 3).sum(axis=1).astype(float)
    process = surrogates.create("gaussian_process", "nasbench201").fit(rows, y)
    assert process.on("nasbench201") is process
    with pytest.raises(ValueError, match="'gaussian_process' surrogate of nasbench201 cannot predict nasbench201x"):
        process.on("nasbench201x")
    model = surrogates.load("nasbench201-cifar10")
    with pytest.raises(ValueError, match="of another kind"):
        model.on("nasbench101x")
    with pytest.raises(ValueError, match="no cell with conv_5x5"):
        model.on("nasbench201x(operations=none+conv_3x3+conv_5x5)")
    with pytest.raises(ValueError, match="belongs to a MultiSpaceGNN"):
        surrogates.extend(model, "nasbench201x", source="nasbench201/cifar10")


def test_the_multi_space_model_answers_by_a_head() -> None:
    model = MultiSpaceGNN.load()
    rows = FIVE.sample(200, 0)
    with pytest.raises(ValueError, match=r"'source' argument must name .*nasbench201/cifar10, nasbench201/cifar100"):
        surrogates.extend(model, FIVE)
    with pytest.raises(spaces.UnknownNameError, match="source of this model"):
        surrogates.extend(model, FIVE, source="nasbench201/mnist")
    answers = surrogates.extend(model, FIVE, source="nasbench201/cifar10")
    mean, std = answers.predict(rows, return_std=True)
    np.testing.assert_allclose(mean, model.predict(rows, FIVE, "nasbench201/cifar10"))
    np.testing.assert_allclose(
        std, model.predict(rows, FIVE, "nasbench201/cifar10", return_std=True)[1] * answers.stretch(rows)
    )
    single = surrogates.load("nasbench201-cifar10").on(FIVE)
    assert evaluation.kendall_tau(mean, single.predict(rows)) > 0.5
    assert surrogates.extend(model, "nasbench101x").source == "nasbench101/cifar10"


def test_models_of_a_space_with_parameters_are_saved_and_extended(tmp_path: Path) -> None:
    small = spaces.get("nasbench201x(nodes=3,operations=none+skip_connect+conv_3x3)")
    rows = small.enumerate()
    y = (rows == 2).sum(axis=1) + 0.1 * (rows == 1).sum(axis=1)
    model = surrogates.create("gnn", small, members=2, width=16, epochs=60, device="cpu").fit(rows, y)
    back = surrogates.load(model.save(tmp_path / "model"))
    assert back.space_ is small
    large = spaces.get("nasbench201x(nodes=4,operations=none+skip_connect+conv_3x3)")
    cells = large.distinct(large.enumerate())[0]
    predicted = back.on(large.name).predict(cells)
    np.testing.assert_allclose(predicted, model.on(large).predict(cells), rtol=1e-6)
    assert evaluation.kendall_tau((cells == 2).sum(axis=1), predicted) > 0.6


# -- mass evolution -----------------------------------------------------------------------------


class Ones(Objective):
    """How many columns of a row in canonical form are a 3×3 convolution, and as many costs."""

    space = FIVE
    label = "convolutions"
    instant = True
    cost_names: tuple[str, ...] = ()

    def evaluate(self, genotypes: np.ndarray, epochs: object = None) -> Evaluation:
        rows = self.space.canonical(genotypes)
        return Evaluation((rows == 3).sum(axis=1) - 0.3 * (rows == 4).sum(axis=1), np.zeros(len(rows)))


def test_every_network_once_and_better_than_random() -> None:
    result = run("mass_evolution", Ones(), 4_000, 0, batch_size=500, params={"population_size": 100})
    assert result.queries == len(np.unique(FIVE.canonical(result.genotypes), axis=0)) == 4_000
    assert result.repeats == 0
    assert result.best_value == 10
    np.testing.assert_array_equal(result.genotypes, FIVE.canonical(result.genotypes))
    drawn = run("random_search", Ones(), 4_000, 0, batch_size=500)
    assert result.values[-1_000:].mean() > drawn.values.mean() + 2


def test_it_stops_when_all_networks_were_asked_for() -> None:
    space = spaces.get("nasbench201")
    objective = ArrayObjective(space, (space.enumerate() == 3).sum(axis=1).astype(float))
    result = run("mass_evolution", objective, 10_000, 1, batch_size=700)
    assert (result.queries, result.stopped) == (5_425, "exhausted")
    tiny = spaces.get("nasbench101x(vertices=4,edges=4,operations=conv_1x1)")

    class Edges(Objective):
        space = tiny
        label = "edges"

        def evaluate(self, genotypes: np.ndarray, epochs: object = None) -> Evaluation:
            return Evaluation(np.asarray(genotypes).sum(axis=1).astype(float), np.zeros(len(genotypes)))

    cells = tiny.distinct(tiny.sample(2_000, 0))[0]
    assert run("mass_evolution", Edges(), 1_000, 0, batch_size=50).queries == len(cells)


def test_costs_make_it_multi_objective() -> None:
    weighed = WithCosts(Ones(), ["params"])
    result = run("mass_evolution", weighed, 3_000, 0, batch_size=500, params={"population_size": 100})
    front = result.pareto_front()
    drawn = run("random_search", weighed, 3_000, 0, batch_size=500)
    # From a network without weights to ten convolutions: one point for each number of them.
    assert len(np.unique(result.values[front])) >= 10
    theirs = drawn.pareto_front()
    points = [np.stack([t.values, -t.costs["params"]], axis=1)[f] for t, f in ((result, front), (drawn, theirs))]
    joined = nondominated(np.concatenate(points))
    assert joined[: len(front)].mean() > 0.9
    alone = run("mass_evolution", weighed, 1_000, 0, batch_size=500, params={"multi_objective": False})
    assert alone.costs["params"].shape == (1_000,)


def test_survivors_against_a_slow_implementation() -> None:
    rng = np.random.default_rng(0)
    for k in (2, 3):
        points = rng.integers(8, size=(60, k)).astype(float)
        left, order = list(range(60)), []
        while left:
            front = [
                a
                for a in left
                if not any((points[b] >= points[a]).all() and (points[b] > points[a]).any() for b in left)
            ]
            order.append(front)
            left = [a for a in left if a not in front]
        for count in (1, 10, 37, 60, 100):
            kept = survivors(points, count)
            assert len(kept) == len(set(kept.tolist())) == min(count, 60)
            place = 0
            for front in order:
                part = kept[place : place + len(front)]
                assert set(part.tolist()) <= set(front)
                place += len(part)
    line = np.array([[0.0, 10.0], [1.0, 6.0], [2.0, 5.0], [10.0, 0.0]])
    np.testing.assert_allclose(crowding_distances(line), [np.inf, 0.2 + 0.5, 0.9 + 0.6, np.inf])
    assert survivors(line, 3).tolist()[-1] == 2


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"population_size": 1}, "'population_size' parameter"),
        ({"crossover": 1.5}, "'crossover' parameter"),
        ({"immigrants": -0.1}, "'immigrants' parameter"),
        ({"mutations": 0.5}, "'mutations' parameter"),
        ({"mutations": float("nan")}, "'mutations' parameter"),
    ],
)
def test_bad_parameters(params: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MassEvolution(FIVE, 0, **params)  # type: ignore[arg-type]
    assert search.create("mass_evolution", FIVE, 0).together > 1


def test_trajectories_of_spaces_with_parameters(tmp_path: Path) -> None:
    few = spaces.get("nasbench101x(vertices=6,edges=9)")
    model = surrogates.load("nasbench101-cifar10").on(few)
    objective = WithCosts(SurrogateObjective(model), ["params", "flops"])
    first = run("mass_evolution", objective, 300, 3, batch_size=100, checkpoint=tmp_path / "t.parquet")
    back = Trajectory.load(tmp_path / "t.parquet")
    assert spaces.get(back.space) is few
    np.testing.assert_array_equal(back.genotypes, first.genotypes)
    longer = run("mass_evolution", objective, 400, 3, batch_size=100, checkpoint=tmp_path / "t.parquet")
    np.testing.assert_array_equal(longer.genotypes[:300], first.genotypes)


# -- the command line -----------------------------------------------------------------------------


def command(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("place", "model", "more"),
    [
        ("nasbench201x(nodes=5)", "nasbench201-cifar10", ()),
        ("nasbench101x(vertices=8,edges=11)", "nasbench101-cifar10", ()),
        ("nasbench201x(nodes=3)", "multi-space:nasbench201/cifar100", ()),
        ("nasbench201x", "multi-space", ("--dataset", "cifar10")),
    ],
)
def test_search_without_a_table(place: str, model: str, more: tuple[str, ...]) -> None:
    code, output = command(
        "search", place, "--objective", "surrogate", "--surrogate", model, "--algorithm", "mass_evolution",
        "--budget", 60, "--costs", "params,flops", "--front", 4, "--json", *more,
    )  # fmt: skip
    assert code == 0, output
    found = json.loads(output)
    space = spaces.get(place)
    assert found["queries"] == 60 if space.size > 1_000 else found["queries"] > 10
    assert found["true_queries"] == 0
    assert 2 <= len(found["pareto"]) <= 4 <= found["front_size"] or len(found["pareto"]) == found["front_size"]
    for point in [*found["pareto"], found["best"]]:
        assert {"arch", "predicted", "std", "ood_score", "ood", "published"} <= point.keys()
        assert point["ood"] == (point["ood_score"] > 1)
        assert point["std"] > 0
        space.from_string([point["arch"]])
    assert {"params", "flops"} == found["pareto"][0]["costs"].keys()
    values = [point["value"] for point in found["pareto"]]
    assert values == sorted(values, reverse=True)
    assert values[0] == found["best"]["value"]
    assert any("ood_score" in note for note in found["notes"])


def test_what_the_command_says_to_people_and_to_mistakes() -> None:
    arguments = ["search", "nasbench201x", "--objective", "surrogate", "--algorithm", "mass_evolution", "--budget", 40]
    code, output = command(*arguments, "--surrogate", "nasbench201-cifar10", "--costs", "params")
    assert code == 0
    assert "ood_score" in output
    for model, message in (
        ("nasbench101-cifar10", "of another kind"),
        ("nasbench201-cifar10:cifar10", "Only a multi-space model"),
        ("multi-space", "must name the source"),
    ):
        code, output = command(*arguments, "--surrogate", model)
        assert code == 2
        assert message in " ".join(output.split())
    code, output = command("search", "nasbench201x(nodes=1)", "--objective", "surrogate", "--surrogate", "multi-space")
    assert code == 2
    assert "'nodes' parameter" in output
    code, output = command("spaces", "nasbench201x(nodes=6)", "--json")
    assert code == 0
    assert json.loads(output)["size"] == 5**15
