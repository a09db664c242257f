"""Training the KL autoencoder: reconstruction, a small KL term and a patch discriminator (arXiv:2112.10752, G.3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.pictures import Pictures
from ..models.vae import VAE
from ..request import RequestError
from . import checkpoint
from .checkpoint import NonFiniteError
from .contact_sheet import contact_sheet
from .optimizers import restore_state, state_tensors
from .perceptual import Perceptual
from .processes import average_gradients
from .randomness import generator, normal, uniform


@dataclass(frozen=True, kw_only=True)
class Objective:
    crop: int = 64  # pixels; the network is convolutional, so crops teach as much as whole pictures at less cost
    kl: float = 1e-5  # per latent, against a pixel loss that is a mean
    edges: float = 1.0  # weight of the picture-gradient difference (arXiv:1511.05440), which keeps outlines sharp
    color: float = 2.0  # weight of the difference of 8x8 means: without it flat colors are learned last
    chroma: float = 0.1  # weight of the last two latent channels being the mean color of their patch
    perceptual: float = 0.0  # weight of the perceptual distance, which needs `features`
    features: Path | None = None  # file of VGG-16, at will with LPIPS' weights
    adversary: float = 0.2  # largest weight of the adversarial term
    adversary_from: int = 2000  # step at which the discriminator joins
    decoder_only: bool = False  # the encoder stays as it is, so that a U-Net which knows its latents goes on working
    blotches: float = 0.0  # strongest noise that the decoder learns to see through, in standard deviations of latents


class Discriminator(nn.Sequential):
    """Scores overlapping patches of a picture as real (> 0) or made (< 0): PatchGAN, arXiv:1611.07004."""

    def __init__(self, width: int = 32):
        def down(cin: int, cout: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(cin, cout, 4, 2, 1), nn.GroupNorm(8, cout), nn.LeakyReLU(0.2))

        first = nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)
        deeper = down(width, 2 * width), down(2 * width, 4 * width)
        super().__init__(*first, *deeper, nn.Conv2d(4 * width, 1, 3, padding=1))


def gradient_difference(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of neighboring-pixel differences, both axes."""
    d = a - b
    return d.diff(dim=-1).abs().mean() + d.diff(dim=-2).abs().mean()


def chroma(pictures: Tensor, size: int) -> Tensor:
    """Red minus blue and green minus magenta, averaged to (B, 2, size, size), spread about as wide as latents are.

    Left to itself a small encoder drops green in its depth, since emoji vary most in lightness and warmth; then the
    decoder can only guess. Two channels that must say the color end that within a few hundred steps.
    """
    r, g, b = F.adaptive_avg_pool2d(pictures, size).unbind(dim=1)
    return torch.stack([5 * (r - b), 12 * (g - (r + b) / 2)], dim=1)


