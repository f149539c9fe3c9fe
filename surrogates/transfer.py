"""Few-shot transfer: a surrogate that reads what a multi-space model says, beside the space's own features."""

from __future__ import annotations

__all__ = ["Transfer"]

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from tauzero.encoders import EncoderLike
from tauzero.spaces import Genotypes, SearchSpace, unknown_name
from tauzero.surrogates._multi_space_encoder import JoinedFeatures, TransferEncoder
from tauzero.surrogates.base import Floats, State, Surrogate
from tauzero.surrogates.multi_space import MultiSpaceGNN

_SURROGATES = ("auto", "gaussian_process")


class Transfer(Surrogate):
    """A surrogate over the space's features and the predictions of a multi-space model.

    The model's shared head and its heads for each source are two more families of features: a Gaussian process learns
    from the training rows how far to trust them, and where they are of no use it falls back on the features of the
    space. Nothing of the networks is trained.

    Parameters
    ----------
    space
        A search space or its name; the multi-space model need not have learnt from it.
    encoders
        Further encoders whose features join, such as proxy scores.
    target
        Transform of the accuracies that is fitted (`tauzero.surrogates.TARGETS`).
    source
        What to start from: a fitted `MultiSpaceGNN`, the folder of a saved one, or the name of one that ships with
        tauzero. A fitted model keeps the networks and does not need it any more.
    surrogate
        What is fitted to the features: ``"gaussian_process"`` or ``"auto"``.
    embedding
        Also read the networks' last hidden layer.
    random_state
        Seed of the surrogate.
    """

    name = "transfer"

    def __init__(
        self,
        space: SearchSpace | str,
        *,
        encoders: Sequence[EncoderLike] = (),
        target: str = "mixed",
        source: MultiSpaceGNN | str | Path | None = "multi-space",
        surrogate: str = "gaussian_process",
        embedding: bool = False,
        random_state: int = 0,
    ) -> None:
        self.space = space
        self.encoders = encoders
        self.target = target
        self.source = source
        self.surrogate = surrogate
        self.embedding = embedding
        self.random_state = random_state

    def _fit(self, rows: Genotypes, target: Floats, weight: Floats) -> None:
        self._model = self._read_source()
        member = self._member()
        member.target_ = self.target_
        member.n_train_, member.metadata_ = self.n_train_, {}
        member.unseen_, member.unseen_std_ = self.unseen_, self.unseen_std_
        member._fit(rows, target, weight)
        # The stack makes new arrays, the Gaussian process fills those that it finds.
        self.unseen_, self.unseen_std_ = member.unseen_, member.unseen_std_
        self._fitted = member

    def _read_source(self) -> MultiSpaceGNN:
        if isinstance(self.source, MultiSpaceGNN):
            self.source._check_fitted()
            return self.source
        if not isinstance(self.source, str | Path):
            raise ValueError(  # noqa: TRY004 - the value of a parameter, not its type, is wrong
                "The 'source' parameter of Transfer must be a fitted MultiSpaceGNN, the folder of a saved one or the "
                f"name of one that ships with tauzero, such as 'multi-space'. Got {self.source!r}."
            )
        return MultiSpaceGNN.load(self.source)

    def _member(self) -> Surrogate:
        """The surrogate to fit, reading the joined features."""
        from tauzero.surrogates._registry import create

        if self.surrogate not in _SURROGATES:
            raise unknown_name("surrogate of Transfer", self.surrogate, _SURROGATES)
        encoder = TransferEncoder(self.space_, model=self._model, embedding=bool(self.embedding))
        joined = JoinedFeatures(self._features, encoder)
        member = create(
            self.surrogate, self.space_, encoders=joined.extra, target=self.target, random_state=self.random_state
        )
        member._extended = joined
        return member

    def _predict(self, rows: Genotypes, *, with_std: bool) -> tuple[Floats, Floats]:
        return self._fitted._predict(rows, with_std=with_std)

    # -- files --------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write the model into a folder (JSON, safetensors, text; no pickle), atomically. Returns the folder."""
        given = self.source  # its networks have been taken over; only a name means the same to others
        self.source = given if isinstance(given, str) and given in MultiSpaceGNN.shipped() else None
        try:
            return super().save(folder)
        finally:
            self.source = given

    def _state(self) -> State:
        plain, arrays, texts = self._fitted._state()
        model_plain, model_arrays = self._model._state()
        joined = {f"member.{k}": v for k, v in arrays.items()} | {f"model.{k}": v for k, v in model_arrays.items()}
        return {"member": plain, "model": model_plain}, joined, texts

    def _restore(self, plain: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], texts: dict[str, str]) -> None:
        def part(prefix: str) -> dict[str, npt.NDArray[Any]]:
            return {a.removeprefix(prefix): v for a, v in arrays.items() if a.startswith(prefix)}

        self._model = MultiSpaceGNN._from_state(plain["model"], part("model."))
        member = self._member()
        member.target_ = self.target_
        member.n_train_, member.metadata_ = self.n_train_, {}
        member._restore(plain["member"], part("member."), texts)
        self._fitted = member
