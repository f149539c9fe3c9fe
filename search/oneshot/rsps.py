"""Random search with parameter sharing."""

from __future__ import annotations

__all__ = ["RSPS", "RSPSOptions"]

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from tauzero.search.oneshot._gates import Gates
from tauzero.search.oneshot._supernet import at_least
from tauzero.search.oneshot.base import Moment, OneShotMethod
from tauzero.spaces import Genotypes

if TYPE_CHECKING:
    from tauzero.search.oneshot._trainer import Training


@dataclass(frozen=True, slots=True)
class RSPSOptions:
    """Hyper-parameters of RSPS."""

    candidates: int = at_least(1, 100, "Architectures among which the best one is found.")
    candidate_images: int = at_least(2, 512, "Validation images on which they are compared.")


class RSPS(OneShotMethod):
    """Weights are trained under architectures drawn uniformly, one a step (Li and Talwalkar, UAI 2019).

    The architecture is the best of some random ones by its accuracy with the shared weights. As in AutoDL-Projects'
    ``search-cell.py`` that is measured on one batch, here the same one for all; every cell of the network has the
    same drawn operations, and cells without a connection are drawn again.
    """

    name = "rsps"
    Options = RSPSOptions
    presets = MappingProxyType(
        {"paper": {"*": {"epochs": 250}}, "smoke": {"*": {"candidates": 10, "candidate_images": 128}}}
    )
    steps_architecture = False

    def gates(self, moment: Moment) -> Gates:
        """One-hot gates of a random architecture."""
        del moment
        return self.supernet.one_hot(self.supernet.sample(1, self.generator)[0])

    def derive(self, training: Training) -> Genotypes:
        """The best of the candidates."""
        rows = self.supernet.sample(self.options.candidates, self.generator)
        return training.best(rows, self.options.candidate_images)
