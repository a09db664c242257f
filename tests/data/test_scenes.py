"""Scenes of shapes in flat colors: what is said of them is what the pixels show."""

import re
from itertools import combinations
from random import Random

import numpy as np
import pyarrow.parquet
import pytest

from daguerre.data.colors import COLORS, PAINTS, color_name, dominant
from daguerre.data.phrases import plural
from daguerre.data.scenes import TASKS, Composer, held_out_color, held_out_count, held_out_pair, load_cutouts
from daguerre.data.wording import PLACES, SceneWords, caption
from tests.train.test_illustrations import shape
from tests.train.toys import write_parquet

NAMES = (
    "box", "drum", "wheel", "cushion", "lantern", "bell", "mouse", "knife", "red scarf", "otter", "cherry", "owl",
    "bus", "wolf", "star", "sofa",
)  # fmt: skip
# Some too pale for a dark paint, and a blue that would be seen on blue.
FILLS = ("#d63031", "#b0f0b0", "#10307a", "#fff3b0", "#8246be", "#795030")
STYLES = ("bold flat", "3d render")
SIZE = 96
SIDES = {"left of": "on the left", "right of": "on the right", "above": "at the top", "below": "at the bottom"}
NUMBERS = {2: "two|2", 3: "three|3", 4: "four|4"}


def table(folder, names=NAMES, **changes):
    """A file of all names in both styles, with `changes` in each row."""
    rows = [shape(n, FILLS[(i + j) % 6], s) for i, n in enumerate(names) for j, s in enumerate(STYLES)]
    return write_parquet(folder / "shapes.parquet", [{**row, **changes} for row in rows])


@pytest.fixture(scope="module")
def cutouts(tmp_path_factory):
    return load_cutouts(table(tmp_path_factory.mktemp("shapes")), SIZE)


@pytest.fixture(scope="module")
def training(cutouts):
    composer = Composer(cutouts, 7, SIZE)
    return [composer.scene(number, task) for task in TASKS for number in range(40)]


@pytest.fixture(scope="module")
def held_out(cutouts):
    composer = Composer(cutouts, 7, SIZE, held_out=True)
    return [composer.scene(number, task) for task in TASKS[1:] for number in range(20)]


@pytest.fixture(scope="module")
def scenes(training, held_out):
    return [*training, *held_out]


def of_task(scenes, *tasks):
    return [scene for scene in scenes if scene.task in tasks]


def test_drawings_are_cut_out(cutouts):
    assert len(cutouts) == len(NAMES) * len(STYLES)
    scarf = next(c for c in cutouts if c.name == "red scarf")
    assert (scarf.noun, scarf.color, scarf.recolorable, scarf.style) == ("scarf", "blue", True, "bold flat")
    assert scarf.pixels.shape == (41, 49, 4)
    assert (scarf.pixels[20, [0, -1], 3] == 255).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("split", "val"),
        ("mono", True),
        ("style_words", "clip art"),
        ("coverage", 0.05),
        ("group", "symbols"),
        ("label", "cup of hot tea"),
        ("label", "scissors"),
        ("label", "luggage"),
        ("label", "hourglass done"),
    ],
)
def test_only_single_things_with_short_names_are_cut_out(tmp_path, field, value):
    rows = [shape("box", "red", STYLES[0]), {**shape("drum", "red", STYLES[0]), field: value}]
    assert [c.name for c in load_cutouts(write_parquet(tmp_path / "shapes.parquet", rows))] == ["box"]


def test_people_keep_their_color(tmp_path):
    genie, _ = load_cutouts(table(tmp_path, ["genie"], subgroup="person-fantasy"))
    assert genie.color == "red"
    assert not genie.recolorable


def test_a_scene_is_made_as_asked(scenes):
    for scene in scenes:
        assert scene.pixels.shape == (SIZE, SIZE, 3)
        assert scene.pixels.dtype == np.uint8
        assert scene.style in STYLES
        assert (scene.relation is None) == (scene.task != "position")
        colored = scene.task in ("colors", "color attribution")
        assert all((thing.color is not None) == colored for thing in scene.things)


