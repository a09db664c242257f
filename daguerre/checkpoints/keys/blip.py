"""Where a BLIP captioner's parameters are in transformers' layout, the only one that is published as safetensors."""

from collections.abc import Iterator, Mapping

from ...models.blip import BLIPConfig
from ...models.vision import ViTConfig
from ...models.vit_gpt2 import ViTGPT2Config
from ..layout import Rule, Shapes
from .clip import QKV

_EYES, _TEXT, _HEAD = "vision_model.", "text_decoder.bert.", "text_decoder.cls.predictions."
_PLACES = [("own", "attention"), ("cross", "crossattention")]
_ATTENTION: list[tuple[str, str]] = [
    ("q", "self.query"), ("k", "self.key"), ("v", "self.value"), ("out", "output.dense"), ("norm", "output.LayerNorm")
]  # fmt: skip
# fmt: off
HF = {
    "vision.patches": Rule(f"{_EYES}embeddings.patch_embedding"),
    "vision.summary": Rule(f"{_EYES}embeddings.class_embedding"),
    "vision.places":  Rule(f"{_EYES}embeddings.position_embedding"),
    "vision.norm":    Rule(f"{_EYES}post_layernorm"),
    "token":          Rule(f"{_TEXT}embeddings.word_embeddings"),
    "position":       Rule(f"{_TEXT}embeddings.position_embeddings"),
    "text_norm":      Rule(f"{_TEXT}embeddings.LayerNorm"),
    "last":           Rule(f"{_HEAD}transform.dense"),
    "last_norm":      Rule(f"{_HEAD}transform.LayerNorm"),
    "bias":           Rule(f"{_HEAD}bias"),
    **{f"vision.layers.{{k}}.{ours}": Rule(f"{_EYES}encoder.layers.{{k}}.{theirs}") for ours, theirs in [
        ("norm1", "layer_norm1"), ("norm2", "layer_norm2"), ("out", "self_attn.projection"),
        ("up", "mlp.fc1"), ("down", "mlp.fc2")]},
    **{f"vision.layers.{{k}}.{x}.{leaf}": Rule(f"{_EYES}encoder.layers.{{k}}.self_attn.qkv.{leaf}", third)
       for x, third in QKV for leaf in ("weight", "bias")},
    **{f"layers.{{j}}.{place}.{ours}": Rule(f"{_TEXT}encoder.layer.{{j}}.{where}.{theirs}")
       for place, where in _PLACES for ours, theirs in _ATTENTION},
    **{f"layers.{{j}}.{ours}": Rule(f"{_TEXT}encoder.layer.{{j}}.{theirs}") for ours, theirs in [
        ("up", "intermediate.dense"), ("down", "output.dense"), ("norm", "output.LayerNorm")]},
}
# fmt: on
RULES = {"hf": HF}


def numbers(c: BLIPConfig | ViTGPT2Config) -> Iterator[Mapping[str, int]]:
    """All that the `{}` fields stand for in a network of this structure."""
    seeing, telling = max(1, c.vision.layers), max(1, c.layers)
    return ({"k": min(i, seeing - 1), "j": min(i, telling - 1)} for i in range(max(seeing, telling)))


def infer(shapes: Shapes) -> BLIPConfig:
    """The config that the shapes show; heads are 64 features wide, as in the published ones."""
    vocabulary, width = shapes.find("token.weight", 2)
    return BLIPConfig(
        vision=infer_vision(shapes, 1e-5),
        width=width,
        layers=shapes.count("layers.{j}.norm.weight", lambda j: {"j": j}),
        heads=max(1, width // 64),
        inner=shapes.find("layers.{j}.up.weight", 2, j=0)[0],
        vocabulary=vocabulary,
        context=shapes.find("position.weight", 2)[0],
    )


def infer_vision(shapes: Shapes, epsilon: float) -> ViTConfig:
    """A captioner's vision transformer, as the shapes show it."""
    width, _, patch, _ = shapes.find("vision.patches.weight", 4)
    return ViTConfig(
        size=patch * round((shapes.find("vision.places", 3)[1] - 1) ** 0.5),
        patch=patch,
        width=width,
        layers=shapes.count("vision.layers.{k}.norm1.weight", lambda k: {"k": k}),
        heads=max(1, width // 64),
        inner=shapes.find("vision.layers.{k}.up.weight", 2, k=0)[0],
        epsilon=epsilon,
    )
