from itertools import pairwise

import pytest
import torch

from daguerre.diffusion.tiles import joined, places, window

X = torch.randn(1, 4, 21, 34, generator=torch.Generator().manual_seed(0))


def doubled(x, top, left):
    return 2 * x


def mean(x, top, left):
    """What sees all of its input: tiles do not agree."""
    return torch.zeros_like(x) + x.mean()


@pytest.mark.parametrize(("size", "overlap"), [(8, 0), (8, 2), (8, 6), (10, 3), (64, 16)])
def test_a_network_that_sees_a_pixel_alone_gives_the_same_in_tiles(size, overlap):
    for meet in ((False, False), (True, True)):
        torch.testing.assert_close(joined(doubled, X, size, overlap, meet), 2 * X)


def test_a_tile_is_told_where_it_lies():
    wide = torch.cat([X, X], -1)

    def there(x, top, left):
        assert torch.equal(x, wide[..., top : top + 8, left : left + 8])
        assert x.is_contiguous()
        return x

    torch.testing.assert_close(joined(there, X, 8, 2, (False, True)), X)


def test_one_tile_that_covers_all_is_the_network_itself():
    seen = []

    def network(x, top, left):
        seen.append(x.shape)
        return mean(x, top, left)

    made = joined(network, X, 34, 8, (False, True))
    assert seen == [X.shape]
    torch.testing.assert_close(made, mean(X, 0, 0))


def test_no_tile_is_larger_than_asked_for_and_neighbors_overlap():
    for length in range(1, 80):
        begins = list(places(length, 16, 4))
        assert begins[0] == 0
        assert begins[-1] + min(16, length) == length
        assert all(0 < after - before <= 12 for before, after in pairwise(begins))
        assert len(begins) == max(1, -(-(length - 4) // 12))


def test_around_a_circle_every_place_lies_in_the_middle_of_some_tile():
    for length in range(17, 80):
        begins = list(places(length, 16, 4, around=True))
        assert begins[0] == 0
        assert all(0 < after - before <= 12 for before, after in pairwise([*begins, length]))
    assert list(places(16, 16, 4, around=True)) == [0]


def test_tiles_pass_gradually_into_one_another():
    x = torch.arange(32.0).expand(1, 1, 16, 32).contiguous()

    def step(overlap):
        return joined(mean, x, 16, overlap, (False, False)).diff(dim=-1).abs().max()

    assert step(8) < 2.1
    assert step(0) > 15


def test_weights_of_neighbors_make_one():
    w = window(16, 4)
    torch.testing.assert_close(w[-4:] + w[:4], torch.ones(4))
    assert w[4:-4].eq(1).all()
