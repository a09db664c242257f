import torch

from daguerre.train.randomness import generator


def draw(*place):
    return torch.randn(4, generator=generator(*place)).tolist()


def test_a_place_of_a_run_always_draws_the_same():
    assert draw(0, "noise", 7) == draw(0, "noise", 7)


def test_seed_purpose_and_step_each_matter():
    places = [(0, "noise", 7), (1, "noise", 7), (0, "crops", 7), (0, "noise", 8), (0, "noise")]
    assert len({tuple(draw(*place)) for place in places}) == len(places)


def test_the_draws_are_those_that_runs_so_far_have_made():
    """A change here would let no run be resumed to the same bits."""
    assert torch.randint(1 << 30, (3,), generator=generator(0, "batch", 5)).tolist() == [516292308, 468110827, 87820344]
