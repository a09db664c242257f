"""Networks as Denoisers: x0 = c_skip * x + c_out * network(c_in * x, t) (arXiv:2206.00364, equation 7)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .denoiser import Cond, spread
from .schedule import NoiseLevels

# (input (B, C, H, W), timesteps (B,), text (B, T, D), pooled text (B, V)) -> prediction, like the latents.
# It is told `side=` of the condition where that has one.
Network = Callable[..., Tensor]


def predict(network: Network, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
    """The network's output for scaled latents x at timestep t, scalar or (B,)."""
    x = x if cond.concat is None else torch.cat([x, cond.concat], dim=1)
    told = {} if cond.side is None else {"side": cond.side}
    return network(x, t.to(x.device).expand(len(x)), cond.tokens, cond.vector, **told)


@dataclass(frozen=True)
class Epsilon:
    """The network predicts the noise (arXiv:2006.11239)."""

    network: Network
    levels: NoiseLevels
    c_skip = staticmethod(torch.ones_like)

    def __call__(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        s = spread(sigma, x)
        return x - s * predict(self.network, x / (s**2 + 1).sqrt(), self.levels.timestep(sigma), cond)


@dataclass(frozen=True)
class Velocity:
    """The network predicts v (arXiv:2202.00512, appendix D)."""

    network: Network
    levels: NoiseLevels

    def c_skip(self, sigma: Tensor) -> Tensor:
        return 1 / (sigma**2 + 1)

    def __call__(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        s, scale = spread(sigma, x), (spread(sigma, x) ** 2 + 1).sqrt()
        return x / scale**2 - s / scale * predict(self.network, x / scale, self.levels.timestep(sigma), cond)


@dataclass(frozen=True)
class FlowOnLadder:
    """The network predicts noise - x0 for states scaled to a rectified flow; the noise levels are the ladder's."""

    network: Network
    levels: NoiseLevels

    def c_skip(self, sigma: Tensor) -> Tensor:
        return 1 / (1 + sigma)

    def __call__(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        scale = 1 + spread(sigma, x)
        return (x - (scale - 1) * predict(self.network, x / scale, self.levels.timestep(sigma), cond)) / scale


OnLadder = Epsilon | Velocity | FlowOnLadder


@dataclass(frozen=True)
class Flow:
    """The network predicts noise - x0 along a rectified flow (arXiv:2209.03003)."""

    network: Network
    timesteps: float = 1000.0  # the network's timestep at sigma = 1
    c_skip = staticmethod(torch.ones_like)

    def __call__(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        return x - spread(sigma, x) * predict(self.network, x, sigma * self.timesteps, cond)
