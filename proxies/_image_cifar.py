"""CIFAR-10, CIFAR-100 and ImageNet16 as their authors ship them: binary records, pickles, archives of either.

Binary version (https://www.cs.toronto.edu/~kriz/cifar.html): records of 1 (CIFAR-10) or 2 (CIFAR-100: coarse, then
fine) label bytes and 3,072 pixel bytes, the red plane first. Python version: pickled dictionaries with ``data``
``uint8[n, 3072]`` and ``labels`` (CIFAR-10) or ``fine_labels`` (CIFAR-100). ImageNet16 (Chrabaszcz et al., *A
downsampled variant of ImageNet*, 2017; the files of NAS-Bench-201): the same with ``data`` ``uint8[n, 768]`` and
labels counted from 1.
"""

from __future__ import annotations

__all__ = ["batches_in", "read_archive", "read_batches"]

import io
import re
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tauzero.benchmarks import _safe_pickle
from tauzero.proxies._image_source import ImageSource, Labels, UnusableError, gather, read_labels
from tauzero.spaces import BenchmarkFormatError

# What the archives unpack to; a folder that holds one of them stands for it.
_KNOWN_FOLDERS = ("cifar-10-batches-bin", "cifar-10-batches-py", "cifar-100-binary", "cifar-100-python", "ImageNet16")

# Names of training files, and what is in them. Test files are read only if they are named one by one.
_TRAINING = {
    "cifar10-binary": re.compile(r"data_batch_\d+\.bin"),
    "cifar10-python": re.compile(r"data_batch_\d+"),
    "cifar100-binary": re.compile(r"train\.bin"),
    "cifar100-python": re.compile(r"train"),
    "imagenet16": re.compile(r"train_data_batch_\d+"),
}
_TITLES = {
    "cifar10-binary": "CIFAR-10 images (binary version)",
    "cifar10-python": "CIFAR-10 images (python version)",
    "cifar100-binary": "CIFAR-100 images (binary version, fine labels)",
    "cifar100-python": "CIFAR-100 images (python version, fine labels)",
}
_CIFAR_PIXELS = 3 * 32 * 32
_IMAGENET16_PIXELS = 3 * 16 * 16


@dataclass(frozen=True, slots=True)
class _Shard:
    """One file: pixels ``uint8[n, 3·side²]``, where to find labels, and the format that it turned out to have."""

    format: str
    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[Any]


def _training_files(names: Sequence[str], path: Path) -> list[str]:
    """Those of `names` that are training files of one data set, in the order of their numbers; may be none."""
    found = {form: [n for n in names if pattern.fullmatch(n)] for form, pattern in _TRAINING.items()}
    found = {form: hits for form, hits in found.items() if hits}
    if len(found) > 1:
        raise UnusableError(f"holds files of several data sets ({', '.join(found)}): pass one of the files.", path)
    hits = next(iter(found.values()), [])
    return sorted(hits, key=lambda name: (len(name), name))


def batches_in(folder: Path) -> list[Path]:
    """Training files of CIFAR or ImageNet16 in a folder, or in the one folder of an unpacked archive in it."""
    known = [folder / name for name in _KNOWN_FOLDERS if (folder / name).is_dir()]
    if len(known) > 1:
        raise UnusableError(f"holds several data sets ({', '.join(p.name for p in known)}): pass one of them.", folder)
    inner = known[0] if known else folder
    names = _training_files([p.name for p in inner.iterdir() if p.is_file()], inner)
    if known and not names:
        raise UnusableError("holds no training files: unpack the archive again.", inner)
    return [inner / name for name in names]


def read_batches(paths: Sequence[Path], num_classes: int) -> ImageSource:
    """Read files of the binary version (mapped, not loaded) or pickles."""
    return _source([_read_file(path, num_classes) for path in paths], num_classes, paths[0])


