"""Tells what a whole CLIP holds: both towers, the scale between them, and how its pictures are made ready."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..files.checkpoint import Checkpoint, CheckpointError
from ..models.clip import CLIPTextConfig
from ..models.vision import CLIPVisionConfig
from .layout import Part
from .settings import complete
from .tables import infer, shapes

PREFIXES = "", "module."  # as published, and as OpenCLIP's training saves it
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of OpenAI's pictures
OPENAI = "input_resolution", "context_length", "vocab_size"  # only OpenAI's own files have these numbers as tensors
Activation = Literal["gelu", "quick_gelu"]
Color = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class CLIPPair:
    """Both towers of a CLIP: where they are in a checkpoint and what they are."""

    text: CLIPTextConfig
    vision: CLIPVisionConfig
    parts: tuple[Part, Part]  # text, vision
    scale: float  # of cosines, before the softmax
    mean: Color  # of a picture's red, green and blue in [0, 1], taken off before it is divided by `std`
    std: Color


def identify_clip(checkpoint: Checkpoint, activation: Activation | None = None) -> CLIPPair:
    """What a CLIP of transformers, OpenCLIP or OpenAI holds, by names and shapes.

    A single file does not tell its activation: OpenAI's and transformers' of width 1024 and below are taken for
    quick_gelu, others of OpenCLIP for gelu; `activation` overrides that. Raises CheckpointError for what is no CLIP.
    """
    place = next(_places(checkpoint), None)
    if place is None:
        reason = f"none of its {len(checkpoint.tensors)} tensors belongs to a vision tower of CLIP"
        raise CheckpointError(checkpoint.path, reason, remedy="Name a whole CLIP, of text and vision tower")
    own = checkpoint.configs.get("", {})
    found: dict[str, Any] = {}
    for part in place:
        stated = replace(checkpoint, configs={"": _section(own, f"{part.name}_config")})
        if part.name == "text" and not shapes(checkpoint, part).has("token.weight"):
            reason = "it has a vision tower but no text tower"
            raise CheckpointError(checkpoint.path, reason, remedy="Name a whole CLIP, of text and vision tower")
        config: Any = infer(checkpoint, part)
        if said := _activation(checkpoint, part):
            config = replace(config, activation=said)
        config = complete(stated, part, config)
        found[part.name] = replace(config, activation=activation) if activation else config
    text, vision = found["text"], found["vision"]
    if text.projection != vision.projection:
        reason = f"its text tower ends in {text.projection} features and its vision tower in {vision.projection}"
        raise CheckpointError(checkpoint.path, reason, remedy="Name a CLIP whose towers belong together")
    mean, std = colors_of(checkpoint)
    return CLIPPair(text=text, vision=vision, parts=place, scale=_scale(checkpoint, place[0]), mean=mean, std=std)


def _places(checkpoint: Checkpoint) -> Iterator[tuple[Part, Part]]:
    for prefix in PREFIXES:
        for layout in ("hf", "openclip"):
            text, vision = Part("text", layout, prefix), Part("vision", layout, prefix)
            if shapes(checkpoint, vision).has("summary"):
                yield text, vision


def _activation(checkpoint: Checkpoint, part: Part) -> Activation | None:
    """What the checkpoint says of it beyond transformers' settings."""
    if part.layout != "openclip":
        return None
    quick = _section(checkpoint.configs.get("open_clip", {}), "model_cfg").get("quick_gelu")
    openai = any(part.key(name) in checkpoint.tensors for name in OPENAI)
    return "quick_gelu" if quick is True or openai else "gelu"


def _scale(checkpoint: Checkpoint, part: Part) -> float:
    key = part.key("logit_scale")
    if key not in checkpoint.tensors:
        return 100.0  # where training ends (arXiv:2103.00020, section 2.5)
    if checkpoint.tensors[key].shape not in ((), (1,)):
        raise CheckpointError(checkpoint.path, "should be one number", key=key, remedy="Get the whole file again")
    scale = checkpoint.tensor(key).float().exp().item()
    if not 0 < scale < 1e4:
        raise CheckpointError(checkpoint.path, f"the scale is {scale:g}", key=key, remedy="Get the whole file again")
    return scale


def colors_of(checkpoint: Checkpoint, mean: Color = MEAN, std: Color = STD) -> tuple[Color, Color]:
    """Mean and spread of colors, as a folder says; those given here by default, OpenAI's. Raises CheckpointError."""
    processor = checkpoint.configs.get("preprocessor", {})
    openclip = _section(checkpoint.configs.get("open_clip", {}), "preprocess_cfg")
    said = processor.get("image_mean", openclip.get("mean", mean)), processor.get("image_std", openclip.get("std", std))
    for name, color in zip(("image_mean", "image_std"), said, strict=True):
        numbers = isinstance(color, list | tuple) and all(type(c) in (int, float) and 0 <= c <= 1 for c in color)
        if not numbers or len(color) != 3 or (name == "image_std" and not all(color)):
            reason = f"should be three numbers from 0 to 1, not {color!r:.60}"
            raise CheckpointError(checkpoint.path, reason, key=name, remedy="Correct it or remove it")
    own_mean, own_std = (tuple(map(float, color)) for color in said)
    return own_mean, own_std  # type: ignore[return-value]


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    return section if isinstance(section, dict) else {}
