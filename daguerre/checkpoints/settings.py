"""What shapes do not show: read from a folder's JSON files or from our own metadata, every field checked."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..models.clip import CLIPTextConfig
from ..models.unet import UNetConfig
from ..models.vae import VAEConfig
from .checkpoint import Checkpoint, CheckpointError
from .layout import Part
from .tables import Config

ACTIVATIONS = "gelu", "quick_gelu"
OURS = "daguerre.config"  # in a safetensors file's metadata
# What the networks here always do; a model that differs would load and draw nonsense.
FIXED: dict[str, dict[str, Any]] = {
    "unet": {
        "act_fn": "silu",
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "resnet_time_scale_shift": "default",
    },
    "vae": {"act_fn": "silu"},
    "text": {"layer_norm_eps": 1e-5},
}


class Fields:
    """One JSON object. A field that is absent or null has its default; one of a wrong type is an error."""

    def __init__(self, path: Path, where: str, values: Any):
        self.path, self.where = path, where
        self.values: Mapping[str, Any] = values if isinstance(values, dict) else {}
        if not isinstance(values, dict):
            raise self.wrong("", "an object")

    def wrong(self, name: str, expected: str) -> CheckpointError:
        found = f", not {self.values[name]!r:.60}" if name else ""
        key = f"{self.where}: {name}" if name else self.where
        return CheckpointError(
            self.path, f"should be {expected}{found}", key=key, remedy="Correct it or remove it"
        )

    def integer(self, name: str, default: int, least: int = 1) -> int:
        value = default if self.values.get(name) is None else self.values[name]
        if type(value) is not int or not least <= value < 1 << 31:
            raise self.wrong(name, f"an integer from {least} up")
        return value

    def number(self, name: str, default: float) -> float:
        value = default if self.values.get(name) is None else self.values[name]
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise self.wrong(name, "a positive number")
        return float(value)

    def choice(self, name: str, default: Any, *others: Any) -> Any:
        value = default if self.values.get(name) is None else self.values[name]
        if not any(type(value) is type(option) and value == option for option in (default, *others)):
            raise self.wrong(name, f"one of {[default, *others]}" if others else repr(default))
        return value

    def inner(self, name: str) -> "Fields":
        return Fields(self.path, f"{self.where}: {name}", self.values.get(name) or {})


def ours(checkpoint: Checkpoint) -> Fields:
    """The description that our writer leaves in a file's metadata; empty in files from elsewhere."""
    try:
        values = json.loads(checkpoint.metadata.get(OURS, "{}"))
    except (ValueError, RecursionError):
        values = None
    return Fields(checkpoint.path, OURS, values)


def complete(part: Part, config: Config, ours: Fields, theirs: Fields) -> Config:
    """The config with what our own metadata, or a diffusers folder's `config.json`, adds to the shapes."""
    if theirs.values:
        for name, value in FIXED[part.name].items():
            theirs.choice(name, value)
    if isinstance(config, CLIPTextConfig):
        end = theirs.integer("eos_token_id", ours.integer("end_token", config.end_token))
        return replace(
            config,
            heads=theirs.integer("num_attention_heads", ours.integer("heads", config.heads)),
            activation=theirs.choice(
                "hidden_act", ours.choice("activation", config.activation, *ACTIVATIONS), *ACTIVATIONS
            ),
            end_token=end if 2 < end < config.vocabulary else config.end_token,  # 2 in configs of before 2023
        )
    groups = theirs.integer("norm_num_groups", ours.integer("groups", config.groups))
    if isinstance(config, VAEConfig):
        scale = theirs.number("scaling_factor", ours.number("scale", config.scale))
        return replace(config, groups=groups, scale=scale)
    heads = ours.integer("heads", config.heads, least=0)
    config = replace(
        config, groups=groups, heads=heads, head_width=ours.integer("head_width", config.head_width)
    )
    return _heads(config, theirs) if theirs.values else config


def _heads(c: UNetConfig, theirs: Fields) -> UNetConfig:
    """diffusers calls the number of heads `attention_head_dim`, for all levels or for each."""
    name = "attention_head_dim" if theirs.values.get("num_attention_heads") is None else "num_attention_heads"
    stated = theirs.values.get(name)
    if not isinstance(stated, list):
        return replace(c, heads=theirs.integer(name, 8))
    if len(stated) == len(c.channels) and all(type(n) is int and n > 0 for n in stated):
        widths = {width / heads for width, heads in zip(c.channels, stated, strict=True)}
        if len(widths) == 1:
            return replace(c, heads=0, head_width=int(widths.pop()))
        if len(set(stated)) == 1:
            return replace(c, heads=stated[0])
    raise theirs.wrong(name, f"{len(c.channels)} numbers of heads, all alike or all of one width")


def check(path: Path, part: Part, config: Config) -> None:
    """Refuses numbers that do not go together, before a network is built from them."""
    widths = (config.width,) if isinstance(config, CLIPTextConfig) else config.channels
    parts = {} if isinstance(config, VAEConfig) else {"attention heads": config.heads}
    if isinstance(config, UNetConfig) and not config.heads:
        parts = {"features of an attention head": config.head_width}
    if not isinstance(config, CLIPTextConfig):
        parts["groups"] = config.groups
    for what, n in parts.items():
        for width in widths:
            if width % n:
                reason, remedy = (
                    f"{n} {what} do not divide {width}",
                    "Its configuration and tensors do not match",
                )
                raise CheckpointError(path, reason, key=part.prefix, remedy=remedy)
