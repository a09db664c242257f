"""Encoded pictures for tests: plain ones, odd ones that are fine, and ones that cannot be used."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

RED = (200, 100, 50)
BAD_SIZES = (1, 5, 20, 50, 80, 99)  # percent of a file that is left


def encoded(color=RED, size=(8, 8), form="PNG", **options):
    """A picture of one color; four numbers make it transparent."""
    mode = "RGBA" if len(color) == 4 else "RGB"
    return saved(Image.new(mode, size, color), form, **options)


def saved(image, form="PNG", **options):
    memory = io.BytesIO()
    image.save(memory, form, **options)
    return memory.getvalue()


def noise(size=(64, 48), seed=0):
    """A picture that is unlike every other."""
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def png(width, height, depth=8, color=2, pixels=b""):
    """A PNG whose header says whatever it is told to."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def turned(orientation, image=None):
    """A JPEG whose EXIF says how a camera was held; upright it is red at the top left, else blue."""
    if image is None:
        image = Image.new("RGB", (48, 32), "blue")
        image.paste("red", (0, 0, 24, 16))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image.transpose(undo[orientation]) if orientation in undo else image, "JPEG", exif=exif, quality=95)


def unusable():
    """Bytes by name that must be refused, of every kind that real folders hold."""
    whole = {"png": saved(noise()), "jpeg": saved(noise(), "JPEG"), "webp": saved(noise(), "WEBP", lossless=True)}
    cut = {f"{form} cut to {p} %": data[: len(data) * p // 100] for form, data in whole.items() for p in BAD_SIZES}
    flipped = bytearray(whole["png"])
    flipped[len(flipped) // 2] ^= 255
    not_finite = Image.fromarray(np.full((8, 8), np.nan, dtype=np.float32))
    return cut | {
        "empty": b"",
        "text": b"no picture at all",
        "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>',
        "html": b"<!DOCTYPE html><html><body>404</body></html>",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n",
        "fits": b"SIMPLE  =                    T".ljust(2880),
        "apple double": b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ",
        "bad checksum": bytes(flipped),
        "no width": png(0, 8),
        "88 MP": png(11_000, 8_000),
        "144 MP": png(12_000, 12_000),
        "500 MP": png(25_000, 20_000),
        "65,535 pixels a side": png(65_535, 65_535),
        "header without pixels": png(64, 64),
        "not a number": saved(not_finite, "TIFF"),
        "text bomb": text_bomb(),
    }


def text_bomb():
    """A small PNG with 100 MB of text before its pixels."""
    whole = encoded()
    text = b"Comment\0\0" + zlib.compress(bytes(100_000_000), 9)
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    return whole[:33] + chunk + whole[33:]
