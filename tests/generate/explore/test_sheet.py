"""Grids as pictures: each cell at its place, labels whole and readable."""

import tracemalloc

import pytest
from PIL import Image, ImageChops

from daguerre.generate.explore import lettering, sheet
from daguerre.generate.explore.job import Job
from daguerre.generate.explore.lettering import LEAST, font_for, lettered, wrapped
from daguerre.generate.explore.plan import Plan, Words
from daguerre.generate.explore.sheet import Look, compose, compose_sheets
from daguerre.request import RequestError, TextToImage

COLORS = ["red", "green", "blue", "yellow", "cyan", "magenta", "gray", "brown"]


def label(*texts):
    return tuple(Words(text) for text in texts)


def plan(columns, rows=("",), sheets=("",)):
    sides = [tuple(label(text) if text else () for text in side) for side in (columns, rows, sheets)]
    job = Job(TextToImage(prompt="x", seed=1))
    return Plan(*sides, (job,) * (len(columns) * len(rows) * len(sheets)))


@pytest.fixture
def files(tmp_path):
    def make(count, size=(64, 48)):
        paths = [tmp_path / f"{i}.png" for i in range(count)]
        for i, path in enumerate(paths):
            Image.new("RGB", size, COLORS[i % len(COLORS)]).save(path)
        return paths

    return make


def ink(picture, box=None):
    """The box round all that is not white."""
    part = picture.crop(box) if box else picture
    return ImageChops.difference(part, Image.new("RGB", part.size, "white")).getbbox()


def places(picture):
    """The box of each color."""
    found = {}
    for name in COLORS:
        flat = ImageChops.difference(picture, Image.new("RGB", picture.size, name)).convert("L").point(lambda v: v == 0)
        if box := flat.getbbox():
            found[name] = box
    return found


def test_without_labels_cells_lie_side_by_side(files):
    page = compose(plan("abc", "de"), files(6), Look(labels=False))
    assert page.size == (3 * 64, 2 * 48)
    assert [page.getpixel((x * 64 + 5, y * 48 + 5)) for y in (0, 1) for x in (0, 1, 2)] == [
        Image.new("RGB", (1, 1), name).getpixel((0, 0)) for name in COLORS[:6]
    ]


def test_margins_part_the_cells(files):
    page = compose(plan("ab", "cd"), files(4), Look(labels=False, margin=10))
    assert page.size == (2 * 64 + 10, 2 * 48 + 10)
    assert page.getpixel((64 + 5, 20)) == page.getpixel((20, 48 + 5)) == (255, 255, 255)


def test_labels_stand_over_their_columns_and_left_of_their_rows(files):
    page = compose(plan(["ink", "wash"], ["one", "two"]), files(4))
    found = places(page)
    left, top, _, _ = found["red"]
    for name in ("red", "green"):
        x0, x1 = found[name][0], found[name][2]
        box = ink(page, (x0, 0, x1, top))
        assert box is not None
        assert abs((box[0] + box[2]) / 2 - 32) < 3  # centered
    for name in ("red", "blue"):
        y0, y1 = found[name][1], found[name][3]
        assert ink(page, (0, y0, left, y1)) is not None
    assert ink(page, (0, 0, left, top)) is None


def test_a_long_label_is_whole_and_within_its_column(files):
    said = "DPM++ 2M SDE Karras with a very long name, indeed"
    page = compose(plan([said, "b"]), files(2, (128, 128)))
    left, top, right, _ = places(page)["red"]
    box = ink(page, (left, 0, right, top))
    assert box[0] > 0
    assert box[2] < right - left
    lines = lettered([label(said)], 14, 120, 128).labels[0]
    assert " ".join(words.text for words in lines) == said


