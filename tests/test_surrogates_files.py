"""Models on disk: what is saved comes back, nothing half-written is left, and damage is named."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from surrogate_helpers import accuracy, rows, small

from tauzero import spaces, surrogates
from tauzero.benchmarks import UnwritableFolderError
from tauzero.surrogates import ModelFormatError, Surrogate, _files

EACH = [(name, space) for name in surrogates.names() for space in spaces.names()]
JUDGED = spaces.get("nasbench201").sample(30, 9)


def fit(name: str, space: str = "nasbench201", **params: Any) -> Surrogate:
    cells = rows(space, 30)
    return small(name, space, **params).fit(cells, accuracy(space, cells))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved model of each kind."""
    folder = tmp_path_factory.mktemp("models")
    return {name: fit(name).save(folder / name) for name in surrogates.names()}


@pytest.fixture
def folder(saved: dict[str, Path], tmp_path: Path) -> Path:
    """A model (boosting: it has all three kinds of files) that a test may damage."""
    return Path(shutil.copytree(saved["lightgbm"], tmp_path / "model"))


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def change(folder: Path, **values: Any) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


# -- there and back ---------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "space"), EACH, ids=[f"{n}-{s}" for n, s in EACH])
def test_save_and_load(name: str, space: str, tmp_path: Path) -> None:
    model = fit(name, space, random_state=3)
    model.metadata_ = {"name": "mine", "tau": 0.5, "list": [1, None, "é"], "float": 1 / 3}
    cells = spaces.get(space).sample(30, 9)
    written = model.save(tmp_path / "a" / "b")
    assert written == tmp_path / "a" / "b"
    assert {p.suffix for p in written.iterdir()} <= {".json", ".safetensors", ".txt"}
    assert os.listdir(tmp_path / "a") == ["b"]
    again = surrogates.load(written)
    assert type(again) is type(model)
    assert again.metadata_ == model.metadata_
    assert again.n_train_ == model.n_train_
    assert again.get_params() == model.get_params()
    for mine, its in zip(model.predict(cells, return_std=True), again.predict(cells, return_std=True), strict=True):
        np.testing.assert_array_equal(mine, its)
    # A loaded model is saved to the same bytes: nothing is lost on the way.
    assert content(again.save(str(tmp_path / "c"))) == content(written)
    assert again.fit(rows(space, 5), np.arange(5.0)).n_train_ == 5


def test_a_space_object_is_saved_by_name(tmp_path: Path) -> None:
    model = fit("gaussian_process")
    model.set_params(space=spaces.get("nasbench201")).save(tmp_path / "m")
    again = surrogates.load(tmp_path / "m")
    assert again.space == "nasbench201"
    np.testing.assert_array_equal(again.predict(JUDGED), model.predict(JUDGED))


def test_a_callback_is_not_saved(tmp_path: Path) -> None:
    model = fit("gnn", progress=lambda done, total: None)
    assert surrogates.load(model.save(tmp_path / "m")).get_params()["progress"] is None


def test_nothing_is_pickled(saved: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*given: Any, **named: Any) -> None:
        raise AssertionError("a pickle was read")

    for module, attribute in (("pickle", "load"), ("pickle", "loads"), ("pickle", "Unpickler"), ("torch", "load")):
        monkeypatch.setattr(f"{module}.{attribute}", forbidden)
    for folder in saved.values():
        surrogates.load(folder).predict(JUDGED[:2])


# -- writing ----------------------------------------------------------------------------------


def test_saving_replaces_a_model(folder: Path) -> None:
    model = fit("gaussian_process")
    model.save(folder)
    assert surrogates.load(folder).name == "gaussian_process"
    assert sorted(os.listdir(folder)) == ["arrays.safetensors", "model.json"]  # the boosters' texts are gone
    assert os.listdir(folder.parent) == ["model"]


def test_saving_into_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert surrogates.load(fit("gaussian_process").save(tmp_path / "empty")).n_train_ == 30
    assert os.listdir(tmp_path) == ["empty"]


