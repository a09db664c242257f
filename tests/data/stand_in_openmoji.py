"""A package as npm delivers OpenMoji's, with a handful of drawings."""

import hashlib
import io
import json
import tarfile
from gzip import GzipFile

from daguerre.data.packages import Package

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72"><circle cx="36" cy="36" r="24" fill="{}"/></svg>'
THINGS = [  # code point, name, group, skin tone, color
    ("1F34E", "red apple", "food-drink", "", "#f00"),
    ("1F98A", "fox", "animals-nature", "", "#fa0"),
    ("1F43E", "paw prints", "animals-nature", "", "#000"),
    ("1F9D1", "artist", "people-body", "", "#0af"),
    ("1F468", "man artist", "people-body", "", "#0af"),  # the same drawing as the one before
    ("1F44B", "waving hand: dark skin tone", "people-body", "5", "#420"),
    ("1F1E6", "flag: Andorra", "flags", "", "#00f"),
    ("1F680", "rocket", "travel-places", "", ""),  # named, but not drawn
]


def write_package(folder):
    """Writes openmoji-0.0.1.tgz into a folder and says what it is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "openmoji-0.0.1.tgz"
    with GzipFile(path, "wb", mtime=0) as file, tarfile.open(fileobj=file, mode="w") as archive:  # alike at all times

        def add(name, text):
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))

        rows = [
            {
                "hexcode": code, "annotation": name, "group": group, "subgroups": "some", "skintone": tone,
                "tags": "round, thing", "openmoji_tags": f"thing, {name}", "openmoji_author": "Ada",
            }
            for code, name, group, tone, _ in THINGS
        ]  # fmt: skip
        add("data/openmoji.json", json.dumps(rows))
        for code, *_, color in THINGS:
            if color:
                add(f"color/svg/{code}.svg", SVG.format(color))
                add(f"black/svg/{code}.svg", SVG.format("#000"))
    return Package("openmoji", "0.0.1", hashlib.sha256(path.read_bytes()).hexdigest())
