"""What a denoiser is trained for: at which noise levels, with which noise, and what an error costs.

All of it is written for the variance-exploding state x = x0 + sigma * noise and the estimate D(x; sigma) of x0. The
error of what the network itself predicts is then a multiple of D - x0:

    epsilon  1 / sigma                  v  sqrt(sigma^2 + 1) / sigma                  flow  (1 + sigma) / sigma
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..diffusion.denoiser import Cond, Denoiser, spread
from ..diffusion.schedule import NoiseLevels
from ..request import RequestError
from .config import Objective
from .randomness import generator, normal


def factor(prediction: str, sigma: Tensor) -> Tensor:
    """The network's own error in multiples of the error of x0."""
    numerators = {"epsilon": torch.ones_like(sigma), "v": (sigma**2 + 1).sqrt(), "flow": 1 + sigma}
    return numerators[prediction] / sigma


def noise_levels(o: Objective, levels: NoiseLevels, u: Tensor) -> Tensor:
    """Noise levels, rungs of the ladder, of uniform draws u in [0, 1)."""
    if not 0 <= o.first < o.last <= 1:
        raise RequestError(f"objective.first {o.first} and last {o.last}: take two shares with 0 <= first < last <= 1")
    count = len(levels.sigmas)
    if o.timesteps == "logit_normal":
        u = torch.sigmoid(o.mean + o.std * torch.special.ndtri(u.double().clamp(1e-6, 1 - 1e-6))).to(u)
    rung = ((o.first + (o.last - o.first) * u) * count).long().clamp(max=count - 1)
    return levels.sigmas[rung]


def noise(o: Objective, seed: int, step: int, part: range, x0: Tensor) -> Tensor:
    """The noise of a step's places (len(part), C, H, W): white, and what the objective adds to it."""
    shape = tuple(x0.shape[1:])
    drawn = _white(o, seed, step, part, x0)
    channels, height, width = shape
    if o.noise_offset:
        drawn = drawn + o.noise_offset * normal(seed, "offset", step, part, (channels, 1, 1))
    if o.multires:
        for octave in range(1, o.multires + 1):
            size = max(1, height >> octave), max(1, width >> octave)
            coarse = normal(seed, f"octave {octave}", step, part, (channels, *size))
            drawn = drawn + o.multires_discount**octave * F.interpolate(coarse, (height, width), mode="bilinear")
        drawn = drawn / drawn.std(dim=(1, 2, 3), keepdim=True)
    if o.perlin:
        fields = torch.stack([perlin(shape, generator(seed, "perlin", step, i)) for i in part])
        drawn = (drawn + o.perlin * fields) / math.sqrt(1 + o.perlin**2)
    return drawn


def _white(o: Objective, seed: int, step: int, part: range, x0: Tensor) -> Tensor:
    """White noise; with `immiscible` of k, for each picture the best aligned of k draws.

    After arXiv:2505.18521, which takes the nearest: the same in so many dimensions, but for shorter noise.
    """
    shape = tuple(x0.shape[1:])
    if o.immiscible < 2:
        return normal(seed, "noise", step, part, shape)
    drawn = normal(seed, "candidates", step, part, (o.immiscible, *shape))
    aligned = (drawn * x0.cpu()[:, None]).flatten(2).sum(2).argmax(1)
    return drawn[torch.arange(len(drawn)), aligned]


def perlin(shape: tuple[int, ...], rng: torch.Generator, cells: int = 4) -> Tensor:
    """Gradient noise of unit variance (C, H, W) with `cells` waves to a side (Perlin, SIGGRAPH 1985)."""
    channels, height, width = shape
    angle = torch.rand(channels, cells + 1, cells + 1, generator=rng) * 2 * math.pi
    y = (torch.arange(height) + 0.5) * cells / height
    x = (torch.arange(width) + 0.5) * cells / width
    row, column = y.long(), x.long()
    fy, fx = (y - row)[:, None], (x - column)[None]
    fade_y, fade_x = (t**3 * (t * (6 * t - 15) + 10) for t in (fy, fx))

    def slope(down: int, right: int) -> Tensor:
        corner = angle[:, row + down][:, :, column + right]
        return corner.sin() * (fy - down) + corner.cos() * (fx - right)

    above = torch.lerp(slope(0, 0), slope(0, 1), fade_x)
    below = torch.lerp(slope(1, 0), slope(1, 1), fade_x)
    field = torch.lerp(above, below, fade_y)
    return field / field.std()


def weight(o: Objective, prediction: str, sigma: Tensor) -> Tensor:
    """What an error of the network's prediction counts at each noise level, (B,)."""
    snr, squared = sigma**-2, factor(prediction, sigma) ** 2
    if o.weighting == "min_snr":  # arXiv:2303.09556: no level counts more for x0 than the ratio gamma
        return snr.clamp(max=o.gamma) / squared
    if o.weighting == "debiased":  # arXiv:2310.08442
        return sigma if prediction == "epsilon" else 1 / (snr + 1)
    if o.weighting == "p2":  # arXiv:2204.00227, with k = 1
        return snr / squared / (1 + snr) ** o.gamma
    return torch.ones_like(sigma)


def huber_place(o: Objective, levels: NoiseLevels, sigma: Tensor) -> Tensor:
    """Where the Huber loss turns from square to line, per picture (arXiv:2403.16728, section 4)."""
    if o.huber_schedule == "exponential":
        return torch.exp(math.log(o.huber) * levels.timestep(sigma) / len(levels.sigmas))
    if o.huber_schedule == "snr":
        return (1 - o.huber) / (1 + sigma) ** 2 + o.huber
    return torch.full_like(sigma, o.huber)


class DenoisingObjective:
    """The training objective of a denoiser: (denoise, x0, cond, noise, sigma) -> one loss per picture."""

    def __init__(self, o: Objective, prediction: str, levels: NoiseLevels):
        self.o, self.prediction, self.levels = o, prediction, levels

    def __call__(
        self,
        denoise: Denoiser,
        x0: Tensor,
        cond: Cond,
        noise: Tensor,
        sigma: Tensor,
        mask: Tensor | None = None,
        perturbation: Tensor | None = None,
    ) -> Tensor:
        """Losses (B,) for latents x0 and noise (B, C, H, W), noise levels sigma (B,).

        Where `mask` (B, 1, H, W) is 0 the error does not count; the rest counts for the whole, so that a small mask
        teaches as much as a large one. `perturbation` goes into the network's input and not into its target.
        """
        s = spread(sigma, x0)
        shift = 0.0 if perturbation is None else self.o.input_perturbation * perturbation
        error = (denoise(x0 + s * (noise + shift), sigma, cond) - x0) * factor(self.prediction, s)
        if perturbation is not None:
            error = error - shift * ((s**2 + 1).rsqrt() if self.prediction == "v" else 1)
        cost = self._cost(error, sigma)
        if mask is not None:
            cost = cost * mask / mask.mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-3)
        return cost.mean(dim=(1, 2, 3)) * weight(self.o, self.prediction, sigma)

    def _cost(self, error: Tensor, sigma: Tensor) -> Tensor:
        if self.o.loss == "l2":
            return error.square()
        c = spread(huber_place(self.o, self.levels, sigma), error)
        smooth = 2 * error.square() / ((error.square() + c**2).sqrt() + c)  # sqrt(e^2 + c^2) - c without cancellation
        return smooth * c if self.o.loss == "huber" else smooth
