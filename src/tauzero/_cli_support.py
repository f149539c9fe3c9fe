"""What all commands share: output for people and for programs, progress, errors and exit codes."""

from __future__ import annotations

__all__ = [
    "DEBUG",
    "EXIT_FAILED",
    "EXIT_INTERRUPTED",
    "EXIT_WRONG_USE",
    "DatasetOption",
    "JsonOption",
    "ProxiesOption",
    "ProxyColumnsOption",
    "SeedOption",
    "SourceOption",
    "SpreadCommand",
    "dataset_of",
    "emit",
    "fail",
    "guarded",
    "jsonable",
    "make_table",
    "progress_bar",
    "proxy_encoders",
    "split_names",
]

import functools
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar, cast

import typer
from typer.core import TyperCommand

from tauzero.spaces import Progress
from tauzero.spaces.errors import BenchmarkFormatError, MissingExtraError, TauzeroError, unknown_name

EXIT_FAILED = 1
EXIT_WRONG_USE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it

#: Whether errors show their traceback (``tauzero --debug`` or ``TAUZERO_DEBUG=1``).
DEBUG: ContextVar[bool] = ContextVar("tauzero_debug", default=False)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
DatasetOption = Annotated[str | None, typer.Option("--dataset", help="By default the table's first.")]
SourceOption = Annotated[
    str | None, typer.Option("--source", help="Read this table or file instead of the imported table.")
]
ProxiesOption = Annotated[
    str | None,
    typer.Option("--proxies", help="Parquet file of zero-cost proxies (or a folder of `tauzero score`) as features."),
]
ProxyColumnsOption = Annotated[
    list[str] | None,
    typer.Option("--proxy-columns", help="Names or patterns of its columns: repeated or a,b,c.", show_default="all"),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]

F = TypeVar("F", bound=Callable[..., Any])


# -- output -----------------------------------------------------------------------------------


def jsonable(value: Any) -> Any:
    """Turn NumPy values, paths and nested containers into what JSON knows; NaN and infinities become None."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        return jsonable(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def emit(payload: Mapping[str, Any], as_json: bool, *renderables: Any) -> None:
    """Print `payload` as one JSON object, or the given rich renderables for people."""
    if as_json:
        sys.stdout.write(json.dumps(jsonable(payload), ensure_ascii=False) + "\n")
        sys.stdout.flush()  # a reader that has gone is noticed here, not while Python shuts down
        return
    from rich.console import Console

    # Piped tables keep the width that their content needs, so that architecture strings stay whole.
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    for item in renderables:
        console.print(item)


def make_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Any:
    """Lay values out as a rich table: numbers right-aligned, floats with four significant digits."""
    from rich.table import Table

    shown = [[_cell(value) for value in row] for row in rows]
    table = Table(title=title, title_justify="left", header_style="bold")
    for k, name in enumerate(columns):
        numeric = bool(shown) and all(row[k][1] for row in shown)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in shown:
        table.add_row(*(text for text, _ in row))
    return table


def _cell(value: Any) -> tuple[str, bool]:
    """Text of a table cell, and whether it is a number."""
    from rich.markup import escape

    plain = value.tolist() if hasattr(value, "tolist") else value
    if plain is None:
        return "–", True
    if isinstance(plain, bool):
        return ("yes" if plain else "no"), False
    if isinstance(plain, int):
        return f"{plain:,}", True
    if isinstance(plain, float):
        return (f"{plain:.4g}" if abs(plain) < 1000 else f"{plain:,.0f}"), True
    return escape(str(plain)), False


@contextmanager
def progress_bar(description: str, *, resumes: bool = False, unit: str = "steps") -> Iterator[Progress | None]:
    """Show a progress bar with the remaining time on a terminal (stderr); yields None, which means silence, elsewhere.

    Parameters
    ----------
    description
        What is being done.
    resumes
        Whether the first call tells how much was found finished; the bar says so.
    unit
        ``"bytes"`` shows megabytes and the speed.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        ProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bar

    counted: tuple[ProgressColumn, ...] = (MofNCompleteColumn(),)
    if unit == "bytes":
        counted = (DownloadColumn(), TransferSpeedColumn())
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        *counted,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # The remaining time comes from the steps of the last hour: one step of a sweep can take minutes.
    with Bar(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=3600) as bar:
        task = bar.add_task(description, total=None)
        first = True

        def update(done: int, total: int) -> None:
            nonlocal first
            if first and resumes and done:
                bar.reset(task, description=f"{description} ({done:,} found finished)", completed=done, total=total)
            else:
                bar.update(task, completed=done, total=total)
            first = False

        yield update


