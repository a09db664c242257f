"""Hostile containers: zips that two programs could read in two ways, and the older form without a zip."""

import bz2
import io
import lzma
import struct
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from .hostile_pickles import legacy, mapping, model, number, text, together, whole, word

STORED, DEFLATED, BZIP2, LZMA = 0, 8, 12, 14
GOOD = whole(2, model(2))
BAD = whole(2, word(2, "os system") + together(text(2, "touch canary")) + b"R")

Sample = tuple[str, bytes, tuple[str, ...], str]  # class, content, words of which the error holds one, suffix


@dataclass(frozen=True)
class Entry:
    """One file in a zip, and what the zip's two descriptions of it say."""

    name: bytes
    data: bytes
    flags: int = 0
    method: int = STORED
    size: int | None = None
    checksum: int | None = None
    offset: int | None = None
    local_name: bytes | None = None
    local_flags: int | None = None
    local_method: int | None = None


def archive(*entries: Entry, comment: bytes = b"", before: bytes = b"", shift: int = 0) -> bytes:
    """A zip; `shift` is added to the place of its directory."""
    content, directory = before, b""
    for entry in entries:
        checksum = zlib.crc32(entry.data) if entry.checksum is None else entry.checksum
        size = len(entry.data) if entry.size is None else entry.size
        offset = len(content) if entry.offset is None else entry.offset
        flags = entry.flags if entry.local_flags is None else entry.local_flags
        method = entry.method if entry.local_method is None else entry.local_method
        name = entry.name if entry.local_name is None else entry.local_name
        sizes = checksum, len(entry.data), size, len(name), 0
        content += struct.pack("<4sHHHIIIIHH", b"PK\3\4", 20, flags, method, 0, *sizes) + name + entry.data
        sizes = checksum, len(entry.data), size, len(entry.name)
        fields = 20, 20, entry.flags, entry.method, 0, *sizes, 0, 0, 0, 0, 0, offset
        directory += struct.pack("<4sHHHHIIIIHHHHHII", b"PK\1\2", *fields) + entry.name
    place = len(content) + shift
    end = struct.pack("<4sIHHIIH", b"PK\5\6", 0, len(entries), len(entries), len(directory), place, len(comment))
    return content + directory + end + comment


def members(pickle: bytes = GOOD) -> list[Entry]:
    return [
        Entry(b"archive/data.pkl", pickle),
        Entry(b"archive/version", b"3\n"),
        Entry(b"archive/byteorder", b"little"),
        Entry(b"archive/data/0", bytes(16)),
    ]


def changed(index: int, **fields: object) -> bytes:
    kept = members()
    kept[index] = replace(kept[index], **fields)
    return archive(*kept)


def flags_and_methods(rng: Random) -> Iterator[Sample]:
    for bit in (0, 5, 6, 13, 4, 1, 2, 12):
        for index in (0, 3):
            both = {"flags": 1 << bit}
            for fields in ({"flags": 0, "local_flags": 1 << bit}, {"flags": 1 << bit, "local_flags": 0}, both):
                yield "zip: flag bits", changed(index, **fields), ("archive/data",), ".ckpt"
    for method, pack in ((DEFLATED, raw_deflate), (BZIP2, bz2.compress), (LZMA, lzma.compress)):
        packed = {"data": pack(GOOD), "method": method, "size": len(GOOD), "checksum": zlib.crc32(GOOD)}
        yield "zip: compressed", changed(0, **packed), ("compressed",), ".ckpt"
        yield ("zip: compressed, says it is not", changed(0, **packed, local_method=STORED), ("compressed",), ".ckpt")
        yield "zip: plain, says it is compressed", changed(0, local_method=method), ("two ways",), ".ckpt"


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def bombs(rng: Random) -> Iterator[Sample]:
    packed = raw_deflate(b"N" * (100 << 20))
    for index in (0, 3):
        bomb = {"data": packed, "method": DEFLATED, "size": 100 << 20}
        yield "zip: 1000:1", changed(index, **bomb), ("compressed",), ".ckpt"
        yield ("zip: 1000:1, sizes agree", changed(index, **bomb | {"size": len(packed)}), ("compressed",), ".ckpt")
    for size in (1 << 20, 0xFFFFFFFE, 0xFFFFFFFF):
        for index in (0, 3):
            yield (
                "zip: size beyond the file",
                changed(index, size=size),
                ("archive/data", "damaged", "broken"),
                ".ckpt",
            )
    many = [Entry(b"archive/data/%d" % number, b"") for number in range(60_000)]
    yield "zip: 60,000 files", archive(*members(), *many), ("cut short or altered",), ".ckpt"


