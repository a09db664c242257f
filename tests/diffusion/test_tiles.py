from itertools import pairwise

import pytest
import torch

from daguerre.diffusion.tiles import Tiles, places, window
from daguerre.request import RequestError

X = torch.randn(1, 4, 21, 34, generator=torch.Generator().manual_seed(0))
T = torch.zeros(1)
TOKENS = torch.zeros(1, 77, 8)


def doubled(x, t, tokens, vector):
    return 2 * x


def mean(x, t, tokens, vector):
    """What sees all of its input: tiles do not agree."""
    return torch.zeros_like(x) + x.mean()


@pytest.mark.parametrize(("size", "overlap"), [(8, 0), (8, 2), (8, 6), (10, 3), (64, 16)])
def test_a_network_that_sees_a_pixel_alone_gives_the_same_in_tiles(size, overlap):
    torch.testing.assert_close(Tiles(doubled, size, overlap)(X, T, TOKENS, None), 2 * X)


def test_one_tile_that_covers_all_is_the_network_itself():
    seen = []

    def network(x, t, tokens, vector):
        seen.append(x.shape)
        return mean(x, t, tokens, vector)

    made = Tiles(network, 34, 8)(X, T, TOKENS, None)
    assert seen == [X.shape]
    torch.testing.assert_close(made, mean(X, T, TOKENS, None))


def test_no_tile_is_larger_than_asked_for_and_neighbors_overlap():
    for length in range(1, 80):
        begins = list(places(length, 16, 4))
        assert begins[0] == 0
        assert begins[-1] + min(16, length) == length
        assert all(0 < after - before <= 12 for before, after in pairwise(begins))
        assert len(begins) == max(1, -(-(length - 4) // 12))


def test_tiles_pass_gradually_into_one_another():
    x = torch.arange(32.0).expand(1, 1, 16, 32).contiguous()

    def step(overlap):
        return Tiles(mean, 16, overlap)(x, T, TOKENS, None).diff(dim=-1).abs().max()

    assert step(8) < 2.1
    assert step(0) > 15


def test_weights_of_neighbors_make_one():
    w = window(16, 4)
    torch.testing.assert_close(w[-4:] + w[:4], torch.ones(4))
    assert w[4:-4].eq(1).all()


def test_a_control_beside_the_network_is_refused():
    with pytest.raises(RequestError, match="ControlNet"):
        Tiles(doubled, 8, 2)(X, T, TOKENS, None, side=torch.ones(1))
