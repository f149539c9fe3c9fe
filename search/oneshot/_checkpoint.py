"""A checkpoint: one safetensors file with everything that a run needs to go on bit for bit."""

from __future__ import annotations

__all__ = ["CHECKPOINT", "read_checkpoint", "write_checkpoint"]

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tauzero.benchmarks import atomic_path

#: Name of the file in the folder of a run.
CHECKPOINT = "checkpoint.safetensors"
_VERSION = 1
_KEY = "tauzero.oneshot"


def write_checkpoint(path: Path, parts: Mapping[str, Mapping[str, Any]], plain: Mapping[str, Any]) -> None:
    """Write named parts, each of tensors and JSON values by name, and further JSON values; all or nothing."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    rest: dict[str, dict[str, Any]] = {}
    for part, state in parts.items():
        rest[part] = {}
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"{part}/{name}"] = value.detach().cpu().contiguous().clone()
            else:
                rest[part][name] = value
    metadata = {_KEY: json.dumps({"version": _VERSION, "parts": rest, "plain": plain}, ensure_ascii=False)}
    with atomic_path(path) as partial:
        save_file(tensors, partial, metadata=metadata)


def read_checkpoint(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Read what `write_checkpoint` wrote.

    Raises
    ------
    ValueError
        If the file is damaged, something else or of another version.
    """
    from safetensors import SafetensorError, safe_open

    remedy = "Choose another folder, or delete the file to begin anew."
    try:
        with safe_open(path, framework="pt") as stored:
            head = json.loads((stored.metadata() or {})[_KEY])
            parts: dict[str, dict[str, Any]] = {name: dict(rest) for name, rest in head["parts"].items()}
            version, plain = head["version"], dict(head["plain"])
            for key in stored.keys():  # noqa: SIM118 - it is no mapping
                part, _, name = key.partition("/")
                parts[part][name] = stored.get_tensor(key)
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"The checkpoint {path} is damaged or no checkpoint of a one-shot search ({error}). {remedy}"
        ) from error
    if version != _VERSION:
        raise ValueError(f"The checkpoint {path} has version {version}; this tauzero reads {_VERSION}. {remedy}")
    return parts, plain


def optimiser_state(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """The state of an optimiser as tensors and JSON values, by the number of the parameter."""
    found: dict[str, Any] = {}
    numbers = {id(p): k for k, p in enumerate(p for group in optimiser.param_groups for p in group["params"])}
    for parameter, state in optimiser.state.items():
        for name, value in state.items():
            if value is not None:
                found[f"{numbers[id(parameter)]}.{name}"] = value
    return found


def load_optimiser_state(optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Take a state back; the parameters must be the same ones in the same order."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    for key, value in state.items():
        number, _, name = key.partition(".")
        parameter = parameters[int(number)]
        # Adam counts steps in a tensor on the CPU, whatever the device of the parameter.
        kept = value if not isinstance(value, Tensor) or not value.ndim else value.to(parameter.device)
        optimiser.state[parameter][name] = kept