def names(rng: Random) -> Iterator[Sample]:
    traps = [
        b"../canary", b"../../data.pkl", b"archive/../../canary", b"/tmp/canary", b"/archive/data/0",
        b"C:\\canary", b"archive\\data\\1", b"archive/data/../0", b"archive/data/0\0.txt",
        b"archive/data/x", b"archive/./data/1", b"./data/1", b"archive//data/1", b"archive/data/1/",
        b"archive/code/model.py", b"archive/constants.pkl", b"archive/data/-1",
        "archive/data/\u0661".encode(), b"archive/DATA.PKL", b"data.pkl", b"archive/data.pkl ",
        b"archive/data.pkl/", b"archive/archive/data.pkl", b"other/version", b"..", b"", b"\xff\xfe",
        b"archive/data/1\n", b"__MACOSX/archive/data.pkl", b"archive/data/" + b"1" * 300 + b"x",
    ]  # fmt: skip
    for name in traps:
        content = archive(*rng.sample([*members(), Entry(name, b"canary")], 5))
        yield "zip: zip slip and strange names", content, ("its zip",), ".ckpt"
    for twin in (b"archive/data.pkl", b"other/data.pkl", b"a/data.pkl", b"archive2/data.pkl"):
        for pickle in (GOOD, BAD):
            content = archive(*rng.sample([*members(), Entry(twin, pickle)], 5))
            yield "zip: two data.pkl", content, ("its zip",), ".ckpt"
    for index in (0, 3):
        for twin in (b"archive/data/9", b"archive/data.pkl\0", b"Archive/data.pkl", b"../canary", b""):
            yield "zip: two names for one file", changed(index, local_name=twin), ("two ways",), ".ckpt"
    for parts in ([], members()[1:], [Entry(b"archive/data/0", GOOD)]):
        yield "zip: no data.pkl", archive(*parts), ("its zip", "no safetensors file", "cut short"), ".ckpt"


def places(rng: Random) -> Iterator[Sample]:
    good = archive(*members())
    assert good.count(b"PK\1\2") == 4
    for _ in range(20):
        content = good[: rng.randrange(5, len(good))]
        yield "zip: cut short", content, ("cut short", "broken"), ".ckpt"
    for _ in range(6):
        junk = rng.randbytes(rng.randint(1, 40))
        yield "zip: bytes after it", good + junk, ("altered", "broken", "its zip"), ".ckpt"
        yield "zip: comment", archive(*members(), comment=junk), ("altered",), ".ckpt"
        yield "zip: bytes before it", b"PK\3\4" + junk + good, ("altered", "its zip"), ".ckpt"
        yield (
            "zip: directory elsewhere",
            archive(*members(), shift=rng.choice([-9, -1, 1, 9, 1 << 20])),
            ("altered",),
            ".ckpt",
        )
        index, other = rng.sample(range(4), 2)
        offsets = [good.index(member.name) - 30 for member in members()]
        content = changed(index, offset=offsets[other])
        yield "zip: two entries for one file", content, ("two ways",), ".ckpt"
        content = changed(index, offset=rng.choice([len(good), 1 << 31, 0xFFFFFFFE, 7]))
        yield "zip: offset leads nowhere", content, ("two ways", "broken"), ".ckpt"
    for index, size in ((0, len(GOOD) + 40), (0, len(good)), (3, 400)):
        fields = {"size": size, "data": members()[index].data}
        yield "zip: file reaches into the next", changed(index, **fields), ("compressed", "overlaps"), ".ckpt"
    for directory in (0, 1 << 32, 1 << 63, len(good) - 22):
        long = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 4, 4, 200, directory)
        locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(good) - 22, 1)
        yield "zip: long directory lies", good[:-22] + long + locator + good[-22:], ("altered",), ".ckpt"


