import io
from dataclasses import replace

import pytest
from PIL import Image, ImageChops

from daguerre import TextToImage, text_to_image
from daguerre.generate.drawing import to_image
from daguerre.generate.explore.animation import animated, film
from daguerre.request import Hires, RequestError
from tests.toy import toy

REQUEST = TextToImage(prompt="a red apple", steps=3, width=64, height=64, seed=7, cfg_scale=1)
COLORS = [(200, 40, 40), (40, 200, 40), (40, 40, 200)]


@pytest.mark.parametrize("kind", ["webp", "gif", "png"])
def test_frames_come_back_with_their_times(kind):
    data = animated((Image.new("RGB", (16, 12), color) for color in COLORS), [100, 200, 500], kind, "said: 日本")
    with Image.open(io.BytesIO(data)) as read:
        assert (read.n_frames, read.size, read.info.get("loop", 0)) == (3, (16, 12), 0)
        for i, color in enumerate(COLORS):
            read.seek(i)
            read.load()
            assert max(abs(a - b) for a, b in zip(read.convert("RGB").getpixel((8, 6)), color, strict=True)) < 6
            assert read.info["duration"] == [100, 200, 500][i]


def test_the_infotext_is_where_other_programs_look():
    frames = [Image.new("RGB", (8, 8), color) for color in COLORS]
    with Image.open(io.BytesIO(animated(frames, [50] * 3, "gif", "said: 日本"))) as gif:
        assert gif.info["comment"].decode() == "said: 日本"
    with Image.open(io.BytesIO(animated(frames, [50] * 3, "webp", "said: 日本"))) as webp:
        assert webp.getexif().get_ifd(0x8769)[0x9286] == b"UNICODE\0" + "said: 日本".encode("utf-16-be")
    with Image.open(io.BytesIO(animated(frames, [50] * 3, "png", "said: 日本"))) as apng:
        assert apng.text["parameters"] == "said: 日本"


def test_what_is_no_animation_is_refused():
    with pytest.raises(RequestError, match="needs a frame"):
        animated([], [], "gif")
    with pytest.raises(RequestError, match="at least 10 milliseconds"):
        animated([Image.new("RGB", (8, 8))], [1], "gif")
    with pytest.raises(RequestError, match="count is 2"):
        list(film(toy(), TextToImage(prompt="x", count=2)))


def test_a_film_shows_what_each_step_takes_the_picture_for():
    model = toy()
    *frames, picture = film(model, REQUEST)
    *steps, alone = text_to_image(model, REQUEST)
    assert picture.record.pixel_sha256 == alone.record.pixel_sha256
    assert [frame.tobytes() for frame in frames] == [to_image(model.decode(step.x0)).tobytes() for step in steps]
    assert ImageChops.difference(frames[0], frames[2]).getbbox() is not None
    assert ImageChops.difference(frames[2], picture.image).getbbox() is None  # the last estimate is the picture


def test_quick_films_are_as_large_and_alike():
    *frames, picture = film(toy(), REQUEST, quick=True)
    assert [frame.size for frame in frames] == [(64, 64)] * 3
    *_, plain = film(toy(), REQUEST)
    assert picture.record.pixel_sha256 == plain.record.pixel_sha256
    assert len({frame.tobytes() for frame in frames}) == 3


@pytest.mark.parametrize("quick", [False, True])
def test_both_passes_of_a_hires_fix_are_as_large_as_the_picture(quick):
    *frames, picture = film(toy(), replace(REQUEST, hires=Hires(scale=1.5)), quick=quick)
    assert {frame.size for frame in frames} == {picture.image.size} == {(96, 96)}
    assert len(frames) == 6
