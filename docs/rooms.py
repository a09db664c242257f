"""Reads the rooms of daguerre: their order from pyproject.toml, their files and imports from the source by AST."""

import ast
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "daguerre"


def layers() -> list[list[str]]:
    """The rooms, top to bottom, as the import contract in pyproject.toml orders them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    rows = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    return [[room.strip() for room in row.split("|")] for row in rows]


def module_name(path: Path) -> str:
    """daguerre/models/unet.py -> daguerre.models.unet; a package is named by its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(path: Path) -> Iterator[tuple[str, int]]:
    """(absolute dotted name, line) of everything a file imports, at module level or inside functions."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            origin = [*start, *([node.module] if node.module else [])]
            yield from ((".".join([*origin, alias.name]), node.lineno) for alias in node.names)


def room_of(name: str) -> str | None:
    """The room a dotted name lies in; None for other packages and for daguerre itself."""
    parts = name.split(".")
    known = {room for row in layers() for room in row}
    return parts[1] if parts[0] == PACKAGE.name and len(parts) > 1 and parts[1] in known else None


def room_imports() -> dict[str, set[str]]:
    """room -> the other rooms that it imports."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(PACKAGE.rglob("*.py")):
        room = room_of(module_name(path))
        if room is not None:
            targets = {room_of(name) for name, _ in imported_names(path)}
            found[room] |= {target for target in targets if target is not None and target != room}
    return dict(found)


def files_of(room: str) -> list[str]:
    """The names of a room's files without .py, those of a folder in it behind the folder's name."""
    names = []
    for path in sorted((PACKAGE / room).rglob("*.py")):
        if path.name != "__init__.py":
            names.append("/".join(path.relative_to(PACKAGE / room).with_suffix("").parts))
    return names
