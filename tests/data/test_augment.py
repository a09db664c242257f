import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from PIL import Image

from daguerre.data.augment import LUMA, Frame, choose_frame, fitted, prepared, prepared_mask, recolored
from daguerre.data.config import Data
from tests.data.encoded import noise


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def gradient(width, height):
    """Red is the place from left to right, green from top to bottom; both 0 to 255."""
    x = np.linspace(0, 255, width)[None].repeat(height, 0)
    y = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return Image.fromarray(np.stack([x, y, 0 * x], -1).round().astype(np.uint8))


def test_a_picture_of_the_right_size_is_left_as_it_is():
    image = noise((24, 16))
    pixels, frame = prepared(image, (24, 16), Data(), rng())
    assert frame == Frame((24, 16), (0, 0), False)
    assert pixels.shape == (3, 16, 24)
    assert pixels.dtype == torch.float32
    levels = ((pixels + 1) * 127.5).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(levels, np.asarray(image), atol=1e-4)
    assert (pixels.min(), pixels.max()) == (-1, 1)


def test_a_wide_picture_loses_its_sides():
    pixels, frame = prepared(gradient(200, 100), (50, 50), Data(), rng())
    assert frame == Frame((200, 100), (25, 0), False)
    levels = (pixels + 1) * 127.5
    assert levels[0, :, 0].mean() == pytest.approx(255 / 4, abs=2)
    assert levels[0, :, -1].mean() == pytest.approx(255 * 3 / 4, abs=2)
    assert levels[1, 0].mean() == pytest.approx(0, abs=2)
    assert levels[1, -1].mean() == pytest.approx(255, abs=2)


def test_a_small_picture_is_enlarged():
    pixels, frame = prepared(gradient(10, 40), (64, 64), Data(), rng())
    assert pixels.shape == (3, 64, 64)
    assert frame == Frame((10, 40), (0, 96), False)


def test_random_crops_reach_everything_and_say_where():
    data, image = Data(crop="random"), gradient(200, 100)
    corners = set()
    for seed in range(200):
        pixels, frame = prepared(image, (50, 50), data, rng(seed))
        left = frame.corner[0]
        corners.add(left)
        assert frame.corner[1] == 0
        assert ((pixels[0, :, 0] + 1) * 127.5).mean() == pytest.approx(255 * left / 100, abs=3)
    assert min(corners) <= 1
    assert max(corners) >= 49


def test_flipping_half_of_the_time():
    image = noise((16, 16))
    seen = [prepared(image, (16, 16), Data(flip=True), rng(seed)) for seed in range(400)]
    assert 150 < sum(frame.flipped for _, frame in seen) < 250
    plain = prepared(image, (16, 16), Data(), rng())[0]
    for pixels, frame in seen[:20]:
        assert torch.equal(pixels, plain.flip(2) if frame.flipped else plain)


def test_equal_generators_treat_a_pair_equally():
    data = Data(crop="random", flip=True, color=1.0)
    for seed in range(10):
        a, frame = prepared(noise((60, 40)), (32, 32), data, rng(seed))
        b, other = prepared(noise((60, 40)), (32, 32), data, rng(seed))
        assert frame == other
        assert torch.equal(a, b)
    assert not torch.equal(a, prepared(noise((60, 40)), (32, 32), data, rng(10))[0])


def test_a_frame_that_was_chosen_before():
    data, image = Data(crop="random", flip=True), noise((60, 40))
    frame = choose_frame(image.size, (32, 32), data, rng(3))
    expected, same = prepared(image, (32, 32), data, rng(3))
    assert same == frame
    assert torch.equal(prepared(image, (32, 32), data, rng(9), frame)[0], expected)
    other = frame._replace(flipped=not frame.flipped)
    assert torch.equal(prepared(image, (32, 32), data, rng(9), other)[0], expected.flip(2))


@pytest.mark.parametrize("scale", [1, 3])
def test_a_mask_follows_its_picture(scale):
    """The mask is white exactly where the picture is, whatever its own resolution."""
    data, size = Data(crop="random", flip=True), (32, 32)
    image = Image.new("RGB", (96, 48), "black")
    image.paste("white", (24, 12, 60, 36))
    mask = image.convert("L").resize((96 * scale, 48 * scale), Image.Resampling.NEAREST)
    for seed in range(20):
        pixels, frame = prepared(image, size, data, rng(seed))
        cut = prepared_mask(mask, size, frame)
        assert cut.shape == (1, 32, 32)
        assert 0 <= cut.min() <= cut.max() <= 1
        assert (cut[0] - (pixels[0] + 1) / 2).abs().mean() < 0.02


def test_colors_change_with_the_strength():
    pixels = torch.rand(3, 16, 16, generator=rng())
    small, large = (torch.stack([recolored(pixels, s, rng(i)) for i in range(50)]) for s in (0.1, 1.0))
    assert (small - pixels).abs().mean() * 3 < (large - pixels).abs().mean()
    assert 0 <= large.min() <= large.max() <= 1
    assert torch.equal(recolored(pixels, 0.0, rng()), recolored(pixels, 0.0, rng(1)))
    torch.testing.assert_close(recolored(pixels, 0.0, rng()), pixels, atol=1e-5, rtol=0)


def test_hue_leaves_gray_gray_and_luma_nearly_as_it_is():
    from daguerre.data.augment import _hue_rotation

    matrix = _hue_rotation(0.2)
    torch.testing.assert_close(matrix @ torch.full((3,), 0.5), torch.full((3,), 0.5), atol=1e-3, rtol=0)
    luma, color = torch.tensor(LUMA), torch.tensor([0.7, 0.4, 0.3])
    assert luma @ (matrix @ color) == pytest.approx(float(luma @ color), abs=1e-4)
    assert (matrix @ color - color).abs().max() > 0.1
    torch.testing.assert_close(torch.linalg.matrix_power(_hue_rotation(0.25), 4), torch.eye(3), atol=1e-4, rtol=0)


@settings(max_examples=40)
@given(
    w=st.integers(1, 300),
    h=st.integers(1, 300),
    size=st.tuples(st.integers(8, 64), st.integers(8, 64)),
    seed=st.integers(0, 99),
)
def test_any_picture_fills_any_size(w, h, size, seed):
    pixels, frame = prepared(Image.new("RGB", (w, h), "white"), size, Data(crop="random", flip=True), rng(seed))
    assert pixels.shape == (3, size[1], size[0])
    assert pixels.eq(1).all()
    assert frame.original == (w, h)


def test_a_strip_never_becomes_a_huge_picture():
    pixels, _ = prepared(Image.new("RGB", (65_535, 1), "white"), (512, 512), Data(), rng())
    assert pixels.shape == (3, 512, 512)


def test_fitted_shows_the_whole_picture():
    wide = Image.new("RGB", (40, 20), "red")
    shown = fitted(wide, (32, 32), "blue")
    assert shown.size == (32, 32)
    assert shown.getpixel((0, 16)) == shown.getpixel((31, 16)) == (255, 0, 0)
    assert shown.getpixel((16, 2)) == shown.getpixel((16, 29)) == (0, 0, 255)
