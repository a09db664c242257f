"""Where a CLIP vision tower's parameters are: Hugging Face, and OpenCLIP, which is as OpenAI wrote it."""

from collections.abc import Iterator, Mapping

from ...models.vision import CLIPVisionConfig
from ..layout import Rule, Shapes
from .clip import LAYER, QKV

# Heads by width where they are not 64 features wide: H 80, g 88, bigG 104.
HEADS = {1280: 16, 1408: 16, 1664: 16}
# fmt: off
HF = {
    "patches":    Rule("vision_model.embeddings.patch_embedding"),
    "summary":    Rule("vision_model.embeddings.class_embedding"),
    "position":   Rule("vision_model.embeddings.position_embedding"),
    "norm_in":    Rule("vision_model.pre_layrnorm"),  # as it is spelled there
    "norm":       Rule("vision_model.post_layernorm"),
    "projection": Rule("visual_projection"),
    **{f"layers.{{k}}.{ours}": Rule(f"vision_model.encoder.layers.{{k}}.{hf}") for ours, hf, _ in LAYER},
    **{f"layers.{{k}}.{x}":    Rule(f"vision_model.encoder.layers.{{k}}.self_attn.{x}_proj") for x in "qkv"},
}
OPENCLIP = {
    "patches":           Rule("visual.conv1"),
    "summary":           Rule("visual.class_embedding"),
    "position.weight":   Rule("visual.positional_embedding"),
    "norm_in":           Rule("visual.ln_pre"),
    "norm":              Rule("visual.ln_post"),
    "projection.weight": Rule("visual.proj", "transpose"),
    **{f"layers.{{k}}.{ours}": Rule(f"visual.transformer.resblocks.{{k}}.{openclip}") for ours, _, openclip in LAYER},
    **{f"layers.{{k}}.{x}.{leaf}": Rule(f"visual.transformer.resblocks.{{k}}.attn.in_proj_{leaf}", third)
       for x, third in QKV for leaf in ("weight", "bias")},
}
# fmt: on
RULES = {"hf": HF, "openclip": OPENCLIP}


def numbers(c: CLIPVisionConfig) -> Iterator[Mapping[str, int]]:
    """All that the `{}` fields stand for in a network of this structure."""
    return ({"k": k} for k in range(max(1, c.layers)))


def infer(shapes: Shapes) -> CLIPVisionConfig:
    """The config that the shapes show; activation and heads are as in every CLIP of this width."""
    openclip = shapes.part.layout == "openclip"
    width, _, patch, _ = shapes.find("patches.weight", 4)
    places = shapes.find("position.weight", 2)[0] - 1
    inner = shapes.find("layers.{k}.up.weight", 2, k=0)[0]
    return CLIPVisionConfig(
        size=patch * round(places**0.5),
        patch=patch,
        width=width,
        layers=shapes.count("layers.{k}.norm1.weight", lambda k: {"k": k}),
        heads=HEADS.get(width, max(1, width // 64)),
        activation="gelu" if openclip or width > 1024 else "quick_gelu",
        projection=shapes.find("projection.weight", 2)[1 if openclip else 0],
        inner=0 if inner == 4 * width else inner,
    )
