"""What shapes do not show: the JSON files of a diffusers folder, which our single files carry too, checked."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from ..files.checkpoint import Checkpoint, CheckpointError
from ..models.clip import CLIPTextConfig
from ..models.unet import UNetConfig
from ..models.vae import VAEConfig
from ..models.vision import CLIPVisionConfig
from .layout import Part
from .tables import Config

Kind = tuple[str, Callable[[Any], object]]  # what a value should be, and whether it is
COUNT: Kind = ("a positive integer", lambda value: type(value) is int and 0 < value < 1 << 31)
SCALE: Kind = ("a positive number", lambda value: type(value) in (int, float) and 0 < value < 1e38)
FOLDERS = {"unet": "unet", "vae": "vae", "text": "text_encoder", "text2": "text_encoder_2"}


def one_of(*options: Any) -> Kind:
    typed = [(type(option), option) for option in options]
    return " or ".join(map(repr, options)), lambda value: (type(value), value) in typed


# What the networks here always do; a model that differs would load and draw nonsense.
FIXED: dict[type, dict[str, Any]] = {
    UNetConfig: {"act_fn": "silu", "flip_sin_to_cos": True, "freq_shift": 0, "resnet_time_scale_shift": "default"},
    VAEConfig: {"act_fn": "silu"},
    CLIPTextConfig: {"layer_norm_eps": 1e-5},
    CLIPVisionConfig: {"layer_norm_eps": 1e-5},
}
# What differs: the config's field, and what it may be.
STATED: dict[type, dict[str, tuple[str, Kind]]] = {
    UNetConfig: {"norm_num_groups": ("groups", COUNT)},
    VAEConfig: {"norm_num_groups": ("groups", COUNT), "scaling_factor": ("scale", SCALE)},
    CLIPTextConfig: {"num_attention_heads": ("heads", COUNT), "eos_token_id": ("end_token", COUNT),
                     "hidden_act": ("activation", one_of("gelu", "quick_gelu"))},
    CLIPVisionConfig: {"num_attention_heads": ("heads", COUNT),
                       "hidden_act": ("activation", one_of("gelu", "quick_gelu"))},
}  # fmt: skip


class Settings(NamedTuple):
    """One JSON object of a checkpoint, empty if there is none. An absent or null field has its default."""

    checkpoint: Checkpoint
    section: str

    @property
    def values(self) -> Mapping[str, Any]:
        return self.checkpoint.configs.get(self.section, {})

    def wrong(self, name: str, expected: str) -> CheckpointError:
        reason, remedy = f"should be {expected}, not {self.values.get(name)!r:.60}", "Correct it or remove it"
        return CheckpointError(self.checkpoint.path, reason, key=f"{self.section} {name}".strip(), remedy=remedy)

    def get(self, name: str, default: Any, kind: Kind) -> Any:
        value = self.values.get(name)
        if value is not None and not kind[1](value):
            raise self.wrong(name, kind[0])
        return default if value is None else value


def settings_of(checkpoint: Checkpoint, part: Part) -> Settings:
    if part.prefix.endswith("/") or not part.prefix:
        return Settings(checkpoint, part.prefix.rstrip("/"))
    refiner = part.name == "text" and "text_encoder" not in checkpoint.configs  # it has the second encoder only
    return Settings(checkpoint, FOLDERS.get("text2" if refiner else part.name, ""))


def complete(checkpoint: Checkpoint, part: Part, config: Config) -> Config:
    """The config with what the checkpoint's settings add to the shapes; raises if they do not go together."""
    stated = settings_of(checkpoint, part)
    for name, value in FIXED[type(config)].items():
        stated.get(name, value, one_of(value))
    fields = STATED[type(config)].items()
    found = {field: stated.get(name, getattr(config, field), kind) for name, (field, kind) in fields}
    if isinstance(config, CLIPTextConfig) and not 2 < found["end_token"] < config.vocabulary:
        del found["end_token"]  # configs of before 2023 say 2
    config = replace(config, **found)
    config = _heads(config, stated) if isinstance(config, UNetConfig) else config
    heads = ("heads", "attention heads") if getattr(config, "heads", 0) else ("head_width", "features of a head")
    parted = (("groups", "groups"), getattr(config, "channels", ())), (heads, _attending(config))
    for (field, what), widths in parted:
        if uneven := [width for width in widths if width % getattr(config, field, 1)]:
            reason = f"{getattr(config, field)} {what} do not divide {uneven[0]} channels"
            raise CheckpointError(checkpoint.path, reason, key=stated.section, remedy="Correct its settings")
    return config


def _attending(c: Config) -> set[int]:
    """The widths that are parted into heads."""
    if not isinstance(c, UNetConfig):
        return {c.width} if isinstance(c, CLIPTextConfig | CLIPVisionConfig) else set()
    depths = (*c.depth[:-1], c.depth[-1] or c.mid_depth)
    return {width for width, depth in zip(c.channels, depths, strict=True) if depth}


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
        widths, numbers = {width / n for width, n in each.items()}, set(each.values())
        if len(widths) == 1 and (width := widths.pop()).is_integer():
            return replace(c, heads=0, head_width=int(width))
        if len(numbers) == 1:
            return replace(c, heads=numbers.pop())
    raise stated.wrong(name, f"{len(c.channels)} numbers of heads, all alike or all of one width")
