"""Toy controls with random weights, as files of their authors' layouts."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from daguerre.checkpoints.controls import attended
from daguerre.checkpoints.layout import Part
from daguerre.checkpoints.tables import ControlConfig, table
from daguerre.models.controlnet import ControlNetConfig
from daguerre.models.ip_adapter import IPAdapterConfig
from daguerre.models.t2i_adapter import T2IAdapterConfig
from daguerre.models.unet import UNet, UNetConfig
from daguerre.models.vision import CLIPVisionConfig


def random_state(part: Part, config: ControlConfig, seed: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {s.key: torch.randn(s.stored, generator=g) * 0.2 for s in table(part, config).values()}


def controlnet(path: Path, unet: UNetConfig, seed: int = 1) -> Path:
    part = Part("ControlNet", "ldm", "control_model.")
    save_file(random_state(part, ControlNetConfig(unet, (4, 6, 8, 8)), seed), path)
    return path


def control_lora(path: Path, unet: UNet) -> Path:
    base, own = unet.state_dict(), {"lora_controlnet": torch.zeros(1)}
    part, config = Part("ControlNet", "ldm"), ControlNetConfig(unet.config, (4, 6, 8, 8))
    random = random_state(part, config, 3)
    for name, source in table(part, config).items():
        if name not in base:
            own[source.key] = random[source.key]
    factors = {"time_embed.0.down": torch.ones(2, 32), "time_embed.0.up": torch.ones(128, 2) / 8}
    save_file(own | factors, path)
    return path


def t2i_adapter(path: Path, unet: UNetConfig) -> Path:
    config = T2IAdapterConfig(unet.channels, 1)
    save_file(random_state(Part("T2I-Adapter", "diffusers"), config, 2), path)
    return path


def vision_tower(path: Path, projection: int = 12, seed: int = 5) -> Path:
    part, config = Part("vision", "hf"), CLIPVisionConfig(28, 14, 64, 2, 1, projection=projection)
    g = torch.Generator().manual_seed(seed)
    save_file({s.key: torch.randn(s.stored, generator=g) * 0.3 for s in table(part, config).values()}, path)
    return path


def ip_adapter(path: Path, unet: UNetConfig, *, plus: bool) -> Path:
    more = {"features": 16, "tokens": 3, "depth": 1, "width": 16, "inner": 64} if plus else {"features": 12}
    config = IPAdapterConfig(attended(unet), unet.context, **more)
    save_file(random_state(Part("IP-Adapter", "authors"), config, 4), path)
    return path
