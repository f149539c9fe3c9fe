"""The explicit registries: one-shot methods by name, supernets by kind of space."""

from __future__ import annotations

__all__ = ["find", "names", "supernet_class"]

from tauzero.search.oneshot._supernet import Supernet
from tauzero.search.oneshot._supernet_darts import DARTSSupernet
from tauzero.search.oneshot._supernet_nasbench201 import CellSupernet
from tauzero.search.oneshot.base import OneShotMethod
from tauzero.search.oneshot.darts import DARTSV1
from tauzero.search.oneshot.darts_v2 import DARTSV2
from tauzero.search.oneshot.enas import ENAS
from tauzero.search.oneshot.gdas import GDAS
from tauzero.search.oneshot.ista_nas import ISTANAS
from tauzero.search.oneshot.ista_nas_one_stage import ISTANASOneStage
from tauzero.search.oneshot.pc_darts import PCDARTS
from tauzero.search.oneshot.rsps import RSPS
from tauzero.search.oneshot.setn import SETN
from tauzero.spaces import SearchSpace, unknown_name

_METHODS: dict[str, type[OneShotMethod]] = {
    RSPS.name: RSPS,
    ENAS.name: ENAS,
    DARTSV1.name: DARTSV1,
    DARTSV2.name: DARTSV2,
    GDAS.name: GDAS,
    SETN.name: SETN,
    PCDARTS.name: PCDARTS,
    ISTANAS.name: ISTANAS,
    ISTANASOneStage.name: ISTANASOneStage,
}
_SUPERNETS: dict[str, type[Supernet]] = {
    kind: supernet for supernet in (CellSupernet, DARTSSupernet) for kind in supernet.spaces
}


def names() -> list[str]:
    """Names of the one-shot methods, in the order of the registry."""
    return list(_METHODS)


def find(name: str) -> type[OneShotMethod]:
    """Return the class of a one-shot method; `UnknownNameError` lists those there are."""
    if name not in _METHODS:
        raise unknown_name("one-shot method", name, _METHODS)
    return _METHODS[name]


def supernet_class(space: SearchSpace) -> type[Supernet]:
    """Return the class of the supernets of a space; `UnknownNameError` lists the spaces that have one."""
    if space.kind not in _SUPERNETS:
        raise unknown_name("space with a supernet", space.name, _SUPERNETS)
    return _SUPERNETS[space.kind]