# -- input ------------------------------------------------------------------------------------


def dataset_of(table: Any, name: str | None) -> str:
    """Return the table's own spelling of a dataset, its first for None."""
    known = list(table.datasets)
    if name is None:
        return str(known[0])
    for dataset in known:
        if dataset.lower() == name.lower():
            return str(dataset)
    raise unknown_name(f"dataset of {table.name}", name, known)


def split_names(values: Iterable[str]) -> list[str]:
    """Names from repeated options and comma-separated lists, in order, each once."""
    names = [name.strip() for value in values for name in value.split(",")]
    return list(dict.fromkeys(name for name in names if name))


def proxy_encoders(space: Any, file: str | None, columns: list[str] | None) -> list[Any]:
    """Encoders of the options ``--proxies`` (a file, or a table of the data folder) and ``--proxy-columns``."""
    if file is None:
        if columns:
            fail("--proxy-columns needs --proxies FILE.")
        return []
    from tauzero import benchmarks, encoders

    table = file in benchmarks.available() and not Path(file).exists()
    scores: Any = benchmarks.load(file) if table else file
    return [encoders.create("proxy_scores", space, scores=scores, columns=split_names(columns or []) or None)]


class SpreadCommand(TyperCommand):
    """A command with options that take several values at once: ``--train 78 156 469``, ``--proxy-columns zen nwot``.

    ``--train`` takes the numbers after it, ``--proxy-columns`` all words up to the next option.
    """

    spread = ("--train", "--proxy-columns")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option before each of its numbers, which is the form that the parser knows."""
        expanded: list[str] = []
        current: str | None = None
        for position, word in enumerate(args):
            if word == "--":
                expanded += args[position:]
                break
            name, equals, value = word.partition("=")
            if name in self.spread:
                current = name
                if equals:
                    expanded += self._repeated(name, value)
                elif position + 1 == len(args) or not _continues(name, args[position + 1]):
                    expanded.append(name)  # let the parser report the missing or wrong value
                    current = None
            elif current is not None and _continues(current, word):
                expanded += self._repeated(current, word)
            else:
                current = None
                expanded.append(word)
        rest: list[str] = super().parse_args(ctx, expanded)
        return rest

    @staticmethod
    def _repeated(option: str, token: str) -> list[str]:
        return [word for value in token.split(",") for word in (option, value)]


def _continues(option: str, token: str) -> bool:
    """Whether a word is one more value of an option."""
    if option == "--train":
        return all(number.isdigit() for number in token.split(","))
    return not token.startswith("-")


# -- errors -----------------------------------------------------------------------------------


def fail(message: str, code: int = EXIT_WRONG_USE) -> NoReturn:
    """End the command with one message on stderr."""
    sys.stderr.write(f"tauzero: {message}\n")
    raise typer.Exit(code)


def _exit_code(error: Exception) -> int:
    """Wrong values are wrong use; unreadable tables, missing extras, full disks and bugs are failures."""
    if isinstance(error, BenchmarkFormatError | MissingExtraError | OSError):  # these may be ValueErrors as well
        return EXIT_FAILED
    return EXIT_WRONG_USE if isinstance(error, ValueError) else EXIT_FAILED


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{place}"
    text = str(error) or type(error).__name__
    if isinstance(error, TauzeroError | ValueError | OSError | RuntimeError | ImportError):
        return text
    return f"unexpected {type(error).__name__}: {text} (`tauzero --debug …` shows where it came from)"


def guarded(resume: str = "Nothing half-written is left; run the same command again.") -> Callable[[F], F]:
    """Decorate a command: errors become one message and an exit code, Ctrl-C says how to go on.

    Parameters
    ----------
    resume
        What a user who pressed Ctrl-C should know.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except typer.Exit:
                raise
            except KeyboardInterrupt:
                sys.stderr.write(f"\ntauzero: interrupted. {resume}\n")
                raise typer.Exit(EXIT_INTERRUPTED) from None
            except BrokenPipeError:
                # The reader (`| head`) has gone; without this Python complains while it shuts down.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(0) from None
            except (typer.BadParameter, typer.Abort):
                raise
            except Exception as error:  # noqa: BLE001 - the last place where an error can become a message
                if DEBUG.get():
                    traceback.print_exc()
                fail(_message(error), _exit_code(error))

        return cast("F", run)

    return decorate
