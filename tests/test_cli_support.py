"""What all commands share: JSON, tables, ``--train 78 156``, errors, exit codes and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from tauzero import _cli_support as support
from tauzero.cli import app
from tauzero.spaces import BenchmarkFormatError, MissingExtraError, UnknownNameError

COMMANDS = ("demo", "spaces", "fit", "predict", "evaluate", "score", "search", "study", "report")
GROUP = ("list", "info", "import", "query", "download", "check", "build", "fit-surrogate", "validity")


@pytest.mark.parametrize("command", [[c] for c in COMMANDS] + [["benchmarks", c] for c in GROUP], ids=" ".join)
def test_help_has_an_example(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert f"Example: tauzero {' '.join(command)}" in result.output


def test_no_command_is_missing_from_these_tests() -> None:
    names = {c.name or c.callback.__name__ for c in app.registered_commands}
    assert names == set(COMMANDS)
    (group,) = app.registered_groups
    assert {c.name or c.callback.__name__ for c in group.typer_instance.registered_commands} == set(GROUP)


def test_help_is_quick() -> None:
    """In processor time, which does not depend on what else the machine does."""

    def used() -> float:
        times = os.times()
        return times.children_user + times.children_system

    before = used()
    subprocess.run([sys.executable, "-m", "tauzero.cli", "--help"], check=True, capture_output=True)
    assert used() - before < 1.5  # about 0.4 s; a heavy import alone takes longer


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("tauzero 0.")


def test_jsonable() -> None:
    value = {
        "nan": float("nan"),
        "inf": np.float32(-np.inf),
        "array": np.array([[1.5, np.nan]]),
        "int": np.int8(3),
        "bool": np.bool_(True),
        "path": Path("a") / "b",
        "nested": ({"x": (1, None)},),
        4: "key",
    }
    text = json.dumps(support.jsonable(value), allow_nan=False)
    assert json.loads(text) == {
        "nan": None,
        "inf": None,
        "array": [[1.5, None]],
        "int": 3,
        "bool": True,
        "path": "a/b",
        "nested": [{"x": [1, None]}],
        "4": "key",
    }


def test_split_names() -> None:
    assert support.split_names(["a, b", "c", "b,,"]) == ["a", "b", "c"]


def _parse(arguments: list[str]) -> tuple[int, list[object]]:
    seen: list[object] = []
    small = typer.Typer()

    @small.command(cls=support.SpreadCommand)
    def command(
        name: str,
        train: Annotated[list[int] | None, typer.Option("--train", min=1)] = None,
        seed: Annotated[int, typer.Option()] = 0,
        proxy_columns: support.ProxyColumnsOption = None,
    ) -> None:
        seen.extend([name, train, seed] + ([proxy_columns] if proxy_columns else []))

    return CliRunner().invoke(small, arguments).exit_code, seen


@pytest.mark.parametrize(
    "arguments",
    [
        ["x", "--train", "78", "156", "469", "--seed", "3"],
        ["--train", "78", "156", "469", "x", "--seed", "3"],
        ["x", "--train", "78,156,469", "--seed", "3"],
        ["x", "--train=78,156", "469", "--seed", "3"],
        ["x", "--seed", "3", "--train", "78", "--train", "156", "--train", "469"],
        ["--seed", "3", "--train", "78", "156", "469", "--", "x"],
    ],
)
def test_train_takes_several_numbers(arguments: list[str]) -> None:
    assert _parse(arguments) == (0, ["x", [78, 156, 469], 3])


@pytest.mark.parametrize(
    "arguments",
    [
        ["x", "--proxy-columns", "zen", "nbsz_*", "--seed", "3"],
        ["x", "--seed", "3", "--proxy-columns", "zen,nbsz_*"],
        ["x", "--proxy-columns=zen", "nbsz_*", "--seed", "3"],
        ["--proxy-columns", "zen", "--proxy-columns", "nbsz_*", "--seed", "3", "x"],
    ],
)
def test_proxy_columns_take_several_patterns(arguments: list[str]) -> None:
    assert _parse(arguments) == (0, ["x", None, 3, ["zen", "nbsz_*"]])
    assert _parse([*arguments, "--proxy-columns"])[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [["x", "--train"], ["x", "--train", "a"], ["x", "--train", "0"], ["x", "--train", "-1"], ["x", "--train=,"]],
)
def test_train_refuses_what_is_no_number(arguments: list[str]) -> None:
    assert _parse(arguments) == (2, [])


def _run_raising(error: BaseException, *, debug: bool = False) -> tuple[int, str]:
    small = typer.Typer()

    @small.command()
    @support.guarded("Go on like this.")
    def command() -> None:
        raise error

    token = support.DEBUG.set(debug)
    try:
        result = CliRunner().invoke(small, [])
    finally:
        support.DEBUG.reset(token)
    assert result.stdout == ""
    return result.exit_code, result.stderr


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UnknownNameError("Unknown thing."), 2, "tauzero: Unknown thing.\n"),
        (ValueError("Bad value."), 2, "tauzero: Bad value.\n"),
        (BenchmarkFormatError("Truncated."), 1, "tauzero: Truncated.\n"),
        (MissingExtraError("Install it."), 1, "tauzero: Install it.\n"),
        (FileNotFoundError(2, "No such file or directory", "x.bin"), 1, "tauzero: No such file or directory: x.bin\n"),
        (RuntimeError("No GPU."), 1, "tauzero: No GPU.\n"),
        (KeyboardInterrupt(), 130, "\ntauzero: interrupted. Go on like this.\n"),
    ],
)
def test_errors_become_one_message_and_an_exit_code(error: BaseException, code: int, message: str) -> None:
    assert _run_raising(error) == (code, message)


def test_a_bug_names_its_type_and_the_way_to_its_traceback() -> None:
    code, message = _run_raising(KeyError("oops"))
    assert code == 1
    assert message.startswith("tauzero: unexpected KeyError: 'oops'")
    assert "--debug" in message
    assert "Traceback" not in message
    code, message = _run_raising(KeyError("oops"), debug=True)
    assert code == 1
    assert "Traceback" in message


@pytest.mark.parametrize("flag", [["--debug"], []])
def test_debug_shows_the_traceback(flag: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if not flag:
        monkeypatch.setenv("TAUZERO_DEBUG", "1")
    result = CliRunner().invoke(app, [*flag, "spaces", "nowhere"])
    assert result.exit_code == 2
    assert "Traceback" in result.stderr


def test_progress_is_silent_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    with support.progress_bar("working") as progress:
        assert progress is None
    assert capsys.readouterr() == ("", "")


def test_progress_shows_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with support.progress_bar("working") as progress:
        assert progress is not None
        progress(1, 2)
        progress(2, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert "working" in err


def test_ctrl_c_in_a_real_process() -> None:
    code = (
        "import time, typer\n"
        "from tauzero._cli_support import guarded\n"
        "app = typer.Typer()\n"
        "@app.command()\n"
        "@guarded('Run it again.')\n"
        "def command() -> None:\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
        "app()\n"
    )
    # Under nohup or as a background job SIGINT is ignored, and a child would inherit that. A handler in the
    # parent is reset to the default in the child.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "\ntauzero: interrupted. Run it again.\n"


def test_a_closed_pipe_is_no_error() -> None:
    code = "import sys; sys.argv[0] = 'tauzero'; from tauzero.cli import main; main()"
    arguments = [sys.executable, "-c", code, "spaces", "nasbench201", "--sample", "20000", "--json"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
    assert b"Traceback" not in err
    assert b"BrokenPipe" not in err
