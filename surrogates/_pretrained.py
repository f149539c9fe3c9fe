"""Models that ship with tauzero."""

from __future__ import annotations

__all__ = ["load", "pretrained_names"]

from pathlib import Path
from typing import cast

from tauzero.spaces import unknown_name
from tauzero.surrogates._files import load_surrogate
from tauzero.surrogates.base import Surrogate

_MULTI_SPACE_FILE = "multi_space.json"
_FOLDER = Path(__file__).parent / "pretrained"


def pretrained_names() -> list[str]:
    """Names of the pretrained models, such as ``nasbench201-cifar10``, sorted."""
    return sorted(p.parent.name for p in _FOLDER.glob("*/model.json"))


def load(source: str | Path) -> Surrogate:
    """Load a surrogate.

    A saved `MultiSpaceGNN` (``"multi-space"`` ships with tauzero) is read too; it is no `Surrogate`, as it has no space
    of its own, and `MultiSpaceGNN.load` tells type checkers so.

    Parameters
    ----------
    source
        The folder of a saved model, or the name of a pretrained one (`pretrained_names`). A folder of
        that name in the current directory wins.

    Raises
    ------
    UnknownNameError
        If there is neither such a folder nor such a pretrained model.
    ModelFormatError
        If the folder holds no (complete) model.
    """
    folder = Path(source)
    place = folder if folder.is_dir() else _FOLDER / folder
    if (place / _MULTI_SPACE_FILE).is_file():
        from tauzero.surrogates.multi_space import MultiSpaceGNN

        return cast("Surrogate", MultiSpaceGNN.load(source))
    if folder.is_dir():
        return load_surrogate(folder)
    if str(source) in pretrained_names():
        return load_surrogate(_FOLDER / str(source))
    raise unknown_name("model folder or pretrained model", str(source), pretrained_names())
