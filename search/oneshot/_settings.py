"""Numbers of a run: settings of the training, presets, and where a named option belongs."""

from __future__ import annotations

__all__ = ["PRESETS", "Settings", "Setup", "resolve"]

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from types import MappingProxyType
from typing import Any

from tauzero.search.oneshot._supernet import Supernet, SupernetOptions, at_least
from tauzero.search.oneshot.base import OneShotMethod
from tauzero.spaces import SearchSpace, unknown_name

PRESETS = ("paper", "smoke")


def number(least: float, most: float, default: float, meaning: str) -> Any:
    """A field of a number in [least, most]."""
    return field(default=default, metadata={"least": least, "most": most, "help": meaning})


@dataclass(frozen=True, slots=True)
class Settings:
    """How a supernet is trained.

    The defaults are those of NAS-Bench-201's weight-sharing runs (AutoDL-Projects,
    ``configs/nas-benchmark/algos/*.config`` and ``exps/algos/*.py``); presets of methods change them.
    """

    epochs: int = at_least(1, 250, "Passes over the training half.")
    batch_size: int = at_least(2, 64, "Images of a step, for weights and for the architecture.")
    learning_rate: float = number(0, math.inf, 0.025, "Of the weights, at the start of a cosine.")
    learning_rate_min: float = number(0, math.inf, 0.001, "Of the weights, at its end.")
    momentum: float = number(0, 1, 0.9, "Of the weights.")
    nesterov: bool = field(default=True, metadata={"help": "Nesterov's momentum."})
    weight_decay: float = number(0, math.inf, 5e-4, "Of the weights.")
    clip: float = number(0, math.inf, 5.0, "Largest norm of the weights' gradient; 0 for no limit.")
    architecture_learning_rate: float = number(0, math.inf, 3e-4, "Of Adam for the architecture.")
    architecture_weight_decay: float = number(0, math.inf, 1e-3, "Of Adam for the architecture.")
    architecture_beta1: float = number(0, 1, 0.5, "First decay rate of Adam for the architecture.")
    architecture_epsilon: float = number(0, math.inf, 1e-8, "Epsilon of Adam for the architecture.")
    warmup: float = number(
        0, 0.99, 0.0, "Share of the epochs before the architecture is updated; not of ISTA-NAS in one stage."
    )
    validation: float = number(0, 0.9, 0.5, "Share of the images that the architecture is judged on.")
    augment: bool | None = field(
        default=None, metadata={"help": "Random crops and mirror images; by default for all but the digits."}
    )
    cutout: int = at_least(0, 0, "Side of the square of each training image that is set to zero; 0 for none.")
    drop_path: float = number(0, 0.99, 0.0, "Probability of drop path at the end of training, rising from 0.")
    auxiliary_weight: float = number(0, math.inf, 0.4, "Weight of the auxiliary head's loss.")
    amp: bool = field(default=False, metadata={"help": "Compute in bfloat16 where autocast does."})
    num_images: int | None = at_least(8, None, "Most images that are read; by default all.")
    data_seed: int | None = at_least(0, None, "Draws images and halves; by default the run's seed.")
    image_size: int | None = at_least(4, None, "Their height and width: larger ones are averaged to it.")
    ranked: int = at_least(0, 100, "Random architectures that the finished supernet ranks.")
    ranked_images: int | None = at_least(2, None, "Validation images for that; by default all.")
    evaluation_batch: int = at_least(2, 512, "Images that are evaluated at a time.")


#: What makes a run of any method take seconds on a CPU.
_SMOKE: Mapping[str, Any] = MappingProxyType(
    {
        "epochs": 2,
        "batch_size": 32,
        "num_images": 512,
        "image_size": 8,
        "channels": 4,
        "cells_per_stage": 1,
        "layers": 3,
        "ranked": 10,
        "learning_rate": 0.1,
    }
)


@dataclass(frozen=True, slots=True)
class Setup:
    """The options of a run, each where it belongs: the training, the supernet, the method."""

    settings: Settings
    supernet: SupernetOptions
    method: Any

    def plain(self) -> dict[str, Any]:
        """Everything by name."""
        return asdict(self.settings) | asdict(self.supernet) | asdict(self.method)


def resolve(
    method: type[OneShotMethod],
    supernet: type[Supernet],
    space: SearchSpace,
    *,
    preset: str,
    options: Mapping[str, Any],
) -> Setup:
    """Join defaults, preset and given options.

    Raises
    ------
    UnknownNameError
        If there is no such preset or option; the message lists those there are.
    ValueError
        If the method does not search the space, or an option cannot have its value.
    """
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    if space.kind not in method.spaces:
        raise ValueError(f"The method {method.name} searches {', '.join(method.spaces)}. Got the space {space.name}.")
    kinds: list[Any] = [Settings, supernet.Options, method.Options]
    known = {f.name for kind in kinds for f in fields(kind)}
    for name in options:
        if name not in known:
            raise unknown_name(f"option of {method.name} on {space.kind}", name, known)
    own = method.presets.get(preset, {})
    chosen = dict(_SMOKE) if preset == "smoke" else {}
    # nasbench201x has NAS-Bench-201's cells, and its presets.
    for key in ("*", space.kind.removesuffix("x")):
        chosen.update(own.get(key, {}))
    chosen.update(options)
    return Setup(*(_make(kind, chosen) for kind in kinds))


def _make(kind: Any, chosen: Mapping[str, Any]) -> Any:
    given = {f.name: _checked(f, chosen[f.name]) for f in fields(kind) if f.name in chosen}
    return kind(**given)


def _checked(described: Any, value: Any) -> Any:
    """A value of the kind of the field's default, within its bounds."""
    default, bounds = described.default, described.metadata
    may_be_none = default is None
    if may_be_none and value is None:
        return None
    if isinstance(default, bool) or described.name == "augment":
        if not isinstance(value, bool):
            raise ValueError(f"The {described.name!r} option must be True or False. Got {value!r}.")
        return value
    if isinstance(default, str):
        choices = bounds.get("choices", ())
        if value not in choices:
            raise unknown_name(f"value of the option {described.name!r}", value, choices)
        return value
    whole = isinstance(default, int) or may_be_none
    least, most = bounds.get("least", -math.inf), bounds.get("most", math.inf)
    fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not fits or not least <= value <= most or (not whole and not math.isfinite(value)):
        what = "an integer" if whole else "a number"
        limit = f" ≥ {least}" if most == math.inf else f" in [{least}, {most}]"
        raise ValueError(f"The {described.name!r} option must be {what}{limit}. Got {value!r}.")
    return value if whole else float(value)
