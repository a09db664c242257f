"""Adversarial diffusion distillation (arXiv:2311.17042): a student of a few steps learns from its teacher's estimates
and from a discriminator that sees with the teacher's own features (arXiv:2403.12015)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..diffusion.denoiser import Cond, spread
from ..families.model import Model
from ..models.unet import UNet, sinusoid
from . import checkpoint
from .batch import Batches
from .checkpoint import NonFiniteError
from .config import Adversarial
from .optimizers import restore_state, state_tensors
from .processes import average_gradients
from .randomness import generator, normal
from .teacher import DrawWith, Ways, guidance_of, indices, rungs, student_of

WIDTH = 64  # of the discriminator's heads


class Head(nn.Module):
    """Scores each place of a feature map as real (> 0) or made (< 0), given noise level and text.

    The text enters by projection: how well do picture and caption go together (arXiv:1802.05637, equation 3)?
    """

    def __init__(self, channels: int, groups: int, text: int):
        super().__init__()
        self.norm, self.conv1 = nn.GroupNorm(groups, channels), nn.Conv2d(channels, WIDTH, 3, padding=1)
        self.noise, self.text = nn.Linear(WIDTH, WIDTH), nn.Linear(text, WIDTH, bias=False)
        self.conv2, self.score = nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.Conv2d(WIDTH, 1, 1)

    def forward(self, features: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """Features (B, C, H, W), timesteps (B,), text (B, D) -> (B, H * W)."""
        h = self.conv1(self.norm(features)) + self.noise(sinusoid(t, WIDTH))[:, :, None, None]
        h = F.leaky_relu(self.conv2(F.leaky_relu(h, 0.2)), 0.2)
        fit = (h * self.text(text)[:, :, None, None]).mean(dim=1, keepdim=True)
        scores: Tensor = self.score(h) + fit
        return scores.flatten(1)


class Seen(NamedTuple):
    """What the discriminator judges: features of noisy latents by level, their noise level, and the text."""

    features: list[Tensor]  # each (B, C, H, W)
    t: Tensor  # (B,)
    text: Tensor  # (B, D)


class Discriminator(nn.ModuleList):
    """A head for each level of the U-Net's encoder and one for its middle."""

    def __init__(self, unet: UNet):
        c = unet.config
        widths = [*c.channels, c.channels[-1]]
        super().__init__(Head(width, c.groups, c.vector or c.context) for width in widths)

    def forward(self, seen: Seen) -> list[Tensor]:
        """The scores of each head, (B, places)."""
        return [head(f, seen.t, seen.text) for head, f in zip(self, seen.features, strict=True)]


@contextmanager
def features_of(unet: UNet) -> Iterator[list[Tensor]]:
    """Collects, while it runs, what the last block of each encoder level and the middle put out."""
    c, found = unet.config, list[Tensor]()
    ends = [level * (c.blocks + 1) + c.blocks for level in range(len(c.channels))]
    blocks = [*(unet.encoder[i] for i in ends), unet.mid_out]
    hooks = [block.register_forward_hook(lambda _, __, output: found.append(output)) for block in blocks]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


class Task(NamedTuple):
    """What the student is given, and what is known of it."""

    x: Tensor  # (B, C, H, W) noisy latents
    sigma: Tensor  # (B,)
    x0: Tensor  # the picture behind them
    cond: Cond
    weight: Tensor  # (B,) of each picture's loss


