"""Hostile safetensors files: broken lengths, lying headers, odd names, cuts at every byte, bombs."""

import json
import math
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from daguerre.files.reader import SETTINGS

WIDTHS = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8, "I64": 8, "U8": 1}

Maker = Callable[[Random], tuple[bytes, tuple[str, ...]]]  # -> content, words of which the error holds one


def honest(rng: Random) -> tuple[dict[str, Any], bytes]:
    header: dict[str, Any] = {}
    place = 0
    for number in range(rng.randint(2, 6)):
        dtype = rng.choice(list(WIDTHS))
        shape = [rng.randint(1, 5) for _ in range(rng.randint(1, 4))]
        end = place + math.prod(shape) * WIDTHS[dtype]
        header[f"model.{rng.choice('pqr')}{number}.weight"] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [place, end],
        }
        place = end
    return header, rng.randbytes(place)


def packed(header: Any, data: bytes, length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


def size_of(content: bytes) -> int:
    return int.from_bytes(content[:8], "little")


FIELDS: dict[str, Callable[[Random], dict[str, Any]]] = {
    "product of the shape overflows": lambda rng: {"shape": [1 << rng.randint(30, 60), 1 << rng.randint(34, 63)]},
    "product of the shape wraps to the right size": lambda rng: {"shape": [1 << 32, 1 << 32, rng.randint(1, 9)]},
    "negative size": lambda rng: {"shape": [-rng.randint(1, 9), -rng.randint(1, 9)]},
    "size is a fraction": lambda rng: {"shape": [rng.random() + 1]},
    "size is a boolean": lambda rng: {"shape": [True, rng.choice([True, False])]},
    "size is a text": lambda rng: {"shape": [str(rng.randint(1, 9))]},
    "size is not a number": lambda rng: {"shape": [rng.choice([math.nan, math.inf, None, {}, []])]},
    "size of 4,000 digits": lambda rng: {"shape": [10 ** rng.randint(3000, 4000)]},
    "too many dimensions": lambda rng: {"shape": [1] * rng.randint(9, 999)},
    "shape is no list": lambda rng: {"shape": rng.choice([4, "4", None, {"0": 4}, True])},
    "unknown dtype": lambda rng: {"dtype": rng.choice(["F128", "float32", "f32", "", "O", "<f4", "PICKLE", "C64"])},
    "dtype is no text": lambda rng: {"dtype": rng.choice([4, None, ["F32"], {"F32": 1}, True])},
    "offsets reversed": lambda rng: {"data_offsets": [rng.randint(50, 99), rng.randint(0, 9)]},
    "negative offset": lambda rng: {"data_offsets": [-rng.randint(1, 99), 4]},
    "one offset or three": lambda rng: {"data_offsets": [0] * rng.choice([0, 1, 3, 4])},
    "offset is no number": lambda rng: {"data_offsets": rng.choice([["0", "4"], [None, 4], [0.0, 4.0], [False, 4]])},
    "offsets are no list": lambda rng: {"data_offsets": rng.choice([4, "0:4", None, {"0": 4}])},
    "offset beyond every file": lambda rng: {"data_offsets": [0, 1 << rng.randint(41, 64)]},
    "unknown field": lambda rng: {rng.choice(["__reduce__", "strides", "Shape", "url", "code"]): "os.system"},
    "more elements than bytes": lambda rng: {"shape": [rng.randint(1000, 1 << 30)]},
}  # fmt: skip


def lying(change: Callable[[Random], dict[str, Any]]) -> Maker:
    def make(rng: Random) -> tuple[bytes, tuple[str, ...]]:
        header, data = honest(rng)
        key = rng.choice(list(header))
        header[key].update(change(rng))
        return packed(header, data), (key,)

    return make


def claims_length(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    length = rng.choice([1 << 63, (1 << 64) - 1, (100 << 20) + 1, (8 << 20) + 1, rng.randrange(1 << 40, 1 << 64)])
    return packed(*honest(rng), length), ("a header of",)


def length_beyond_the_file(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    content = packed(*honest(rng))
    return packed(*honest(rng), len(content) + rng.randint(1000, 1 << 20)), ("cut short",)


def length_splits_the_header(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    header, data = honest(rng)
    return packed(header, data, rng.randrange(len(json.dumps(header)))), ("malformed",)


def length_reaches_into_the_data(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    header, data = honest(rng)
    return packed(header, b"\xff" + data, len(json.dumps(header)) + 1), ("malformed",)


def cut_anywhere(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    content = packed(*honest(rng))
    return content[: rng.randrange(1, len(content))], ("cut short", "no safetensors file")


def cut_between_tensors(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    header, data = honest(rng)
    return packed(header, data[: rng.choice(list(header.values()))["data_offsets"][0]]), ("cut short",)


def bytes_after_the_end(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    return packed(*honest(rng)) + rng.randbytes(rng.randint(1, 99)), ("bytes follow",)


def tensors_overlap(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    header, data = honest(rng)
    first, second = rng.sample(list(header), 2)
    header[second] = dict(header[first])
    return packed(header, data), (first, second, *header)


def hole_between_tensors(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    header, data = honest(rng)
    hole = rng.randint(1, 64)
    for fields in list(header.values())[1:]:
        fields["data_offsets"] = [place + hole for place in fields["data_offsets"]]
    return packed(header, data + bytes(hole)), (list(header)[1],)


def empty_tensor_inside_another(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    header, data = honest(rng)
    place = header[list(header)[-1]]["data_offsets"][1] - 1
    header["empty"] = {"dtype": "U8", "shape": [0, 4], "data_offsets": [place, place]}
    if any(fields["data_offsets"][0] == place for fields in header.values() if fields is not header["empty"]):
        header["empty"]["data_offsets"] = [place + 2, place + 2]
    return packed(header, data), ("empty",)


def key_is_doubled(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    header, data = honest(rng)
    key = rng.choice(list(header))
    return packed(f'{{"{key}": {json.dumps(header[key])}, {json.dumps(header)[1:]}'.encode(), data), (key,)


def key_is_doubled_by_an_escape(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    header, data = honest(rng)
    key = rng.choice(list(header))
    twin = f"\\u00{ord(key[0]):02x}{key[1:]}"
    return packed(f'{{"{twin}": {json.dumps(header[key])}, {json.dumps(header)[1:]}'.encode(), data), (key,)


def field_is_doubled(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    header, data = honest(rng)
    field = rng.choice(["dtype", "shape", "data_offsets"])
    raw = json.dumps(header).replace(f'"{field}"', f'"{field}": [0], "{field}"', 1)
    return packed(raw.encode(), data), (field,)


def field_is_missing(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    header, data = honest(rng)
    key = rng.choice(list(header))
    del header[key][rng.choice(list(header[key]))]
    return packed(header, data), (key,)


def tensor_is_no_object(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    header, data = honest(rng)
    key = rng.choice(list(header))
    header[key] = rng.choice([None, 1, "F32", ["F32", [1], [0, 4]], True])
    return packed(header, data), (key,)


def space_before_the_brace(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    header, data = honest(rng)
    space = rng.choice([b" ", b"\n", b"\t", b"\xef\xbb\xbf", b"    "])
    return packed(space + json.dumps(header).encode(), data), ("begin with '{'",)


def something_after_the_brace(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    header, data = honest(rng)
    tail = rng.choice([b"}", b"{}", b"\0", b" x", b"//", json.dumps(header).encode()])
    return packed(json.dumps(header).encode() + tail, data), ("malformed",)


def header_is_no_object(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    raw = rng.choice([b"[]", b"null", b"4", b'"F32"', b"", b"<html><body>404</body></html>", b"{", b"{]"])
    return packed(raw, rng.randbytes(rng.randint(0, 40))), ("malformed",)


def header_is_noise(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    return packed(b"{" + rng.randbytes(rng.randint(1, 300)), b""), ("malformed",)


def header_is_no_utf8(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    header, data = honest(rng)
    bad = rng.choice([b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"])
    return packed(json.dumps(header).encode().replace(b"model", b"mod" + bad + b"el", 1), data), ("malformed",)


def header_describes_nothing(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    return packed(rng.choice([{}, {"__metadata__": {}}, {"__metadata__": {"a": "b"}}]), b""), ("no tensor",)


def header_is_deep(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    depth = rng.randint(2_000, 150_000)
    opening = rng.choice([b"[", b'{"a":'])
    return packed(b'{"w":' + opening * depth, b""), ("malformed",)


def header_is_a_bomb(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    atom = rng.choice([b"[],", b"{},", b'{"a":0},', b"257,", b'"aa",', b"0.5,", b'[{"a":[]}],', b'{"":[[]]},'])
    return packed(b'{"w":[' + atom * ((7 << 20) // len(atom)) + b"0]}", b""), ("more tensors",)


def too_many_tensors(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    described = '{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    raw = ",".join(f'"{number}":{described}' for number in range(rng.randint(100_000, 110_000)))
    return packed(f"{{{raw}}}".encode(), b""), ("more tensors",)


def names_collide(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    """30,000 names of which the last two are the same."""
    described = '{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    raw = ",".join(f'"{min(number, 29_998)}":{described}' for number in range(30_000))
    return packed(f"{{{raw}}}".encode(), b""), ("29998",)


def metadata_is_no_text(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    header, data = honest(rng)
    values = [None, 1, ["a"], {"a": "b"}, True, 1.5]
    header["__metadata__"] = rng.choice([{"format": rng.choice(values)}, *values[1:]])
    if header["__metadata__"] == {"a": "b"}:
        header["__metadata__"] = [1]
    return packed(header, data), ("metadata",)


def metadata_is_huge(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    header, data = honest(rng)
    header["__metadata__"] = {"notes": rng.choice("ab ") * rng.choice([9 << 20, 50 << 20])}
    return packed(header, data), ("a header of",)


def metadata_is_half_a_surrogate(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    header, data = honest(rng)
    return packed({"__metadata__": {"a": chr(rng.randrange(0xD800, 0xE000))}, **header}, data), ("malformed",)


def settings_are_no_settings(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    """The metadata in which a single file carries what a folder's JSON files say."""
    header, data = honest(rng)
    texts = ["", "[]", "{", "5", '{"unet": 5}', "NaN", "[" * 100_000, '{"unet":[' + "[]," * (1 << 21) + "0]}"]
    header["__metadata__"] = {SETTINGS: rng.choice(texts)}
    return packed(header, data), (repr(SETTINGS), "more tensors")


def name_is_a_trap(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    header, data = honest(rng)
    names = [
        "x.__class__.__base__", "__init__", "a.__globals__.b", "__reduce__.weight", "../../etc/passwd",
        "/etc/passwd", "a/../b", "..\\..\\boot.ini", "C:\\__x", "a\0b", "a\nb", "a\x1b[2Jb", "a\u202eb",
        "a..b", ".a", "a.", "", "a" * 600, "a\ud800b", "a\x7fb", "a\u2028b", "./a", "a//b",
    ]  # fmt: skip
    key = rng.choice(names)
    old = rng.choice(list(header))
    renamed = {key if name == old else name: fields for name, fields in header.items()}
    return packed(renamed, data), (repr(key[:512]) if key else "no honest tensor",)


def another_format(rng: Random) -> tuple[bytes, tuple[str, ...]]:
    starts = [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4265380512\n",
        b"<!DOCTYPE html><html>", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"GGUF\3\0\0\0", b"\x93NUMPY\1\0",
        b"\x89HDF\r\n\x1a\n", b"\x7fELF\2\1\1\0", b"MZ\x90\0", b"#!/bin/sh\ntouch canary\n",
        b'{"error": "Access denied"}', b"\x1f\x8b\x08\0", b"",
    ]  # fmt: skip
    return rng.choice(starts) + rng.randbytes(rng.choice([0, 40])), (
        "cut short",
        "no safetensors file",
        "no model has so many",
        ", no model",
    )


WHOLE: list[tuple[Maker, int]] = [
    (claims_length, 25), (length_beyond_the_file, 12), (length_splits_the_header, 25),
    (length_reaches_into_the_data, 8), (cut_anywhere, 40), (cut_between_tensors, 20),
    (bytes_after_the_end, 12), (tensors_overlap, 20), (hole_between_tensors, 12),
    (empty_tensor_inside_another, 8), (key_is_doubled, 10), (key_is_doubled_by_an_escape, 8),
    (field_is_doubled, 8), (field_is_missing, 8), (tensor_is_no_object, 8), (space_before_the_brace, 8),
    (something_after_the_brace, 10), (header_is_no_object, 10), (header_is_noise, 12),
    (header_is_no_utf8, 6), (header_describes_nothing, 3), (header_is_deep, 6), (header_is_a_bomb, 8),
    (too_many_tensors, 1), (names_collide, 1), (metadata_is_no_text, 10), (metadata_is_huge, 2),
    (metadata_is_half_a_surrogate, 4), (settings_are_no_settings, 12), (name_is_a_trap, 45), (another_format, 24),
]  # fmt: skip


def hostile_safetensors(rng: Random) -> Iterator[tuple[str, bytes, tuple[str, ...]]]:
    """(class, content, words of which the error holds one)."""
    for name, change in FIELDS.items():
        for _ in range(8):
            yield name, *lying(change)(rng)
    for maker, count in WHOLE:
        for _ in range(count):
            yield maker.__name__.replace("_", " "), *maker(rng)
    content = packed(*honest(rng))[:260]
    for end in range(len(content)):
        yield "cut at every byte", content[:end], ("cut short",)
