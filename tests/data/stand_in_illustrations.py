"""Small packages in the forms of Iconify, LobeHub, Emojibase and Debian, and what is to be built of them."""

import hashlib
import io
import json
import tarfile
from dataclasses import replace
from gzip import GzipFile
from urllib.parse import quote

from PIL import Image

from daguerre.data.illustrations.build import Wanted
from daguerre.data.illustrations.sets import STYLES
from daguerre.data.packages import Package

# Held out for real are the rooster (everywhere) and the tulip in the family noto; the ant is for validation.
THINGS = [  # code point, name, group, Italian, keywords
    ("1F34E", "red apple", 4, "mela rossa", ["fruit"]),
    ("1F413", "rooster", 3, "gallo", ["bird"]),
    ("1F337", "tulip", 4, "tulipano", ["flower"]),
    ("1F41C", "ant", 3, "formica", ["insect"]),
    ("1F44B", "waving hand", 1, "mano che saluta", ["hello"]),
    ("1F4BF", "optical disk", 7, "disco ottico", ["cd"]),
    ("1F9ED", "compass", 5, "bussola", []),
    ("1F620", "angry face", 0, "faccina arrabbiata", ["mad"]),
    ("2B06-FE0F", "up arrow", 8, "freccia", ["north"]),
]
TONES = ["light", "medium-light", "medium", "medium-dark", "dark"]
GROUPS = [
    "smileys-emotion", "people-body", "component", "animals-nature", "food-drink", "travel-places", "activities",
    "objects", "symbols", "flags",
]  # fmt: skip
CIRCLE = '<circle cx="18" cy="18" r="12" fill="{}"/>'
CLIP_ART = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:dc="dc" xmlns:rdf="rdf" xmlns:cc="cc" width="400"
height="300"><metadata><dc:title>{title}</dc:title>
<rdf:li>{keyword}</rdf:li><dc:creator><cc:Agent><dc:title>{author}</dc:title></cc:Agent></dc:creator>
<cc:license rdf:resource="{licence}"/></metadata>{body}</svg>"""
RECTANGLE = '<rect x="20" y="40" width="40" height="20" fill="{}"/>'
FREE = "http://web.resource.org/cc/PublicDomain"
CLIPS = [  # path, title, author, keyword, license, fill
    ("animals/birds/gallo_architetto_franc_01.svg", "Gallo_01", "Architetto Francesco Rollandin", "bird", FREE, "#123"),
    ("tools/pliers_ada_lovelace_01.svg", "Clipart by Ada Lovelace - thing", "Ada Lovelace", "tool", FREE, "#b00"),
    ("food/an_apple_02.svg", "An Apple (B and W)", "Ada", "fruit", FREE, "#000"),
    ("food/apple_again.svg", "Pear", "Ada", "fruit", FREE, "#000"),  # the same picture as the one before
    ("food/cake.svg", "Cake", "Ada", "cake", "http://creativecommons.org/licenses/GPL/2.0/", "#fcc"),
    ("computer/icons/disk.svg", "Disk", "Ada", "disk", FREE, "#ccc"),
    ("plants/nothing.svg", "Nothing", "Ada", "plant", FREE, "none"),
]


def packed(folder, package, files):
    """Writes a .tgz of files as its package's and returns the package with that hash."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / package.file
    with GzipFile(path, "wb", mtime=0) as file, tarfile.open(fileobj=file, mode="w") as archive:  # alike at all times
        _fill(archive, {f"package/{name}": data for name, data in files.items()})
    return replace(package, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def stand_in(folder, **options):
    """Packages in a folder: three names of Unicode's, four sets of drawings, clip art; and the wish to build them."""
    styles = {style.key: style for style in STYLES}

    def put(key, files):
        style = styles[key]
        return replace(style, package=packed(folder, replace(style.package, version="0.0.1"), files))

    names = packed(folder, Package("emojibase-data", "0.0.1", ""), _names())
    return Wanted(styles=(put("noto", _icons(_noto())), put("fxemoji", _icons(_fxemoji())), put("fluent_3d", _webp()),
                          _clip_art(folder, styles["openclipart"])), names=names, **options)  # fmt: skip


def _names():
    def entry(code, label, group, tags):
        return {"hexcode": code, "label": label, "group": group, "subgroup": 0, "tags": tags, "order": group}

    english = [entry(code, name, group, tags) for code, name, group, _, tags in THINGS]
    english[4]["skins"] = [
        {"hexcode": f"1F44B-1F3F{'BCDEF'[i]}", "tone": i + 1, "label": f"waving hand: {tone}"}
        for i, tone in enumerate(TONES)
    ]
    italian = [entry(code, name, group, []) for code, _, group, name, _ in THINGS]
    groups = {"groups": {str(i): name for i, name in enumerate(GROUPS)}, "subgroups": {"0": "some"}}
    files = {"en/data.json": english, "it/data.json": italian, "meta/groups.json": groups, "en/compact.json": []}
    return {name: json.dumps(data).encode() for name, data in files.items()}


def _noto():
    """All things, with code points; the compass has another name, the disk looks like the compass."""
    colors = ["#f00", "#840", "#f0f", "#222", "#fc0", "#0aa", "#0aa", "#e40", "#00f"]
    names = [name.replace(" ", "-") for _, name, *_ in THINGS]
    names[6] = "navigation-tool"
    codes = {code.lower(): name for (code, *_), name in zip(THINGS, names, strict=True)}
    icons = dict(zip(names, colors, strict=True))
    for i, tone in enumerate(TONES):
        icons[f"waving-hand-{tone}-skin-tone"] = f"#{9 - i}{8 - i}0"
        codes[f"1f44b-1f3f{'bcdef'[i]}"] = f"waving-hand-{tone}-skin-tone"
    icons["pickle"], codes["1fadd"] = "#080", "pickle"
    return icons, codes


def _fxemoji():
    return {"tulip": "#c0c", "redapple": "#e00", "angry": "#f40", "foxcrying": "#fa0", "uparrow": "#00f"}, {}


def _icons(drawn):
    colors, codes = drawn
    icons = {"width": 36, "height": 36, "icons": {name: {"body": CIRCLE.format(c)} for name, c in colors.items()}}
    icons["aliases"] = {"compass": {"parent": "navigation-tool"}} if codes else {}
    files = {"icons.json": icons, "chars.json": codes} if codes else {"icons.json": icons}
    return {name: json.dumps(data).encode() for name, data in files.items()}


def _webp():
    files = {}
    for code, color in (("1f34e", "red"), ("1f413", "brown"), ("23-fe0f-20e3", "blue")):
        memory = io.BytesIO()
        Image.new("RGBA", (256, 256), color).save(memory, "WEBP", lossless=True)
        files[f"assets/{code}.webp"] = memory.getvalue()
    return files


def _clip_art(folder, style):
    package = replace(style.package, version="1:0.1")
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:xz") as archive:
        _fill(archive, {
            f"./usr/share/openclipart/svg/{path}": CLIP_ART.format(
                title=title, author=author, keyword=keyword, licence=licence, body=RECTANGLE.format(fill)
            ).encode()
            for path, title, author, keyword, licence, fill in CLIPS
        })  # fmt: skip
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": inner.getvalue()}
    data = b"!<arch>\n"
    for name, part in parts.items():
        data += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(part):<10}`\n".encode() + part + b"\n" * (len(part) % 2)
    path = folder / f"openclipart-svg_{quote('1:0.1').lower()}_all.deb"
    path.write_bytes(data)
    return replace(style, package=replace(package, sha256=hashlib.sha256(data).hexdigest()))


def _fill(archive, files):
    for name, data in files.items():
        member = tarfile.TarInfo(name)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