class AdversarialRecipe:
    """The loop's recipe, with the discriminator as its second player.

    The student begins with the teacher's weights. It is given pictures of the data in noise or, where `pairs` are asked
    for, noise that the teacher has drawn from, and then is also told where the teacher arrived.
    """

    def __init__(self, model: Model, batches: Batches, c: Adversarial, seed: int, draw: DrawWith):
        self.teacher, self.batches, self.c, self.seed, self.draw = model, batches, c, seed, draw
        self.student = student_of(model, min(c.student_steps))
        self.trained, self.levels = self.student.unet, model.levels
        self.timesteps = rungs(model.levels, c.student_steps)
        self.scale = guidance_of(model, c.cfg_scale)
        self.ways = Ways(model, batches, self.timesteps, c.pair_steps, self.scale, seed) if c.pairs else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator(seed, "discriminator").initial_seed())
            self.discriminator = Discriminator(model.unet).to(model.device).requires_grad_(requires_grad=False)
        self.adversary = torch.optim.AdamW(self.discriminator.parameters(), c.adversary_rate, (0.0, 0.99))
        self.seen: list[tuple[int, Seen, Seen]] = []  # by micro-batch of this step: step, real, made

    def loss(self, step: int, part: range) -> tuple[Tensor, dict[str, float]]:
        c, task = self.c, self._task(step, part)
        made = self.student.denoiser()(task.x, task.sigma, task.cond)
        total, told = torch.zeros_like(task.weight), dict[str, Tensor]()
        if self.ways:
            told["regression"] = distance(made, task.x0)
            total = total + c.regression * told["regression"]
        if step >= c.adversary_from:
            told |= self._judge(step, part, made, task.cond)
            total = total + c.distillation * told["distillation"] - c.adversary * told["realism"]
        return (task.weight * total).mean(), {name: value.mean().item() for name, value in told.items()}

    def _task(self, step: int, part: range) -> Task:
        """A noisy picture, or noise alone, at one of the noise levels that the student will meet."""
        rung = indices(len(self.timesteps), self.seed, "rung", step, part)
        t = self.timesteps[rung]
        if self.ways:
            number = int(torch.randint(self.c.pairs, (), generator=generator(self.seed, "pairs", step)))
            states, x0, cond = self.ways(number, part)
            return Task(
                states[rung, range(len(part))], self.levels.sigmas[t].to(x0), x0, cond, torch.ones(len(part)).to(x0)
            )
        x0, cond, weight, *_ = self.batches(step, part)
        sigma, noise = self.levels.sigmas[t].to(x0), normal(self.seed, "student", step, part, x0.shape[1:]).to(x0)
        # Where sampling begins there is nothing but noise.
        shown = spread((t < len(self.levels.sigmas) - 1).to(x0), x0)
        return Task(shown * x0 + spread(sigma, x0) * noise, sigma, x0, cond, weight)

    def _judge(self, step: int, part: range, made: Tensor, cond: Cond) -> dict[str, Tensor]:
        """How real pictures look, made ones and the data's; and how far they are from what the teacher makes of them.

        The teacher sees them in new noise, at a level drawn evenly from the ladder; one call of it serves both. The
        distance counts for less the noisier it was: c(t) = alpha(t) of arXiv:2311.17042, section 3.3.
        """
        data, levels = self.batches(step, part), self.levels
        t = indices(len(levels.sigmas), self.seed, "renoised", step, part)
        sigma, empty, denoise = levels.sigmas[t].to(made), self.batches.empty(len(part)), self.teacher.denoiser()

        def noisy(x0: Tensor, what: str) -> Tensor:
            return x0 + spread(sigma, x0) * normal(self.seed, what, step, part, x0.shape[1:]).to(x0)

        again = noisy(made, "made")
        with features_of(self.teacher.unet) as of_made:
            positive = denoise(again, sigma, cond)
        with torch.no_grad():
            negative = denoise(again, sigma, empty)
            estimate = negative + self.scale * (positive - negative)
            with features_of(self.teacher.unet) as of_data:
                denoise(noisy(data.x0, "real"), sigma, data.cond)
        t = t.to(made.device)
        shown = Seen([f.float() for f in of_made], t, text_of(cond))
        real = Seen([f.float() for f in of_data], t, text_of(data.cond))
        self.seen = [seen for seen in self.seen if seen[0] == step]
        self.seen.append((step, real, detached(shown)))
        return {
            "realism": mean_of(self.discriminator(shown)),
            "of data": mean_of(self.discriminator(real)).detach(),
            "distillation": (sigma**2 + 1).rsqrt() * distance(made, estimate),
        }

    def after(self, step: int) -> None:
        """The discriminator's step, by the hinge loss on all that was made in this step."""
        if not self.seen:
            return
        real, made = together([real for _, real, _ in self.seen]), together([made for _, _, made in self.seen])
        self.seen = []
        self.discriminator.requires_grad_(requires_grad=True)
        for features in real.features:
            features.requires_grad_()
        of_real, of_made = self.discriminator(real), self.discriminator(made)
        hinge = mean_of([F.relu(1 - s) for s in of_real]).mean() + mean_of([F.relu(1 + s) for s in of_made]).mean()
        # R1 (arXiv:1801.04406) on what the heads see, as in arXiv:2311.17042, section 3.2.
        total = torch.stack([s.mean(dim=1).sum() for s in of_real]).sum()
        slopes = torch.autograd.grad(total, real.features, create_graph=True)
        penalty = torch.stack([slope.square().sum() for slope in slopes]).sum() / len(real.t)
        loss = hinge + self.c.gradient_penalty * penalty
        if not torch.isfinite(loss):
            raise NonFiniteError(f"step {step}: the discriminator's loss is {loss.item()}; it was not changed")
        self.adversary.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self.discriminator.parameters())
        self.adversary.step()
        self.discriminator.requires_grad_(requires_grad=False)

    def extra(self) -> dict[str, Mapping[str, Tensor]]:
        optimizer = state_tensors(self.adversary)
        return {"discriminator": self.discriminator.state_dict(), "adversary": optimizer}

    def restore(self, parts: checkpoint.Parts) -> None:
        self.discriminator.load_state_dict(parts["discriminator"])
        if parts["adversary"]:
            restore_state(self.adversary, parts["adversary"])

    def sample(self, path: Path) -> None:
        self.draw(self.student, path)


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of each picture, (B,)."""
    return (a - b).square().mean(dim=(1, 2, 3))


def mean_of(scores: Sequence[Tensor]) -> Tensor:
    """One score per picture, (B,): the mean over the places of each head, and over heads."""
    return torch.stack([s.mean(dim=1) for s in scores]).mean(dim=0)


def text_of(cond: Cond) -> Tensor:
    """A caption as one vector, (B, D): the pooled text where there is one, else the mean of its tokens."""
    return (cond.tokens.mean(dim=1) if cond.vector is None else cond.vector).float()


def detached(seen: Seen) -> Seen:
    """The same, of no use for a gradient."""
    return Seen([f.detach() for f in seen.features], seen.t, seen.text)


def together(parts: Sequence[Seen]) -> Seen:
    """Micro-batches as one."""
    features = zip(*(part.features for part in parts), strict=True)
    t, text = (torch.cat(each) for each in zip(*((part.t, part.text) for part in parts), strict=True))
    return Seen([torch.cat(each) for each in features], t, text)
