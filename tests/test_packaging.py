"""What is installed: an sdist, then a wheel from it, hold every module and data file, and nothing beside pneumod."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = (".py", ".tflite", ".json", ".tcss", ".conf")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that was made from it, both made from a copy of the tree."""
    folder = tmp_path_factory.mktemp("build")
    skipped = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
    shutil.copytree(ROOT, folder / "tree", symlinks=True, ignore=skipped)
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder / "tree"],
        check=True,
        capture_output=True,
        timeout=110,
    )
    return folder / "dist"


def expected_files() -> set[str]:
    """Every module and data file, by its place in a wheel."""
    found = set()
    for top, prefix in (("pneumod", ""), ("broker", "pneumod/"), ("tui", "pneumod/")):
        for path in (ROOT / top).rglob("*"):
            inside = path.relative_to(ROOT)
            linked = inside.parts[:2] in (("pneumod", "broker"), ("pneumod", "tui"))
            if path.suffix in DATA and not linked and "__pycache__" not in inside.parts:
                found.add(f"{prefix}{inside.as_posix()}")
    return found


def test_the_wheel_holds_every_file_and_nothing_beside_the_package(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    info = {name for name in names if name.partition("/")[0].endswith(".dist-info")}
    assert names - info == expected_files()
    assert {name.partition("/")[0] for name in names - info} == {"pneumod"}
    assert any(name.endswith("licenses/LICENSE") for name in info)
    assert any(name.endswith("entry_points.txt") for name in info)


def test_the_sdist_holds_what_an_installation_needs(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "configs/node.example.yaml", "systemd/pneumod.service"} <= names
    assert {"broker/embedded.py", "broker/mosquitto.conf", "tui/app.py"} <= names


def test_every_package_is_named() -> None:
    """A folder of modules that pyproject.toml doesn't name would be missing after `pip install`."""
    named = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    assert named == {str(Path(name).parent).replace("/", ".") for name in expected_files() if name.endswith(".py")}


def test_the_installed_package_imports_its_parts_from_beside_it(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = "import pneumod.cli, pneumod.broker.embedded, pneumod.tui.app; print(pneumod.tui.app.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(tmp_path / "pneumod" / "tui" / "app.py"), done.stderr
