"""The kinds of change beside LoRA's: LoHa, LoKr (LyCORIS, arXiv:2309.14859), whole differences, OFT and IA3.

Each is built of the tensors that files hold, named as LyCORIS names them, and raises RuntimeError or ValueError where
their shapes do not fit together.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .change import Additive, Change


def tucker(core: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """A convolution (out, in, kh, kw) of its core (i, j, kh, kw), up (i, out) and down (j, in)."""
    return torch.einsum("ij...,io,jc->oc...", core.float(), up.float(), down.float()).contiguous()


class LoHa(Additive):
    """FedPara (arXiv:2108.06098): strength * (w1a @ w1b) * (w2a @ w2b), element by element.

    Shapes: w1a, w2a (out, rank), w1b, w2b (rank, in * kh * kw); with cores t1, t2 (rank, rank, kh, kw): (rank, out)
    and (rank, in).
    """

    def __init__(
        self,
        first: tuple[Tensor, Tensor],
        second: tuple[Tensor, Tensor],
        cores: tuple[Tensor, Tensor] | None = None,
        alpha: float | None = None,
        magnitude: Tensor | None = None,
    ):
        super().__init__(magnitude)
        (self.w1a, self.w1b), (self.w2a, self.w2b) = map(_parameters, (first, second))
        self.cores = nn.ParameterList(cores or ())
        self.rank = len(self.w1b)
        self.strength = 1.0 if alpha is None else alpha / self.rank

    def product(self) -> Tensor:
        if len(self.cores):
            first, second = self.cores
            return self.strength * tucker(first, self.w1a, self.w1b) * tucker(second, self.w2a, self.w2b)
        return self.strength * (self.w1a.float() @ self.w1b.float()) * (self.w2a.float() @ self.w2b.float())


class LoKr(Additive):
    """strength * kron(first, second): each a matrix, or the product of two; the second may have a core.

    Shapes: first (a, b), second (c, d) or (c, d, kh, kw), for weights (a * c, b * d, kh, kw).
    """

    def __init__(
        self,
        first: tuple[Tensor, ...],
        second: tuple[Tensor, ...],
        core: Tensor | None = None,
        strength: float = 1.0,
        magnitude: Tensor | None = None,
    ):
        super().__init__(magnitude)
        self.first, self.second = nn.ParameterList(first), nn.ParameterList(second)
        self.core = None if core is None else nn.Parameter(core)
        self.strength = strength

    def product(self) -> Tensor:
        first = _whole(list(self.first))
        second = _whole(list(self.second)) if self.core is None else tucker(self.core, *self.second)
        first = first.reshape(*first.shape, *[1] * (second.ndim - 2))
        return self.strength * torch.kron(first, second)


class Full(Additive):
    """A difference of whole weights, and of the bias."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None):
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)

    def product(self) -> Tensor:
        return self.weight.float()

    def bias_delta(self, bias: Tensor | None) -> Tensor | None:
        return None if self.bias is None else self.bias.float()


class Orthogonal(Change):
    """OFT (arXiv:2306.07280): the outputs are rotated in blocks, and may be rescaled.

    Shapes: blocks (number, size, size), of which the skew part counts, rescale (out, 1, ...). As kohya and LyCORIS do,
    the skew part's norm is kept below `constraint` times the outputs, and a rotation is Cayley's
    (I + Q)(I - Q)^-1, transposed.
    """

    def __init__(self, blocks: Tensor, constraint: float = 0.0, rescale: Tensor | None = None):
        super().__init__()
        if blocks.ndim != 3 or blocks.shape[1] != blocks.shape[2]:
            raise ValueError(f"blocks of shape {list(blocks.shape)} are no stack of square ones")
        self.blocks, self.constraint = nn.Parameter(blocks), constraint
        self.rescale = None if rescale is None else nn.Parameter(rescale)
        if rescale is not None and rescale.numel() != self.outputs:
            raise ValueError(f"{rescale.numel()} scales do not fit {self.outputs} outputs")

    @property
    def outputs(self) -> int:
        return len(self.blocks) * self.blocks.shape[1]

    @property
    def made_for(self) -> str:
        return f"{self.outputs} outputs"

    def fits(self, shape: Sequence[int]) -> bool:
        return len(shape) >= 2 and shape[0] == self.outputs

    def rotations(self) -> Tensor:
        """(number, size, size), float32."""
        blocks = self.blocks.float()
        skew = blocks - blocks.transpose(1, 2)
        if self.constraint > 0:
            norm, most = skew.norm(), self.constraint * self.outputs
            skew = skew * ((norm.clamp(max=most) + 1e-8) / (norm + 1e-8))
        one = torch.eye(blocks.shape[1], device=blocks.device)
        turns: Tensor = torch.linalg.solve(one - skew, one + skew)  # the two commute
        return turns

    def delta(self, weight: Tensor) -> Tensor:
        old = weight.to(self.blocks).float()
        turned = (self.rotations().transpose(1, 2) @ old.reshape(*self.blocks.shape[:2], -1)).reshape(old.shape)
        if self.rescale is not None:
            turned = turned * self.rescale.float().reshape(-1, *[1] * (old.ndim - 1))
        return turned - old


class Scaled(Change):
    """IA3 (arXiv:2205.05638): each output, or each input, is multiplied by 1 + `gain`.

    Shapes: gain (out, 1) or (1, in). With `bias` a bias is multiplied too, as in peft but not in LyCORIS.
    """

    def __init__(self, gain: Tensor, *, bias: bool = False):
        super().__init__()
        self.gain, self.scales_bias = nn.Parameter(gain), bias and gain.shape[1] == 1

    @property
    def made_for(self) -> str:
        outputs, inputs = self.gain.shape
        return f"{outputs} outputs" if inputs == 1 else f"{inputs} inputs"

    def fits(self, shape: Sequence[int]) -> bool:
        return len(shape) >= 2 and tuple(self.gain.shape) in ((shape[0], 1), (1, shape[1]))

    def delta(self, weight: Tensor) -> Tensor:
        return weight.to(self.gain).float() * self.gain.float().reshape(*self.gain.shape, *[1] * (weight.ndim - 2))

    def bias_delta(self, bias: Tensor | None) -> Tensor | None:
        return bias.to(self.gain).float() * self.gain.float()[:, 0] if self.scales_bias and bias is not None else None


def _parameters(pair: tuple[Tensor, Tensor]) -> tuple[nn.Parameter, nn.Parameter]:
    return nn.Parameter(pair[0]), nn.Parameter(pair[1])


def _whole(parts: Sequence[Tensor]) -> Tensor:
    return parts[0].float() if len(parts) == 1 else parts[0].float() @ parts[1].float()
