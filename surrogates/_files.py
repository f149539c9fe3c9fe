"""Models on disk: one folder with ``model.json``, ``arrays.safetensors`` and texts; nothing executable."""

from __future__ import annotations

__all__ = ["MODEL_FORMAT", "ModelFormatError", "load_surrogate", "save_surrogate"]

import hashlib
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from tauzero.benchmarks import UnwritableFolderError
from tauzero.encoders import Encoder
from tauzero.encoders import create as create_encoder
from tauzero.spaces import BenchmarkFormatError, SearchSpace
from tauzero.surrogates._target import TargetTransform
from tauzero.surrogates.base import NOT_SAVED, Surrogate

#: Version of the folder's layout.
MODEL_FORMAT = 2
_MODEL, _ARRAYS = "model.json", "arrays.safetensors"


class ModelFormatError(BenchmarkFormatError):
    """A folder that holds no model, a damaged one, or one of an unknown version."""


def _plain(value: object) -> Any:
    if isinstance(value, SearchSpace):
        return value.name
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} cannot be written to a model file")


def save_surrogate(model: Surrogate, folder: Path) -> Path:
    """Write a fitted model; an earlier model in `folder` is replaced only once the new one is complete."""
    plain, arrays, texts = model._state()
    encoders = model._features.extra
    target_plain, target_arrays = model.target_.state()
    content = {
        "format": MODEL_FORMAT,
        "surrogate": model.name,
        "space": model.space_.name,
        "params": {k: v for k, v in model.get_params(deep=False).items() if k not in NOT_SAVED},
        "encoders": [{"name": e.name, "params": e.get_params()} for e in encoders],
        "n_train": model.n_train_,
        "features": model._features.digest,
        "target": target_plain,
        "state": plain,
        "texts": {name: _digest(text.encode()) for name, text in sorted(texts.items())},
        "metadata": model.metadata_,
    }
    folder = folder.expanduser().absolute()
    if folder == Path.cwd():
        raise UnwritableFolderError(
            "A model is saved in a folder of its own. Got the current directory: name a new one."
        )
    if folder.exists() and not (folder / _MODEL).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UnwritableFolderError(
            f"'{folder}' exists and is no tauzero model; nothing was written. Choose a new folder."
        )
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir(parents=True)
        (temporary / _MODEL).write_text(json.dumps(content, default=_plain, indent=1) + "\n", encoding="utf-8")
        tensors = {f"state.{k}": np.ascontiguousarray(v) for k, v in arrays.items()}
        tensors |= {f"target.{k}": np.ascontiguousarray(v) for k, v in target_arrays.items()}
        tensors |= {"base.conformity": model.conformity_, "base.anchors": np.ascontiguousarray(model.anchors_)}
        for number, encoder in enumerate(encoders):
            tensors |= {f"encoder{number}.{k}": np.ascontiguousarray(v) for k, v in encoder.arrays().items()}
        (temporary / _ARRAYS).write_bytes(save(tensors))
        for name, text in texts.items():
            (temporary / name).write_bytes(text.encode())
        _put_in_place(temporary, folder)
    except OSError as error:
        raise UnwritableFolderError(
            f"Cannot write the model to '{folder}': {error.strerror or error}. Choose a folder that you may write to."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _put_in_place(temporary: Path, folder: Path) -> None:
    """Rename a complete folder; what stood there before goes, or comes back if anything stops this."""
    old = temporary.with_suffix(".old")
    try:
        if folder.exists():
            os.replace(folder, old)
        os.replace(temporary, folder)
    finally:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        shutil.rmtree(old, ignore_errors=True)


def load_surrogate(folder: Path) -> Surrogate:
    """Read a model that `save_surrogate` wrote.

    Raises
    ------
    ModelFormatError
        If the folder holds no model, or a damaged one, or one of an unknown version.
    """
    from tauzero.surrogates._registry import create

    path = folder / _MODEL
    if not path.is_file():
        raise ModelFormatError(f"'{folder}' is no tauzero model: there is no {_MODEL} in it.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        _check_format(content["format"], folder)
        tensors = load((folder / _ARRAYS).read_bytes())
        texts = {name: _text(folder, name, digest) for name, digest in dict(content["texts"]).items()}
        params = dict(content["params"])
        if content["encoders"]:
            params["encoders"] = _encoders(content["space"], content["encoders"], tensors)
        model = create(content["surrogate"], content["space"], **params)
        model._join_encoders()
        _check_features(model, content["features"], folder)
        model.target_ = TargetTransform.from_state(content["target"], _part(tensors, "target."))
        model.n_train_ = int(content["n_train"])
        model.metadata_ = content["metadata"]
        model.conformity_ = tensors["base.conformity"]
        model.anchors_ = model.space_.validate(tensors["base.anchors"])
        model._restore(content["state"], _part(tensors, "state."), texts)
    except ModelFormatError:
        raise
    except (
        OSError,
        SafetensorError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        # Whatever a changed byte does to JSON, arrays or a library's own text, it ends in one of these.
        raise ModelFormatError(
            f"The model in '{folder}' is damaged or incomplete ({type(error).__name__}: {error}). Fit it again."
        ) from error
    return model


def _check_format(version: object, folder: Path) -> None:
    if version != MODEL_FORMAT:
        raise ModelFormatError(
            f"'{folder}' has model format {version!r}, this version of tauzero reads {MODEL_FORMAT}."
        )


def _encoders(space: str, saved: list[dict[str, Any]], tensors: dict[str, npt.NDArray[Any]]) -> tuple[Encoder, ...]:
    """Make the encoders again that the user had added."""
    made = []
    for number, entry in enumerate(saved):
        arrays = _part(tensors, f"encoder{number}.")
        made.append(create_encoder(entry["name"], space, **entry["params"], **({"arrays": arrays} if arrays else {})))
    return tuple(made)


def _check_features(model: Surrogate, digest: object, folder: Path) -> None:
    if digest != model._features.digest:
        raise ModelFormatError(
            f"The model in '{folder}' was fitted on other features than this version of tauzero computes. Fit it again."
        )


def _inside(name: str) -> str:
    if Path(name).name != name or not name.endswith(".txt"):
        raise ModelFormatError(f"A model may only name text files in its own folder. Got {name!r}.")
    return name


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _text(folder: Path, name: str, digest: str) -> str:
    # LightGBM crashes the process on some truncated texts: what it reads must be what was written.
    data = (folder / _inside(name)).read_bytes()
    if _digest(data) != digest:
        raise ValueError(f"{name} is not what was saved")
    return data.decode()


def _part(tensors: dict[str, npt.NDArray[Any]], prefix: str) -> dict[str, npt.NDArray[Any]]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
