import json

import pytest
from PIL import Image

from daguerre.train.curves import DARK, POINTS, curve, draw_curves, held_out, read_log, smoothed, thinned


def test_the_log_is_read_as_far_as_it_is_whole(tmp_path):
    path = tmp_path / "log.jsonl"
    lines = [
        '{"step": 2, "loss": 0.5}',
        "",
        "{}",
        "[1]",
        "3",
        '{"step": "x"}',
        '{"step": Infinity}',
        '{"step": 1, "loss": 1.0}',
    ]
    path.write_text("\n".join([*lines, '{"step": 2, "val": {"0.5": 0.1}}', '{"step": 3, "lo']))
    assert read_log(path) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5, "val": {"0.5": 0.1}}]
    assert read_log(tmp_path / "missing.jsonl") == []


def test_only_finite_numbers_are_drawn():
    values = [1, float("nan"), float("inf"), "x", None, True, {"a": 1}, 0.5]
    records = [{"step": i, "loss": value} for i, value in enumerate(values)]
    assert curve(records, "loss") == [(0, 1.0), (7, 0.5)]


def test_held_out_losses_by_noise_level():
    records = [
        {"step": 5, "val": {"2": 0.2, "0.5": 0.1, "x": 1, "3": None}},
        {"step": 6},
        {"step": 7, "val": {"0.5": 0.05}},
    ]
    assert list(held_out(records).items()) == [(0.5, [(5, 0.1), (7, 0.05)]), (2.0, [(5, 0.2)])]


@pytest.mark.parametrize("count", [0, 1, POINTS - 1, POINTS, POINTS + 1, 2 * POINTS, 12_345])
def test_thinning_keeps_the_first_and_the_last(count):
    points = [(i, float(i)) for i in range(count)]
    kept = thinned(points)
    assert len(kept) <= POINTS
    assert len(kept) >= min(count, POINTS // 2)
    assert kept[:1] == points[:1]
    assert kept[-1:] == points[-1:]
    assert kept == sorted(set(kept))


def test_smoothing_keeps_levels_and_calms_noise():
    assert [value for _, value in smoothed([(i, 3.0) for i in range(200)])] == pytest.approx([3.0] * 200)
    calm = [value for _, value in smoothed([(i, float(i % 2)) for i in range(1200)])][100:]
    assert max(calm) - min(calm) < 0.05


def test_a_picture_of_the_curves(tmp_path):
    records = [
        {"step": i, "loss": 1 / i, "lr": 1e-4, "norm": 1.0, "seconds": 0.1, "clip $x$_": i} for i in range(1, 60)
    ]
    records[30] = {**records[30], "val": {"0.1": 0.0, "1": 2.0}, "seconds": 0}
    for name, inks in (("light.png", {}), ("dark.png", {"inks": DARK})):
        assert draw_curves(records, tmp_path / name, **inks)
    with Image.open(tmp_path / "light.png") as light, Image.open(tmp_path / "dark.png") as dark:
        assert light.size == dark.size
        assert light.convert("RGB").getpixel((2, 2)) == (255, 255, 255)
        assert dark.convert("RGB").getpixel((2, 2)) == (27, 30, 36)
        assert len(set(light.convert("L").resize((200, 200)).tobytes())) > 20


@pytest.mark.parametrize("records", [[], [{"step": 3}], [{"step": 3, "loss": float("nan"), "val": {}}]])
def test_nothing_to_draw(tmp_path, records):
    assert draw_curves(records, tmp_path / "curves.png") is False
    assert not (tmp_path / "curves.png").exists()


def test_one_record_is_enough(tmp_path):
    assert draw_curves([json.loads('{"step": 1, "loss": 0.0}')], tmp_path / "curves.png")
