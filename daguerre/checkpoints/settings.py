"""What shapes do not show: read from a folder's JSON files or from our own metadata, every field checked."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
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
    "text2": {"layer_norm_eps": 1e-5},
}


class Fields:
    """One JSON object. A field that is absent or null has its default; one of a wrong type is an error."""

    def __init__(self, checkpoint: Checkpoint, where: str, values: Any):
        self.checkpoint, self.where = checkpoint, where
        if not isinstance(values, dict):
            raise self.wrong("", values, "an object")
        self.values: Mapping[str, Any] = values

    def wrong(self, name: str, value: Any, expected: str) -> CheckpointError:
        reason, remedy = f"should be {expected}, not {value!r:.60}", "Correct it or remove it"
        return CheckpointError(self.checkpoint.path, reason, key=f"{self.where} {name}".strip(), remedy=remedy)

    def get(self, name: str, default: Any, expected: str, holds: Callable[[Any], bool]) -> Any:
        value = default if self.values.get(name) is None else self.values[name]
        if not holds(value):
            raise self.wrong(name, value, expected)
        return value

    def integer(self, name: str, default: int, least: int = 1) -> int:
        fits = f"an integer from {least} up"
        n: int = self.get(name, default, fits, lambda v: type(v) is int and least <= v < 1 << 31)
        return n

    def number(self, name: str, default: float) -> float:
        fits = "a positive number"
        return float(self.get(name, default, fits, lambda v: type(v) in (int, float) and 0 < v < math.inf))

    def choice(self, name: str, default: Any, *others: Any) -> Any:
        options = [(type(option), option) for option in (default, *others)]
        fits = " or ".join(dict.fromkeys(repr(option) for _, option in options))
        return self.get(name, default, fits, lambda v: (type(v), v) in options)


def ours(checkpoint: Checkpoint, part: str = "") -> Fields:
    """What our writer left in a file's metadata, of the model or of a part; empty in files from elsewhere."""
    try:
        values = json.loads(checkpoint.metadata.get(OURS, "{}"))
    except (ValueError, RecursionError):
        values = None
    fields = Fields(checkpoint, OURS, values)
    return Fields(checkpoint, f"{OURS} {part}", fields.values.get(part) or {}) if part else fields


def theirs(checkpoint: Checkpoint, folder: str) -> Fields:
    """The JSON file of a part of a diffusers folder; empty in other layouts."""
    return Fields(checkpoint, f"{folder} config", checkpoint.configs.get(folder, {}))


def complete(checkpoint: Checkpoint, part: Part, config: Config) -> Config:
    """The config with what the checkpoint's settings add to the shapes; raises if they do not go together."""
    our, their = ours(checkpoint, part.name), theirs(checkpoint, part.prefix.rstrip("/"))
    for name, value in FIXED[part.name].items() if their.values else ():
        their.choice(name, value)
    if isinstance(config, CLIPTextConfig):
        heads = their.integer("num_attention_heads", our.integer("heads", config.heads))
        activation = our.choice("activation", config.activation, *ACTIVATIONS)
        activation = their.choice("hidden_act", activation, *ACTIVATIONS)
        end = their.integer("eos_token_id", our.integer("end_token", config.end_token))
        end = end if 2 < end < config.vocabulary else config.end_token  # configs of before 2023 say 2
        _divides(checkpoint, part, "attention heads", heads, {config.width})
        return replace(config, heads=heads, activation=activation, end_token=end)
    groups = their.integer("norm_num_groups", our.integer("groups", config.groups))
    _divides(checkpoint, part, "groups", groups, set(config.channels))
    if isinstance(config, VAEConfig):
        scale = their.number("scaling_factor", our.number("scale", config.scale))
        return replace(config, groups=groups, scale=scale)
    heads, width = our.integer("heads", config.heads, 0), our.integer("head_width", config.head_width)
    config = replace(config, groups=groups, heads=heads, head_width=width)
    config = _heads(config, their) if their.values else config
    number = config.heads or config.head_width
    _divides(checkpoint, part, "attention heads, or features of one,", number, _attending(config))
    return config


def _attending(c: UNetConfig) -> set[int]:
    """The widths at which there is attention."""
    return {w for w, depth in zip(c.channels, c.depth, strict=True) if depth} | (
        {c.channels[-1]} if c.mid_depth else set()
    )


def _divides(checkpoint: Checkpoint, part: Part, what: str, number: int, widths: set[int]) -> None:
    uneven = [width for width in widths if width % number]
    if uneven:
        reason, remedy = f"{number} {what} do not divide {uneven[0]} channels", "Correct its settings"
        raise CheckpointError(checkpoint.path, reason, key=part.prefix, remedy=remedy)


def _heads(c: UNetConfig, their: Fields) -> UNetConfig:
    """diffusers calls the number of heads `attention_head_dim`, for all levels or for each."""
    name = "attention_head_dim" if their.values.get("num_attention_heads") is None else "num_attention_heads"
    stated = their.values.get(name)
    if not isinstance(stated, list):
        return replace(c, heads=their.integer(name, 8))
    if len(stated) == len(c.channels) and all(type(n) is int and n > 0 for n in stated):
        each = {width: heads for width, heads in zip(c.channels, stated, strict=True) if width in _attending(c)}
        widths = {width / heads for width, heads in each.items()}
        if len(widths) == 1:
            return replace(c, heads=0, head_width=int(widths.pop()))
        if len(set(each.values())) == 1:
            return replace(c, heads=stated[-1])
    raise their.wrong(name, stated, f"{len(c.channels)} numbers of heads, all alike or all of one width")
