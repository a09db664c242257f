"""Tells what kind of control a checkpoint holds, and reads it: ControlNet, ControlLoRA, T2I-Adapter, IP-Adapter."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from ..files.checkpoint import Checkpoint, CheckpointError
from ..models.controlnet import ControlNetConfig
from ..models.ip_adapter import IPAdapterConfig
from ..models.t2i_adapter import T2IAdapterConfig
from ..models.unet import UNetConfig
from .identify import read_part, structure
from .layout import Part
from .settings import Settings, one_of
from .tables import ControlConfig, infer, shapes, table

FIRST = {"n": 0, "i": 0, "first": 0, "nth": 0, "odd": 1}
PLACES = {  # a parameter that only this network has; its layouts, with the prefixes that they have in files
    "ControlNet": ("zero_mid.weight", (("ldm", "control_model."), ("ldm", ""), ("diffusers", ""))),
    "IP-Adapter": ("attention.{n}.k.weight", (("authors", ""),)),
    "T2I-Adapter": ("levels.{n}.blocks.{i}.conv1.weight", (("full", ""), ("light", ""), ("diffusers", ""))),
}
LOW_RANK = "lora_controlnet"  # the mark of a ControlLoRA


@dataclass(frozen=True, kw_only=True)
class ControlFile:
    """A network that steers a U-Net, where it is in a checkpoint."""

    checkpoint: Checkpoint
    part: Part
    config: ControlConfig
    low_rank: bool = False  # a ControlLoRA: what it lacks is the U-Net's own

    @property
    def kind(self) -> str:
        """ControlNet, ControlLoRA, T2I-Adapter or IP-Adapter."""
        return "ControlLoRA" if self.low_rank else self.part.name


def identify_control(checkpoint: Checkpoint, unet: UNetConfig) -> ControlFile:
    """What a checkpoint holds, to be used beside a U-Net.

    Raises CheckpointError for what is no control, is not whole, or was made for another kind of U-Net.
    """
    if LOW_RANK in checkpoint.tensors:
        part = Part("ControlNet", "ldm")
        wide = [shapes(checkpoint, part).find(f"hint.{i}.weight", 4) for i in (0, 2, 4, 6)]
        hint = wide[0][0], wide[1][0], wide[2][0], wide[3][0]
        config = ControlNetConfig(replace(unet, channels_in=unet.channels_out), hint, wide[0][1])
        return ControlFile(checkpoint=checkpoint, part=part, config=config, low_rank=True)
    for name, (probe, places) in PLACES.items():
        for layout, prefix in places:
            part = Part(name, layout, prefix)
            if shapes(checkpoint, part).has(probe, **FIRST):
                found = ControlFile(checkpoint=checkpoint, part=part, config=_config(checkpoint, part, unet))
                _whole(found)
                return found
    reason = f"none of its {len(checkpoint.tensors)} tensors belongs to a control"
    raise CheckpointError(checkpoint.path, reason, remedy="Name a ControlNet, ControlLoRA, T2I-Adapter or IP-Adapter")


def read_control(file: ControlFile, unet: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The native state dict; `unet` is that of the U-Net, of which a ControlLoRA is a change."""
    if not file.low_rank:
        return read_part(file.checkpoint, file.part, file.config)
    state, there = {}, file.checkpoint.tensors
    for parameter, source in table(file.part, file.config).items():
        up, down = (f"{source.key.removesuffix('.weight')}.{side}" for side in ("up", "down"))
        if source.key in there:
            value = file.checkpoint.tensor(source.key)
        elif parameter not in unet:
            raise CheckpointError(file.checkpoint.path, "the tensor is missing", key=source.key)
        elif source.key.endswith(".weight") and up in there and down in there:
            value = _gain(file, up, down, unet[parameter])
        else:
            value = unet[parameter]
        if not source.accepts(tuple(value.shape)):
            reason = f"the shape is {list(value.shape)}; expected {list(source.stored)}, as this model's U-Net has it"
            raise CheckpointError(file.checkpoint.path, reason, key=source.key, remedy="It is for another model")
        state[parameter] = source.to_native(value)
    return state


