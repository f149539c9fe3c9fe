"""What DARTS cells are made of, after ``cnn/operations.py`` of the authors' quark0/darts, with their module names."""

from __future__ import annotations

__all__ = [
    "OPERATIONS_PER_CELL",
    "AuxiliaryHead",
    "FactorizedReduce",
    "ReLUConvNorm",
    "SeparableConvolution",
    "norm",
    "operation",
]

import torch
from torch import Tensor, nn

OPERATIONS_PER_CELL = 8
_MAX_POOL, _AVG_POOL, _SKIP, _SEP_3X3, _SEP_5X5, _DIL_3X3, _DIL_5X5 = range(7)
_KERNEL = {_SEP_3X3: 3, _SEP_5X5: 5, _DIL_3X3: 3, _DIL_5X5: 5}
#: Sides of the feature map that the auxiliary head's two unpadded windows reduce to one pixel.
_AUXILIARY_SIDES = (8, 10)


def norm(channels: int, enabled: bool) -> nn.Module:
    """Batch norm with PyTorch's default settings, or the identity."""
    return nn.BatchNorm2d(channels) if enabled else nn.Identity()


class ReLUConvNorm(nn.Module):
    """ReLU, convolution 1×1 without bias, batch norm (``ReLUConvBN``)."""

    def __init__(self, c_in: int, c_out: int, batch_norm: bool) -> None:
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(inplace=False),  # the output of a cell feeds the two after it
            nn.Conv2d(c_in, c_out, 1, bias=False),
            norm(c_out, batch_norm),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.op(x)
        return out


class FactorizedReduce(nn.Module):
    """Halves the image: each half of the output channels is a 1×1 convolution of every fourth pixel.

    The first half reads the pixels in even rows and columns, the second those in odd ones.
    """

    def __init__(self, c_in: int, c_out: int, batch_norm: bool) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=False)
        self.conv_1 = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.conv_2 = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.bn = norm(c_out, batch_norm)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        out: Tensor = self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], dim=1))
        return out


def _separable(channels: int, kernel: int, stride: int, dilation: int, batch_norm: bool) -> list[nn.Module]:
    """ReLU, depthwise convolution, pointwise convolution, batch norm."""
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(inplace=False),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        norm(channels, batch_norm),
    ]


class SeparableConvolution(nn.Module):
    """Separable convolutions: two plain ones (``SepConv``) or one with dilation 2 (``DilConv``)."""

    def __init__(self, channels: int, kernel: int, stride: int, dilated: bool, batch_norm: bool) -> None:
        super().__init__()
        parts = _separable(channels, kernel, stride, 2 if dilated else 1, batch_norm)
        if not dilated:
            parts += _separable(channels, kernel, 1, 1, batch_norm)
        self.op = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``[b, c, h/stride, w/stride]``."""
        out: Tensor = self.op(x)
        return out


def operation(code: int, channels: int, stride: int, batch_norm: bool) -> nn.Module:
    """Make the operation of a code of the space (``OPS``); of the network to be trained, so poolings have no norm."""
    if code == _MAX_POOL:
        return nn.MaxPool2d(3, stride=stride, padding=1)
    if code == _AVG_POOL:
        return nn.AvgPool2d(3, stride=stride, padding=1, count_include_pad=False)
    if code == _SKIP:
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, batch_norm)
    return SeparableConvolution(channels, _KERNEL[code], stride, code in {_DIL_3X3, _DIL_5X5}, batch_norm)


class AuxiliaryHead(nn.Module):
    """Classifier of an inner feature map of 8×8 pixels (``AuxiliaryHeadCIFAR``)."""

    def __init__(self, c_in: int, num_classes: int, batch_norm: bool) -> None:
        super().__init__()
        self.features = nn.Sequential(
            # The authors' one works in place. What reads this map begins with a ReLU too, so that the values are
            # the same; not so in a network whose last cell this is, and for whoever observes the cells.
            nn.ReLU(inplace=False),
            nn.AvgPool2d(5, stride=3, padding=0, count_include_pad=False),
            nn.Conv2d(c_in, 128, 1, bias=False),
            norm(128, batch_norm),
            nn.ReLU(inplace=False),
            nn.Conv2d(128, 768, 2, bias=False),
            norm(768, batch_norm),
            nn.ReLU(inplace=False),
        )
        self.classifier = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        low, high = _AUXILIARY_SIDES
        if not all(low <= side <= high for side in x.shape[2:]):
            raise ValueError(
                f"The auxiliary head reads feature maps of 8×8 pixels, as of 32×32 images. Got {tuple(x.shape[2:])}: "
                "pass other images, or train without the auxiliary logits."
            )
        out: Tensor = self.classifier(self.features(x).flatten(1))
        return out