def test_foreign_folders_and_files_are_left_alone(tmp_path: Path) -> None:
    model = fit("gaussian_process")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("x", encoding="utf-8")
    (tmp_path / "file").write_text("y", encoding="utf-8")
    for target in ("foreign", "file"):
        with pytest.raises(UnwritableFolderError, match=r"no tauzero model; nothing was written\. Choose a new folder"):
            model.save(tmp_path / target)
    assert (tmp_path / "foreign" / "thesis.tex").read_text(encoding="utf-8") == "x"
    assert (tmp_path / "file").read_text(encoding="utf-8") == "y"
    assert sorted(os.listdir(tmp_path)) == ["file", "foreign"]


def test_the_current_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = fit("gaussian_process")
    with pytest.raises(UnwritableFolderError, match="current directory"):
        model.save(".")
    assert not os.listdir(tmp_path)
    assert model.save("here").is_absolute()


def test_an_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("y", encoding="utf-8")
    with pytest.raises(UnwritableFolderError, match=r"Cannot write the model to .*Choose a folder"):
        fit("gaussian_process").save(tmp_path / "file" / "model")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full")], ids=["interrupt", "disk-full"])
@pytest.mark.parametrize("place", ["model.json", "arrays", "first-text", "last-text", "first-rename", "last-rename"])
@pytest.mark.parametrize("old", [True, False], ids=["over-a-model", "new"])
def test_interrupted_saving(
    saved: dict[str, Path], folder: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: Any, old: bool
) -> None:
    model = surrogates.load(saved["lightgbm"])
    model.metadata_ = {"new": True}
    before = content(folder)
    if not old:
        shutil.rmtree(folder)
    calls = 0

    def stopping(function: Any, at: int) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at:
                raise error
            return function(*given, **named)

        return call

    texts = len(list(saved["lightgbm"].glob("*.txt")))
    assert texts > 1
    renames = 2 if old else 1
    target, name, at = {
        "model.json": (Path, "write_text", 1),
        "arrays": (_files, "save", 1),
        "first-text": (Path, "write_bytes", 2),
        "last-text": (Path, "write_bytes", 1 + texts),
        "first-rename": (os, "replace", 1),
        "last-rename": (os, "replace", renames),
    }[place]
    with monkeypatch.context() as patch:
        patch.setattr(target, name, stopping(getattr(target, name), at))
        with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else UnwritableFolderError):
            model.save(folder)
    assert calls >= at
    assert os.listdir(folder.parent) == (["model"] if old else [])
    if old:
        assert content(folder) == before
    assert surrogates.load(model.save(folder)).metadata_ == {"new": True}


def test_metadata_that_is_no_json_writes_nothing(folder: Path) -> None:
    model = fit("gaussian_process")
    model.metadata_ = {"object": object()}
    before = content(folder)
    with pytest.raises(TypeError, match="cannot be written to a model file"):
        model.save(folder)
    assert content(folder) == before
    assert os.listdir(folder.parent) == ["model"]


# -- reading ----------------------------------------------------------------------------------


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"is no tauzero model: there is no model\.json in it"):
        surrogates.load(tmp_path)


@pytest.mark.parametrize("version", [0, 1, 3, "2.5", None])
def test_unknown_format_version(folder: Path, version: Any) -> None:
    change(folder, format=version)
    with pytest.raises(ModelFormatError, match=r"has model format .*this version of tauzero reads 2"):
        surrogates.load(folder)


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/hostname.txt", "a/b.txt", "..", "model.json", ""])
def test_texts_outside_the_folder_are_refused(folder: Path, name: Any) -> None:
    (folder.parent / "secret.txt").write_text("secret", encoding="utf-8")
    change(folder, texts={name: "0"})
    with pytest.raises(ModelFormatError) as caught:
        surrogates.load(folder)
    assert "secret" not in str(caught.value).replace("../secret.txt", "")


