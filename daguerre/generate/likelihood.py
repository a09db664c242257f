"""Which of several prompts a picture was drawn to, as a diffusion model itself sees it (arXiv:2303.16203).

The prompt under which the noise in noisy latents is estimated best is the likeliest: any model is a classifier.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..diffusion.noise import initial
from ..families.model import Model
from ..request import RequestError
from .clip import padded

AT_ONCE = 8  # noisy latents that are estimated together
FIRST, LAST = 0.1, 0.9  # share of the noise ladder: below, all prompts do; above, none does


@dataclass(frozen=True)
class Judged:
    """A prompt and the mean squared error of the noise estimated under it; lower is likelier."""

    prompt: str
    error: float


@torch.no_grad()
def judge(
    model: Model, picture: Image.Image, prompts: Sequence[str], *, draws: int = 16, seed: int = 0
) -> tuple[Judged, ...]:
    """The prompts, the likeliest first, by `draws` noise levels and noises, the same for every prompt.

    The picture, of mode RGB, is laid on a white square of the model's own size. Raises RequestError for a model that
    draws from more than a prompt, and for no prompt or draw.
    """
    channels = model.unet.config.channels_in, model.unet.config.channels_out
    if channels[0] != channels[1]:
        raise RequestError(
            f"{model.name} wants a picture beside the prompt, so it cannot judge one; name another model"
        )
    if not prompts or draws < 1:
        raise RequestError(f"{len(prompts)} prompts and {draws} draws; there have to be one or more of each")
    x0 = _latents(model, picture)
    noise = initial(range(seed, seed + draws), x0.shape[1:]).to(x0)
    most = len(model.levels.sigmas) - 1
    sigmas = model.levels.sigma(torch.linspace(FIRST * most, LAST * most, draws)).to(x0)
    with model.on_device("unet"):
        found = [Judged(prompt, _error(model, x0, noise, sigmas, prompt)) for prompt in prompts]
    return tuple(sorted(found, key=lambda judged: judged.error))


def _error(model: Model, x0: Tensor, noise: Tensor, sigmas: Tensor, prompt: str) -> float:
    cond, _ = model.encode(replace(model.defaults, prompt=prompt))
    denoise, errors = model.denoiser(), list[Tensor]()
    for part in torch.split(torch.arange(len(sigmas)), AT_ONCE):
        sigma = sigmas[part][:, None, None, None]
        many = cond._replace(
            tokens=cond.tokens.expand(len(part), -1, -1),
            vector=None if cond.vector is None else cond.vector.expand(len(part), -1),
        )
        estimate = denoise(x0 + sigma * noise[part], sigmas[part], many)
        errors.append(((estimate - x0) / sigma).square().mean(dim=(1, 2, 3)))  # of the noise, not of the latents
    return torch.cat(errors).mean().item()


def _latents(model: Model, picture: Image.Image) -> Tensor:
    """Scaled latents (1, C, H, W), float32, on the model's device."""
    request = model.defaults
    values = np.array(padded(picture.convert("RGB"), min(request.width, request.height)), np.float32)
    pixels = torch.from_numpy(values).permute(2, 0, 1)[None] / 127.5 - 1
    with model.on_device("vae"):
        weight = model.vae.quant.weight
        return model.vae.encode(pixels.to(weight)).float().to(model.device)
