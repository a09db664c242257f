from dataclasses import replace

import pytest
import torch

from daguerre.diffusion.denoiser import Cond
from daguerre.diffusion.prediction import Velocity
from daguerre.diffusion.schedule import scaled_linear
from daguerre.train.batch import Batch
from daguerre.train.config import Objective
from daguerre.train.denoising import HELD_OUT, DenoisingRecipe
from daguerre.train.objective import DenoisingObjective
from tests.train import toys
from tests.train.line import finish, journal, quick

LEVELS = scaled_linear()
NOTHING = Cond(torch.zeros(1, 1, 1), torch.zeros(1, 1))


class Network(torch.nn.Module):
    """Answers with zeros and remembers the timesteps that it was given."""

    def __init__(self):
        super().__init__()
        self.weight, self.given = torch.nn.Parameter(torch.zeros(())), []

    def forward(self, x, t, tokens, vector):
        self.given.append(t.long())
        return self.weight * x


def recipe(size, weight=1.0, **settings):
    x0 = torch.randn(size, 4, 4, 4, generator=torch.Generator().manual_seed(0))

    def batches(step, part):
        cut = slice(part.start, part.stop)
        weights = torch.full((len(part),), weight)
        return Batch(x0=x0[cut], cond=NOTHING, weight=weights, captions=[""] * len(part))

    network = Network()
    return DenoisingRecipe(
        trained=network,
        denoise=Velocity(network, LEVELS),
        batches=batches,
        objective=DenoisingObjective(Objective(**settings), "v", LEVELS),
        batch=size,
        seed=0,
        draw=lambda path: None,
    )


def test_each_batch_has_a_timestep_of_every_part_of_the_schedule():
    made, seen = recipe(8), set()
    for step in range(50):
        made.loss(step, range(8))
        t = made.trained.given[-1]
        assert (t // 125).tolist() == list(range(8))
        seen |= set(t.tolist())
    assert len(seen) > 250


def test_the_last_timestep_is_never_passed(monkeypatch):
    """(15 + the largest draw) / 16 * 1000 is 1000 in single precision."""
    made = recipe(16)
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.full((), 1 - 2**-24))
    made.loss(0, range(16))
    assert made.trained.given[0].max() == 999


def test_a_picture_counts_as_its_weight_says():
    plain, heavy = (recipe(4, weight).loss(0, range(4))[0].item() for weight in (1.0, 2.5))
    assert heavy == pytest.approx(2.5 * plain)


@pytest.mark.parametrize("settings", [{}, {"noise_offset": 0.1, "multires": 3, "perlin": 0.2}, {"loss": "huber"}])
def test_micro_batches_see_what_the_whole_batch_sees(settings):
    made = recipe(8, **settings)
    whole = made.loss(3, range(8))[0].item()
    halves = [made.loss(3, range(a, a + 2))[0].item() for a in (0, 2, 4, 6)]
    assert sum(halves) / 4 == pytest.approx(whole, rel=1e-5)
    assert torch.equal(torch.cat(made.trained.given[1:]), made.trained.given[0])


def test_what_comes_before_a_loss_is_told_where_it_is():
    told = []
    made = replace(recipe(4), before=lambda step, part: told.append((step, part)))
    made.loss(7, range(2, 4))
    assert told == [(7, range(2, 4))]


def test_one_batch_is_learned(tmp_path, pictures):
    stage = quick(5e-3, save_every=1000, steps=60)
    records = finish(toys.OneBatch(toys.denoising(pictures)), stage, tmp_path)
    assert records[-1]["loss"] < 0.3 * records[0]["loss"]


def test_the_caption_matters(pictures):
    """Two pictures whose noisy latents are alike are told apart by what is said of them."""
    made = toys.denoising(pictures)
    x0 = torch.stack([torch.ones(4, 4, 4), -torch.ones(4, 4, 4)])
    sigma, noisy = LEVELS.sigmas[500], torch.randn(1, 4, 4, 4)
    noise = (noisy - x0) / sigma  # x0 + sigma * noise is the same for both
    cond = made.batches.embed(["a red ball", "a blue ball"])
    optimizer = torch.optim.Adam(made.trained.parameters(), 5e-3)

    def error(cond):
        return made.objective(made.denoise, x0, cond, noise, sigma.repeat(2)).mean()

    errors = []
    for _ in range(60):
        loss = error(cond)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    with torch.no_grad():
        swapped = error(Cond(cond.tokens.flip(0), cond.vector.flip(0))).item()
    assert errors[-1] < 0.1 * errors[0]
    assert swapped > 10 * errors[-1]


def test_held_out_losses_are_the_same_every_time_and_move_with_the_weights(tmp_path, pictures):
    made = toys.denoising(pictures, weighting="min_snr", loss="huber", first=0.5)
    made = replace(made, held=lambda batches=made.batches: [batches(0, range(4))])
    before = made.held_out()
    assert list(before) == [f"{place:g}" for place in HELD_OUT]
    assert made.held_out() == before
    assert made.trained.training
    finish(made, quick(steps=2, validate_every=2, ema=0.5), tmp_path)
    told = journal(tmp_path)
    assert [list(line) for line in told][2] == ["step", "val"]
    assert told[2]["val"] != before
    assert told[2]["val"] != made.held_out()  # by the averaged weights


def test_the_plain_loss_of_silence_is_the_power_of_v():
    """Of unit variance are latents and noise, so is v: whatever the weighting of training, and the network says 0."""
    made = replace(recipe(8, weighting="min_snr"), batch=8)
    held = torch.randn(8, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    batch = Batch(x0=held, cond=NOTHING, weight=torch.ones(8), captions=[""] * 8)
    made = replace(made, held=lambda: [batch])
    assert list(made.held_out().values()) == pytest.approx([1.0] * len(HELD_OUT), rel=0.03)


def test_nothing_is_held_out_by_default(pictures):
    assert toys.denoising(pictures).held_out() == {}
