"""The networks of NAS-Bench-Macro (Su et al., CVPR 2021, arXiv 2103.11922), as the authors trained them.

Written to agree with xiusu/NAS-Bench-Macro (commit b1ee7c6, ``train/model.py``).
"""

from __future__ import annotations

__all__ = ["NASBenchMacroFamily", "NASBenchMacroNetwork"]

from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from tauzero import spaces
from tauzero.networks._datasets import DatasetShape
from tauzero.networks.base import CellNetwork, NetworkFamily
from tauzero.networks.nasbench201 import norm
from tauzero.spaces import Genotypes
from tauzero.spaces.nasbench_macro import CHANNELS, HEAD, STAGES

_IDENTITY = 0
_BLOCKS = {1: (3, 3), 2: (5, 6)}  # kernel and expansion by code


class _Downsample(nn.Module):
    """What the identity is where the shape changes: a convolution 1×1 of stride 2 with batch norm."""

    def __init__(self, c_in: int, c_out: int, batch_norm: bool) -> None:
        super().__init__()
        self.downsample = nn.Sequential(
            nn.Conv2d(c_in, c_out, 1, stride=2, padding=0, bias=False), norm(c_out, batch_norm)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.downsample(x)
        return out


class _InvertedResidual(nn.Module):
    """Expansion 1×1, depthwise convolution, projection 1×1; with a shortcut where the shape stays."""

    def __init__(self, c_in: int, c_out: int, stride: int, code: int, batch_norm: bool) -> None:
        super().__init__()
        kernel, expansion = _BLOCKS[code]
        hidden = expansion * c_in
        self.conv = nn.Sequential(
            nn.Conv2d(c_in, hidden, 1, stride=1, padding=0, bias=False),
            norm(hidden, batch_norm),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, kernel, stride=stride, padding=kernel // 2, groups=hidden, bias=False),
            norm(hidden, batch_norm),
            nn.ReLU(),
            nn.Conv2d(hidden, c_out, 1, stride=1, padding=0, bias=False),
            norm(c_out, batch_norm),
        )
        self.adds = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out + x if self.adds else out


class NASBenchMacroNetwork(CellNetwork):
    """Stem, eight layers in stages of two, three and three, a convolution 1×1 to 1,280 channels, and a classifier.

    Parameters
    ----------
    row
        ``int8[8]``, the codes of the layers; the first layer of a stage has stride 2 and doubles the channels.
    num_classes
        Width of the classifier.
    channels
        Channels of the stem's output; 32 as published.
    batch_norm
        False replaces batch normalisation by the identity.
    """

    def __init__(self, row: Genotypes, num_classes: int, *, channels: int = CHANNELS, batch_norm: bool = True) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1, bias=False), norm(channels, batch_norm), nn.ReLU()
        )
        codes, width = iter(row.tolist()), channels
        self.layers = nn.ModuleList()
        for stage in STAGES:
            for k in range(stage):
                source, stride = width, 1
                if k == 0:
                    width, stride = 2 * width, 2
                self.layers.append(_layer(next(codes), source, width, stride, batch_norm))
        self.out = nn.Sequential(nn.Conv2d(width, HEAD, 1, bias=False), norm(HEAD, batch_norm), nn.ReLU())
        self.global_pooling = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(HEAD, num_classes)

    def blocks(self) -> list[nn.Module]:
        """The layers that are there: an identity that leaves the shape as it is would return its input itself."""
        return [layer for layer in self.layers if not isinstance(layer, nn.Identity)]

    def feature_map(self, images: Tensor) -> Tensor:
        """Output of the last convolution, batch norm and ReLU, ``[b, 1280, H/8, W/8]`` for images ``[b, 3, H, W]``."""
        x: Tensor = self.stem(images)
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.out(x)
        return out

    def features(self, images: Tensor) -> Tensor:
        """Globally averaged features that the classifier reads, ``[b, 1280]``."""
        pooled: Tensor = self.global_pooling(self.feature_map(images))
        return pooled.flatten(1)


def _layer(code: int, c_in: int, c_out: int, stride: int, batch_norm: bool) -> nn.Module:
    if code == _IDENTITY:
        return nn.Identity() if stride == 1 else _Downsample(c_in, c_out, batch_norm)
    return _InvertedResidual(c_in, c_out, stride, code, batch_norm)


def _space() -> spaces.NASBenchMacro:
    space = spaces.get("nasbench_macro")
    if not isinstance(space, spaces.NASBenchMacro):  # pragma: no cover - for the type checker
        raise TypeError("The registry of spaces holds something else under the name 'nasbench_macro'.")
    return space


class NASBenchMacroFamily(NetworkFamily):
    """Builds and counts networks of NAS-Bench-Macro."""

    space = "nasbench_macro"
    image_multiple = 8
    options = MappingProxyType({"channels": CHANNELS})

    def make(self, row: Genotypes, num_classes: int, *, batch_norm: bool, **options: Any) -> NASBenchMacroNetwork:
        """Construct the network of one row ``int8[8]``."""
        return NASBenchMacroNetwork(row, num_classes, batch_norm=batch_norm, **options)

    def count_parameters(self, genotypes: Genotypes, num_classes: int, **options: Any) -> npt.NDArray[np.int64]:
        """All parameters including batch norm's affine pairs, ``int64[n]``."""
        return _space().costs(genotypes, num_classes, channels=options["channels"])[0]

    def count_flops(self, genotypes: Genotypes, shape: DatasetShape, **options: Any) -> npt.NDArray[np.int64]:
        """Multiply-adds of convolutions and the classifier without its bias, ``int64[n]`` (``train/utils.py``)."""
        return _space().costs(genotypes, shape.num_classes, shape.image_size, options["channels"])[1]
