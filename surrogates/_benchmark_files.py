"""Surrogate benchmarks on disk: a folder with ``benchmark.json`` and a saved model of each thing that is predicted."""

from __future__ import annotations

__all__ = ["benchmark_names", "find_benchmark", "read_validity", "save_benchmark"]

import json
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

from tauzero.benchmarks import UnwritableFolderError
from tauzero.spaces import unknown_name
from tauzero.surrogates._files import ModelFormatError, _put_in_place, load_surrogate
from tauzero.surrogates._noise import RunNoise
from tauzero.surrogates._pretrained import load, pretrained_names
from tauzero.surrogates.base import Surrogate
from tauzero.surrogates.benchmark import Noise, PredictedColumn, SurrogateBenchmark

FORMAT, VERSION = "tauzero.surrogate_benchmark", 1
_BENCHMARK, _MODEL, _VALIDITY = "benchmark.json", "model.json", "validity.json"
_SHIPPED = Path(__file__).parent / "shipped"
_PRETRAINED = "pretrained:"
_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_MOST_BYTES = 16_000_000  # of a JSON file
#: Where the card of a plain model does not say what it predicts.
_UNNAMED = {"dataset": "unnamed", "metric": "prediction", "unit": "score"}


def benchmark_names() -> list[str]:
    """Names of the surrogate benchmarks that ship with tauzero, such as ``nasbench201-cifar10``, sorted."""
    return sorted(p.parent.name for p in _SHIPPED.glob(f"*/{_BENCHMARK}"))


def find_benchmark(place: str | os.PathLike[str]) -> SurrogateBenchmark:
    """Open a folder or a name; see `tauzero.surrogates.benchmark.open_benchmark`."""
    text = os.fspath(place)
    folder = Path(text).expanduser()
    if text and folder.is_dir():
        return _read_folder(folder.absolute())
    if text and folder.exists():
        raise ModelFormatError(
            f"'{folder}' is a file, and a surrogate benchmark is a folder that was saved by tauzero."
        )
    if text in benchmark_names():
        return _read_folder(_SHIPPED / text)
    if text in pretrained_names():
        return _of_model(load(text), text)
    raise unknown_name("surrogate benchmark or folder", text, {*benchmark_names(), *pretrained_names()})


def read_validity(folder: Path) -> dict[str, Any] | None:
    """The report beside a benchmark, if there is one."""
    path = folder / _VALIDITY
    return _json(path) if path.is_file() else None


# -- reading ----------------------------------------------------------------------------------


def _read_folder(folder: Path) -> SurrogateBenchmark:
    if (folder / _BENCHMARK).is_file():
        try:
            made = _of_content(folder, _json(folder / _BENCHMARK))
        except ModelFormatError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, OSError) as error:
            raise ModelFormatError(
                f"The surrogate benchmark in '{folder}' is damaged or incomplete ({type(error).__name__}: {error}). "
                "Build it again."
            ) from error
    elif (folder / _MODEL).is_file():
        made = _of_model(load_surrogate(folder), folder.name)
    elif (folder / "multi_space.json").is_file():
        raise ModelFormatError(
            f"'{folder}' holds a model of several spaces: a benchmark is of one. Fit a surrogate that starts from it "
            "(`tz.surrogates.create('transfer', …)`) and use that one."
        )
    else:
        raise ModelFormatError(
            f"'{folder}' is neither a surrogate benchmark nor a model of tauzero: there is no {_BENCHMARK} and no "
            f"{_MODEL} in it."
        )
    made._folder = folder
    return made


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _MOST_BYTES:
        raise ModelFormatError(f"'{path}' is larger than any that tauzero writes ({_MOST_BYTES:,} bytes).")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"'{path}' is damaged: {error}.") from error
    if not isinstance(content, dict):
        raise ModelFormatError(f"'{path}' must hold a JSON object.")
    return content


def _of_content(folder: Path, content: dict[str, Any]) -> SurrogateBenchmark:
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise ModelFormatError(
            f"'{folder}' has the format {content.get('format')!r} version {content.get('version')!r}, and this tauzero "
            f"reads {FORMAT!r} version {VERSION}."
        )
    columns = [
        PredictedColumn(
            str(entry["dataset"]),
            str(entry["metric"]),
            None if entry["epoch"] is None else int(entry["epoch"]),
            str(entry["unit"]),
            _model(folder, entry["model"]),
            _noise(entry["noise"]),
            _cost(folder, entry["cost"]),
            str(entry["description"]),
        )
        for entry in content["columns"]
    ]
    made = SurrogateBenchmark(
        columns,
        str(content["name"]),
        runs=content["runs"],
        sample=content["sample"],
        licence=str(content["licence"]),
        provenance=dict(content["provenance"]),
    )
    if made.space.name != content["space"]:
        raise ValueError(f"its models predict {made.space.name}, not {content['space']}")
    return made


