"""Spaces of a user's own: registration, what it refuses, pickles that reach other processes, use by every room."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tauzero as tz
from tauzero import spaces
from tauzero.spaces import LayerChain, SearchSpace, UnknownNameError, _registry

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def registry_as_before() -> Iterator[None]:
    known, instances = dict(_registry._SPACES), dict(_registry._INSTANCES)
    yield
    for now, before in ((_registry._SPACES, known), (_registry._INSTANCES, instances)):
        now.clear()
        now.update(before)


class Shallow(LayerChain):
    """Three layers of two choices."""

    name = "shallow"
    layers = (("conv_1x1", "conv_3x3"),) * 3


def test_a_registered_space_is_known_by_name() -> None:
    with pytest.raises(UnknownNameError):
        spaces.get("shallow")
    assert spaces.register(Shallow) is Shallow
    space = spaces.get("shallow")
    assert isinstance(space, Shallow)
    assert spaces.get("shallow") is space
    assert "shallow" in spaces.names()
    assert spaces.register(Shallow) is Shallow  # twice is no harm
    assert spaces.get("shallow") is space
    assert pickle.loads(pickle.dumps(space)) is space


def test_a_cell_that_is_run_again_takes_the_place_of_its_space() -> None:
    spaces.register(Shallow)
    published = spaces.get("nasbench201")
    again = type("Shallow", (LayerChain,), {"name": "shallow", "layers": (("block", "block_wide"),) * 2})
    again.__module__ = Shallow.__module__
    spaces.register(again)
    assert spaces.get("shallow").size == 4
    assert spaces.get("nasbench201") is published  # with the tables that it has built


def make(**attributes: object) -> type:
    layers = (("conv_1x1", "conv_3x3"),) * 3
    return type("Mine", (LayerChain,), {"name": "mine", "layers": layers, **attributes})


class Incomplete(SearchSpace):
    """Lacks what a space has to have."""

    name = "incomplete"


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("shallow", "takes a subclass of SearchSpace"),
        (dict, "takes a subclass of SearchSpace"),
        (make(name="nasbench201"), r"'nasbench201' already, tauzero\.spaces\.nasbench201\.NASBench201"),
        (make(name="of two words"), "must be a word"),
        (make(name="f(x)"), "must be a word"),
        (make(name=3), "must be a word"),
        (Incomplete, r"cannot be made by Incomplete\(\): Can't instantiate abstract class"),
        (make(__init__=lambda self, depth: None), "cannot be made by Mine"),
        (
            make(__init__=lambda self: setattr(self, "name", "another")),
            "must keep the name of its class. Got 'another'",
        ),
    ],
)
def test_what_is_refused(space: type, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spaces.register(space)
    assert "mine" not in spaces.names()


def test_a_name_that_another_class_has() -> None:
    spaces.register(make())
    other = make()
    other.__qualname__ = "Another"
    with pytest.raises(ValueError, match=r"'mine' already, .*Mine: choose another name"):
        spaces.register(other)


def test_a_pickle_registers_the_space_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "my_space.py").write_text(
        "from tauzero import spaces\n\n\nclass Mine(spaces.LayerChain):\n"
        "    name = 'mine'\n    layers = (('conv_1x1', 'conv_3x3'),) * 3\n",
        encoding="utf-8",
    )
    write = "import my_space, pickle; from tauzero import spaces; spaces.register(my_space.Mine); "
    write += "print(pickle.dumps(spaces.get('mine')).hex())"
    read = "import pickle, sys; space = pickle.loads(bytes.fromhex(sys.argv[1])); from tauzero import spaces; "
    read += "assert spaces.get('mine') is space and space.size == 8; print('read')"

    def run(*arguments: str) -> str:
        environment = {"PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}"}
        done = subprocess.run(
            [sys.executable, "-c", *arguments], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert run(read, run(write)) == "read"


def test_surrogates_searches_and_files_take_it(tmp_path: Path) -> None:
    spaces.register(make(layers=(("skip_connect", "mb_conv_3x3", "mb_conv_5x5"),) * 6))
    space = spaces.get("mine")
    value = 70 + (space.enumerate() * np.arange(1, 7)).sum(axis=1) + 0.0
    train = space.index(space.sample(120, 0, unique=True))
    model = tz.surrogates.create("gaussian_process", "mine").fit(space.enumerate()[train], value[train])
    assert tz.evaluation.kendall_tau(value, model.predict(space.enumerate())) > 0.8
    model.save(tmp_path / "model")
    again = tz.surrogates.load(tmp_path / "model")
    np.testing.assert_allclose(again.predict(space.enumerate()[:5]), model.predict(space.enumerate()[:5]))
    objective = tz.search.ArrayObjective("mine", value)
    found = tz.search.run("regularized_evolution", objective, budget=150, seed=0)
    assert found.values.max() > np.quantile(value, 0.98)
    column = tz.benchmarks.Column("digits", "test_accuracy", 5, None, "percent", value / 2, "made up")
    path = tz.benchmarks.write_store(
        tz.benchmarks.Table("mine_table", "mine", (column,), "CC0-1.0", {}), tmp_path / "t.arrow"
    )
    table = tz.benchmarks.load("mine_table", path)
    np.testing.assert_allclose(table.query(space.enumerate()[:9]), value[:9] / 2)