def test_letters_become_smaller_before_words_are_broken():
    assert lettered([label("short")], 20, 200, 50).size == 20
    made = lettered([label("schnellerversuch")], 20, 110, 50)
    assert LEAST < made.size < 20
    assert made.labels == (label("schnellerversuch"),)
    tiny = lettered([label("a" * 60)], 20, 60, 500)
    assert tiny.size == LEAST
    assert "".join(words.text for words in tiny.labels[0]) == "a" * 60
    assert all(font_for(words.text, LEAST).getlength(words.text) <= 60 for words in tiny.labels[0])


def test_a_word_breaks_after_its_hyphen_first():
    lines = wrapped(label("extraordinarily-multicolored/one two"), 12, 100, breaks=True)
    assert [words.text for words in lines] == ["extraordinarily-", "multicolored/one", "two"]


def test_what_cannot_stay_whole_ends_in_dots():
    cut = lettered([label("word " * 80)], 14, 60, 30).labels[0]
    assert cut[-1].text.endswith("...")
    assert len(cut) * 12 <= 36


def test_lines_keep_whether_they_are_struck_out(files):
    lines = wrapped((Words("with a hat", False), Words("blue")), 14, 60, breaks=False)
    assert [words.is_active for words in lines] == [False, False, True]
    struck, plain = (
        compose(Plan(((Words("hat", active),),), ((),), ((),), (Job(TextToImage(prompt="x")),)), files(1))
        for active in (False, True)
    )
    assert struck.size == plain.size
    assert ImageChops.difference(struck, plain).getbbox() is not None


def test_letters_that_our_font_lacks_are_taken_from_a_font_that_has_them(monkeypatch):
    own = font_for("apple", 16)
    monkeypatch.setattr(lettering, "OTHER_FONTS", ())
    assert font_for("ж", 16).getname() == own.getname()
    monkeypatch.undo()
    if not any(lettering._font(name, 16) for name in lettering.OTHER_FONTS):
        pytest.skip("no font but our own is here")
    other = font_for("ж", 16)
    assert other.getname() != own.getname()
    assert bytes(other.getmask("ж")) != bytes(other.getmask("\uffff"))


def test_sheets_stand_beside_one_another_under_their_titles(files):
    made, paths = plan("ab", "c", ["first", "second", "third", "fourth"]), files(8)
    page = compose(made, paths)
    found = places(page)
    assert len(found) == 8
    assert ink(page, (found["red"][0], 0, found["green"][2], found["red"][1])) is not None
    alone = list(compose_sheets(made, paths))
    assert len(alone) == 4
    assert set(places(alone[3])) == {"gray", "brown"}
    assert 0.4 < page.width / page.height < 2.5


def test_a_missing_picture_leaves_a_gray_field(files):
    paths = files(3)
    page = compose(plan("abc"), [paths[0], None, paths[2]])
    found = places(page)
    assert "green" not in found
    assert page.getpixel((found["red"][2] + 3, found["red"][1] + 3)) == (0xDD, 0xDD, 0xDD)
    with pytest.raises(RequestError, match="none of the grid's pictures"):
        compose(plan("a"), [None])


def test_pictures_of_several_sizes_are_centered(files, tmp_path):
    paths = files(2)
    Image.new("RGB", (20, 10), "blue").save(paths[1])
    page = compose(plan("ab"), paths, Look(labels=False))
    assert places(page)["blue"] == (64 + 22, 19, 64 + 42, 29)


def test_large_grids_have_smaller_cells_and_little_memory(files, monkeypatch):
    monkeypatch.setattr(sheet, "MAX_PIXELS", 40_000)
    paths = files(8) * 8
    tracemalloc.start()
    page = compose(plan(list("abcdefgh"), list("abcdefgh")), paths)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 20_000 < page.width * page.height <= 40_000
    assert peak < 10_000_000
    assert len(places(page)) >= 6


@pytest.mark.parametrize("margin", [-1, 501])
def test_margins_have_limits(margin):
    with pytest.raises(RequestError, match="margin"):
        Look(margin=margin)
