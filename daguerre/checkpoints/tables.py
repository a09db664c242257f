"""From a network's place in a file to its config, and to the table of all its parameters."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from ..files.checkpoint import Checkpoint
from ..models.blip import BLIP, BLIPConfig
from ..models.clip import CLIPText, CLIPTextConfig
from ..models.controlnet import ControlNet, ControlNetConfig
from ..models.esrgan import Compact, CompactConfig, RRDBConfig, RRDBNet
from ..models.ip_adapter import IPAdapter, IPAdapterConfig
from ..models.t2i_adapter import T2IAdapter, T2IAdapterConfig
from ..models.unet import UNet, UNetConfig
from ..models.vae import VAE, VAEConfig
from ..models.vision import CLIPVision, CLIPVisionConfig
from ..models.vit_gpt2 import ViTGPT2, ViTGPT2Config
from ..runtime.offload import WithoutInitialValues
from .keys import blip, clip, clip_vision, compact, controlnet, ip_adapter, rrdb, t2i_adapter, unet, vae, vit_gpt2
from .layout import THIRD, Part, Rule, Shapes, Source, rule_of

ControlConfig = ControlNetConfig | T2IAdapterConfig | IPAdapterConfig
UpscalerConfig = RRDBConfig | CompactConfig
CaptionerConfig = BLIPConfig | ViTGPT2Config
Config = UNetConfig | VAEConfig | CLIPTextConfig | CLIPVisionConfig | CaptionerConfig | ControlConfig | UpscalerConfig
NETWORKS: dict[type, Any] = {
    UNetConfig: UNet, VAEConfig: VAE, CLIPTextConfig: CLIPText, CLIPVisionConfig: CLIPVision,
    BLIPConfig: BLIP, ViTGPT2Config: ViTGPT2,
    ControlNetConfig: ControlNet, T2IAdapterConfig: T2IAdapter, IPAdapterConfig: IPAdapter,
    RRDBConfig: RRDBNet, CompactConfig: Compact,
}  # fmt: skip
KEYS: dict[str, Any] = {
    "unet": unet, "vae": vae, "text": clip, "text2": clip, "vision": clip_vision,
    "BLIP": blip, "ViT-GPT2": vit_gpt2,
    "ControlNet": controlnet, "T2I-Adapter": t2i_adapter, "IP-Adapter": ip_adapter,
    "RRDBNet": rrdb, "Compact": compact,
}  # fmt: skip


def blank(config: Config) -> nn.Module:
    """The config's network without memory, for `load_state_dict(read_component(...), assign=True)`."""
    with torch.device("meta"), WithoutInitialValues():
        module: nn.Module = NETWORKS[type(config)](config)
    return module


def shapes(checkpoint: Checkpoint, part: Part) -> Shapes:
    return Shapes(checkpoint, part, KEYS[part.name].RULES[part.layout])


def infer(checkpoint: Checkpoint, part: Part) -> Config:
    """The network's config as far as shapes show it."""
    config: Config = KEYS[part.name].infer(shapes(checkpoint, part))
    return config


@lru_cache(maxsize=8)
def table(part: Part, config: Config) -> Mapping[str, Source]:
    """Native parameter -> its source, for every parameter of the network."""
    keys, rules, sources = KEYS[part.name], dict[str, Rule](), {}
    for n in keys.numbers(config):
        rules |= {
            name.format_map(n): Rule(path.format_map(n), how) for name, (path, how) in keys.RULES[part.layout].items()
        }
    for name, parameter in blank(config).state_dict().items():
        path, reshape = rule_of(rules, name)
        whole = parameter.ndim == 1 and reshape not in THIRD  # a bias has nothing to squeeze or transpose
        sources[name] = Source(part.key(path), tuple(parameter.shape), "same" if whole else reshape)
    return sources
