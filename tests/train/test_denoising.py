from dataclasses import replace

import pytest
import torch

from daguerre.data.phrases import phrases
from daguerre.diffusion.denoiser import Cond
from daguerre.diffusion.schedule import scaled_linear
from daguerre.train.denoising import DenoisingRecipe, Latents, Objective
from tests.train import toys
from tests.train.line import QUICK, finish

LEVELS = scaled_linear()
NOTHING = Cond(torch.zeros(1, 1, 1), torch.zeros(1, 1))
ALPHA_BAR = 1 / (1 + LEVELS.sigmas.double() ** 2)


class Network:
    """Answers with what it is told to and remembers what it was given."""

    def __init__(self, answer=None):
        self.answer, self.given = answer, None

    def __call__(self, x, t, tokens, vector):
        self.given = x, t, tokens, vector
        return torch.zeros_like(x) if self.answer is None else self.answer


def recipe(network, pictures=None, **objective):
    rows = pictures.rows if pictures else [{}]
    data = Latents(torch.randn(len(rows), 4, 4, 4, generator=torch.Generator().manual_seed(0)), rows)
    captions = []
    made = DenoisingRecipe(
        network,
        data,
        LEVELS,
        lambda c: captions.append(c) or NOTHING,
        None,
        Objective(**{"batch": 8, "seed": 0} | objective),
    )
    return made, captions


@pytest.fixture
def batch():
    rng = torch.Generator().manual_seed(1)
    x0, noise = (torch.randn(6, 4, 8, 8, generator=rng) for _ in range(2))
    return x0, torch.tensor([0, 1, 120, 500, 870, 999]), noise


def mix(batch):
    """What the network sees and what it should say, from alpha_bar alone: x = a x0 + s noise, v = a noise - s x0."""
    x0, t, noise = (part.double() if part.is_floating_point() else part for part in batch)
    a, s = ALPHA_BAR[t].sqrt().reshape(-1, 1, 1, 1), (1 - ALPHA_BAR[t]).sqrt().reshape(-1, 1, 1, 1)
    return (a * x0 + s * noise).float(), (a * noise - s * x0).float()


def test_the_true_v_has_no_error(batch):
    noisy, v = mix(batch)
    network = Network(v)
    error = recipe(network)[0].error(*batch, NOTHING)
    assert error.shape == (6,)
    assert error.max() < 1e-9
    torch.testing.assert_close(network.given[0], noisy, rtol=1e-4, atol=1e-5)
    assert network.given[1].tolist() == [0, 1, 120, 500, 870, 999]
    assert network.given[2] is NOTHING.tokens
    assert network.given[3] is NOTHING.vector


@pytest.mark.parametrize("gamma", [1.0, 5.0, 1e9])
def test_errors_weigh_as_min_snr_says(batch, gamma):
    _, v = mix(batch)
    error = recipe(Network(v + 0.5), gamma=gamma)[0].error(*batch, NOTHING)
    snr = ALPHA_BAR[batch[1]] / (1 - ALPHA_BAR[batch[1]])
    expected = 0.25 * snr.clamp(max=gamma) / (snr + 1)
    torch.testing.assert_close(error.double(), expected, rtol=1e-3, atol=1e-7)


def test_without_gamma_every_noise_level_counts_alike(batch):
    _, v = mix(batch)
    error = recipe(Network(v + 0.5), gamma=None)[0].error(*batch, NOTHING)
    torch.testing.assert_close(error, torch.full_like(error, 0.25), rtol=1e-3, atol=1e-7)


def test_the_expected_error_of_silence_on_gaussian_data():
    """Of unit variance are latents and noise, so is v."""
    rng = torch.Generator().manual_seed(2)
    x0, noise = (torch.randn(4, 4, 128, 128, generator=rng) for _ in range(2))
    t = torch.tensor([100, 300, 600, 900])
    error = recipe(Network(), gamma=1e9)[0].error(x0, t, noise, NOTHING)
    torch.testing.assert_close(error.double(), ALPHA_BAR[t], rtol=0.02, atol=0)


def test_each_batch_has_a_timestep_of_every_part_of_the_schedule(pictures):
    network, seen = Network(), set()
    made, _ = recipe(network, pictures)
    for step in range(50):
        made.loss(step)
        t = network.given[1].long()
        assert (t // 125).tolist() == list(range(8))
        seen |= set(t.tolist())
    assert len(seen) > 250


def test_the_last_timestep_is_never_passed(pictures, monkeypatch):
    """(15 + the largest draw) / 16 * 1000 is 1000 in single precision."""
    network = Network()
    made, _ = recipe(network, pictures, batch=16)
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.full(size, 1 - 2**-24))
    made.loss(0)
    assert network.given[1].max() == 999


@pytest.mark.parametrize(("drop", "low", "high"), [(0.0, 0, 0), (0.25, 0.15, 0.35), (1.0, 1, 1)])
def test_a_share_of_captions_is_emptied(pictures, drop, low, high):
    made, captions = recipe(Network(), pictures, drop=drop)
    for step in range(40):
        made.loss(step)
    flat = [caption for batch in captions for caption in batch]
    assert low <= sum(caption == "" for caption in flat) / len(flat) <= high
    known = {phrase for row in pictures.rows for phrase in phrases(row)}
    assert set(flat) <= known | {""}


def test_the_figures_are_the_two_halves_of_the_loss(pictures):
    loss, figures = recipe(Network(), pictures)[0].loss(0)
    assert loss.item() == pytest.approx((figures["low"] + figures["high"]) / 2)


def test_one_batch_is_learned(tmp_path, pictures):
    records = finish(
        toys.OneBatch(toys.denoising(pictures)), replace(QUICK, save_every=1000, steps=60, learning_rate=5e-3), tmp_path
    )
    assert records[-1]["loss"] < 0.3 * records[0]["loss"]


def test_the_caption_matters(pictures):
    """Two pictures whose noisy latents are alike are told apart by what is said of them."""
    made = toys.denoising(pictures)
    x0 = torch.stack([torch.ones(4, 4, 4), -torch.ones(4, 4, 4)])
    sigma, noisy = LEVELS.sigmas[500], torch.randn(1, 4, 4, 4)
    noise, t = (noisy - x0) / sigma, torch.tensor([500, 500])  # x0 + sigma * noise is the same for both
    cond = made.embed(["a red ball", "a blue ball"])
    optimizer = torch.optim.Adam(made.trained.parameters(), 5e-3)
    errors = []
    for _ in range(60):
        error = made.error(x0, t, noise, cond).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    with torch.no_grad():
        swapped = made.error(x0, t, noise, Cond(cond.tokens.flip(0), cond.vector.flip(0))).mean().item()
    assert errors[-1] < 0.1 * errors[0]
    assert swapped > 10 * errors[-1]
