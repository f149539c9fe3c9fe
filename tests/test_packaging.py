"""What is installed: every package, every model file, and nothing beside `tauzero`."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: list[str] = PROJECT["tool"]["setuptools"]["packages"]
PACKAGE_DIR: dict[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]
NOT_PACKAGES = {"tests", "docs", "examples", "performance", "build", "dist"}


def _packages_on_disk() -> set[str]:
    """Dotted name of every folder with an ``__init__.py``; the links below src/tauzero are not followed."""
    found = {"tauzero"} if (ROOT / "src/tauzero/__init__.py").exists() else set()
    for room in ROOT.iterdir():
        if room.is_dir() and room.name not in NOT_PACKAGES and not room.name.startswith("."):
            for init in room.rglob("__init__.py"):
                if "src" not in init.relative_to(ROOT).parts:
                    found.add(".".join(("tauzero", *init.parent.relative_to(ROOT).parts)))
    return found


def _folder_of(package: str) -> Path:
    """Where setuptools takes a package from: the longest mapped prefix."""
    parts = package.split(".")
    for k in range(len(parts), 0, -1):
        mapped = PACKAGE_DIR.get(".".join(parts[:k]))
        if mapped is not None:
            return ROOT.joinpath(mapped, *parts[k:])
    raise AssertionError(f"{package} has no folder in [tool.setuptools.package-dir]")


def test_every_package_on_disk_is_installed() -> None:
    assert sorted(PACKAGES) == sorted(_packages_on_disk())


def test_every_package_has_its_folder() -> None:
    for package in PACKAGES:
        assert (_folder_of(package) / "__init__.py").exists(), package


def test_no_package_at_the_root() -> None:
    """With an ``__init__.py`` at the root, pytest and mypy would import every room under a second name."""
    assert not (ROOT / "__init__.py").exists()


def test_version_stands_in_one_form() -> None:
    import tauzero

    version = PROJECT["project"]["version"]
    assert tauzero.__version__ == version
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[({re.escape(version)}|Unreleased)\]", changelog, re.MULTILINE)


def test_licence_is_the_full_text() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_constraints_pin_torch_and_pyproject_does_not() -> None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "torch==2.13.0" in constraints.splitlines()
    assert [d for d in PROJECT["project"]["dependencies"] if "==" in d] == []


def _source_copy(target: Path) -> Path:
    """What git would clone: a stale build/ folder in the checkout must not decide what the test sees."""
    ignore = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "tauzero-demo", "tests")
    shutil.copytree(ROOT, target, symlinks=True, ignore=ignore)
    return target


def _expected_files() -> set[str]:
    expected = {"tauzero/py.typed"}
    for package in PACKAGES:
        folder = _folder_of(package)
        prefix = package.replace(".", "/")
        expected |= {f"{prefix}/{path.name}" for path in folder.glob("*.py")}
    pretrained = ROOT / "surrogates" / "pretrained"
    expected |= {f"tauzero/surrogates/{p.relative_to(ROOT / 'surrogates').as_posix()}" for p in pretrained.glob("*/*")}
    expected |= {f"tauzero/benchmarks/embedded/{p.name}" for p in (ROOT / "benchmarks" / "embedded").glob("*")}
    shipped = [p for p in (ROOT / "surrogates" / "shipped").rglob("*") if p.is_file()]
    expected |= {f"tauzero/surrogates/{p.relative_to(ROOT / 'surrogates').as_posix()}" for p in shipped}
    templates = ROOT / "evaluation" / "_report" / "templates"
    expected |= {f"tauzero/evaluation/{p.relative_to(ROOT / 'evaluation').as_posix()}" for p in templates.iterdir()}
    return expected


@pytest.mark.slow
def test_wheel_contents(tmp_path: Path) -> None:
    source = _source_copy(tmp_path / "source")
    build = "import sys; from setuptools import build_meta as b; b.build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        info = {name for name in names if re.match(r"tauzero-[^/]+\.dist-info/", name)}
        entry_points = next(archive.read(n).decode() for n in info if n.endswith("entry_points.txt"))
        assert any(n.endswith("LICENSE") for n in info)
    assert names - info == _expected_files()
    assert "tauzero = tauzero.cli:main" in entry_points

    # The wheel works when the checkout is out of sight.
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); sys.meta_path[:] = "
        "[f for f in sys.meta_path if 'editable' not in getattr(f, '__module__', '')]\n"
        "import tauzero, tauzero.spaces, tauzero.cli; print(tauzero.__file__, tauzero.spaces.__file__)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(part.startswith(str(site)) for part in done.stdout.split()), done.stdout
