"""The layers of the house, checked on the source text: what may import what, and what no file may do."""

from __future__ import annotations

import ast
import copy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: From the ground floor up; a room may import from those before it. The face knows them all.
ROOMS = ("spaces", "benchmarks", "networks", "encoders", "surrogates", "proxies", "search", "evaluation")
FACE = "face"
FOLDERS = {**{room: ROOT / room for room in ROOMS}, FACE: ROOT / "src" / "tauzero"}
#: Rooms that are nothing without torch; everywhere else it is imported inside the function that needs it.
TORCH_ROOMS = frozenset({"networks", "proxies"})
TORCH = frozenset({"torch", "torch_geometric"})
#: Files of other rooms that define torch modules; to import one of these is to import torch.
TORCH_FILES = {
    "encoders": frozenset({"_pretraining_autoencoder.py", "_pretraining_masked.py", "_pretraining_network.py"}),
    "search": frozenset({"_table_training.py", "_training.py"}),
    "surrogates": frozenset(
        {
            "_gnn_directed.py",
            "_gnn_layers.py",
            "_gnn_losses.py",
            "_gnn_model.py",
            "_gnn_tensors.py",
            "_gnn_training.py",
            "_mlp_model.py",
            "_multi_space_training.py",
        }
    ),
}
#: Folders of which the same is true as a whole.
TORCH_FOLDERS = {"search": frozenset({"oneshot"})}
MAX_LINES = 500


def _files() -> list[tuple[str, Path]]:
    found = []
    for room, folder in FOLDERS.items():
        paths = folder.glob("*.py") if room == FACE else folder.rglob("*.py")
        found += [(room, path) for path in sorted(paths)]
    return found


FILES = _files()
each_file = pytest.mark.parametrize(("room", "path"), FILES, ids=[f"{r}/{p.name}" for r, p in FILES])


def imports(tree: ast.AST) -> list[tuple[str, int]]:
    """Every imported module with its line; ``from tauzero import spaces`` counts as ``tauzero.spaces``."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            if module == "tauzero":
                found += [(f"tauzero.{alias.name}", node.lineno) for alias in node.names]
            else:
                found.append((module, node.lineno))
    return found


def at_import_time(tree: ast.Module) -> ast.Module:
    """The statements that run on import: no function bodies and no ``if TYPE_CHECKING`` blocks."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
            if ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
                return node.orelse
            return self.generic_visit(node)

    return Strip().visit(copy.deepcopy(tree))


def _needs_torch(module: str) -> bool:
    parts = module.split(".")
    if parts[0] in TORCH:
        return True
    if parts[0] != "tauzero" or len(parts) < 2:
        return False
    if parts[1] in TORCH_ROOMS:
        return True
    return len(parts) > 2 and (
        f"{parts[2]}.py" in TORCH_FILES.get(parts[1], ()) or parts[2] in TORCH_FOLDERS.get(parts[1], ())
    )


def layer_errors(room: str, source: str, name: str = "") -> list[str]:
    """What a file of `room` imports although the house forbids it."""
    allowed = {*ROOMS, "__version__", "cli"} if room == FACE else {*ROOMS[: ROOMS.index(room) + 1], "__version__"}
    tree = ast.parse(source)
    errors = []
    for module, line in imports(tree):
        if module.startswith("."):
            errors.append(f"line {line}: relative import {module!r}; write from tauzero.{room} import …")
        elif module.partition(".")[0] == "tauzero" and "." in module:
            target = module.split(".")[1]
            if target not in allowed and not (room == FACE and (FOLDERS[FACE] / f"{target}.py").exists()):
                errors.append(f"line {line}: {room} may not import tauzero.{target}, a room above it")
    free = name in TORCH_FILES.get(room, ()) or Path(name).parts[:1] in {(f,) for f in TORCH_FOLDERS.get(room, ())}
    if room not in TORCH_ROOMS and not free:
        errors += [
            f"line {line}: {module} at module level imports torch; import it inside the function that needs it"
            for module, line in imports(at_import_time(tree))
            if _needs_torch(module)
        ]
    return errors