def _gain(file: ControlFile, up: str, down: str, weight: Tensor) -> Tensor:
    """The U-Net's weight with a change of low rank: weight + up @ down."""
    left, right = (file.checkpoint.tensor(key).float().flatten(1).to(weight.device) for key in (up, down))
    if left.shape[1] != right.shape[0] or (len(left), right.shape[1]) != (len(weight), weight[0].numel()):
        reason = (
            f"its change is of {len(left)} x {right.shape[1]} numbers, the U-Net's weight of "
            f"{len(weight)} x {weight[0].numel()}"
        )
        raise CheckpointError(file.checkpoint.path, reason, key=up, remedy="It is for another model")
    return (weight.float() + (left @ right).reshape(weight.shape)).to(weight.dtype)


def _config(checkpoint: Checkpoint, part: Part, unet: UNetConfig) -> ControlConfig:
    config = infer(checkpoint, part)
    if isinstance(config, ControlNetConfig):
        stated = Settings(checkpoint, "")
        for name, value in (("controlnet_conditioning_channel_order", "rgb"), ("global_pool_conditions", False)):
            stated.get(name, value, one_of(value))
        _same(checkpoint, part, described(config.unet), described(unet))
        # It began as a copy of such a U-Net: what shapes do not show is as there.
        same = {name: getattr(unet, name) for name in ("heads", "head_width", "groups", "linear")}
        return replace(config, unet=replace(config.unet, **same))
    if isinstance(config, T2IAdapterConfig):
        levels = unet.channels if config.kind != "xl" else (*unet.channels, unet.channels[-1])
        _same(checkpoint, part, _listed("channels", config.channels), _listed("channels", levels))
        return config
    assert isinstance(config, IPAdapterConfig)
    its, models = _listed("attention", config.widths), _listed("attention", attended(unet))
    _same(checkpoint, part, f"text {config.context} wide, {its}", f"text {unet.context} wide, {models}")
    return config


def described(c: UNetConfig) -> str:
    """What a ControlNet has to share with a U-Net, for people."""
    vector = f", vector {c.vector} wide" if c.vector else ""
    family = structure(replace(c, channels_in=c.channels_out), None)
    return f"{family}, {_listed('channels', c.channels)}, {c.blocks} blocks, text {c.context} wide{vector}"


def attended(c: UNetConfig) -> tuple[int, ...]:
    """The widths of a U-Net's cross-attention: of its encoder, its decoder and its middle."""
    levels = list(zip(c.channels, c.depth, strict=True))
    down = [width for width, depth in levels for _ in range(c.blocks * depth)]
    up = [width for width, depth in reversed(levels) for _ in range((c.blocks + 1) * depth)]
    return (*down, *up, *[c.channels[-1]] * c.mid_depth)


def _listed(what: str, numbers: tuple[int, ...]) -> str:
    return f"{what} {', '.join(map(str, dict.fromkeys(numbers)))} ({len(numbers)})"


def _same(checkpoint: Checkpoint, part: Part, its: str, models: str) -> None:
    if its != models:
        reason = f"this {part.name} is for {its}; the model is {models}"
        raise CheckpointError(checkpoint.path, reason, remedy="Name one that was made for this kind of model")


def _whole(file: ControlFile) -> None:
    """Refuses tensors that no network here has, such as those of a ControlNet of many kinds."""
    known = {source.key for source in table(file.part, file.config).values()}
    own = (key for key in file.checkpoint.tensors if key.startswith(file.part.prefix))
    if extra := sorted(set(own) - known):
        reason = f"no part of a {file.part.name} as known here, which has {len(known)} tensors"
        raise CheckpointError(file.checkpoint.path, reason, key=extra[0], remedy="Name another file")
