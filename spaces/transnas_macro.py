"""The network-level space of TransNAS-Bench-101 (Duan et al., CVPR 2021): 3,256 chains of residual modules."""

from __future__ import annotations

__all__ = ["CELLS_PER_MODULE", "CHANNELS", "IMAGE_SIZE", "TransNASMacro", "halved", "stem_costs"]

import itertools
import re
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tauzero.spaces._graphs import CellGraphs
from tauzero.spaces._operations import operation_code
from tauzero.spaces.base import Genotypes, SearchSpace
from tauzero.spaces.errors import InvalidGenotypeError

_MIN_MODULES, _MAX_MODULES = 4, 6
_MIN_DOUBLINGS, _MAX_DOUBLINGS, _MIN_STRIDES, _MAX_STRIDES = 1, 3, 1, 4
_POWERS = 5 ** np.arange(_MAX_MODULES - 1, -1, -1)
_SHARED_NAMES = ("block", "block_wide", "block_down", "block_wide_down")
_PATTERN = re.compile(r"64-([1-4]{4,6})-basic")

#: The published shape in both spaces of the benchmark: channels after the stem, cells in a module, side of the images.
CHANNELS, CELLS_PER_MODULE, IMAGE_SIZE = 64, 2, 256


def halved(side: int) -> int:
    """Side in pixels after a layer of stride 2; all kinds of them in the benchmark round up."""
    return (side + 1) // 2


def stem_costs(channels: int = CHANNELS, image_size: int = IMAGE_SIZE) -> npt.NDArray[np.int64]:
    """Parameters and multiply-adds of the stem: two convolutions 3×3 of stride 2 with batch norm, ``int64[2]``."""
    half = channels // 2
    side = halved(image_size)
    first, second = 27 * half, 9 * half * channels
    return np.array(
        [first + 2 * half + second + 2 * channels, first * side**2 + second * halved(side) ** 2], dtype=np.int64
    )