def read_archive(path: Path, num_classes: int) -> ImageSource:
    """Read the training files in a tar archive, compressed or not; nothing is unpacked to the disk."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = Path(member.name).name
                if not member.isfile() or not any(pattern.fullmatch(name) for pattern in _TRAINING.values()):
                    continue
                if member.size > _safe_pickle.MAX_BYTES or name in found:
                    raise UnusableError(f"has a member {member.name!r} that is too large or there twice.", path)
                stream = archive.extractfile(member)
                found[name] = stream.read() if stream is not None else b""
            while archive.fileobj is not None and archive.fileobj.read(2**20):
                pass  # to the end, where the checksum is compared
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UnusableError(f"is truncated or no archive ({error}): download it again.", path) from error
    names = _training_files(list(found), path)
    if not names:
        raise UnusableError("holds no training files of CIFAR-10, CIFAR-100 or ImageNet16.", path)
    shards = []
    for name in names:
        inner = path / name  # for messages
        data = found.pop(name)
        if name.endswith(".bin"):
            shards.append(_records(np.frombuffer(data, dtype=np.uint8), inner))
        else:
            shards.append(_batch(_unpickle(io.BytesIO(data), inner), inner, num_classes))
    return _source(shards, num_classes, path)


def _read_file(path: Path, num_classes: int) -> _Shard:
    try:
        if path.suffix == ".bin":
            empty = path.stat().st_size == 0  # which cannot be mapped
            return _records(np.empty(0, np.uint8) if empty else np.memmap(path, np.uint8, "r"), path)
        if path.stat().st_size > _safe_pickle.MAX_BYTES:
            raise UnusableError("is too large for a batch of CIFAR or ImageNet16.", path)
        with path.open("rb") as stream:
            return _batch(_unpickle(stream, path), path, num_classes)
    except OSError as error:
        raise UnusableError(f"cannot be read: {error.strerror or error}.", path) from error


def _source(shards: list[_Shard], num_classes: int, path: Path) -> ImageSource:
    formats = {shard.format for shard in shards}
    if len(formats) > 1:
        raise UnusableError(f"stands beside files of another format ({', '.join(sorted(formats))}).", path)
    form = formats.pop()
    side = 16 if form == "imagenet16" else 32
    pixels, labels = [shard.pixels for shard in shards], [shard.labels for shard in shards]

    def take(indices: npt.NDArray[np.int64]) -> tuple[npt.NDArray[Any], Labels]:
        return gather(pixels, indices).reshape(-1, 3, side, side), gather(labels, indices).astype(np.int64)

    dataset = form.partition("-")[0]
    return ImageSource(
        form,
        _TITLES.get(form, f"ImageNet16 images (classes 1 to {num_classes})"),
        sum(map(len, pixels)),
        take,
        {"cifar10": 10, "cifar100": 100, "imagenet16": num_classes}[dataset],
        path,
        sized=True,
        statistics=dataset,
    )


def _records(data: npt.NDArray[np.uint8], path: Path) -> _Shard:
    """Cut a file of the binary version; its size tells the version, its name if both fit."""
    forms = [("cifar10-binary", 1), ("cifar100-binary", 2)]
    if path.name in {"train.bin", "test.bin"}:
        forms.reverse()
    for form, labels in forms:
        if data.size and data.size % (labels + _CIFAR_PIXELS) == 0:
            records = data.reshape(-1, labels + _CIFAR_PIXELS)
            return _Shard(form, records[:, labels:], records[:, labels - 1])
    raise UnusableError(
        f"has {data.size} bytes, which is no multiple of 3073 (a record of CIFAR-10) or 3074 (CIFAR-100): "
        "it is truncated or something else; download it again.",
        path,
    )


def _batch(content: Any, path: Path, num_classes: int) -> _Shard:
    """Recognise an unpickled batch by its keys and the width of its data."""
    batch = {k.decode("latin1") if isinstance(k, bytes) else k: v for k, v in content.items()}
    kinds = {"fine_labels": "cifar100-python", "labels": "cifar10-python"}
    key = next((k for k in kinds if k in batch), None)
    pixels = batch.get("data")
    if key is None or not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2:
        raise UnusableError(
            "is no batch of CIFAR or ImageNet16: expected a dictionary with 'data', uint8 [n, 3072] or [n, 768], and "
            f"'labels' or 'fine_labels'. Got the keys {sorted(map(str, batch))}.",
            path,
        )
    pixels = pixels.view(np.ndarray)
    form = "imagenet16" if pixels.shape[1] == _IMAGENET16_PIXELS and key == "labels" else kinds[key]
    if form != "imagenet16" and pixels.shape[1] != _CIFAR_PIXELS:
        raise UnusableError(
            f"has images of {pixels.shape[1]} bytes; expected 3072 (CIFAR) or 768 (ImageNet16, 16×16).", path
        )
    try:
        labels = read_labels(np.asarray(batch[key]), len(pixels), path)
    except ValueError as error:  # lists in the list
        raise UnusableError(f"has labels that are not numbers: {error}", path) from error
    if form == "imagenet16":
        if labels.size and not 1 <= labels.min() <= labels.max() <= 1000:
            raise UnusableError(
                f"has labels from {labels.min()} to {labels.max()}; ImageNet16 counts its classes from 1 to 1000.", path
            )
        kept = labels <= num_classes
        return _Shard(form, pixels[kept], labels[kept] - 1)
    return _Shard(form, pixels, labels)


def _unpickle(stream: Any, path: Path) -> dict[Any, Any]:
    try:
        # Python 2 wrote them: its strings, pixels among them, are bytes.
        content = _safe_pickle.load_stream(stream, path.name, strings_are_bytes=True)
    except BenchmarkFormatError as error:
        raise UnusableError(f"cannot be used: {error}", path) from error
    if not isinstance(content, dict):
        raise UnusableError(f"is no batch of CIFAR or ImageNet16: a pickled {type(content).__name__}.", path)
    return content
