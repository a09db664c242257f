import numpy as np
import pytest
import torch
from PIL import Image

from daguerre.train.contact_sheet import contact_sheet, to_tensor


@pytest.fixture
def pictures():
    levels = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0, 7.0])
    return levels.reshape(6, 1, 1, 1).expand(6, 3, 4, 5).clone()


def test_pictures_lie_row_by_row(tmp_path, pictures):
    pictures[1, 0] = 1
    contact_sheet(pictures[:5], tmp_path / "sheet.png", columns=3)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (15, 8)
        pixels = np.asarray(sheet)
    assert [tuple(pixels[y, x]) for y, x in ((0, 0), (0, 5), (0, 10), (4, 0), (4, 5), (4, 10))] == [
        (0, 0, 0),
        (255, 64, 64),
        (128, 128, 128),
        (191, 191, 191),
        (255, 255, 255),
        (255, 255, 255),  # nothing there: the ground
    ]


def test_what_is_too_bright_is_white(tmp_path, pictures):
    contact_sheet(pictures[5:], tmp_path / "sheet.png", columns=1)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.getextrema() == ((255, 255),) * 3


def test_a_picture_as_a_tensor_and_back(tmp_path):
    pixels = torch.randint(256, (1, 3, 6, 6), generator=torch.Generator().manual_seed(0)) / 127.5 - 1
    contact_sheet(pixels, tmp_path / "sheet.png", columns=1)
    with Image.open(tmp_path / "sheet.png") as sheet:
        torch.testing.assert_close(to_tensor(sheet), pixels)
