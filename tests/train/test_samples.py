import itertools

import pytest
import torch
from PIL import Image

from daguerre.train.nearest import Match
from daguerre.train.samples import (
    COLUMNS,
    LABEL,
    OVER_TIME,
    over_time,
    place,
    save_matches,
    save_samples,
    spread,
    strips,
)

PROMPTS, SEEDS = ["a cat", 'a "dog" & <b>', ""], [3, 4, 5]


def levels(*values: float, size: int = 8) -> torch.Tensor:
    return torch.tensor(values).reshape(-1, 1, 1, 1).expand(-1, 3, size, size)


def test_a_strip_says_what_it_shows(tmp_path):
    path = save_samples(tmp_path, 250, levels(-1, 0, 1), PROMPTS, SEEDS)
    assert path == tmp_path / "samples" / "step-00000250.png"
    [strip] = strips(tmp_path)
    assert (strip.path, strip.step, strip.width, strip.height) == (path, 250, 8, 8)
    assert [(one["prompt"], one["seed"]) for one in strip.told] == list(zip(PROMPTS, SEEDS, strict=True))
    with Image.open(path) as picture:
        assert [picture.getpixel((4 + 8 * i, 4)) for i in range(3)] == [(0,) * 3, (128,) * 3, (255,) * 3]


def test_strips_come_by_step_and_damaged_ones_not_at_all(tmp_path):
    for step in (500, 10, 2000):
        save_samples(tmp_path, step, levels(0, 0, 0), PROMPTS, SEEDS)
    folder = tmp_path / "samples"
    (folder / "step-00000020.png").write_bytes((folder / "step-00000010.png").read_bytes()[:40])
    (folder / "step-00000030.png").write_bytes(b"no picture")
    Image.new("RGB", (8, 8)).save(folder / "step-00000040.png")
    save_samples(tmp_path, 50, levels(0), ["x"], [0]).rename(folder / "step-copy.png")
    assert [strip.step for strip in strips(tmp_path)] == [10, 500, 2000]


def test_the_nearest_pictures_lie_in_a_strip_of_one_size(tmp_path):
    matches = [Match("a.png", 0.2, 0.01, True), Match("b.png", 0.9, None, False)]
    save_matches(tmp_path, 7, matches, [levels(1)[0], levels(-1, size=32)[0]])
    [strip] = strips(tmp_path, "nearest")
    assert (strip.step, strip.width, strip.height) == (7, 8, 8)
    assert [one["name"] for one in strip.told] == ["a.png", "b.png"]
    assert strip.told[0] == {"name": "a.png", "distance": 0.2, "percentile": 0.01, "copied": True}
    assert not strips(tmp_path)


def test_one_description_for_each_picture(tmp_path):
    with pytest.raises(ValueError, match="3 pictures and 2 descriptions"):
        save_samples(tmp_path, 1, levels(0, 0, 0), PROMPTS[:2], SEEDS[:2])


def test_over_time_each_row_is_one_prompt(tmp_path):
    """Also when the prompts were changed on the way."""
    save_samples(tmp_path, 10, levels(-1, 0), ["gone", "a cat"], [0, 3])
    save_samples(tmp_path, 20, levels(1, -1), ["a cat", "new"], [3, 4])
    path = over_time(tmp_path)
    assert path == tmp_path / OVER_TIME
    with Image.open(path) as sheet:
        assert sheet.size == (16, LABEL + 16)
        cells = [[sheet.getpixel((4 + 8 * x, LABEL + 4 + 8 * y))[0] for x in (0, 1)] for y in (0, 1)]
    assert cells == [[128, 255], [255, 0]]  # at 10 the cat was second, and nothing new was there


def test_over_time_is_small_and_absent_without_samples(tmp_path):
    assert over_time(tmp_path) is None
    save_samples(tmp_path, 1, levels(0, size=512), ["a"], [0])
    with Image.open(over_time(tmp_path)) as sheet:
        assert sheet.size == (256, LABEL + 256)


def test_a_strip_whose_pixels_are_torn_leaves_a_gap(tmp_path):
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torn = save_samples(tmp_path, 1, noise, ["a"], [0])
    save_samples(tmp_path, 2, noise, ["a"], [0])
    torn.write_bytes(torn.read_bytes()[:-3000])
    with Image.open(over_time(tmp_path)) as sheet:
        assert sheet.crop((0, LABEL, 64, LABEL + 64)).getextrema() == ((255, 255),) * 3
        assert sheet.crop((64, LABEL, 128, LABEL + 64)).getextrema() != ((255, 255),) * 3


def test_of_many_steps_the_first_and_the_last_are_shown(tmp_path):
    for step in range(40):
        save_samples(tmp_path, step, levels(0), ["a"], [0])
    shown = [strip.step for strip in spread(strips(tmp_path))]
    assert (shown[0], shown[-1], len(set(shown))) == (0, 39, COLUMNS)
    assert max(b - a for a, b in itertools.pairwise(shown)) <= 4
    assert place(strips(tmp_path)[0], ("a", 0)) == 0
    assert place(strips(tmp_path)[0], ("a", 1)) is None