def test_nothing_but_background_around_the_boxes(scenes):
    for scene in scenes:
        ground = scene.pixels != np.array(COLORS[scene.background], np.uint8)
        painted = ground.any(2)
        for thing in scene.things:
            left, top, right, bottom = thing.box
            assert 0 <= left < right <= SIZE
            assert 0 <= top < bottom <= SIZE
            inside = painted[top:bottom, left:right]
            assert inside.mean() > 0.6
            assert inside[[0, -1]].any(1).all()  # the box is no larger than the thing
            assert inside[:, [0, -1]].any(0).all()
            inside[:] = False
        assert not painted.any()


def test_things_stay_apart(scenes):
    for scene in scenes:
        for one, other in combinations([thing.box for thing in scene.things], 2):
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_names_are_said(scenes):
    for scene in scenes:
        several = scene.task == "counting"
        for thing in scene.things:
            assert re.search(rf"\b{plural(thing.name) if several else thing.name}\b", scene.caption), scene


def test_numbers_are_said(scenes):
    counted = of_task(scenes, "counting")
    for scene in counted:
        assert len({thing.name for thing in scene.things}) == 1
        assert re.search(rf"\b(?:{NUMBERS[len(scene.things)]}) ", scene.caption)
    assert {len(scene.things) for scene in counted} == {2, 3, 4}
    assert {len(scene.things) for scene in of_task(scenes, "single object", "colors")} == {1}
    pairs = of_task(scenes, "two objects", "position", "color attribution")
    assert all(len({thing.name for thing in scene.things}) == 2 for scene in pairs)


def test_colors_are_said_and_seen(scenes):
    for scene in of_task(scenes, "colors", "color attribution"):
        for thing in scene.things:
            left, top, right, bottom = thing.box
            paint, one = dominant(scene.pixels[top + 4 : bottom - 4, left + 4 : right - 4].reshape(-1, 3))
            assert one
            assert color_name(paint) == thing.color
            said = rf"\b{thing.color} {thing.name}\b|\b{thing.name} that is {thing.color}\b"
            assert re.search(said, scene.caption)
    seen = {thing.color for scene in scenes for thing in scene.things if thing.color}
    assert seen == set(PAINTS)
    attributed = of_task(scenes, "color attribution")
    assert all(scene.things[0].color != scene.things[1].color for scene in attributed)


def test_relations_are_said_and_seen(scenes):
    placed = of_task(scenes, "position")
    for scene in placed:
        one, other = (thing.box for thing in scene.things)
        apart = {
            "left of": other[0] - one[2], "right of": one[0] - other[2], "above": other[1] - one[3],
            "below": one[1] - other[3],
        }  # fmt: skip
        assert apart[scene.relation] >= 0
        assert max(apart, key=apart.get) == scene.relation
        ways = "|".join([*PLACES[scene.relation], f"{SIDES[scene.relation]} and"])
        first, second = (thing.name for thing in scene.things)
        assert re.search(rf"{first} (?:{ways}) an? {second}", scene.caption)
    assert {scene.relation for scene in placed} == set(PLACES)


def test_the_background_is_none_of_the_colors_of_things(scenes, cutouts):
    usual = {(c.noun, c.style): c.color for c in cutouts} | {(c.name, c.style): c.color for c in cutouts}
    for scene in scenes:
        assert scene.background not in {t.color or usual[t.name, scene.style] for t in scene.things}
        if scene.background != "white":
            assert f"{scene.background} background" in scene.caption
    assert len({scene.background for scene in scenes}) == len(COLORS)


