"""Words that A1111 hid in pictures, written here as it writes them."""

import base64
import hashlib
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from daguerre import TextToImage
from daguerre.adapters.adapted import AdapterFile, adapted
from daguerre.adapters.change import AdapterError
from daguerre.adapters.picture_embedding import _deciphered
from daguerre.adapters.textual_inversion import TextualInversion
from tests.toy import toy

VECTORS = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))


def said(vectors: object = None, **more: object) -> bytes:
    rows = VECTORS.tolist() if vectors is None else vectors
    data = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": {"TORCHTENSOR": rows}},
        "name": "my-style",
        "step": 9,
    }
    return json.dumps({**data, **more}).encode()


def generator() -> Iterator[int]:
    state = 0
    while True:
        state = (1664525 * state + 1013904223) % 2**32
        yield state % 255


def ciphered(halves: np.ndarray, seed: int) -> np.ndarray:
    """XOR with the generator's low bits; the high bits are decoration there, and noise here."""
    numbers = generator()
    key = np.array([next(numbers) & 0x0F for _ in range(halves.size)], np.uint8).reshape(halves.shape)
    decoration = np.random.default_rng(seed).integers(1, 16, halves.shape, np.uint8) << 4
    return (halves ^ key) | decoration


def in_margins(data: bytes, height: int = 24) -> Image.Image:
    packed = np.frombuffer(zlib.compress(data, 9), np.uint8)
    size = -(-len(packed) // (3 * height)) * 3 * height
    packed = np.resize(packed, size).reshape(height, -1, 3)
    left, right = ciphered(packed & 0x0F, 1), ciphered(packed >> 4, 2)
    black, shown = np.zeros((height, 1, 3), np.uint8), np.full((height, 20, 3), 201, np.uint8)
    return Image.fromarray(np.concatenate([left, black, shown, black, right], axis=1))


def in_text(path: Path, data: bytes, *, compressed: bool = False) -> Path:
    texts = PngInfo()
    texts.add_text("sd-ti-embedding", base64.b64encode(data).decode(), zip=compressed)
    Image.new("RGB", (8, 8), "red").save(path, pnginfo=texts)
    return path


def test_the_generator_is_a1111s() -> None:
    zeros = np.zeros((1, 10, 1), np.uint8)
    assert _deciphered(zeros).flatten().tolist() == [n & 15 for n in (253, 242, 127, 44, 157, 27, 239, 133, 38, 79)]


@pytest.mark.parametrize("form", ["tEXt", "zTXt", "margins.png", "margins.webp"])
def test_words_in_pictures_are_read(form: str, tmp_path: Path) -> None:
    path, model = tmp_path / f"file.{form.rpartition('.')[2].replace('t', 'p')}", toy("sd1")
    if form.startswith("margins"):
        in_margins(said()).save(path := tmp_path / form, lossless=True)
    else:
        in_text(path := tmp_path / "file.png", said(), compressed=form == "zTXt")
    word = TextualInversion.load(path, model)
    assert word.word == "my-style"
    assert torch.allclose(word.vectors["text"], VECTORS)
    assert TextualInversion.load(path, model, "other").word == "other"


def test_a_picture_is_used_and_recorded_as_any_file(tmp_path: Path) -> None:
    model, path = toy("sd1"), in_text(tmp_path / "word.png", said())
    request = TextToImage(prompt="a my-style")
    with adapted(model, [AdapterFile(kind="embedding", path=path)]) as (knowing, (used,)):
        assert not torch.equal(knowing.encode(request)[0].tokens, model.encode(request)[0].tokens)
    assert used.name == "my-style"
    assert used.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_without_a_name_the_file_tells_the_word(tmp_path: Path) -> None:
    file = in_text(tmp_path / "bad-hands.png", said(name=None))
    assert TextualInversion.load(file, toy("sd1")).word == "bad-hands"


def picture_bytes(picture: Image.Image) -> bytes:
    picture.save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


def damaged_margin() -> bytes:
    pixels = np.array(in_margins(said()))
    pixels[5:9, :4] ^= 1
    return picture_bytes(Image.fromarray(pixels))


def test_pictures_without_a_word_and_damaged_ones_are_named(tmp_path: Path) -> None:
    bomb = zlib.compress(b" " * (40 << 20), 9)
    cases = {
        "a plain picture": (picture_bytes(Image.new("RGB", (30, 30), "tan")), "no text 'sd-ti-embedding'"),
        "a black one": (picture_bytes(Image.new("RGB", (30, 30))), "it is black"),
        "cut short": (picture_bytes(in_margins(said()))[:400], "no textual inversion can be read"),
        "damaged": (damaged_margin(), "no textual inversion can be read"),
        "ragged": (picture_bytes(in_margins(said([[1, 2], [3]]))), "equally long"),
        "of words": (picture_bytes(in_margins(said([["a"]]))), "lists of numbers"),
        "no list": (picture_bytes(in_margins(said(3))), "lists of numbers"),
        "NaN": (picture_bytes(in_margins(said([[float("nan")] * 32]))), "not finite"),
        "for SD 1": (picture_bytes(in_margins(said([[0.5] * 768]))), "Stable Diffusion 1.x"),
        "no vectors": (picture_bytes(in_margins(said(string_to_param={}))), "string_to_param"),
        "no JSON": (picture_bytes(in_margins(b"[[[")), "no textual inversion"),
        "deep": (picture_bytes(in_margins(b"[" * 100_000)), "no textual inversion"),
        "a bomb": (picture_bytes(in_margins(zlib.decompress(bomb))), "too long"),
    }
    for name, (data, words) in cases.items():
        (path := tmp_path / "x.png").write_bytes(data)
        with pytest.raises(AdapterError, match=words) as caught:
            TextualInversion.load(path, toy("sd1"))
        assert str(path) in str(caught.value), name
    with pytest.raises(AdapterError, match="no textual inversion"):
        TextualInversion.load(in_text(tmp_path / "y.png", b"not JSON"), toy("sd1"))
