"""ISTA-NAS in one stage: the architecture and its trained parameters come from one run."""

from __future__ import annotations

__all__ = ["ISTANASOneStage", "OneStageOptions"]

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from tauzero.search.oneshot._gates import Gates
from tauzero.search.oneshot._operations import SearchNorm
from tauzero.search.oneshot._settings import number
from tauzero.search.oneshot._sparse_code import SparseOptions
from tauzero.search.oneshot._supernet import Supernet, at_least
from tauzero.search.oneshot.base import Moment
from tauzero.search.oneshot.ista_nas import ISTANAS

if TYPE_CHECKING:
    from tauzero.search.oneshot._trainer import Training


@dataclass(frozen=True, slots=True)
class OneStageOptions(SparseOptions):
    """Hyper-parameters of the one-stage method."""

    freeze_below: float = number(0, 1e6, 1e-3, "A choice freezes when its z moves by no more than this in an epoch.")
    search_epochs: int = at_least(1, 150, "After so many epochs everything that still moves is frozen.")


class ISTANASOneStage(ISTANAS):
    """ISTA-NAS under the settings of the target network, its search and its training being one (Yang et al., 2020).

    Weights and b are updated by the same loss. A choice freezes when its z moves by at most 10⁻³ between two
    recoveries: its operations and their gates stay. Until then the norms of the operations have no scale and no shift.
    When all are frozen the gates become those scales, which changes nothing of the function; the norms are trained
    from then on, and `epochs` more epochs follow with the learning rate falling along the cosine. Before, its length
    not being known, the search runs at the initial learning rate.

    Every operation needs a norm behind it that can take the gate, pooling and skip connections too: the supernet's
    options `affine`, `pool_norm` and `skip_norm` are set. On NAS-Bench-201's cells the trained network differs by these
    norms from the one that the table was made with.

    The authors also reject architectures of 3.7 million parameters and more; we return what is found.
    """

    name = "ista-nas-one-stage"
    Options = OneStageOptions
    presets = MappingProxyType(
        {
            "paper": {
                "*": {
                    "epochs": 200,
                    "batch_size": 256,
                    "learning_rate": 0.1,
                    "learning_rate_min": 0.0,
                    "validation": 0.0,
                    "affine": True,
                    "pool_norm": True,
                    "skip_norm": True,
                },
                "darts": {
                    "epochs": 600,
                    "batch_size": 96,
                    "learning_rate": 0.025,
                    "weight_decay": 3e-4,
                    "nesterov": False,
                    "channels": 36,
                    "layers": 20,
                    "none": False,
                    "auxiliary": True,
                    "cutout": 16,
                    "drop_path": 0.2,
                },
            },
            "smoke": {
                "*": {
                    "epochs": 2,
                    "search_epochs": 2,
                    "validation": 0.25,
                    "architecture_learning_rate": 0.02,
                    "initial": 0.1,
                    "affine": True,
                    "pool_norm": True,
                    "skip_norm": True,
                },
                "darts": {"none": False},
            },
        }
    )
    options: OneStageOptions

    def begin(self, supernet: Supernet, generator: torch.Generator) -> None:
        """Draw A and b, recover the first z, and hold the operations' norms at scale 1 and shift 0."""
        super().begin(supernet, generator)
        if self.options.choose_none:
            raise ValueError(f"The 'choose_none' option of {self.name} must be False: none has no norm for its gate.")
        for norm in self._last_norms():
            if norm is None or not norm.affine:
                raise ValueError(
                    f"{self.name} needs a norm with a scale behind every operation: leave the options 'affine', "
                    "'pool_norm' and 'skip_norm' at True."
                )
        #: Gates of frozen choices, NaN elsewhere.
        self.fixed = torch.full(supernet.shape, torch.nan).to(self.code.b)
        self.frozen = np.zeros(len(self.code.groups), dtype=np.bool_)
        #: Epochs that the search took; None while it goes on.
        self.searched: int | None = None
        #: Validation accuracy when the search was over, in percent.
        self.accuracy_then: float | None = None
        self._hold(still=True)

    # -- phases -------------------------------------------------------------------------------

    @property
    def joint(self) -> bool:
        """As long as the search goes on."""
        return self.searched is None

    @property
    def steps_architecture(self) -> bool:  # type: ignore[override]
        """Never apart from the weights' step."""
        return False

    def finished(self, epoch: int, epochs: int) -> bool:
        """After `epochs` epochs of the fixed architecture."""
        return self.searched is not None and epoch >= self.searched + epochs

    def schedule(self, position: float, epochs: int) -> float:
        """0 during the search, then the share of the training that is done."""
        return 0.0 if self.searched is None else min(1.0, (position - self.searched) / epochs)

    def gates(self, moment: Moment) -> Gates:
        """The operations of the support, with gates while the search goes on."""
        del moment
        if self.searched is None:
            return self.code.gates(self.fixed)
        return Gates(None, self.code.active())

    def epoch_end(self, training: Training, epoch: int) -> None:
        """Recover z, freeze what has settled, and fix the architecture when everything has."""
        if self.searched is not None:
            return
        open_ = np.flatnonzero(~self.frozen)
        moved = self.code.recover(open_.tolist())
        self._moved = float(moved.max())
        last = epoch + 1 >= self.options.search_epochs
        self._freeze(open_[(moved <= self.options.freeze_below) | last])
        if self.frozen.all():
            self.absorb()
            self.searched, self._moved = epoch + 1, 0.0
            self.accuracy_then = training.accuracy(Gates(None, self.code.active()))

    def _freeze(self, groups: npt.NDArray[np.int64]) -> None:
        self.frozen[groups] = True
        with torch.no_grad():
            owner, places, values = self.code.gate_values()
        now = np.isin(owner, groups)
        where = tuple(torch.from_numpy(np.ascontiguousarray(c)).to(values.device) for c in places[now].T)
        self.fixed[where] = values[torch.from_numpy(now).to(values.device)]

    def absorb(self) -> None:
        """Turn the gates into the scales of the norms behind the operations, and let all norms be trained.

        The function of the network stays the same. Operations outside the architecture are left as they are.
        """
        with torch.no_grad():
            for kind, edge, module in self.supernet.all_mixed_edges():
                for op in np.flatnonzero(self.code.active()[kind, edge]).tolist():
                    norm = module.operation(op).norm  # type: ignore[union-attr]
                    norm.weight.fill_(float(self.fixed[kind, edge, op]))  # type: ignore[union-attr]
        self._hold(still=False)

    def _last_norms(self) -> Iterator[SearchNorm | None]:
        for _, _, module in self.supernet.all_mixed_edges():
            for number_ in range(len(self.supernet.operations)):
                operation = module.operation(number_)
                if operation is not None:
                    yield operation.norm

    def _hold(self, *, still: bool) -> None:
        """Keep scales and shifts of all norms inside operations as they are, or let them be trained."""
        for _, _, module in self.supernet.all_mixed_edges():
            for norm in module.modules():
                if isinstance(norm, SearchNorm) and norm.affine:
                    norm.weight.requires_grad_(not still)
                    norm.bias.requires_grad_(not still)

    # -- results ------------------------------------------------------------------------------

    def search_accuracy(self, training: Training, value: float) -> float:
        """That of the network when its architecture was fixed, before it was trained on."""
        return super().search_accuracy(training, value) if self.accuracy_then is None else self.accuracy_then

    def figures(self) -> dict[str, float]:
        """Share of the choices that are frozen, and the farthest move of a z in the last recovery."""
        return {"frozen": float(self.frozen.mean()), "moved": self._moved}

    # -- checkpoints --------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The code, the gates of frozen choices and the phase."""
        return {
            **super().state_dict(),
            "fixed": self.fixed.nan_to_num(),
            "held": ~self.fixed.isnan(),
            "frozen": self.frozen.tolist(),
            "searched": self.searched,
            "accuracy_then": self.accuracy_then,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it back; the norms are held or trained as the phase says."""
        super().load_state_dict(state)
        with torch.no_grad():
            held = torch.as_tensor(state["held"], device=self.fixed.device)
            self.fixed.copy_(state["fixed"]).masked_fill_(~held, torch.nan)
        self.frozen = np.array(state["frozen"], dtype=np.bool_)
        self.searched = None if state["searched"] is None else int(state["searched"])
        self.accuracy_then = state["accuracy_then"]
        if self.searched is not None:
            self._moved = 0.0
        self._hold(still=self.searched is None)
