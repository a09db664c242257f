"""Guides that lead away from a worse estimate of the same picture, beside the negative condition's."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from ..denoiser import Cond
from .blur import blur
from .guided import Guidance

KERNEL = 9  # places along a side, of the blur of self-attention guidance


@dataclass(frozen=True)
class Against:
    """Adds scale * (positive - weak), where a weaker network makes the estimate for the same condition.

    With the same network attending by identity this is perturbed-attention guidance (arXiv:2403.17377), with blurred
    queries smoothed energy guidance (arXiv:2408.00760), with a worse network autoguidance (arXiv:2406.02507, whose w
    is scale + 1 where it stands alone). One more call of a network.
    """

    weak: Guidance
    scale: Callable[[Tensor], float]  # of the noise level; nothing is computed where it is 0

    def __call__(self, x: Tensor, sigma: Tensor, cond: Cond, positive: Tensor, negative: Tensor | None) -> Tensor:
        scale = self.scale(sigma)
        return scale * (positive - self.weak.positive(x, sigma, cond)) if scale else x.new_zeros(())


@dataclass(frozen=True)
class SelfAttention:
    """Self-attention guidance (arXiv:2210.00939): away from the picture with its details blurred.

    What the network looks at most is blurred in the negative estimate (the positive where that is alone), the old
    noise is put back, and what the network makes of it is what to leave. One more call of the network.
    """

    guidance: Guidance
    attention: Callable[[Tensor], Tensor]  # x -> how much each place is attended to (B, 1, h, w), 1 on average
    scale: float
    blurred: float  # standard deviation of the blur, in latent pixels
    threshold: float  # what is attended to more than this is blurred

    def __call__(self, x: Tensor, sigma: Tensor, cond: Cond, positive: Tensor, negative: Tensor | None) -> Tensor:
        clean = positive if negative is None else negative
        mask = F.interpolate((self.attention(x) > self.threshold).to(x.dtype), x.shape[-2:])
        degraded = blur(clean, self.blurred, KERNEL) * mask + clean * (1 - mask)
        noisy = x + (degraded - clean)
        if negative is None:
            return self.scale * (degraded - self.guidance.positive(noisy, sigma, cond))
        return self.scale * (degraded - self.guidance.inner(noisy, sigma, self.guidance.negative))