def forbidden_calls(source: str) -> list[str]:
    """Calls that no file may make: print, unpickling without a restricted unpickler, seeding for everyone."""
    errors = []
    tree = ast.parse(source)
    forks = [n for n in ast.walk(tree) if isinstance(n, ast.With) and "fork_rng(" in ast.unparse(n.items[0])]
    restored = {id(inner) for fork in forks for inner in ast.walk(fork)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if name == "print":
            errors.append(f"line {node.lineno}: print; return a value, log or use the command line's console")
        if name.split(".")[0] in {"pickle", "cloudpickle", "dill"} and name.split(".")[-1] in {
            "load",
            "loads",
        }:
            errors.append(f"line {node.lineno}: {name}; read foreign pickles with the restricted unpickler")
        if name == "joblib.load" or name.endswith("read_pickle") or keywords.get("allow_pickle") == "True":
            errors.append(f"line {node.lineno}: {name} unpickles whatever the file says")
        if name == "torch.load" and keywords.get("weights_only") != "True":
            errors.append(f"line {node.lineno}: torch.load needs weights_only=True")
        if name == "torch.manual_seed" and id(node) in restored:
            continue
        if name in {"np.random.seed", "numpy.random.seed", "random.seed", "torch.manual_seed"}:
            errors.append(f"line {node.lineno}: {name} seeds globally; pass a Generator")
    return errors


@each_file
def test_a_room_imports_only_from_rooms_above(room: str, path: Path) -> None:
    name = path.relative_to(FOLDERS[room]).as_posix()
    assert layer_errors(room, path.read_text(encoding="utf-8"), name) == []


@each_file
def test_no_file_prints_unpickles_or_seeds_globally(room: str, path: Path) -> None:
    assert forbidden_calls(path.read_text(encoding="utf-8")) == []


@each_file
def test_modules_are_short_and_declare_what_they_offer(room: str, path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= MAX_LINES
    names = {
        t.id for n in ast.parse(source).body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)
    }
    assert "__all__" in names, f"{path.name} has no __all__"


def test_every_room_is_looked_at() -> None:
    """A rule that is parametrised over nothing passes: every room has to contribute files."""
    assert {room for room, _ in FILES} == set(FOLDERS)
    for room in ROOMS:
        link = FOLDERS[FACE] / room
        assert link.is_symlink(), f"src/tauzero/{room} must be a link for static tools"
        assert link.resolve() == FOLDERS[room]


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("spaces", "from tauzero.benchmarks import load"),
        ("spaces", "def f():\n    import tauzero.search"),
        ("surrogates", "from tauzero import evaluation"),
        ("encoders", "from .base import Encoder"),
        ("encoders", "import torch"),
        ("search", "try:\n    import torch.nn as nn\nexcept ImportError:\n    pass"),
        ("surrogates", "class A:\n    import torch"),
        ("surrogates", "from tauzero.networks import build"),
        ("surrogates", "from tauzero.surrogates._gnn_model import CellNetwork"),
        ("search", "import torch_geometric.nn"),
        ("search", "from tauzero.search.oneshot import run"),
        ("evaluation", "from tauzero.cli import app"),
    ],
)
def test_layer_check_finds(room: str, source: str) -> None:
    assert layer_errors(room, source)


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("search", "from tauzero.spaces import get\nfrom tauzero.surrogates import load"),
        ("surrogates", "def f():\n    import torch\n    return torch.ones(1)"),
        ("surrogates", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("proxies", "import torch\nfrom tauzero.networks import build"),
        ("face", "from tauzero import search, spaces\nfrom tauzero.cli import app"),
    ],
)
def test_layer_check_admits(room: str, source: str) -> None:
    assert layer_errors(room, source) == []


@pytest.mark.parametrize(
    "source",
    [
        "print(1)",
        "import pickle\npickle.load(f)",
        "pickle.loads(b)",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "joblib.load(p)",
        "np.load(p, allow_pickle=True)",
        "pd.read_pickle(p)",
        "np.random.seed(0)",
        "torch.manual_seed(0)",
    ],
)
def test_call_check_finds(source: str) -> None:
    assert forbidden_calls(source)


def test_call_check_admits_seeds_that_are_put_back() -> None:
    assert forbidden_calls("with torch.random.fork_rng(devices=[]):\n    torch.manual_seed(0)") == []


def _modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


HEAVY = {
    "torch",
    "torch_geometric",
    "pandas",
    "sklearn",
    "scipy",
    "lightgbm",
    "matplotlib",
    "pyarrow",
    "joblib",
}


def test_import_tauzero_imports_nothing_heavy() -> None:
    modules = _modules_after("import tauzero")
    assert "tauzero" in modules
    assert not modules & (HEAVY | {"numpy"})


@pytest.mark.parametrize("module", ["tauzero.cli", "tauzero.spaces"])
def test_help_and_spaces_import_nothing_heavy(module: str) -> None:
    assert not _modules_after(f"import {module}") & HEAVY


@pytest.mark.parametrize("room", [r for r in ROOMS if r not in TORCH_ROOMS])
def test_rooms_load_without_torch(room: str) -> None:
    assert "torch" not in _modules_after(f"import tauzero.{room}")


def test_unknown_attribute_of_the_face() -> None:
    import tauzero

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tauzero.nothing  # noqa: B018