def contents(rng: Random) -> Iterator[Sample]:
    for _ in range(8):
        checksum = rng.randrange(1 << 32)
        kept = [replace(members(rng.choice([GOOD, BAD]))[0], checksum=checksum), *members()[1:]]
        yield "zip: wrong checksum", archive(*kept), ("checksum",), ".ckpt"
    inner = archive(*members(BAD))
    yield "zip: zip as data.pkl", archive(*members(inner)), ("no readable checkpoint",), ".ckpt"
    for name in (b"model.ckpt", b"archive/model.ckpt", b"archive/inner/data.pkl"):
        yield "zip: zip in a zip", archive(Entry(name, inner)), ("its zip",), ".ckpt"
        yield "zip: zip in a zip", archive(*members(), Entry(name, inner)), ("its zip",), ".ckpt"
    yield "zip: big-endian", changed(2, data=b"big"), ("big-endian",), ".ckpt"
    for suffix in (".safetensors", ".txt", ".png", ".bin", ".pt", ".zip", "", ".ckpt.safetensors"):
        yield "wrong extension: zip", archive(*members(BAD)), ("os.system",), suffix
        yield "wrong extension: legacy", legacy(BAD), ("os.system",), suffix
        yield "wrong extension: bare pickle", BAD, ("os.system",), suffix


def legacies(rng: Random) -> Iterator[Sample]:
    good = legacy(GOOD)
    for _ in range(15):
        content = good[: rng.randrange(20, len(good))]
        yield "legacy: cut short", content, ("no readable checkpoint",), ".ckpt"
    yield "legacy: bytes after it", good + b"\0", ("should have",), ".ckpt"
    yield (
        "legacy: another version",
        good.replace(b"J\xe9\3\0\0.", b"J\xea\3\0\0.", 1),
        ("PyTorch's older form",),
        ".ckpt",
    )
    yield "legacy: big-endian", good.replace(b"\x88d.", b"\x89d.", 1), ("big-endian",), ".ckpt"
    yield "legacy: storage count lies", good[:-24] + b"\xff" * 8 + good[-16:], ("storages",), ".ckpt"
    yield "legacy: no storage key", good.replace(b"(X\1\0\0\x000l.", b"(l.", 1), ("should have",), ".ckpt"
    yield ("legacy: other storage key", good.replace(b"(X\1\0\0\x000l.", b"(X\1\0\0\x001l.", 1), ("broken",), ".ckpt")
    yield "legacy: keys are no texts", good.replace(b"(X\1\0\0\x000l.", b"(((ltl.", 1), ("broken",), ".ckpt"
    for index in range(3):
        pickles = [b"", whole(2, number(2, 1001)), whole(2, mapping(text(2, "little_endian"), b"\x88"))]
        pickles[0] = good[: good.index(b".") + 1]
        pickles[index] = pickles[0] + BAD if index == 0 else BAD
        yield "legacy: payload before the tree", b"".join(pickles) + GOOD, ("os.system",), ".ckpt"
    yield ("legacy: payload after the tree", good.replace(b"\x80\2(X\1\0\0\x000l.", BAD, 1), ("os.system",), ".ckpt")
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as old:
        info = tarfile.TarInfo("../canary")
        info.size = len(BAD)
        old.addfile(info, io.BytesIO(BAD))
    yield "legacy: tar", tar.getvalue(), ("no safetensors file",), ".ckpt"


def hostile_zips(rng: Random) -> Iterator[Sample]:
    """Every class, some of them many times."""
    for make in (flags_and_methods, bombs, names, places, contents, legacies):
        yield from make(rng)
