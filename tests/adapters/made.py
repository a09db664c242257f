"""LoRAs and words for tests, of random numbers large enough to be seen."""

import torch
from torch import Tensor

from daguerre.adapters.config import LoRAConfig
from daguerre.adapters.lora import LoRA
from daguerre.adapters.textual_inversion import TextualInversion
from daguerre.families.model import Model

KINDS = ("sd1", "sd2", "sdxl", "tintype")


def random_lora(model: Model, seed: int = 0, size: float = 0.1, **config: object) -> LoRA:
    """As if trained: no factor is zero."""
    lora = LoRA.new(model, LoRAConfig(**{"rank": 4, "alpha": 2.0, "text": True, **config}), seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in lora.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return lora


def random_word(model: Model, word: str = "zwx", vectors: int = 2, seed: int = 0) -> TextualInversion:
    return TextualInversion.new(model, word, vectors, "", seed)


def outputs(model: Model, seed: int = 0) -> list[Tensor]:
    """What the U-Net and each text encoder answer to fixed random inputs."""
    generator, config = torch.Generator().manual_seed(seed), model.unet.config
    x = torch.randn(2, config.channels_in, 8, 8, generator=generator)
    tokens = torch.randn(2, 7, config.context, generator=generator)
    vector = torch.randn(2, config.vector, generator=generator) if config.vector else None
    ids = torch.tensor([[49_406, 320, 1929, 49_407]])
    prediction = model.unet(x, torch.tensor([500.0, 10.0]), tokens, vector)
    return [prediction, *(encoder(ids).last for encoder in model.text)]


def apart(a: list[Tensor], b: list[Tensor]) -> float:
    """The largest difference, relative to the largest number."""
    return max(((x - y).abs().max() / y.abs().max()).item() for x, y in zip(a, b, strict=True))
