"""Where a text encoder's parameters are: Hugging Face (`hf_bare`: without its first word), OpenCLIP, ggml."""

from collections.abc import Iterator, Mapping
from typing import Literal

from ...models.clip import CLIPTextConfig
from ..layout import Reshape, Rule, Shapes

# fmt: off
LAYER = [
    ("norm1", "layer_norm1", "ln_1"), ("norm2", "layer_norm2", "ln_2"), ("out", "self_attn.out_proj", "attn.out_proj"),
    ("up", "mlp.fc1", "mlp.c_fc"), ("down", "mlp.fc2", "mlp.c_proj"),
]
QKV: list[tuple[str, Reshape]] = [("q", "split_q"), ("k", "split_k"), ("v", "split_v")]
HF = {
    "token":      Rule("text_model.embeddings.token_embedding"),
    "position":   Rule("text_model.embeddings.position_embedding"),
    "norm":       Rule("text_model.final_layer_norm"),
    "projection": Rule("text_projection"),
    **{f"layers.{{k}}.{ours}": Rule(f"text_model.encoder.layers.{{k}}.{hf}") for ours, hf, _ in LAYER},
    **{f"layers.{{k}}.{x}":    Rule(f"text_model.encoder.layers.{{k}}.self_attn.{x}_proj") for x in "qkv"},
}
OPENCLIP = {
    "token":             Rule("token_embedding"),
    "position.weight":   Rule("positional_embedding"),
    "norm":              Rule("ln_final"),
    "projection.weight": Rule("text_projection", "transpose"),
    **{f"layers.{{k}}.{ours}": Rule(f"transformer.resblocks.{{k}}.{openclip}") for ours, _, openclip in LAYER},
    **{f"layers.{{k}}.{x}.{leaf}": Rule(f"transformer.resblocks.{{k}}.attn.in_proj_{leaf}", third)
       for x, third in QKV for leaf in ("weight", "bias")},
}
# fmt: on
BARE = {native: Rule(rule.path.removeprefix("text_model.")) for native, rule in HF.items()}
# stable-diffusion.cpp gives OpenCLIP's parameters the names of Hugging Face, but leaves the last as it is.
GGML = {name: rule for name, rule in HF.items() if name != "projection"}
GGML["projection.weight"] = Rule("text_model.text_projection", "transpose")
RULES = {"hf": HF, "hf_bare": BARE, "openclip": OPENCLIP, "ggml": GGML}


def numbers(c: CLIPTextConfig) -> Iterator[Mapping[str, int]]:
    """All that the `{}` fields stand for in a network of this structure."""
    return ({"k": k} for k in range(max(1, c.layers)))


def infer(shapes: Shapes) -> CLIPTextConfig:
    """The config that the shapes show; activation and heads are as in every CLIP that has this layout."""
    openclip, name = shapes.part.layout == "openclip", "projection.weight"
    vocabulary, width = shapes.find("token.weight", 2)
    layers = shapes.count("layers.{k}.norm1.weight", lambda k: {"k": k})
    activation: Literal["gelu", "quick_gelu"] = "gelu" if openclip or width > 768 else "quick_gelu"
    projected = 1 if shapes.part.layout in ("openclip", "ggml") else 0
    projection = shapes.find(name, 2)[projected] if shapes.has(name) else 0
    context = shapes.find("position.weight", 2)[0]
    heads, end = max(1, width // 64), vocabulary - 1
    return CLIPTextConfig(width, layers, heads, activation, projection, vocabulary, context, end)
