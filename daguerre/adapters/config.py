"""What a LoRA is made of, as a recipe file says it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

# Of self- and cross-attention in the U-Net, and of attention in the text encoders.
ATTENTION = (
    *(f"unet.*attn.{x}" for x in ("q", "k", "v", "out")),
    *(f"text*.layers.*.{x}" for x in ("q", "k", "v", "out")),
)


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Low-rank changes to layers: arXiv:2106.09685. Patterns are those of a shell, against native paths of layers.

    A path is the part and the module, such as "unet.mid_attn.blocks.0.cross_attn.q" or "text.layers.0.q".
    """

    rank: int = 8
    alpha: float | None = None  # the change is scaled by alpha / rank; None: by 1
    targets: tuple[str, ...] = ATTENTION
    ranks: Mapping[str, int] = field(default_factory=dict)  # by pattern, the first that fits; 0 leaves a layer out
    convolutions: bool = False  # LoCon: the residual blocks' 3x3 convolutions, too, and the 1x1 beside them
    conv_rank: int | None = None  # None: `rank`
    dora: bool = False  # directions and lengths apart: arXiv:2402.09353
    text: bool = False  # the text encoders, too
    dropout: float = 0.0  # of what goes into the low-rank path, while training
