"""Files, functions, constructors and the core stay small. A decision record is needed to raise a limit."""

import ast
from pathlib import Path

from rooms import CORE, CORE_LIMIT, PACKAGE, ROOT, SPINE, SPINE_LIMIT, lines_of

FILE, FUNCTION, PARAMETERS = 400, 60, 6
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def test_files_are_short(tracked: list[Path]) -> None:
    lengths = {path: len(path.read_bytes().splitlines()) for path in tracked if path.suffix == ".py"}
    assert lengths
    assert not {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n >= FILE}


def test_functions_are_short(tracked: list[Path]) -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in tracked
        if path.suffix == ".py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, FUNCTIONS) and node.end_lineno - node.lineno + 1 > FUNCTION
    ]
    assert not long


def test_constructors_take_few_parameters(package: dict[Path, ast.Module]) -> None:
    """Dataclasses write no constructor, so a config may have as many fields as it needs."""
    wide = []
    for path, tree in package.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                a = node.args
                count = len(a.posonlyargs) + len(a.args) + len(a.kwonlyargs) - 1
                if count > PARAMETERS:
                    wide.append(f"{path.relative_to(ROOT)}:{node.lineno}: {count} parameters")
    assert not wide


def test_the_core_is_small() -> None:
    lines = lines_of(CORE)
    assert all(lines.values()), lines
    assert sum(lines.values()) <= CORE_LIMIT, lines


def test_the_way_from_a_prompt_to_its_picture_is_short() -> None:
    lines = lines_of(SPINE)
    assert all(lines.values()), lines
    assert sum(lines.values()) <= SPINE_LIMIT, lines


def test_the_package_is_read(package: dict[Path, ast.Module]) -> None:
    assert PACKAGE / "models" / "unet.py" in package
