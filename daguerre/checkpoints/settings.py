"""What shapes do not show: the JSON files of a diffusers folder, which our single files carry too, checked."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..files.checkpoint import Checkpoint, CheckpointError
from ..models.clip import CLIPTextConfig
from ..models.unet import UNetConfig
from ..models.vae import VAEConfig
from .layout import Part
from .tables import Config

Kind = tuple[str, Callable[[Any], object]]  # what a value should be, and whether it is
COUNT: Kind = ("a positive integer", lambda value: type(value) is int and 0 < value < 1 << 31)
SCALE: Kind = ("a positive number", lambda value: type(value) in (int, float) and 0 < value < math.inf)
SECTIONS = {"unet": "unet", "vae": "vae", "text": "text_encoder", "text2": "text_encoder_2"}


def one_of(*options: Any) -> Kind:
    typed = [(type(option), option) for option in options]
    return " or ".join(map(repr, options)), lambda value: (type(value), value) in typed


# What the networks here always do; a model that differs would load and draw nonsense.
FIXED: dict[type, dict[str, Any]] = {
    UNetConfig: {"act_fn": "silu", "flip_sin_to_cos": True, "freq_shift": 0, "resnet_time_scale_shift": "default"},
    VAEConfig: {"act_fn": "silu"},
    CLIPTextConfig: {"layer_norm_eps": 1e-5},
}


class Settings:
    """One JSON object of a checkpoint, empty if there is none. An absent or null field has its default."""

    def __init__(self, checkpoint: Checkpoint, section: str):
        self.checkpoint, self.section = checkpoint, section
        self.values = checkpoint.configs.get(section, {})

    def wrong(self, name: str, expected: str) -> CheckpointError:
        reason, remedy = f"should be {expected}, not {self.values.get(name)!r:.60}", "Correct it or remove it"
        return CheckpointError(self.checkpoint.path, reason, key=f"{self.section} {name}".strip(), remedy=remedy)

    def get(self, name: str, default: Any, kind: Kind) -> Any:
        value = self.values.get(name)
        if value is not None and not kind[1](value):
            raise self.wrong(name, kind[0])
        return default if value is None else value


def settings_of(checkpoint: Checkpoint, part: Part) -> Settings:
    section = part.prefix.rstrip("/") if part.prefix.endswith("/") or not part.prefix else SECTIONS[part.name]
    if section == "text_encoder" and section not in checkpoint.configs and not part.prefix.endswith("/"):
        section = "text_encoder_2"  # the refiner's only one
    return Settings(checkpoint, section)


def complete(checkpoint: Checkpoint, part: Part, config: Config) -> Config:
    """The config with what the checkpoint's settings add to the shapes; raises if they do not go together."""
    stated = settings_of(checkpoint, part)
    for name, value in FIXED[type(config)].items():
        stated.get(name, value, one_of(value))
    if isinstance(config, CLIPTextConfig):
        heads = stated.get("num_attention_heads", config.heads, COUNT)
        activation = stated.get("hidden_act", config.activation, one_of("gelu", "quick_gelu"))
        end = stated.get("eos_token_id", config.end_token, COUNT)
        end = end if 2 < end < config.vocabulary else config.end_token  # configs of before 2023 say 2
        _divides(stated, "attention heads", heads, {config.width})
        return replace(config, heads=heads, activation=activation, end_token=end)
    groups = stated.get("norm_num_groups", config.groups, COUNT)
    _divides(stated, "groups", groups, set(config.channels))
    if isinstance(config, VAEConfig):
        return replace(config, groups=groups, scale=float(stated.get("scaling_factor", config.scale, SCALE)))
    config = _heads(replace(config, groups=groups), stated)
    what = "attention heads" if config.heads else "features of an attention head"
    _divides(stated, what, config.heads or config.head_width, _attending(config))
    return config


def _attending(c: UNetConfig) -> set[int]:
    """The widths at which there is attention."""
    depths = (*c.depth[:-1], c.depth[-1] or c.mid_depth)
    return {width for width, depth in zip(c.channels, depths, strict=True) if depth}


def _divides(stated: Settings, what: str, number: int, widths: set[int]) -> None:
    if uneven := [width for width in widths if width % number]:
        reason, remedy = f"{number} {what} do not divide {uneven[0]} channels", "Correct its settings"
        raise CheckpointError(stated.checkpoint.path, reason, key=stated.section, remedy=remedy)


def _heads(c: UNetConfig, stated: Settings) -> UNetConfig:
    """diffusers calls the number of heads `attention_head_dim`, for all levels or for each."""
    name = "attention_head_dim" if stated.values.get("num_attention_heads") is None else "num_attention_heads"
    heads = stated.values.get(name, 8)
    if not stated.values:
        return c
    if not isinstance(heads, list):
        return replace(c, heads=stated.get(name, 8, COUNT))
    if len(heads) == len(c.channels) and all(map(COUNT[1], heads)):
        each = {width: n for width, n in zip(c.channels, heads, strict=True) if width in _attending(c)}
        widths = {width / n for width, n in each.items()}
        if len(widths) == 1:
            return replace(c, heads=0, head_width=int(widths.pop()))
        if len(set(each.values())) == 1:
            return replace(c, heads=heads[-1])
    raise stated.wrong(name, f"{len(c.channels)} numbers of heads, all alike or all of one width")