def facts(scenes, cutouts):
    """The pairs, colors and counts that scenes show."""
    nouns = {c.name: c.noun for c in cutouts} | {c.noun: c.noun for c in cutouts}
    usual = {(c.noun, c.color) for c in cutouts}
    pairs, colors, counts = set(), set(), set()
    for scene in scenes:
        names = [nouns[thing.name] for thing in scene.things]
        if scene.task == "counting":
            counts.add((names[0], len(names)))
        elif len(names) == 2:
            pairs.add(tuple(sorted(names)))
        colors |= {(nouns[t.name], t.color) for t in scene.things if t.color} - usual
    return pairs, colors, counts


def test_training_shows_nothing_that_is_held_out(training, held_out, cutouts):
    pairs, colors, counts = facts(training, cutouts)
    assert min(len(pairs), len(colors), len(counts)) > 20
    assert not any(held_out_pair(*pair) for pair in pairs)
    assert not any(held_out_color(*color) for color in colors)
    assert not any(held_out_count(*count) for count in counts)
    assert not any(scene.held_out for scene in training)
    for scene in held_out:
        new_pairs, new_colors, new_counts = facts([scene], cutouts)
        assert scene.held_out
        assert new_pairs - pairs or new_colors - colors or new_counts - counts, scene


def equal(one, other):
    return one.caption == other.caption and one.things == other.things and np.array_equal(one.pixels, other.pixels)


def test_a_scene_depends_on_its_number_only(cutouts):
    forward, backward = (Composer(cutouts, 3, SIZE) for _ in range(2))
    numbers = range(8)
    first = [forward.scene(number) for number in numbers]
    again = [backward.scene(number) for number in reversed(numbers)][::-1]
    assert all(map(equal, first, again))
    assert len({scene.caption for scene in first}) > 4
    assert not equal(forward.scene(0, "counting"), forward.scene(1, "counting"))
    assert not equal(forward.scene(0, "counting"), Composer(cutouts, 4, SIZE).scene(0, "counting"))


def test_all_tasks_come_up(cutouts):
    composer = Composer(cutouts, 0, 64)
    assert {composer.scene(number).task for number in range(30)} == set(TASKS)


def test_an_unknown_task(cutouts):
    with pytest.raises(ValueError, match="'shapes' is no task of scenes; choose one of single object, two objects"):
        Composer(cutouts, 0).scene(0, "shapes")


def test_too_few_cutouts(cutouts):
    with pytest.raises(ValueError, match="no cut-outs to make scenes of"):
        Composer([], 0)
    with pytest.raises(ValueError, match="allow no scene of the task 'two objects'; give more"):
        Composer(cutouts[:1], 0).scene(0, "two objects")
    with pytest.raises(ValueError, match="allow no held-out scene of the task 'counting'"):
        Composer(cutouts[:1], 0, held_out=True).scene(0, "counting")


@pytest.mark.parametrize("column", ["image", "label", "style_words", "coverage", "split"])
def test_a_table_without_a_column(tmp_path, column):
    path = table(tmp_path, NAMES[:2])
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(path).drop([column]), path)
    with pytest.raises(ValueError, match=rf"shapes\.parquet has no column `{column}`; give a table of `daguerre data"):
        load_cutouts(path)


def test_a_table_without_things(tmp_path):
    with pytest.raises(ValueError, match=r"shapes\.parquet has no drawings of single things in its split train"):
        load_cutouts(table(tmp_path, NAMES[:2], split="val"))


def captions(style, *things):
    words = SceneWords(things, "teal", style)
    return {caption(words, Random(seed)) for seed in range(300)}


def test_a_style_in_a_sentence():
    otters = (("otter", None),) * 3
    flat = captions("bold flat", *otters)
    assert {"three otters in a bold flat style on a teal background", "three otters, teal background, bold flat"} < flat
    assert not any("flat of" in said for said in flat)
    assert "a 3d render of 3 otters on a teal background" in captions("3d render", *otters)
    assert not any("a clip art" in said for said in captions("clip art", *otters))
    assert not any("a red bread" in said for said in captions("clip art", ("bread", "red")))
