"""Text to image: the way of a prompt through every room, from top to bottom."""

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from ..diffusion.denoiser import Denoiser, NoiseSource, Step, VarianceExploding
from ..diffusion.guidance import ClassifierFree, Interval, Rescaled
from ..diffusion.noise import brownian, fresh, initial
from ..diffusion.prediction import OnLadder
from ..diffusion.samplers import Spec, find_sampler
from ..diffusion.schedule import find_schedule
from ..families.model import Model
from ..provenance.record import Record, pixel_sha256
from ..request import MAX_SEED, RANDOM_SEED, RequestError, TextToImage
from ..runtime.device import exact, processor
from ..runtime.precision import require_finite


@dataclass(frozen=True)
class Picture:
    """A finished picture: the last thing that is yielded for each seed."""

    image: Image.Image  # RGB
    record: Record  # all that is needed to draw it again
    seconds: float  # from its first step to its pixels


@torch.no_grad()
def text_to_image(model: Model, request: TextToImage) -> Iterator[Step | Picture]:
    """Yields every sampler step of every picture, and each picture after its last step; stop iterating to cancel.

    Exact mode: one picture at a time, from a generator of its own, so that a picture depends on the model, the
    request and its seed, and not on what is drawn beside it. Raises RequestError for what cannot be drawn and
    NumericError when the numbers break down.
    """
    asked, request = request, settled(request)
    spec, _ = find_sampler(request.sampler)
    sigmas = spec.sigmas(request.schedule, model.levels, request.steps)
    process = VarianceExploding()
    factor = model.vae.config.factor
    shape = (model.unet.config.channels_out, request.height // factor, request.width // factor)
    with exact():
        cond, negative = model.encode(request)
        canvas = empty_canvas(model, shape)
        cond, negative = cond._replace(concat=canvas), negative._replace(concat=canvas)
        for i in range(request.count):
            begun = time.perf_counter()
            seed = request.seed + i
            noise = noise_source(spec, seed, shape, sigmas, model.device)
            x = spec.start(initial([seed], shape).to(model.device), sigmas[0], process)
            with model.on_device("unet"):
                unguided = model.denoiser()
                guidance = ClassifierFree(unguided, negative, request.cfg_scale, batched=not model.low_memory)
                denoise = adjusted(guidance, unguided, request, sigmas)
                for step in spec.sample(denoise, x, sigmas, cond, process=process, noise=noise):
                    require_finite(step.x, f"step {step.i + 1} of {request.steps}")
                    x = step.x
                    yield step
            image = to_image(model.decode(x))
            record = record_of(model, asked, i, request, image)
            yield Picture(image, record, time.perf_counter() - begun)


def settled(request: TextToImage) -> TextToImage:
    """The request with every choice made: the seed drawn, names canonical, the sampler's own schedule filled in."""
    seed = secrets.randbelow(MAX_SEED - request.count + 2) if request.seed == RANDOM_SEED else request.seed
    if seed + request.count - 1 > MAX_SEED:
        raise RequestError(f"seed {seed} with count {request.count} goes beyond the largest seed, {MAX_SEED}")
    spec, suffix = find_sampler(request.sampler)
    schedule = find_schedule(request.schedule)
    if schedule == "automatic":
        schedule = suffix or spec.schedule
    return replace(request, seed=seed, sampler=spec.name, schedule=schedule)


def empty_canvas(model: Model, shape: tuple[int, int, int]) -> Tensor | None:
    """What inpainting and editing networks see beside the noise (1, *shape) when there is no picture yet.

    Inpainting: a mask of ones, "draw everything", and the latents of a gray picture. Editing: zeros, the "no
    picture" of its training. None for other networks.
    """
    extra, (channels, height, width) = model.unet.config.channels_in - shape[0], shape
    if extra == 0:
        return None
    if extra == channels:
        return torch.zeros(1, *shape, device=model.device)
    mask = torch.ones(1, 1, height, width, device=model.device)
    with model.on_device("vae"):
        factor, weights = model.vae.config.factor, model.vae.quant.weight
        gray = torch.zeros(1, 3, height * factor, width * factor, device=model.device, dtype=weights.dtype)
        return torch.cat([mask, model.vae.encode(gray)], dim=1)


def noise_source(spec: Spec, seed: int, shape: tuple[int, ...], sigmas: Tensor, device: torch.device) -> NoiseSource:
    if spec.noise == "brownian":
        levels = sigmas[sigmas > 0]
        return brownian([seed], shape, levels.min().item(), levels.max().item(), device)
    return fresh([seed], shape, device)


def adjusted(guidance: ClassifierFree, unguided: OnLadder, request: TextToImage, sigmas: Tensor) -> Denoiser:
    """Guidance with the request's rescaling, in the part of the steps that the request asks for."""
    rescaled = request.guidance_rescale > 0 and request.cfg_scale != 1
    share = request.guidance_rescale
    denoise: Denoiser = Rescaled(guidance, share, unguided.c_skip) if rescaled else guidance
    start, end = request.guidance_interval
    if (start, end) == (0.0, 1.0):
        return denoise
    first, last = round(start * (len(sigmas) - 2)), round(end * (len(sigmas) - 2))
    return Interval(denoise, unguided, low=sigmas[last].item(), high=sigmas[first].item())


def to_image(pixels: Tensor) -> Image.Image:
    """One picture (1, 3, H, W), about [-1, 1], as 8-bit RGB."""
    rounded = pixels[0].float().clamp(-1, 1).add(1).mul(127.5).round().byte()
    return Image.fromarray(rounded.permute(1, 2, 0).cpu().numpy())


def record_of(model: Model, asked: TextToImage, index: int, used: TextToImage, image: Image.Image) -> Record:
    """The record of picture `index` of a request: as it was asked, and as it was settled."""
    weights = model.unet.conv_out.weight
    return Record(
        request=asked,
        seed=used.seed + index,
        index=index,
        sampler=used.sampler,
        schedule=used.schedule,
        family=model.family.name,
        prediction=model.prediction,
        model=model.name,
        model_sha256=model.sha256,
        vae=model.vae_name or None,
        vae_sha256=model.vae_sha256 or None,
        device=model.device.type,
        processor=processor(model.device),
        dtype=str(weights.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        mode="low memory" if model.low_memory else "exact",
        pixel_sha256=pixel_sha256(image),
    )
