import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from daguerre.train.contact_sheet import to_tensor
from daguerre.train.nearest import COPY, ENOUGH, Gallery, describe

COUNT = 150


def scene(number: int, size: tuple[int, int] = (64, 64), *, stripes: bool = False) -> torch.Tensor:
    """Shapes of random places and colors on a random ground, or stripes: (3, H, W)."""
    draw_from = np.random.default_rng([number, stripes])
    color = lambda: tuple(int(v) for v in draw_from.integers(0, 256, 3))  # noqa: E731
    picture = Image.new("RGB", (64, 64), color())
    draw = ImageDraw.Draw(picture)
    for i in range(5):
        if stripes:
            draw.line((0, 13 * i, 64, 13 * i + int(draw_from.integers(-9, 9))), color(), 5)
        else:
            x, y, w, h = draw_from.integers(0, 44, 2).tolist() + draw_from.integers(8, 40, 2).tolist()
            (draw.ellipse if draw_from.random() < 0.5 else draw.rectangle)((x, y, x + w, y + h), color())
    return to_tensor(picture.resize(size))[0]


@pytest.fixture(scope="module")
def gallery() -> Gallery:
    return Gallery((f"{i}.png", scene(i)) for i in range(COUNT))


def reencoded(picture: torch.Tensor) -> torch.Tensor:
    memory = io.BytesIO()
    pixels = picture.add(1).mul(127.5).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(memory, "JPEG", quality=30)
    return to_tensor(Image.open(memory))[0]


ALTERED = {
    "the same": lambda p: p,
    "mirrored": lambda p: p.flip(-1),
    "noisy": lambda p: p + 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)),
    "mirrored and noisy": lambda p: p.flip(-1) + 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)),
    "pale": lambda p: 0.6 * p + 0.2,
    "tinted": lambda p: p * torch.tensor([1.0, 0.8, 0.6]).reshape(3, 1, 1),
    "re-encoded": reencoded,
    "small": lambda p: torch.nn.functional.avg_pool2d(p, 2),
}


@pytest.mark.parametrize("alter", ALTERED.values(), ids=ALTERED)
def test_a_copy_is_told_and_its_original_named(gallery, alter):
    chosen = range(0, COUNT, 10)
    altered = torch.stack([alter(scene(i)) for i in chosen])
    matches = gallery.nearest(altered)
    assert [match.name for match in matches] == [f"{i}.png" for i in chosen]
    assert all(match.copied for match in matches), [match.distance for match in matches]


@pytest.mark.parametrize("stripes", [False, True])
def test_other_pictures_are_no_copies(gallery, stripes):
    matches = gallery.nearest(torch.stack([scene(COUNT + i, stripes=stripes) for i in range(40)]))
    assert sum(match.copied for match in matches) <= 1
    assert min(match.distance for match in matches) > COPY


def test_the_percentile_is_the_share_of_real_pictures_that_are_nearer(gallery):
    own = [
        min(m for j, m in enumerate(row) if j != i) for i, row in enumerate(gallery._distances(small(COUNT)).tolist())
    ]
    for match in gallery.nearest(torch.stack([scene(COUNT + i) for i in range(5)])):
        assert match.percentile == pytest.approx(np.mean(np.array(own) < match.distance), abs=1e-6)
    assert gallery.nearest(scene(3)[None])[0].percentile == 0


def small(count: int) -> torch.Tensor:
    return torch.stack([torch.nn.functional.adaptive_avg_pool2d(scene(i), 32) for i in range(count)])


def test_a_nearness_that_no_real_pictures_have_is_suspicious_when_there_are_enough():
    """A sample between a copy and a stranger: mixed of a training picture and another one."""
    mixed = (0.62 * scene(7) + 0.38 * scene(COUNT + 1))[None]
    [among_many] = Gallery((str(i), scene(i)) for i in range(ENOUGH)).nearest(mixed)
    [among_few] = Gallery((str(i), scene(i)) for i in range(ENOUGH // 2)).nearest(mixed)
    assert among_many.name == among_few.name == "7"
    assert among_many.distance == pytest.approx(among_few.distance)
    assert among_many.distance > COPY
    assert among_many.copied
    assert not among_few.copied


def test_sizes_may_differ():
    gallery = Gallery((str(i), scene(i, (40 + 8 * i, 64))) for i in range(4))
    wide = torch.stack([scene(2, (96, 48))])
    [match] = gallery.nearest(wide)
    assert (match.name, match.copied) == ("2", True)


def test_one_picture_and_none():
    [match] = Gallery([("only", scene(0))]).nearest(scene(0)[None])
    assert (match.name, match.percentile, match.copied) == ("only", None, True)
    with pytest.raises(ValueError, match="no training pictures"):
        Gallery([])


def test_flat_pictures_resemble_no_drawing():
    flat = torch.zeros(1, 3, 32, 32)
    assert describe(flat).isfinite().all()
    assert torch.dist(describe(flat), describe(small(1))) > 0.7
