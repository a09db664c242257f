"""A small CLIP whose eyes are made to see one phrase in every picture, or red and blue in colored ones."""

import torch
from torch import nn

from daguerre.generate.clip import CLIP
from daguerre.models.clip import CLIPText, CLIPTextConfig
from daguerre.models.vision import ConvVision, ConvVisionConfig

NETWORK = ConvVisionConfig(size=16, widths=(8, 16), blocks=(1, 1), projection=32)
HALF = (0.5, 0.5, 0.5)


def small_clip(seed=0, **changes):
    """Both towers at toy size, with random weights that make words matter."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        text, vision = CLIPText(CLIPTextConfig(width=32, layers=2, heads=4)), ConvVision(NETWORK)
    text.eval().requires_grad_(False)
    vision.eval().requires_grad_(False)
    made = {"text": text, "vision": vision, "size": 16, "scale": 50.0, "mean": HALF, "std": HALF, "name": "toy"}
    return CLIP(**made, whole=True, **changes)


def seeing(phrase):
    """A small CLIP that sees this phrase in every picture."""
    clip = small_clip()
    vision = clip.vision
    vision.projection = nn.Linear(vision.projection.in_features, 32)
    vision.projection.weight = nn.Parameter(torch.zeros_like(vision.projection.weight), requires_grad=False)
    vision.projection.bias = nn.Parameter(clip.of_phrases([phrase])[0], requires_grad=False)
    return clip
