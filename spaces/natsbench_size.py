"""The size space of NATS-Bench (Dong et al., TPAMI 2021, arXiv 2009.00437): 32,768 networks that differ in width."""

from __future__ import annotations

__all__ = ["NATSBenchSize"]

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tauzero.spaces._graphs import CellGraphs
from tauzero.spaces._operations import operation_code
from tauzero.spaces.base import Genotypes, SearchSpace
from tauzero.spaces.errors import InvalidGenotypeError

_LAYERS = 5
_STEP = 8  # channels
_WIDTHS = tuple(range(_STEP, 8 * _STEP + 1, _STEP))
_POWERS = 8 ** np.arange(_LAYERS - 1, -1, -1)
_CODES = {str(width): code for code, width in enumerate(_WIDTHS)}
_SHARED_NAMES = tuple(f"block_c{width}" for width in _WIDTHS)
_CELLS = ((0, 0), (1, 2), (3, 4))  # layers whose channels a cell reads and writes, …
_REDUCTIONS = ((0, 1), (2, 3))  # … and a residual block that halves the image


class NATSBenchSize(SearchSpace):
    """Networks of one cell whose five layers have 8, 16, … or 64 channels each.

    A genotype is ``int8[n, 5]``: code c stands for 8 (c + 1) channels of a layer. Layers 0, 2 and 4 are cells (the best
    of the topology space on CIFAR-100, `genotype`), layers 1 and 3 residual blocks that halve the image; the stem has
    the channels of layer 0. `index` is the published number: the codes as digits of base 8. No two rows are the same
    network (the only notion, ``string``).

    Descriptors: natural logarithms of the channels of each layer, of the network's parameters and of its multiply-adds
    on CIFAR-10, and the number of cells that keep the number of channels, whose skip connection is the identity.
    """

    name = "natsbench_size"
    cardinalities = (len(_WIDTHS),) * _LAYERS
    size = len(_WIDTHS) ** _LAYERS
    operations = tuple(str(width) for width in _WIDTHS)
    graph_operations = _SHARED_NAMES
    max_path_length = _LAYERS
    notions = ("string",)
    descriptor_names = (
        *(f"log_width_{layer}" for layer in range(_LAYERS)),
        "log_parameters",
        "log_multiply_adds",
        "identity_skips",
    )

    #: The cell of all networks, in the notation of NAS-Bench-201.
    genotype = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"

    # -- members and order --------------------------------------------------------------------

    @cached_property
    def _all(self) -> Genotypes:
        rows = np.ascontiguousarray(np.arange(self.size)[:, None] // _POWERS % len(_WIDTHS), dtype=np.int8)
        rows.setflags(write=False)
        return rows

    def enumerate(self) -> Genotypes:
        """All 32,768 networks in the published order, ``int8[32768, 5]`` (read-only)."""
        return self._all

    def index(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Published number of each row, ``int64[n]``."""
        return np.asarray(self.validate(genotypes) @ _POWERS, dtype=np.int64)

    def classes(self, notion: str | None = None) -> npt.NDArray[np.int64]:
        """Every row is its own class: 0 to 32,767 (read-only)."""
        self.check_notion(notion)
        return self._own_classes

    def canonical(self, genotypes: npt.ArrayLike, notion: str | None = None) -> Genotypes:
        """The rows themselves, copied, ``int8[n, 5]``."""
        self.check_notion(notion)
        return self.validate(genotypes).copy()

    # -- names --------------------------------------------------------------------------------

    def widths(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Channels of each layer, ``int64[n, 5]``."""
        return _STEP * (self.validate(genotypes).astype(np.int64) + 1)

    def to_string(self, genotypes: npt.ArrayLike) -> list[str]:
        """Official notation, such as ``8:8:40:32:40``."""
        return [":".join(map(str, row)) for row in self.widths(genotypes).tolist()]

    def from_string(self, strings: Sequence[str]) -> Genotypes:
        """Read official notation into ``int8[n, 5]``."""
        given = self._read_strings(strings)
        rows = np.zeros((len(given), _LAYERS), dtype=np.int8)
        for i, text in enumerate(given):
            codes = [_CODES.get(width, -1) for width in text.strip().split(":")]
            if len(codes) != _LAYERS or -1 in codes:
                raise InvalidGenotypeError(
                    f"String {i} is no network of NATS-Bench's size space. Expected the channels of five layers like "
                    f"'8:8:40:32:40', each one of {', '.join(self.operations)}. Got {text!r}."
                )
            rows[i] = codes
        return rows

    # -- costs --------------------------------------------------------------------------------

    def costs(
        self, genotypes: npt.ArrayLike, num_classes: int = 10, image_size: int = 32
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Trainable parameters, and multiply-adds of convolutions and classifier, of the published networks.

        ``int64[n]`` each. Parameters include batch norm's affine pairs and equal the published ones in all
        rows; multiply-adds are those of one image of `image_size` × `image_size` pixels, counted once, with the
        classifier's biases (AutoDL-Projects: ``InferTinyCellNet.py``, ``cell_operations.py``, ``flop_benchmark.py``).
        """
        widths = self.widths(genotypes)
        pixels = image_size**2
        stem = 27 * widths[:, 0]
        parameters = stem + 2 * widths[:, 0]  # weights, and two numbers for each channel of a batch norm
        multiply_adds = stem * pixels
        for stage, (source, target) in enumerate(_CELLS):
            if stage:
                pixels //= 4
                before, after = (widths[:, layer] for layer in _REDUCTIONS[stage - 1])
                weights = 9 * before * after + 9 * after**2 + before * after  # no batch norm in the shortcut
                parameters += weights + 4 * after
                multiply_adds += weights * pixels
            before, after = widths[:, source], widths[:, target]
            skip = before != after  # a convolution 1×1 with batch norm, else the identity
            weights = 18 * before * after + 27 * after**2 + skip * before * after
            parameters += weights + (10 + 2 * skip) * after
            multiply_adds += weights * pixels
        classifier = (widths[:, -1] + 1) * num_classes
        return parameters + 2 * widths[:, -1] + classifier, multiply_adds + classifier

    def descriptors(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Widths and costs of each network, ``float64[n, 8]``."""
        widths = self.widths(genotypes)
        sources, targets = (list(layers) for layers in zip(*_CELLS, strict=True))
        same = (widths[:, sources] == widths[:, targets]).sum(axis=1)
        numbers = np.stack([*widths.T, *self.costs(genotypes)], axis=1)
        return np.concatenate([np.log(numbers), same[:, None]], axis=1, dtype=np.float64)

    # -- graphs -------------------------------------------------------------------------------

    def graphs(self, genotypes: npt.ArrayLike) -> CellGraphs:
        """Chains of the five layers between input and output (V = 7); a vertex is named after its channels.

        Whether a layer is a cell or halves the image depends on its place only, which is the same in all networks.
        """
        rows = self.validate(genotypes)
        n, v = len(rows), _LAYERS + 2
        ops = np.empty((n, v), dtype=np.int8)
        ops[:, 0], ops[:, -1] = operation_code("input"), operation_code("output")
        ops[:, 1:-1] = np.array([operation_code(name) for name in _SHARED_NAMES], dtype=np.int8)[rows]
        adjacency = np.zeros((n, v, v), dtype=np.uint8)
        adjacency[:, np.arange(v - 1), np.arange(1, v)] = 1
        return CellGraphs(adjacency, ops, np.full(n, v, dtype=np.int8))

    def vertex_widths(self, graphs: CellGraphs) -> npt.NDArray[np.float64]:
        """Channels of each vertex as a share of the last layer's, ``float64[n, 7]``.

        The input is the stem, which has the channels of the first layer.
        """
        code = graphs.ops[:, 1:-1].astype(np.int64) - operation_code(_SHARED_NAMES[0])
        channels = np.concatenate([code[:, :1], code, code[:, -1:]], axis=1) + 1
        return np.asarray(channels / channels[:, -1:], dtype=np.float64)
