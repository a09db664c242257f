import resource
import time

import numpy as np
import pytest
from PIL import Image

from daguerre.data import decode as module
from daguerre.data.decode import PictureError, decode, examine, probe
from daguerre.request import RequestError
from tests.data.encoded import RED, encoded, saved, text_bomb, turned, unusable

UNUSABLE = unusable()


def middle(data, background="white"):
    image = decode(data, background)
    assert image.mode == "RGB"
    return image.getpixel((image.width // 2, image.height // 2))


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_used_is_refused_with_a_reason_in_a_second_and_little_memory(name):
    data = UNUSABLE[name]
    before, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PictureError, match=r"^it (is|has|ends)|^its "):
        examine(data)
    with pytest.raises(PictureError):
        decode(data, "white")
    assert time.process_time() - before < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 100_000  # kB


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty", "it is empty"),
        ("html", "it is text"),
        ("svg", "it is text"),
        ("eps", "none of the formats"),
        ("88 MP", "11000 x 8000 pixels; the limit is 64 million"),
        ("500 MP", "too large"),
        ("not a number", "outside 0 to 1"),
    ],
)
def test_the_reason_says_what_is_wrong(name, reason):
    with pytest.raises(PictureError, match=reason):
        decode(UNUSABLE[name], "white")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF"])
def test_formats(form):
    data = encoded(RED, (40, 24), form)
    assert probe(data) == examine(data) == (40, 24)
    assert np.abs(np.subtract(middle(data), RED)).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_held_any_way(orientation):
    data = turned(orientation)
    assert probe(data) == examine(data) == (48, 32)
    image = decode(data, "white")
    assert image.size == (48, 32)
    assert np.abs(np.subtract(image.getpixel((8, 6)), (255, 0, 0))).max() <= 12
    assert np.abs(np.subtract(image.getpixel((36, 24)), (0, 0, 255))).max() <= 12


def test_an_orientation_that_does_not_exist_is_passed_over():
    assert probe(turned(99)) == (48, 32)
    assert decode(turned(99), "white").size == (48, 32)


def test_the_ground_of_what_is_transparent():
    half = encoded((200, 0, 0, 102))
    assert middle(encoded((9, 9, 9, 0))) == (255, 255, 255)
    assert middle(half, "black") == (80, 0, 0)
    assert middle(half, "#0000ff") == (80, 0, 153)


def test_a_palette_with_transparency():
    image = Image.new("P", (8, 8), 0)
    image.putpalette([200, 0, 0])
    assert middle(saved(image, transparency=0), "lime") == (0, 255, 0)
    assert middle(saved(image, transparency=bytes([102])), "black") == (80, 0, 0)
    assert middle(saved(image)) == (200, 0, 0)


@pytest.mark.parametrize(("mode", "value"), [("1", 1), ("L", 200), ("LA", (200, 255)), ("CMYK", (0, 0, 0, 55))])
def test_other_modes(mode, value):
    form = "JPEG" if mode == "CMYK" else "PNG"
    expected = 255 if mode == "1" else 200
    assert np.abs(np.subtract(middle(saved(Image.new(mode, (8, 8), value), form)), expected)).max() <= 2


def test_lab():
    assert np.abs(np.subtract(middle(saved(Image.new("LAB", (8, 8), (137, 128, 128)), "TIFF")), 128)).max() <= 4


@pytest.mark.parametrize("value", [0, 255, 257, 40_000, 65_535])
def test_sixteen_bits_are_scaled_not_clipped(value):
    image = Image.fromarray(np.full((8, 8), value, dtype=np.uint16))
    assert middle(saved(image)) == (round(value / 257),) * 3
    assert middle(saved(image, "TIFF")) == (round(value / 257),) * 3


def test_gray_of_floating_point():
    assert middle(saved(Image.fromarray(np.full((8, 8), 0.4, dtype=np.float32)), "TIFF")) == (102, 102, 102)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_its_first_frame(form):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    options = {"lossless": True} if form == "WEBP" else {}
    assert middle(saved(frames[0], form, save_all=True, append_images=frames[1:], **options)) == (255, 0, 0)


def test_the_largest_picture_that_is_allowed(monkeypatch):
    monkeypatch.setattr(module, "MAX_PIXELS", 64)
    assert examine(encoded(size=(8, 8))) == (8, 8)
    with pytest.raises(PictureError, match="it is too large: 8 x 9 pixels"):
        examine(encoded(size=(8, 9)))


def test_probing_reads_the_header_only():
    data = encoded(size=(300, 200), form="JPEG")
    assert probe(data[:-400]) == (300, 200)
    with pytest.raises(PictureError, match="it is damaged"):
        examine(data[:-400])


def test_a_profile_and_text_of_usual_size_do_no_harm():
    image = Image.new("RGB", (8, 8), RED)
    assert middle(saved(image, icc_profile=bytes(1000))) == RED
    assert len(text_bomb()) < 200_000


def test_a_color_that_is_none():
    with pytest.raises(RequestError, match=r"background is 'whit'; name a color"):
        decode(encoded(), "whit")


def test_more_memory_than_there_is_is_no_damage(monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(MemoryError):
        decode(encoded(), "white")


def test_a_file_name_is_not_opened():
    with pytest.raises(PictureError):
        decode(b"/etc/passwd", "white")
