"""What networks are given, and what is made of what they say."""

import pytest
import torch

from daguerre.diffusion.denoiser import Cond
from daguerre.diffusion.prediction import Epsilon, Flow, FlowOnLadder, Velocity
from daguerre.diffusion.schedule import scaled_linear

LEVELS = scaled_linear()
COND = Cond(torch.zeros(2, 3, 5), torch.ones(2, 7))


class Recorder:
    """A network that answers with a given tensor and remembers its arguments."""

    def __init__(self, answer: torch.Tensor):
        self.answer = answer

    def __call__(self, x, t, tokens, vector):
        self.x, self.t, self.tokens, self.vector = x, t, tokens, vector
        return self.answer


@pytest.fixture
def mixed() -> tuple[torch.Tensor, torch.Tensor]:
    """Clean latents and noise."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 4, 3, 3, generator=generator), torch.randn(2, 4, 3, 3, generator=generator)


@pytest.mark.parametrize("t", [0, 1, 500, 998, 999])
def test_epsilon_finds_the_clean_latents(mixed, t: int) -> None:
    x0, noise = mixed
    sigma = LEVELS.sigmas[t]
    network = Recorder(noise)
    x = x0 + sigma * noise
    assert torch.allclose(Epsilon(network, LEVELS)(x, sigma, COND), x0, atol=1e-5)
    assert network.t.tolist() == [t, t]
    assert network.tokens is COND.tokens
    assert network.vector is COND.vector
    alpha = (1 + sigma**2).rsqrt()
    assert torch.allclose(network.x, alpha * x0 + (1 - alpha**2).sqrt() * noise, atol=1e-5)


@pytest.mark.parametrize("t", [0, 1, 500, 998, 999])
def test_velocity_finds_the_clean_latents(mixed, t: int) -> None:
    x0, noise = mixed
    sigma = LEVELS.sigmas[t]
    alpha = (1 + sigma**2).rsqrt()
    network = Recorder(alpha * noise - alpha * sigma * x0)
    assert torch.allclose(Velocity(network, LEVELS)(x0 + sigma * noise, sigma, COND), x0, atol=1e-5)
    assert network.t.tolist() == [t, t]


def test_velocity_at_zero_terminal_signal(mixed) -> None:
    x0, noise = mixed
    levels = LEVELS.zero_terminal()
    x = 4096 * noise
    assert torch.allclose(Velocity(Recorder(-x0), levels)(x, levels.sigmas[-1], COND), x0, atol=2e-3)


def test_flow_finds_the_clean_latents(mixed) -> None:
    x0, noise = mixed
    network = Recorder(noise - x0)
    sigma = torch.tensor(0.75)
    assert torch.allclose(Flow(network)((1 - sigma) * x0 + sigma * noise, sigma, COND), x0, atol=1e-6)
    assert network.t.tolist() == [750, 750]


def test_flow_on_the_ladder_is_the_same_flow_in_another_scale(mixed) -> None:
    """x / (1 + sigma) of the exploding state is the flow's state at sigma / (1 + sigma)."""
    x0, noise = mixed
    sigma, network = LEVELS.sigmas[700], Recorder(noise - x0)
    found = FlowOnLadder(network, LEVELS)(x0 + sigma * noise, sigma, COND)
    assert torch.allclose(found, x0, atol=1e-5)
    assert network.t.tolist() == [700, 700]
    share = sigma / (1 + sigma)
    assert torch.allclose(network.x, (1 - share) * x0 + share * noise, atol=1e-6)
    assert torch.allclose(FlowOnLadder(network, LEVELS).c_skip(sigma), 1 - share)


@pytest.mark.parametrize("kind", [Epsilon, Velocity, FlowOnLadder])
def test_every_picture_may_have_its_own_level(mixed, kind) -> None:
    x0, noise = mixed
    network = Recorder(noise)
    sigma = LEVELS.sigmas[[10, 900]]
    x = x0 + sigma.reshape(2, 1, 1, 1) * noise
    both = kind(network, LEVELS)(x, sigma, COND)
    assert network.t.tolist() == [10, 900]
    for i in range(2):
        network.answer = noise[i : i + 1]
        alone = kind(network, LEVELS)(x[i : i + 1], sigma[i], COND)
        assert torch.equal(both[i : i + 1], alone)


@pytest.mark.parametrize("make", [lambda n: Epsilon(n, LEVELS), lambda n: Velocity(n, LEVELS), Flow])
def test_extra_channels_follow_the_scaled_latents(mixed, make) -> None:
    x0, noise = mixed
    network = Recorder(noise)
    extra = torch.full((2, 5, 3, 3), 9.0)
    make(network)(x0, torch.tensor(0.5), COND._replace(concat=extra))
    assert network.x.shape == (2, 9, 3, 3)
    assert torch.equal(network.x[:, 4:], extra)
