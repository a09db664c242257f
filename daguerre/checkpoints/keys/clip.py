"""Where a text encoder's parameters are: Hugging Face (`hf_bare`: without its first word) and OpenCLIP."""

from ...models.clip import CLIPTextConfig
from ..layout import Reshape, Rule, Shapes

# fmt: off
_LAYER = [
    ("norm1", "layer_norm1",        "ln_1"),
    ("norm2", "layer_norm2",        "ln_2"),
    ("out",   "self_attn.out_proj", "attn.out_proj"),
    ("up",    "mlp.fc1",            "mlp.c_fc"),
    ("down",  "mlp.fc2",            "mlp.c_proj"),
]
_QKV: list[tuple[str, Reshape]] = [("q", "split_q"), ("k", "split_k"), ("v", "split_v")]
HF = [
    Rule("token",      "text_model.embeddings.token_embedding"),
    Rule("position",   "text_model.embeddings.position_embedding"),
    Rule("norm",       "text_model.final_layer_norm"),
    Rule("projection", "text_projection"),
    *[Rule(f"layers.*.{ours}", f"text_model.encoder.layers.*.{hf}") for ours, hf, _ in _LAYER],
    *[Rule(f"layers.*.{x}",    f"text_model.encoder.layers.*.self_attn.{x}_proj") for x, _ in _QKV],
]
OPENCLIP = [
    Rule("token",             "token_embedding"),
    Rule("position.weight",   "positional_embedding"),
    Rule("norm",              "ln_final"),
    Rule("projection.weight", "text_projection", "transpose"),
    *[Rule(f"layers.*.{ours}", f"transformer.resblocks.*.{openclip}") for ours, _, openclip in _LAYER],
    *[Rule(f"layers.*.{x}.{leaf}", f"transformer.resblocks.*.attn.in_proj_{leaf}", third)
      for x, third in _QKV for leaf in ("weight", "bias")],
]
# fmt: on
COLUMNS = {
    "hf": HF,
    "hf_bare": [Rule(rule.native, rule.foreign.removeprefix("text_model.")) for rule in HF],
    "openclip": OPENCLIP,
}


def rules(c: CLIPTextConfig, layout: str) -> list[Rule]:
    """The rows of the table in this layout, for a network of this structure."""
    return [
        Rule(native.replace("*", str(k)), foreign.replace("*", str(k)), reshape)
        for native, foreign, reshape in COLUMNS[layout]
        for k in range(c.layers if "*" in native else 1)
    ]


def infer(shapes: Shapes, layout: str) -> CLIPTextConfig:
    """The config that the shapes show; activation and heads are as in every CLIP that has this layout."""
    path = {rule.native: rule.foreign for rule in COLUMNS[layout]}
    openclip = layout == "openclip"
    vocabulary, width = shapes.find(f"{path['token']}.weight", 2)
    projection = path["projection.weight"] if openclip else f"{path['projection']}.weight"
    position = path["position.weight"] if openclip else f"{path['position']}.weight"
    return CLIPTextConfig(
        width,
        layers=shapes.count(f"{path['layers.*.norm1']}.weight"),
        heads=max(1, width // 64),
        activation="gelu" if openclip or width > 768 else "quick_gelu",
        projection=shapes.find(projection, 2)[1 if openclip else 0] if projection in shapes else 0,
        vocabulary=vocabulary,
        context=shapes.find(position, 2)[0],
        end_token=vocabulary - 1,
    )
