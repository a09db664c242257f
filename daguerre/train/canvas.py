"""What inpainting and editing networks see beside the noise, for batches of training pictures."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..diffusion.denoiser import Cond
from ..families.model import Model
from .batch import Batch
from .batches import PictureBatches
from .config import Edit, Inpaint
from .randomness import generator, uniform


class InpaintBatches:
    """Batches with a random mask and the latents of what it leaves of the picture: (mask, masked latents)."""

    def __init__(self, model: Model, inner: PictureBatches, c: Inpaint):
        self.model, self.inner, self.c = model, inner, c

    def __call__(self, step: int, part: range) -> Batch:
        batch, pixels = self.inner.shown(step, part)
        rngs = [generator(self.inner.sight.seed, "mask", step, i) for i in part]
        masks = torch.stack([random_mask(pixels.shape[-2:], self.c, rng) for rng in rngs]).to(self.model.device)
        with torch.no_grad(), self.model.on_device("vae"):
            kept = self.model.vae.encode(pixels.to(self.model.device) * (masks < 0.5))
        small = F.interpolate(masks, batch.x0.shape[-2:])
        return batch._replace(cond=batch.cond._replace(concat=torch.cat([small, kept], dim=1)))

    def empty(self, count: int) -> Cond:
        return self.inner.empty(count)


def random_mask(size: Sequence[int], c: Inpaint, rng: torch.Generator) -> Tensor:
    """A mask (1, H, W) of ones where to draw: everything, or a few boxes and brush strokes."""
    height, width = size
    if torch.rand((), generator=rng) < c.whole:
        return torch.ones(1, height, width)
    wanted = c.smallest + (c.largest - c.smallest) * torch.rand((), generator=rng).item()
    y, x = torch.arange(height)[:, None] / height, torch.arange(width)[None] / width
    mask = torch.zeros(height, width)
    while mask.mean() < wanted:
        cy, cx, a, b, kind = torch.rand(5, generator=rng).tolist()
        dy, dx = (0.05 + 0.3 * side * wanted**0.5 for side in (a, b))
        if kind < 0.5:
            mask[((y - cy).abs() < dy) & ((x - cx).abs() < dx)] = 1
        else:  # a stroke: all that is near a line
            ey, ex, thick = torch.rand(3, generator=rng).tolist()
            along = (((y - cy) * (ey - cy) + (x - cx) * (ex - cx)) / ((ey - cy) ** 2 + (ex - cx) ** 2 + 1e-6)).clamp(
                0, 1
            )
            far = ((y - cy - along * (ey - cy)) ** 2 + (x - cx - along * (ex - cx)) ** 2).sqrt()
            mask[far < 0.03 + 0.08 * thick] = 1
    return mask[None]


class EditBatches:
    """Batches with the latents of the picture before, and now and then without it or without the instruction."""

    def __init__(self, model: Model, inner: PictureBatches, c: Edit):
        self.model, self.inner, self.c = model, inner, c

    def __call__(self, step: int, part: range) -> Batch:
        batch, before = self.inner.shown(step, part, self.c.before)
        u = uniform(self.inner.sight.seed, "picture dropout", step, part)
        both = u < self.c.both_dropout
        dropped = u < self.c.both_dropout + self.c.picture_dropout
        with torch.no_grad(), self.model.on_device("vae"):
            vae = self.model.vae
            latents = vae.encode(before.to(self.model.device)) / vae.config.scale  # unscaled, as published
        concat = latents * ~dropped.to(self.model.device)[:, None, None, None]
        batch = batch._replace(cond=batch.cond._replace(concat=concat))
        if not both.any():
            return batch
        empty, lost = self.inner.empty(len(u)), both.to(self.model.device)
        chunks = batch.cond.tokens.shape[1] // empty.tokens.shape[1]
        tokens = torch.where(lost[:, None, None], empty.tokens.repeat(1, chunks, 1), batch.cond.tokens)
        vector = batch.cond.vector
        if vector is not None and empty.vector is not None:
            vector = torch.where(lost[:, None], empty.vector, vector)
        return batch._replace(cond=batch.cond._replace(tokens=tokens, vector=vector))

    def empty(self, count: int) -> Cond:
        return self.inner.empty(count)
