"""The models that ship with tauzero: complete cards, size, and the figures on rows that they never saw."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path

import numpy as np
import pytest

from tauzero import benchmarks, evaluation, spaces, surrogates

NAMES = surrogates.pretrained_names()
FOLDER = Path(surrogates.__file__).parent / "pretrained"
EXPECTED = {
    "nasbench101-cifar10",
    "nasbench201-cifar10",
    "nasbench201-cifar100",
    "nasbench201-ImageNet16-120",
}
#: What every card says, and of which type.
CARD = {
    "name": str,
    "benchmark": str,
    "dataset": str,
    "metric": str,
    "unit": str,
    "training_rows": int,
    "held_out_rows": int,
    "held_out": str,
    "kendall_tau": float,
    "r2": float,
    "seed": int,
    "date": str,
    "data_source": list,
    "data_licence": str,
    "command": str,
    "limits": str,
}
each = pytest.mark.parametrize("name", NAMES)


def test_the_four_models_are_there() -> None:
    assert set(NAMES) >= EXPECTED


@each
def test_loads_and_predicts(name: str) -> None:
    model = surrogates.load(name)
    cells = model.space_.sample(20, 0)
    mean, std = model.predict(cells, return_std=True)
    assert ((mean > 0) & (mean < 100)).all()
    assert np.ptp(mean) > 0.1
    assert ((std > 0) & (std < 50)).all()
    np.testing.assert_array_equal(surrogates.load(name).predict(cells), mean)


@each
def test_card_is_complete(name: str) -> None:
    card = surrogates.load(name).metadata_
    for key, kind in CARD.items():
        assert isinstance(card.get(key), kind), f"{key} of {name} is {card.get(key)!r}"
    assert card["name"] == name == f"{card['benchmark']}-{card['dataset']}"
    assert card["metric"] == "test_accuracy"
    assert card["held_out_rows"] >= 0.2 * (card["held_out_rows"] + card["training_rows"]) - 1
    space = spaces.get(card["benchmark"])
    held_out = evaluation.holdout_mask(space)
    assert card["held_out_rows"] <= held_out.sum()
    assert card["training_rows"] <= (~held_out).sum()
    assert 0.5 < card["kendall_tau"] < 1
    assert dt.date.fromisoformat(card["date"])
    for file in card["data_source"]:
        assert file["name"] == Path(file["name"]).name
        assert re.fullmatch(r"[0-9a-f]{64}", file["sha256"])
    assert (Path(__file__).parents[1] / card["command"].split()[1]).is_file()


@each
def test_no_machine_path(name: str) -> None:
    text = (FOLDER / name / "model.json").read_text(encoding="utf-8")
    for values in json.loads(text).values():
        assert not re.search(r'["\s=](/|~|[A-Za-z]:\\\\|\.\./)', json.dumps(values)), values


@each
def test_documentation_has_the_figures_of_the_card(name: str) -> None:
    card = json.loads((FOLDER / name / "model.json").read_text(encoding="utf-8"))["metadata"]
    page = (Path(__file__).parents[1] / "docs" / "surrogates.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
    rows = f"{card['training_rows']:,} | {card['held_out_rows']:,}"
    within = f"{card['within_1_std']:.0%} / {card['within_2_std']:.0%}".replace("%", " %")
    tau = f"{card['kendall_tau']:.4f} | {card['kendall_tau_per_network']:.4f}"
    figures = f"`{card['surrogate']}` | {rows} | {tau} | {card['r2']:.4f} | {within}"
    assert row == f"| `{name}` | {figures} |"


def test_together_they_are_small() -> None:
    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) < 6e6


@each
def test_only_plain_files(name: str) -> None:
    assert {p.suffix for p in (FOLDER / name).iterdir()} <= {".json", ".safetensors", ".txt"}


@pytest.mark.slow
@each
def test_held_out_figures_are_reproduced(name: str, request: pytest.FixtureRequest) -> None:
    model = surrogates.load(name)
    card = model.metadata_
    table = benchmarks.load(card["benchmark"], str(request.getfixturevalue(f"{card['benchmark']}_store")))
    truth = table.table(card["dataset"], card["metric"])
    held_out = evaluation.holdout_mask(model.space_) & np.isfinite(truth)
    assert held_out.sum() == card["held_out_rows"]
    predicted = model.predict(model.space_.enumerate()[held_out])
    assert evaluation.kendall_tau(truth[held_out], predicted) == pytest.approx(card["kendall_tau"], abs=1e-3)
    assert evaluation.r2(truth[held_out], predicted) == pytest.approx(card["r2"], abs=2e-3)
    # Every network once: equal cells share a prediction, so their mean accuracy is what it is held against.
    _, network = np.unique(model.space_.classes()[held_out], return_inverse=True)
    members = np.bincount(network)
    by_network = evaluation.kendall_tau(
        np.bincount(network, truth[held_out]) / members, np.bincount(network, predicted) / members
    )
    assert by_network == pytest.approx(card["kendall_tau_per_network"], abs=1e-3)