def blotches(seed: int, step: int, part: range, shape: tuple[int, ...]) -> Tensor:
    """Noise of several widths, at a strength in [0, 1] for each picture: (len(part), *shape).

    So are the latents wrong that a U-Net draws: by patches rather than by points. A decoder that has met the like
    paints even surfaces all the same.
    """
    channels, height, width = shape
    layers = []
    for level in range(3):
        small = channels, -(-height // 2**level), -(-width // 2**level)
        drawn = normal(seed, f"blotches {level}", step, part, small)
        layers.append(F.interpolate(drawn, (height, width), mode="bilinear") if level else drawn)
    total = torch.stack(layers).sum(dim=0)
    strength = uniform(seed, "blotches", step, part)[:, None, None, None]
    return strength * total / total.std(dim=(1, 2, 3), keepdim=True)


class AutoencoderRecipe:
    """The loop's recipe for the VAE, with the discriminator as its second player."""

    def __init__(self, vae: VAE, pictures: Pictures, batch: int, seed: int, objective: Objective, previews: Pictures):
        self.trained = vae
        if objective.decoder_only:
            vae.encoder.requires_grad_(False)
            vae.quant.requires_grad_(False)
        self.pictures, self.batch, self.seed, self.objective = pictures, batch, seed, objective
        self.previews = previews
        self.discriminator = Discriminator()
        self.discriminator.to(vae.quant.weight.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.adversary = torch.optim.AdamW(self.discriminator.parameters(), 3e-4, (0.5, 0.9), fused=True)
        self.perceptual: Perceptual | None = None
        if objective.perceptual:
            if objective.features is None:
                raise RequestError("adversary.perceptual needs adversary.features, a file of VGG-16")
            self.perceptual = Perceptual(objective.features).to(vae.quant.weight.device)
        self.seen: list[tuple[Tensor, Tensor]] = []  # this step's real and made pictures

    def loss(self, step: int, part: range) -> tuple[Tensor, dict[str, float]]:
        o, vae = self.objective, self.trained
        device = vae.quant.weight.device
        real = self._crops(step, part).to(device)
        mean, logvar = vae.posterior(real)
        noise = normal(self.seed, "posterior", step, part, tuple(mean.shape[1:])).to(device)
        z = mean + torch.exp(0.5 * logvar) * noise
        if o.blotches:
            z = z + o.blotches * mean.detach().std() * blotches(self.seed, step, part, tuple(mean.shape[1:])).to(device)
        made = vae.decode(z * vae.config.scale)
        pixel, edges = F.l1_loss(made, real), gradient_difference(made, real)
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=(1, 2, 3)).mean() / mean[0, 0].numel()
        color = F.l1_loss(F.avg_pool2d(made, 8), F.avg_pool2d(real, 8))
        reconstruction = pixel + o.edges * edges + o.color * color
        if self.perceptual is not None:
            reconstruction = reconstruction + o.perceptual * self.perceptual(made, real).mean()
        anchor = F.l1_loss(mean[:, -2:], chroma(real, mean.shape[-1]))
        total = reconstruction + o.kl * kl + o.chroma * anchor
        told = {"pixel": pixel, "edges": edges, "color": color, "chroma": anchor, "kl": kl}
        if step >= o.adversary_from:
            realism = -self.discriminator(made).mean()
            weight = o.adversary * self._balance(reconstruction, realism)
            total = total + weight * realism
            told |= {"realism": realism, "weight": weight}
            self.seen.append((real, made.detach()))
        return total, {name: value.item() for name, value in told.items()}

    def _balance(self, reconstruction: Tensor, realism: Tensor) -> Tensor:
        """The adaptive weight of arXiv:2012.09841, eq. 7: equal gradients of both terms at the last layer."""
        last = self.trained.decoder.conv_out.weight
        a = torch.autograd.grad(reconstruction, last, retain_graph=True)[0].norm()
        b = torch.autograd.grad(realism, last, retain_graph=True)[0].norm()
        weight: Tensor = a / (b + 1e-4)
        return weight.clamp(0, 10).detach()

    def after(self, step: int) -> None:
        """The discriminator's step, by the hinge loss on the pictures of this step."""
        if not self.seen:
            return
        real, made = (torch.cat(pictures) for pictures in zip(*self.seen, strict=True))
        hinge = F.relu(1 - self.discriminator(real)).mean() + F.relu(1 + self.discriminator(made)).mean()
        if not torch.isfinite(hinge):
            raise NonFiniteError(f"step {step}: the discriminator's loss is {hinge.item()}; it was not changed")
        self.adversary.zero_grad()
        hinge.backward()  # type: ignore[no-untyped-call]
        average_gradients(self.discriminator.parameters())
        self.adversary.step()
        self.seen = []

    def extra(self) -> dict[str, Mapping[str, Tensor]]:
        state = {f"net.{k}": v for k, v in self.discriminator.state_dict().items()}
        return {"discriminator": state, "adversary": state_tensors(self.adversary)}

    def restore(self, parts: checkpoint.Parts) -> None:
        self.discriminator.load_state_dict({k[4:]: v for k, v in parts["discriminator"].items()})
        if parts["adversary"]:
            restore_state(self.adversary, parts["adversary"])

    def sample(self, path: Path) -> None:
        """Real pictures above their reconstructions."""
        real = self.previews.batch(torch.arange(min(16, len(self.previews)))).to(self.trained.quant.weight.device)
        made = self.trained.decode(self.trained.encode(real))
        contact_sheet(torch.cat([real, made]), path, columns=len(real))

    def _crops(self, step: int, part: range) -> Tensor:
        size, room, crops = self.objective.crop, self.pictures.pixels.shape[-1] - self.objective.crop + 1, []
        index = torch.randint(len(self.pictures), (self.batch,), generator=generator(self.seed, "pictures", step))
        for i in part:
            rng = generator(self.seed, "crop", step, i)
            y, x = torch.randint(room, (2,), generator=rng).tolist()
            picture = self.pictures.pixels[index[i], :, y : y + size, x : x + size]
            crops.append(picture.flip(-1) if torch.rand((), generator=rng) < 0.5 else picture)
        return torch.stack(crops).float().div_(127.5).sub_(1).to(memory_format=torch.channels_last)
