"""Hand-made scenes: right ones are found right, and wrong ones wrong."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from daguerre.data.scenes import Scene, Thing
from daguerre.evaluate.detect import ground_of, things_in
from daguerre.evaluate.scenes import missed, right

RED, BLUE, WHITE = (214, 48, 49), (52, 120, 220), (255, 255, 255)


def picture(*shapes, ground=WHITE, noise=0):
    """128 x 128 pixels with ellipses in boxes."""
    image = Image.new("RGB", (128, 128), ground)
    pen = ImageDraw.Draw(image)
    for box, color in shapes:
        pen.ellipse(box, fill=color)
    pixels = np.asarray(image).astype(int) + np.random.default_rng(0).integers(-noise, noise + 1, (128, 128, 3))
    return pixels.clip(0, 255).astype(np.uint8)


def scene(task, *things, relation=None):
    known = tuple(Thing(name, color, (0, 0, 1, 1)) for name, color in things)
    return Scene(np.zeros((128, 128, 3), np.uint8), "", task, known, "white", "flat", True, relation)


def named(pixels):
    """The things of a picture, red ones taken for apples and blue ones for balls."""
    names = {"red": frozenset({"apple", "cherry"}), "blue": frozenset({"ball"})}
    return [(one, names.get(one.color, frozenset())) for one in things_in(pixels)]


LEFT, RIGHT = (8, 44, 52, 88), (72, 40, 118, 86)
BOTH = picture((LEFT, RED), (RIGHT, BLUE))


def test_things_are_found_with_their_places_and_colors():
    ball, apple = things_in(picture((LEFT, RED), (RIGHT, BLUE), ground=(20, 20, 20), noise=6))
    assert (ball.color, apple.color) == ("blue", "red")
    assert np.abs(np.array(apple.box) - (8, 44, 53, 89)).max() <= 2
    assert ball.crop.shape == (3, 128, 128)
    assert torch.equal(ball.crop[:, 0, 0], torch.ones(3))  # on white, whatever it was on


def test_steam_belongs_to_its_cup_and_dirt_to_nothing():
    cup, steam, dirt = ((40, 50, 90, 100), RED), ((56, 34, 72, 45), BLUE), ((4, 4, 7, 7), BLUE)
    assert [one.box[1] for one in things_in(picture(cup, steam, dirt))] == [34]
    assert len(things_in(picture(cup, ((60, 4, 78, 22), BLUE)))) == 2
    assert things_in(picture()) == []


def test_the_ground():
    assert ground_of(picture(ground=WHITE))[0] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (scene("single object", ("apple", None)), True),
        (scene("single object", ("green apple", None)), True),
        (scene("single object", ("pear", None)), False),
        (scene("two objects", ("ball", None), ("apple", None)), True),
        (scene("two objects", ("apple", None), ("cherry", None)), False),
        (scene("counting", ("apple", None), ("apple", None)), False),
        (scene("counting", ("apple", None)), True),
        (scene("position", ("apple", None), ("ball", None), relation="left of"), True),
        (scene("position", ("apple", None), ("ball", None), relation="right of"), False),
        (scene("position", ("apple", None), ("ball", None), relation="above"), False),
        (scene("colors", ("apple", "red")), True),
        (scene("colors", ("apple", "blue")), False),
        (scene("color attribution", ("ball", "blue"), ("apple", "red")), True),
        (scene("color attribution", ("ball", "red"), ("apple", "blue")), False),
    ],
)
def test_scenes_are_graded(asked, expected):
    assert right(named(BOTH), asked, 128) is expected


def test_counting():
    three = named(picture((LEFT, RED), (RIGHT, RED), ((50, 4, 70, 24), RED)))
    apples = scene("counting", *[("apple", None)] * 3)
    assert right(three, apples, 128)
    assert not right(three[:2], apples, 128)


@pytest.mark.parametrize(
    "task", ["single object", "two objects", "counting", "position", "colors", "color attribution"]
)
def test_near_misses_change_one_fact(task):
    things = {"single object": 1, "colors": 1, "counting": 3}.get(task, 2)
    colors = ("red", "blue") if task.startswith("color") else (None, None)
    names = ("apple",) * 3 if task == "counting" else ("apple", "ball")
    asked = scene(task, *zip(names[:things], (*colors, None)[:things], strict=True))
    asked = replace(asked, relation="left of" if task == "position" else None)
    changed = missed(asked, ["apple", "ball", "pear"], Random(0))
    assert (changed.things, changed.relation) != (asked.things, asked.relation)
    assert changed.task == task