@pytest.mark.parametrize(
    "values",
    [
        {"surrogate": "oracle"},
        {"surrogate": ["lightgbm"]},
        {"space": "nasbench999"},
        {"space": None},
        {"params": {"depth": 3}},
        {"params": [1]},
        {"params": None},
        {"n_train": "many"},
        {"n_train": None},
        {"target": {}},
        {"target": {"kind": "cube"}},
        {"target": 3},
        {"state": {}},
        {"state": None},
        {"texts": 5},
        {"texts": {}},
        {"texts": ["booster0.txt"]},
        {"texts": {"booster0.txt": "0"}},
        {"texts": {"missing.txt": "0"}},
    ],
    ids=str,
)
def test_wrong_values(folder: Path, values: dict[str, Any]) -> None:
    change(folder, **values)
    with pytest.raises(ModelFormatError, match=r"damaged or incomplete .*Fit it again"):
        surrogates.load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"format": 2}', "\x00\x01", "[" * 100_000])
def test_broken_json(folder: Path, text: str) -> None:
    (folder / "model.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelFormatError, match="damaged or incomplete"):
        surrogates.load(folder)


def test_json_that_is_no_text(folder: Path) -> None:
    (folder / "model.json").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ModelFormatError, match="damaged or incomplete"):
        surrogates.load(folder)


@pytest.mark.parametrize("name", surrogates.names())
def test_truncated_and_missing_arrays(saved: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(saved[name], tmp_path / "model"))
    path = folder / "arrays.safetensors"
    whole = path.read_bytes()
    for part in (whole[:-1], whole[: len(whole) // 2], whole[:9], b""):
        path.write_bytes(part)
        with pytest.raises(ModelFormatError, match="damaged or incomplete"):
            surrogates.load(folder)
    path.unlink()
    with pytest.raises(ModelFormatError, match="damaged or incomplete"):
        surrogates.load(folder)


@pytest.mark.parametrize("name", surrogates.names())
def test_each_array_is_missed(saved: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(saved[name], tmp_path / "model"))
    path = folder / "arrays.safetensors"
    arrays = load_file(path)
    for missing in arrays:
        save_file({k: v for k, v in arrays.items() if k != missing}, path)
        with pytest.raises(ModelFormatError, match="damaged or incomplete"):
            surrogates.load(folder)


def test_truncated_and_missing_text(folder: Path) -> None:
    path = folder / "booster0.txt"
    whole = path.read_text(encoding="utf-8")
    for part in (whole[: len(whole) // 2], ""):
        path.write_text(part, encoding="utf-8")
        with pytest.raises(ModelFormatError, match="damaged or incomplete"):
            surrogates.load(folder)
    path.unlink()
    with pytest.raises(ModelFormatError, match="damaged or incomplete"):
        surrogates.load(folder)


@pytest.mark.parametrize(
    ("array", "value"),
    [("children", -1), ("children", 1 << 20), ("feature", 30_000), ("feature", -1), ("roots", 1 << 20)],
)
def test_trees_that_point_outside_themselves(saved: dict[str, Path], tmp_path: Path, array: str, value: int) -> None:
    folder = Path(shutil.copytree(saved["extra_trees"], tmp_path / "model"))
    path = folder / "arrays.safetensors"
    arrays = load_file(path)
    arrays[f"state.{array}"].flat[0] = value
    save_file(arrays, path)
    with pytest.raises(ModelFormatError, match="damaged or incomplete"):
        surrogates.load(folder)


def test_loading_by_name_prefers_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = surrogates.pretrained_names()[-1]
    monkeypatch.chdir(folder.parent)
    assert surrogates.load(name).metadata_["name"] == name
    folder.rename(folder.parent / name)
    assert surrogates.load(name).name == "lightgbm"


def test_a_model_of_other_features_is_refused(tmp_path: Path) -> None:
    """A changed feature list of the same width would spoil predictions without a word."""
    folder = fit("gaussian_process").save(tmp_path / "model")
    content = json.loads((folder / "model.json").read_text())
    content["features"] = "0" * 64
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(ModelFormatError, match="other features"):
        surrogates.load(folder)