def _model(folder: Path, name: object) -> Surrogate:
    """A model of the folder, or one that ships with tauzero."""
    text = str(name)
    if text.startswith(_PRETRAINED):
        shipped = text.removeprefix(_PRETRAINED)
        if shipped not in pretrained_names():
            raise unknown_name("pretrained model", shipped, pretrained_names())
        return load(shipped)
    if not _FOLDER_NAME.fullmatch(text):
        raise ModelFormatError(f"A surrogate benchmark may only name folders in its own. Got {text!r}.")
    return load_surrogate(folder / text)


def _noise(given: dict[str, Any]) -> Noise:
    kind = given["kind"]
    if kind == "runs":
        return RunNoise(tuple(map(float, given["value"])), tuple(map(float, given["std"])), str(given["source"]))
    if kind not in {"predictive", "none"}:
        raise ValueError(f"unknown kind of noise {kind!r}")
    return kind


def _cost(folder: Path, given: object) -> Surrogate | float | None:
    if given is None or isinstance(given, int | float):
        return given
    return _model(folder, given)


def _of_model(model: Surrogate, name: str) -> SurrogateBenchmark:
    """A benchmark of one column that a plain model answers; its card says which."""
    if not isinstance(model, Surrogate):
        raise ModelFormatError(f"{name!r} is a model of several spaces: a benchmark is of one.")
    card = model.metadata_
    dataset, metric, unit = (str(card.get(key, default)) for key, default in _UNNAMED.items())
    epoch = card.get("epoch")
    column = PredictedColumn(
        dataset, metric, int(epoch) if isinstance(epoch, int | float) else None, unit, model
    )  # fmt: skip
    licence = str(card.get("licence") or card.get("data_licence") or "not stated")
    origin = {"trained_on": [card["benchmark"]]} if card.get("benchmark") else {}
    return SurrogateBenchmark([column], name, licence=licence, provenance=origin)


# -- writing ----------------------------------------------------------------------------------


def save_benchmark(benchmark: SurrogateBenchmark, folder: Path) -> Path:
    """Write a folder that `find_benchmark` opens; see `SurrogateBenchmark.save`."""
    folder = folder.expanduser().absolute()
    if folder == Path.cwd():
        raise UnwritableFolderError("A benchmark is saved in a folder of its own. Got the current one: name a new one.")
    if folder.exists() and not (folder / _BENCHMARK).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UnwritableFolderError(
            f"'{folder}' exists and is no surrogate benchmark; nothing was written. Choose a new folder."
        )
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    entries = []
    try:
        temporary.mkdir(parents=True)
        for number, column in enumerate(benchmark.columns):
            several = f"-{number}" if len(benchmark.columns) > 1 else ""
            column.model.save(temporary / f"model{several}")
            cost: Any = column.cost
            if isinstance(cost, Surrogate):
                cost = f"cost{several}"
                column.cost.save(temporary / cost)  # type: ignore[union-attr] # a model, as was just asked
            entries.append(_entry(column, f"model{several}", cost))
        write_content(temporary, benchmark, entries)
        _put_in_place(temporary, folder)
    except OSError as error:
        raise UnwritableFolderError(
            f"Cannot write the benchmark to '{folder}': {error.strerror or error}. Choose one that you may write to."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _entry(column: PredictedColumn, model: str, cost: str | float | None) -> dict[str, Any]:
    noise = column.noise
    shown = (
        {"kind": "runs", "value": list(noise.value), "std": list(noise.std), "source": noise.source}
        if isinstance(noise, RunNoise)
        else {"kind": noise}
    )
    return {
        "dataset": column.dataset,
        "metric": column.metric,
        "epoch": column.epoch,
        "unit": column.unit,
        "model": model,
        "noise": shown,
        "cost": cost,
        "description": column.description,
    }


def write_content(folder: Path, benchmark: SurrogateBenchmark, entries: list[dict[str, Any]]) -> None:
    """Write ``benchmark.json``."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "name": benchmark.name.partition(":")[2],
        "space": benchmark.space.name,
        "runs": benchmark._runs,
        "sample": benchmark._sample,
        "columns": entries,
        "licence": benchmark._table.licence,
        "provenance": benchmark._table.provenance,
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    (folder / _BENCHMARK).write_text(text, encoding="utf-8")
