"""What networks of NAS-Bench-201's kind cost: one table by edge and operation, for any cell of any operations."""

from __future__ import annotations

__all__ = ["OPERATION_NAMES", "edge_costs", "operation_costs"]

import numpy as np
import numpy.typing as npt

#: What AutoDL-Projects (``cell_operations.py``) calls each operation of the shared vocabulary; the convolution 5×5 is
#: named after the pattern of the others.
OPERATION_NAMES = {
    "none": "none",
    "skip_connect": "skip_connect",
    "conv_1x1": "nor_conv_1x1",
    "conv_3x3": "nor_conv_3x3",
    "avg_pool_3x3": "avg_pool_3x3",
    "max_pool_3x3": "max_pool_3x3",
    "conv_5x5": "nor_conv_5x5",
    "sep_conv_3x3": "dua_sepc_3x3",
    "sep_conv_5x5": "dua_sepc_5x5",
    "dil_conv_3x3": "dil_sepc_3x3",
    "dil_conv_5x5": "dil_sepc_5x5",
}
_KERNELS = {"conv_1x1": 1, "conv_3x3": 3, "conv_5x5": 5}


def operation_costs(name: str, width: int) -> tuple[int, int]:
    """Weights of an operation's convolutions, and the number of its batch norms, on `width` channels."""
    if name in _KERNELS:
        return _KERNELS[name] ** 2 * width**2, 1
    kind, _, size = name.partition("_conv_")
    if kind in {"sep", "dil"}:  # depthwise and pointwise; a separable convolution is two of them
        times = 2 if kind == "sep" else 1
        return times * (int(size[0]) ** 2 * width + width**2), times
    return 0, 0


def edge_costs(
    names: tuple[str, ...], *, channels: int = 16, cells_per_stage: int = 5, image_size: int = 32, stages: int = 3
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Parameters and multiply-adds of convolutions (section 2.1: stem, stages of cells, reductions between).

    Returns
    -------
    ``int64[2]`` of what all networks share without the classifier, batch norm's affine pairs included, and
    ``int64[k, 2]`` what each operation adds wherever it stands.
    """
    width, pixels = channels, image_size**2
    fixed = np.array([27 * width + 2 * width, 27 * width * pixels], dtype=np.int64)
    each = np.zeros((len(names), 2), dtype=np.int64)
    for stage in range(stages):
        if stage:  # two convolutions 3×3 with batch norm, and a shortcut 1×1 without
            wide, pixels = 2 * width, pixels // 4
            weights = 9 * width * wide + 9 * wide**2 + width * wide
            fixed += np.array([weights + 4 * wide, weights * pixels])
            width = wide
        for code, name in enumerate(names):
            weights, norms = operation_costs(name, width)
            each[code] += cells_per_stage * np.array([weights + norms * 2 * width, weights * pixels])
    return fixed + np.array([2 * width, 0]), each
