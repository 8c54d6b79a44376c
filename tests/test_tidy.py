"""The repository stays readable: short files, short functions, nothing unfinished, nothing unused."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60
FOLDERS = ("pneumod", "broker", "tui", "tests", "benchmarks")
# Put together here, so that this file doesn't find itself.
UNFINISHED = re.compile(
    r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b|NotImplemented" + "Error"
)
# Started by their names: by Python itself or by the command line. A module with a main part of its own is one too.
ENTRY_POINTS = re.compile(r"pneumod\.__main__|pneumod\.cli|pneumod\.commands\.\w+")
MAIN_PART = 'if __name__ == "__main__":'


def sources() -> list[Path]:
    """Every Python file, once: pneumod/broker and pneumod/tui are links."""
    found = {p.resolve() for folder in FOLDERS for p in (ROOT / folder).rglob("*.py")}
    return sorted(found)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_of(path: Path) -> str:
    """pneumod.core.node of pneumod/core/node.py, pneumod.tui.app of tui/app.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] in ("broker", "tui"):
        parts = ("pneumod", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path) -> set[str]:
    """Modules that a file imports, and the names it imports from them, which may be modules too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", sources(), ids=relative)
def test_a_file_is_short_and_finished(path: Path) -> None:
    text = path.read_text()
    lines = text.count("\n")
    assert lines <= MAX_FILE_LINES
    assert UNFINISHED.findall(text) == []
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    sizes = {f.name: (f.end_lineno or f.lineno) - f.lineno + 1 for f in functions}
    assert {name: size for name, size in sizes.items() if size > MAX_FUNCTION_LINES} == {}


def test_every_module_is_imported_by_another_or_is_an_entry_point() -> None:
    """A module that only its own unit test imports is dead; the simulator in tests/sim is a user like any other."""
    shipped = [p for p in sources() if p.relative_to(ROOT).parts[0] in ("pneumod", "broker", "tui")]
    imported = {p: imported_modules(p) for p in (*shipped, *(ROOT / "tests" / "sim").glob("*.py"))}
    for path in shipped:
        name = module_of(path)
        started = path.name == "__init__.py" or ENTRY_POINTS.fullmatch(name) or MAIN_PART in path.read_text()
        users = [other for other in imported if other != path and name in imported[other]]
        assert started or users, f"{relative(path)} is imported by nothing"


def test_the_links_lead_beside_the_package() -> None:
    for name in ("broker", "tui"):
        link = ROOT / "pneumod" / name
        assert link.is_symlink()
        assert str(link.readlink()) == f"../{name}"
