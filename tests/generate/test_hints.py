"""Preprocessors against numbers that OpenCV 5.0 gave, and against pictures whose edges are known."""

import numpy as np
import pytest
import torch
from PIL import Image

from daguerre.generate.controls.hints import MODULES, blurred, canny, depth, line_art, opened, scribble, to_fill
from daguerre.request import RequestError

Y, X = np.mgrid[:16, :16]
COLORS = np.stack([((X - 7) ** 2 + (Y - 8) ** 2 < 30) * 200, (X * Y) % 97 * 2, (X + 2 * Y) * 5], -1).astype(np.uint8)
IMAGE = Image.fromarray(COLORS)
EDGES = """
................ ................ ......###....... ....##...##..... ...##.....##.... ..##.......##... ..#.........#...
.#.......#....## .#......#...##.. .#.....#..##.... ..#......#..#... ..##..#..#.##... ...##.....##.... ....#######...##
.......#.....##. .......#.....#..
"""
LONG_EDGES = """
................ ................ ......###....... ....##...##..... ...##.....##.... ..##.......##... ..#.........#...
.#............## .#..........##.. .#........##.... ..#......#..#... ..##.....#.##... ...##.....##.... ....#######...##
.......#.....##. .......#.....#..
"""
SCRIBBLE = """
################ ##############.. ############.... #####........... ####............ ###............. ##..............
##.............. #............... ................ ................ ................ ................ ................
................ ................
"""


def drawn(hint: torch.Tensor) -> list[str]:
    assert hint.shape == (3, 16, 16)
    assert torch.equal(hint[0], hint[2])
    return ["".join("#" if value else "." for value in row) for row in hint[0].tolist()]


def test_canny_finds_the_edges_that_opencv_finds() -> None:
    assert drawn(canny(IMAGE)) == EDGES.split()
    assert drawn(canny(IMAGE, 250, 500)) == LONG_EDGES.split()


def test_blur_line_art_and_scribble_are_a1111s() -> None:
    soft = blurred(COLORS.astype(np.float32), 1.5)
    expected = [0.13291605, 2.6514337, 17.270966], [199.80992, 109.30002, 115.000015], [14.324335, 82.422516, 153.58525]
    assert np.allclose([soft[0, 0], soft[8, 7], soft[15, 3]], expected, atol=1e-3)
    row = (line_art(IMAGE)[0, 8] * 255).round().int().tolist()
    assert row == [84, 66, *[0] * 14]
    assert drawn(scribble(IMAGE)) == SCRIBBLE.split()


def test_depth_keeps_all_its_bits_and_is_stretched() -> None:
    values = np.linspace(1000, 1100, 256).reshape(16, 16).astype(np.uint16)
    hint = depth(opened(Image.fromarray(values), "depth"))
    assert (hint.min().item(), hint.max().item()) == (0, 1)
    assert len(hint[0].unique()) == 101
    with pytest.raises(RequestError, match="flat"):
        depth(Image.new("L", (8, 8), 7))


def test_what_is_transparent_is_to_be_filled() -> None:
    image = IMAGE.convert("RGBA")
    image.putalpha(Image.fromarray(((X < 8) * 255).astype(np.uint8)))
    hint = to_fill(opened(image, "inpaint"))
    assert (hint[:, :, 8:] == -1).all()
    assert torch.equal(hint[:, :, :8], MODULES["tile"](IMAGE)[:, :, :8])


@pytest.mark.parametrize("module", [name for name in MODULES if name != "inpaint"])
def test_every_module_gives_colors_of_the_pictures_size(module: str) -> None:
    hint = MODULES[module](opened(IMAGE, module))
    assert hint.shape == (3, 16, 16)
    assert hint.dtype == torch.float32
    assert 0 <= hint.min() < hint.max() <= 1
    assert torch.allclose(MODULES["invert"](IMAGE), 1 - MODULES["none"](IMAGE))
