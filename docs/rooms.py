"""Reads the rooms of daguerre: their order from pyproject.toml, files and imports from the source by AST."""

import ast
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "daguerre"
# What has to stay small enough to be known by heart, and what a newcomer reads from a prompt to its picture.
CORE = ("request", "diffusion", "models", "text", "checkpoints", "families")
SPINE = (
    "cli/generate.py",
    "generate/text_to_image.py",
    "generate/drawing.py",
    "diffusion/samplers/euler.py",
    "provenance/png.py",
)
CORE_LIMIT, SPINE_LIMIT = 8_000, 520  # lines


@cache
def layers() -> list[list[str]]:
    """The rooms, top to bottom, as the import contract in pyproject.toml orders them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    rows = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    return [[room.strip() for room in row.split("|")] for row in rows]


def module_name(path: Path) -> str:
    """daguerre/models/unet.py -> daguerre.models.unet; a package is named by its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(source: str, package: tuple[str, ...] = ()) -> Iterator[tuple[str, int]]:
    """(absolute dotted name, line) of all that source text imports, at its top or inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            origin = [*start, *([node.module] if node.module else [])]
            yield from ((".".join([*origin, alias.name]), node.lineno) for alias in node.names)


def imports_of(path: Path) -> list[tuple[str, int]]:
    """`imported_names` of a file of ours."""
    return list(imported_names(path.read_text(encoding="utf-8"), path.relative_to(ROOT).parent.parts))


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
            targets = {room_of(name) for name, _ in imports_of(path)}
            found[room] |= {target for target in targets if target is not None and target != room}
    return dict(found)


def files_of(room: str) -> list[str]:
    """The names of a room's files without .py, those of a folder in it behind the folder's name."""
    paths = sorted(path for path in (PACKAGE / room).rglob("*.py") if path.name != "__init__.py")
    return ["/".join(path.relative_to(PACKAGE / room).with_suffix("").parts) for path in paths]


def lines_of(names: tuple[str, ...]) -> dict[str, int]:
    """Lines of Python in files and folders of the package; 0 for what does not exist."""
    counted = {}
    for name in names:
        place = PACKAGE / name
        files = [place] if place.suffix else place.rglob("*.py")
        counted[name] = sum(len(file.read_bytes().splitlines()) for file in files if file.exists())
    return counted
