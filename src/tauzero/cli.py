"""The command line ``tauzero``; each group of commands stands in its own ``_cli_*`` module."""

from __future__ import annotations

__all__ = ["app", "main"]

import os
import sys
from typing import Annotated

import typer

from tauzero import __version__
from tauzero._cli_benchmarks import benchmarks
from tauzero._cli_benchmarks_download import check, download
from tauzero._cli_demo import demo
from tauzero._cli_evaluate import evaluate
from tauzero._cli_models import fit, predict
from tauzero._cli_report import report
from tauzero._cli_score import score
from tauzero._cli_search import search
from tauzero._cli_spaces import spaces
from tauzero._cli_study import study
from tauzero._cli_support import DEBUG, EXIT_INTERRUPTED, SpreadCommand

app = typer.Typer(
    name="tauzero",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"tauzero {__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", envvar="TAUZERO_DEBUG", help="Show tracebacks of errors.")] = False,
    version: Annotated[  # noqa: ARG001 - handled by its callback
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop."),
    ] = False,
) -> None:
    """Predict how good neural architectures will be without training them."""
    DEBUG.set(debug)


app.command()(demo)
app.command()(spaces)
benchmarks.command()(download)
benchmarks.command()(check)
app.add_typer(benchmarks, name="benchmarks")
app.command()(fit)
app.command()(predict)
app.command(cls=SpreadCommand)(evaluate)
app.command()(score)
app.command()(search)
app.command()(study)
app.command()(report)


def main() -> None:
    """Run the command line; the entry point of the ``tauzero`` script."""
    # Threads that wait by spinning fight with other programs for the cores: on a busy machine of two
    # cores that made scoring several times slower. OpenMP reads this once, when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except KeyboardInterrupt:  # before or after a command's own handler
        sys.stderr.write("\ntauzero: interrupted.\n")
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
