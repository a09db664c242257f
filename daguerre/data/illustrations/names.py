"""What the Unicode consortium calls the things that emoji show, in 28 locales."""

import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..packages import Package

NAMES = Package("emojibase-data", "17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a")


@dataclass(frozen=True)
class Concept:
    """A thing that has a code point: `code` as in "1F3CB-200D-2640", without the marks that ask for color."""

    code: str
    label: str
    tags: tuple[str, ...]
    group: str | None
    subgroup: str | None
    tones: Mapping[str, tuple[int, ...]]
    """Codes of the same with skin tones, 1 (light) to 5 (dark), one tone for each person shown."""


def bare(code: str) -> str:
    """A code without variation selectors, in capitals: "2764-fe0f" is "2764"."""
    return "-".join(part for part in code.upper().replace("_", "-").split("-") if part != "FE0F")


def read_concepts(path: Path) -> list[Concept]:
    """The things named in English, in Unicode's order, from the file of `NAMES`."""
    with tarfile.open(path, "r:gz") as archive:
        parsed = dict(_data(archive, lambda name: name in ("en/data.json", "meta/groups.json")))
    groups = parsed["meta/groups.json"]
    return [
        Concept(
            code=bare(entry["hexcode"]),
            label=entry["label"],
            tags=tuple(entry.get("tags") or ()),
            group=groups["groups"].get(str(entry.get("group"))),
            subgroup=groups["subgroups"].get(str(entry.get("subgroup"))),
            tones={bare(skin["hexcode"]): _tones(skin["tone"]) for skin in entry.get("skins") or ()},
        )
        for entry in sorted(parsed["en/data.json"], key=lambda entry: entry.get("order", 0))
    ]


def translations(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of (concept, locale, label, tags) from the file of `NAMES`, for every locale, without skin tones."""
    with tarfile.open(path, "r:gz") as archive:
        for name, entries in _data(archive, lambda name: name.count("/") == 1 and name.endswith("/data.json")):
            for entry in entries:
                yield {
                    "concept": bare(entry["hexcode"]),
                    "locale": name.split("/")[0],
                    "label": entry["label"],
                    "tags": list(entry.get("tags") or ()),
                }


def _tones(tone: int | Sequence[int]) -> tuple[int, ...]:
    return (tone,) if isinstance(tone, int) else tuple(tone)


def _data(archive: tarfile.TarFile, wanted: Callable[[str], bool]) -> Iterator[tuple[str, Any]]:
    for member in archive:
        name = member.name.removeprefix("package/")
        if wanted(name) and (file := archive.extractfile(member)):
            yield name, json.load(file)
