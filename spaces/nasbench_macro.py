"""The space of NAS-Bench-Macro (Su et al., CVPR 2021, arXiv 2103.11922): 6,561 chains of mobile blocks."""

from __future__ import annotations

__all__ = ["CHANNELS", "HEAD", "STAGES", "NASBenchMacro"]

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tauzero.spaces._graphs import CellGraphs
from tauzero.spaces.base import Genotypes
from tauzero.spaces.errors import InvalidGenotypeError
from tauzero.spaces.layer_chain import LayerChain

#: Layers of each stage, channels after the stem, and of the convolution 1×1 before pooling (``train/model.py``).
STAGES, CHANNELS, HEAD = (2, 3, 3), 32, 1280
_LAYERS = sum(STAGES)
_FIRST = (0, 2, 5)  # layers that halve the image and double the channels
_STAGE = np.repeat(np.arange(len(STAGES)), STAGES)
_KERNEL, _EXPANSION = (0, 3, 5), (0, 3, 6)  # by code


class NASBenchMacro(LayerChain):
    """Chains of eight layers in stages of two, three and three.

    A genotype is ``int8[n, 8]``: 0 is the identity, 1 ``MB3_K3``, 2 ``MB6_K5``: inverted residual blocks with
    expansion 3 and kernel 3, and with 6 and 5. The first layer of a stage halves the image and doubles the
    channels; the identity there is a convolution 1×1 with batch norm. `index` reads a row as a number of base 3.

    Notions of equal networks:

    ``network`` (default)
        Equal without the identities that change nothing, those behind a stage's first layer: 3,969 networks. The
        representative has them at the end of their stage; only these were trained, the others have a copy of their
        record (``collect_benchmark.py``, ``get_real_arch``).
    ``string``
        Equal rows.

    Descriptors: natural logarithms of the network's parameters and multiply-adds on CIFAR-10, and the number of
    layers of each stage that are no identity.
    """

    name = "nasbench_macro"
    layers = tuple(
        (("conv_1x1" if k in _FIRST else "skip_connect"), "mb_conv_3x3", "mb_conv_5x5") for k in range(_LAYERS)
    )
    operations = ("Identity", "MB3_K3", "MB6_K5")
    notions = ("network", "string")
    descriptor_names = ("log_parameters", "log_multiply_adds", *(f"layers_{k}" for k in range(len(STAGES))))

    # -- equal networks -----------------------------------------------------------------------

    def canonical(self, genotypes: npt.ArrayLike, notion: str | None = None) -> Genotypes:
        """Identities behind the first layer of a stage come last in it, ``int8[n, 8]``."""
        chosen = self.check_notion(notion)
        rows = self.validate(genotypes).copy()
        if chosen == "network":
            for first, layers in zip(_FIRST, STAGES, strict=True):
                rest = rows[:, first + 1 : first + layers]
                order = np.argsort(rest == 0, axis=1, kind="stable")
                rows[:, first + 1 : first + layers] = np.take_along_axis(rest, order, axis=1)
        return rows

    # -- names --------------------------------------------------------------------------------

    def to_string(self, genotypes: npt.ArrayLike) -> list[str]:
        """The authors' keys: the codes as digits, such as ``00121210``."""
        return ["".join(map(str, row)) for row in self.validate(genotypes).tolist()]

    def from_string(self, strings: Sequence[str]) -> Genotypes:
        """Read eight digits 0 to 2 into ``int8[n, 8]``."""
        given = self._read_strings(strings)
        rows = np.zeros((len(given), _LAYERS), dtype=np.int8)
        for i, text in enumerate(given):
            digits = text.strip()
            if len(digits) != _LAYERS or not set(digits) <= set("012"):
                raise InvalidGenotypeError(
                    f"String {i} is no network of NAS-Bench-Macro. Expected eight digits 0 (identity), 1 (MB3_K3) or 2 "
                    f"(MB6_K5) like '00121210'. Got {text!r}."
                )
            rows[i] = [int(digit) for digit in digits]
        return rows

    # -- costs --------------------------------------------------------------------------------

    def costs(
        self, genotypes: npt.ArrayLike, num_classes: int = 10, image_size: int = 32, channels: int = CHANNELS
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Trainable parameters, and multiply-adds of convolutions and classifier, ``int64[n]`` each.

        Parameters include batch norm's affine pairs. Multiply-adds are those of one image of `image_size` ×
        `image_size` pixels, counted once, without the classifier's biases (``train/utils.py``, ``count_FLOPs``). Both
        are what the published file has.
        """
        rows = self.validate(genotypes)
        kernel, expansion = (np.array(values)[rows].astype(np.int64) for values in (_KERNEL, _EXPANSION))
        width, side = int(channels), int(image_size)
        parameters = np.full(len(rows), 27 * width + 2 * width, dtype=np.int64)
        multiply_adds = np.full(len(rows), 27 * width * side**2, dtype=np.int64)
        for k in range(_LAYERS):
            source, before = width, side
            if k in _FIRST:
                width, side = 2 * width, (side + 1) // 2
            block = rows[:, k] > 0
            hidden = expansion[:, k] * source
            expand, depthwise, project = hidden * source, hidden * kernel[:, k] ** 2, hidden * width
            shortcut = source * width * (k in _FIRST)  # what stands for the identity where the shape changes
            norms = np.where(block, 4 * hidden + 2 * width, 2 * width * (k in _FIRST))
            parameters += np.where(block, expand + depthwise + project, shortcut) + norms
            inside = expand * before**2 + (depthwise + project) * side**2
            multiply_adds += np.where(block, inside, shortcut * side**2)
        parameters += width * HEAD + 2 * HEAD + (HEAD + 1) * num_classes
        return parameters, multiply_adds + width * HEAD * side**2 + HEAD * num_classes

    def descriptors(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Costs, and layers of each stage that are no identity, ``float64[n, 5]``."""
        rows = self.validate(genotypes)
        layers = [(rows[:, stage == _STAGE] > 0).sum(axis=1) for stage in range(len(STAGES))]
        return np.stack([*(np.log(cost) for cost in self.costs(rows)), *layers], axis=1).astype(np.float64)

    # -- graphs -------------------------------------------------------------------------------

    def vertex_widths(self, graphs: CellGraphs) -> npt.NDArray[np.float64]:
        """Channels of each vertex as a share of the last layer's, ``float64[n, 10]``: 1/8 at the stem, then ¼, ½, 1."""
        shares = np.array([1, *(2 ** (_STAGE + 1)), 2 ** len(STAGES)]) / 2 ** len(STAGES)
        return np.broadcast_to(shares, graphs.ops.shape).copy()
