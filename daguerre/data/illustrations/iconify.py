"""Drawings of the npm packages of Iconify (one JSON of SVG bodies) and of LobeHub (a folder of WebP)."""

import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .names import bare

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="{} {} {} {}">{}</svg>'
)
ICONS, CODES, WEBP = "package/icons.json", "package/chars.json", "package/assets/"


@dataclass(frozen=True)
class Drawing:
    """A picture as its package has it: SVG text, or a whole WebP file."""

    name: str
    data: str | bytes


@dataclass(frozen=True)
class IconSet:
    """The drawings of a package by name, the names by code point where the package tells them, and second names."""

    drawings: Mapping[str, Drawing]
    codes: Mapping[str, str]
    aliases: Mapping[str, str]


def read_icons(path: Path) -> IconSet:
    """What an npm package of either kind holds; of LobeHub's the names are code points."""
    found: dict[str, Any] = {}
    pictures: dict[str, Drawing] = {}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            if member.name in (ICONS, CODES) and (file := archive.extractfile(member)):
                found[member.name] = json.load(file)
            elif member.name.startswith(WEBP) and (file := archive.extractfile(member)):
                name = Path(member.name).stem
                pictures[name] = Drawing(name, file.read())
    if pictures:
        return IconSet(pictures, {bare(name): name for name in pictures}, {})
    if ICONS not in found:
        raise ValueError(f"{path} holds neither {ICONS} nor pictures in {WEBP}")
    icons = found[ICONS]
    aliases = {name: str(alias["parent"]) for name, alias in icons.get("aliases", {}).items()}
    turned = {name for name, alias in icons.get("aliases", {}).items() if len(alias) > 1}
    drawings = {drawing.name: drawing for drawing in _drawings(icons)}
    codes = {bare(code): name for code, name in found.get(CODES, {}).items()}
    return IconSet(drawings, codes, {name: parent for name, parent in aliases.items() if name not in turned})


def _drawings(icons: Mapping[str, Any]) -> Iterator[Drawing]:
    for name, icon in icons["icons"].items():
        yield Drawing(name, _svg(icons, icon, icon))
    for name, alias in icons.get("aliases", {}).items():
        if alias.get("hFlip") and alias["parent"] in icons["icons"]:  # the mirrored picture is a picture of its own
            yield Drawing(name, _svg(icons, icons["icons"][alias["parent"]], alias))


def _svg(icons: Mapping[str, Any], icon: Mapping[str, Any], turn: Mapping[str, Any]) -> str:
    left, top, width, height = (
        float(icon.get(key, icons.get(key, default)))
        for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    body = icon["body"]
    if turn.get("hFlip"):
        body = f'<g transform="translate({2 * left + width:g} 0) scale(-1 1)">{body}</g>'
    return SVG.format(f"{left:g}", f"{top:g}", f"{width:g}", f"{height:g}", body)