class TransNASMacro(SearchSpace):
    """Chains of four to six modules, each of two residual blocks, that double channels or halve the image.

    A genotype is ``int8[n, 6]``: the code of each module, 1 plain, 2 doubles the channels, 3 halves the
    image, 4 both; 0 is padding after the last module. One to three modules double the channels, one to
    four halve the image: 210 chains of four modules, 750 of five and 2,296 of six. `enumerate` has
    shorter chains first and chains of one length in lexicographic order. No two of them are the same
    network (the only notion, ``string``).

    Descriptors: the numbers of modules, doublings and strides, the place (from 1) of the first of either,
    channels and side of the last feature map of a 256×256 image, and natural logarithms of the backbone's
    parameters (batch norm's affine pairs included) and of the multiply-adds of its convolutions.
    """

    name = "transnas_macro"
    cardinalities = (5,) * _MAX_MODULES
    size = 3_256
    operations = ("padding", "plain", "double_channels", "halve_image", "double_channels_halve_image")
    graph_operations = _SHARED_NAMES
    max_path_length = _MAX_MODULES
    notions = ("string",)
    descriptor_names = (
        "modules",
        "doublings",
        "strides",
        "first_doubling",
        "first_stride",
        "width",
        "resolution",
        "log_parameters",
        "log_multiply_adds",
    )

    # -- members and order --------------------------------------------------------------------

    @cached_property
    def _all(self) -> Genotypes:
        chains = [
            chain + (0,) * (_MAX_MODULES - modules)
            for modules in range(_MIN_MODULES, _MAX_MODULES + 1)
            for chain in itertools.product(range(1, 5), repeat=modules)
        ]
        rows = np.array(chains, dtype=np.int8)
        rows = np.ascontiguousarray(rows[self.is_valid(rows)])
        rows.setflags(write=False)
        return rows

    def enumerate(self) -> Genotypes:
        """All 3,256 chains, ``int8[3256, 6]`` (read-only)."""
        return self._all

    @cached_property
    def _index_of_code(self) -> npt.NDArray[np.int64]:
        index = np.full(5**_MAX_MODULES, -1, dtype=np.int64)
        index[self._all @ _POWERS] = np.arange(self.size)
        return index

    def index(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Number of each row in `enumerate`, ``int64[n]``; `InvalidGenotypeError` if a row is no member."""
        return self._index_of_code[self.validate(genotypes) @ _POWERS]

    @staticmethod
    def _doubles(rows: Genotypes) -> npt.NDArray[np.bool_]:
        return (rows == 2) | (rows == 4)

    @staticmethod
    def _halves(rows: Genotypes) -> npt.NDArray[np.bool_]:
        return rows >= 3

    def is_valid(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether padding comes last only and the numbers of modules, doublings and strides fit, ``bool[n]``."""
        rows = self.check_range(genotypes)
        used = rows > 0
        doublings, strides = self._doubles(rows).sum(axis=1), self._halves(rows).sum(axis=1)
        return np.asarray(
            ~(used[:, 1:] & ~used[:, :-1]).any(axis=1)
            & (used.sum(axis=1) >= _MIN_MODULES)
            & (doublings >= _MIN_DOUBLINGS)
            & (doublings <= _MAX_DOUBLINGS)
            & (strides >= _MIN_STRIDES)
            & (strides <= _MAX_STRIDES),
            dtype=np.bool_,
        )

    def _why_invalid(self, row: Genotypes) -> str:
        used = row > 0
        if (used[1:] & ~used[:-1]).any():
            return "padding (0) stands before a module."
        for count, least, most, what in (
            (int(used.sum()), _MIN_MODULES, _MAX_MODULES, "modules"),
            (int(self._doubles(row).sum()), _MIN_DOUBLINGS, _MAX_DOUBLINGS, "modules that double the channels"),
            (int(self._halves(row).sum()), _MIN_STRIDES, _MAX_STRIDES, "modules that halve the image"),
        ):
            if not least <= count <= most:
                return f"it has {count} {what}, {least} to {most} are allowed."
        return super()._why_invalid(row)  # pragma: no cover - the cases above are all there are

    def classes(self, notion: str | None = None) -> npt.NDArray[np.int64]:
        """Every chain is its own class: 0 to 3,255 (read-only)."""
        self.check_notion(notion)
        return self._own_classes

    def num_modules(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Modules of each chain (4 to 6), ``int64[n]``."""
        return (self.validate(genotypes) > 0).sum(axis=1)

    # -- names --------------------------------------------------------------------------------

    def to_string(self, genotypes: npt.ArrayLike) -> list[str]:
        """Official notation, such as ``64-1234-basic``."""
        return [f"64-{''.join(str(code) for code in row if code)}-basic" for row in self.validate(genotypes).tolist()]

    def from_string(self, strings: Sequence[str]) -> Genotypes:
        """Read official notation into ``int8[n, 6]``."""
        given = self._read_strings(strings)
        rows = np.zeros((len(given), self.length), dtype=np.int8)
        for i, text in enumerate(given):
            match = _PATTERN.fullmatch(text.strip())
            if match is None:
                raise InvalidGenotypeError(
                    f"String {i} is not a TransNAS-Bench-101 chain. Expected a form like '64-1234-basic' with four "
                    f"to six modules of codes 1 to 4. Got {text!r}."
                )
            rows[i, : len(match[1])] = [int(digit) for digit in match[1]]
        valid = self.is_valid(rows)
        if not valid.all():
            bad = int(np.argmin(valid))
            raise InvalidGenotypeError(
                f"String {bad} is not a member of {self.name}: {self._why_invalid(rows[bad])} Got {given[bad]!r}."
            )
        return rows

    # -- costs --------------------------------------------------------------------------------

    def widths(self, genotypes: npt.ArrayLike, channels: int = CHANNELS) -> npt.NDArray[np.int64]:
        """Channels of each network's last feature map, ``int64[n]``, if the stem makes `channels`."""
        return channels << self._doubles(self.validate(genotypes)).sum(axis=1)

    def costs(
        self,
        genotypes: npt.ArrayLike,
        *,
        channels: int = CHANNELS,
        cells_per_module: int = CELLS_PER_MODULE,
        image_size: int = IMAGE_SIZE,
    ) -> npt.NDArray[np.int64]:
        """Parameters and convolutions' multiply-adds of each backbone, ``int64[n, 2]`` (``ResNetBasicblock``)."""
        rows = self.validate(genotypes)
        used, doubles, halves = rows > 0, self._doubles(rows), self._halves(rows)
        costs = np.tile(stem_costs(channels, image_size), (len(rows), 1))
        source = np.full(len(rows), channels, dtype=np.int64)
        side = np.full(len(rows), halved(halved(image_size)), dtype=np.int64)
        for k in range(_MAX_MODULES):
            width, side = np.where(doubles[:, k], 2 * source, source), np.where(halves[:, k], (side + 1) // 2, side)
            shortcut = doubles[:, k] | halves[:, k]  # a convolution 1×1 with batch norm, else the identity
            weights = 9 * source * width + (18 * cells_per_module - 9) * width**2 + shortcut * source * width
            costs[:, 0] += used[:, k] * (weights + (4 * cells_per_module + 2 * shortcut) * width)
            costs[:, 1] += used[:, k] * weights * side**2
            source = width
        return costs

    def descriptors(self, genotypes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Shape and cost of each network, ``float64[n, 9]`` (``net_macro.py``, ``ResNetBasicblock``)."""
        rows = self.validate(genotypes)
        doubles, halves = self._doubles(rows), self._halves(rows)
        columns = [
            (rows > 0).sum(axis=1),
            doubles.sum(axis=1),
            halves.sum(axis=1),
            doubles.argmax(axis=1) + 1,
            halves.argmax(axis=1) + 1,
            self.widths(rows),
            halved(halved(IMAGE_SIZE)) >> halves.sum(axis=1),
            *np.log(self.costs(rows)).T,
        ]
        return np.stack(columns, axis=1).astype(np.float64)

    # -- graphs -------------------------------------------------------------------------------

    def graphs(self, genotypes: npt.ArrayLike) -> CellGraphs:
        """Chains of module vertices between input and output (V = 8)."""
        rows = self.validate(genotypes)
        n, v = len(rows), _MAX_MODULES + 2
        modules = (rows > 0).sum(axis=1)
        ops = np.zeros((n, v), dtype=np.int8)
        ops[:, 1:-1] = np.array([0, *(operation_code(name) for name in _SHARED_NAMES)], dtype=np.int8)[rows]
        ops[:, 0] = operation_code("input")
        ops[np.arange(n), modules + 1] = operation_code("output")
        adjacency = np.zeros((n, v, v), dtype=np.uint8)
        for u in range(v - 1):
            adjacency[:, u, u + 1] = u <= modules
        return CellGraphs(adjacency, ops, (modules + 2).astype(np.int8))
