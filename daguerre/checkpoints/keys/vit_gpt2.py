"""Where the parameters of a vision transformer with a GPT-2 are in transformers' layout, the only one."""

from ...models.vit_gpt2 import ViTGPT2Config
from ..layout import Rule, Shapes
from .blip import infer_vision, numbers

__all__ = ["RULES", "infer", "numbers"]

_EYES, _EYE = "encoder.", "encoder.encoder.layer.{k}."
_TEXT, _BLOCK = "decoder.transformer.", "decoder.transformer.h.{j}."
_TRANSPOSED = [  # GPT-2 keeps its matrices as (inputs, outputs)
    ("qkv", "attn.c_attn"), ("out", "attn.c_proj"), ("q", "crossattention.q_attn"), ("kv", "crossattention.c_attn"),
    ("out_cross", "crossattention.c_proj"), ("up", "mlp.c_fc"), ("down", "mlp.c_proj"),
]  # fmt: skip
# fmt: off
HF = {
    "vision.patches": Rule(f"{_EYES}embeddings.patch_embeddings.projection"),
    "vision.summary": Rule(f"{_EYES}embeddings.cls_token"),
    "vision.places":  Rule(f"{_EYES}embeddings.position_embeddings"),
    "vision.norm":    Rule(f"{_EYES}layernorm"),
    "project":        Rule("enc_to_dec_proj"),
    "token":          Rule(f"{_TEXT}wte"),
    "position":       Rule(f"{_TEXT}wpe"),
    "norm":           Rule(f"{_TEXT}ln_f"),
    "head":           Rule("decoder.lm_head"),
    **{f"vision.layers.{{k}}.{ours}": Rule(f"{_EYE}{theirs}") for ours, theirs in [
        ("norm1", "layernorm_before"), ("norm2", "layernorm_after"), ("q", "attention.attention.query"),
        ("k", "attention.attention.key"), ("v", "attention.attention.value"), ("out", "attention.output.dense"),
        ("up", "intermediate.dense"), ("down", "output.dense")]},
    **{f"layers.{{j}}.{ours}": Rule(f"{_BLOCK}{theirs}") for ours, theirs in [
        ("norm1", "ln_1"), ("norm_cross", "ln_cross_attn"), ("norm2", "ln_2")]},
    **{f"layers.{{j}}.{ours}": Rule(f"{_BLOCK}{theirs}", "transpose") for ours, theirs in _TRANSPOSED},
}
# fmt: on
RULES = {"hf": HF}


def infer(shapes: Shapes) -> ViTGPT2Config:
    """The config that the shapes show; heads are 64 features wide, as in the published ones."""
    vocabulary, width = shapes.find("token.weight", 2)
    return ViTGPT2Config(
        vision=infer_vision(shapes, 1e-12),
        width=width,
        layers=shapes.count("layers.{j}.norm1.weight", lambda j: {"j": j}),
        heads=max(1, width // 64),
        inner=shapes.find("layers.{j}.up.weight", 2, j=0)[1],
        vocabulary=vocabulary,
        context=shapes.find("position.weight", 2)[0],
        tied=not shapes.has("head.weight"),
    )
