from itertools import pairwise

import pytest
import torch

from daguerre.diffusion.tiles import joined, places, window

X = torch.randn(1, 4, 21, 34, generator=torch.Generator().manual_seed(0))


def doubled(x, rows, columns):
    return 2 * x


def mean(x, rows, columns):
    """What sees all of its input: tiles do not agree."""
    return torch.zeros_like(x) + x.mean()


@pytest.mark.parametrize(("size", "overlap"), [(8, 0), (8, 2), (8, 6), (10, 3), (64, 16)])
def test_a_network_that_sees_a_pixel_alone_gives_the_same_in_tiles(size, overlap):
    torch.testing.assert_close(joined(doubled, X, size, overlap), 2 * X)


def test_a_tile_is_told_where_it_lies():
    def there(x, rows, columns):
        assert torch.equal(x, X[..., rows, columns])
        assert x.is_contiguous()
        return x

    torch.testing.assert_close(joined(there, X, 8, 2), X)


def test_one_tile_that_covers_all_is_the_network_itself():
    seen = []

    def network(x, rows, columns):
        seen.append(x.shape)
        return mean(x, rows, columns)

    made = joined(network, X, 34, 8)
    assert seen == [X.shape]
    torch.testing.assert_close(made, mean(X, None, None))


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
        return joined(mean, x, 16, overlap).diff(dim=-1).abs().max()

    assert step(8) < 2.1
    assert step(0) > 15


def test_weights_of_neighbors_make_one():
    w = window(16, 4)
    torch.testing.assert_close(w[-4:] + w[:4], torch.ones(4))
    assert w[4:-4].eq(1).all()
