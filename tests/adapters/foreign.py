"""LoRA files as other programs write them, made here from their naming rules and not from our tables."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from daguerre.adapters.lora import LoRA

Factor = tuple[str, Tensor, Tensor, float]  # diffusers' module path behind the part, down, up, alpha
PROJECTIONS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}


def diffusers_path(path: str) -> str:
    """One place in each kind of layer of the toys: sd1 and sdxl have one block a level and attention where it is."""
    part, _, rest = path.partition(".")
    if part != "unet":
        _, n, layer = rest.split(".")
        place = (
            f"self_attn.{PROJECTIONS[layer]}" if layer in PROJECTIONS else {"up": "mlp.fc1", "down": "mlp.fc2"}[layer]
        )
        return f"text_model.encoder.layers.{n}.{place}"
    rest = re.sub(r"^mid_attn", "mid_block.attentions.0", rest)
    rest = re.sub(r"^encoder\.1\.(attn|res)", r"down_blocks.0.\1.0", rest)
    rest = re.sub(r"^encoder\.3\.(attn|res)", r"down_blocks.1.\1.0", rest)
    rest = re.sub(r"^decoder\.([01])\.(attn|res)", r"up_blocks.0.\2.\1", rest)
    rest = re.sub(r"^decoder\.([23])\.(attn|res)", lambda m: f"up_blocks.1.{m[2]}.{int(m[1]) - 2}", rest)
    rest = re.sub(r"^mid_(in|out)", lambda m: f"mid_block.resnets.{int(m[1] == 'out')}", rest)
    rest = (
        rest.replace(".res.", ".resnets.").replace(".attn.", ".attentions.").replace(".blocks.", ".transformer_blocks.")
    )
    rest = rest.replace("self_attn", "attn1").replace("cross_attn", "attn2").replace(".skip", ".conv_shortcut")
    rest = re.sub(r"\.([qkv])$", r".to_\1", rest)
    return (
        re.sub(r"(attn\d)\.out$", r"\1.to_out.0", rest)
        .replace("mlp.up", "ff.net.0.proj")
        .replace("mlp.down", "ff.net.2")
    )


def factors(lora: LoRA) -> Iterator[tuple[str, Factor, Tensor | None]]:
    for path, one in lora.factors.items():
        yield path.partition(".")[0], (diffusers_path(path), one.down.data, one.up.data, one.alpha), one.magnitude


def write_kohya(path: Path, lora: LoRA, *, two_encoders: bool) -> Path:
    """As sd-scripts does, DoRA as LyCORIS does."""
    tensors = {}
    for part, (name, down, up, alpha), magnitude in factors(lora):
        prefix = {"unet": "lora_unet", "text": "lora_te1" if two_encoders else "lora_te", "text2": "lora_te2"}[part]
        key = f"{prefix}_{name.replace('.', '_')}"
        tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(alpha)}
        if magnitude is not None:
            tensors[f"{key}.dora_scale"] = magnitude.data.reshape(-1, *[1] * (down.ndim - 1))
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, {"ss_network_dim": "4"})
    return path


def write_peft(folder: Path, lora: LoRA, *, pattern: bool) -> Path:
    """As `PeftModel.save_pretrained`, a folder for each network; `pattern`: alphas by layer, the ends of names."""
    folders = {"unet": "", "text": "text_encoder", "text2": "text_encoder_2"}
    for part, place in folders.items():
        tensors, alphas = {}, {}
        for own, (name, down, up, alpha), magnitude in factors(lora):
            if own == part:
                key = f"base_model.model.{name}"
                tensors |= {f"{key}.lora_A.weight": down.contiguous(), f"{key}.lora_B.weight": up.contiguous()}
                alphas[name] = alpha
                if magnitude is not None:
                    shape = [1, -1, 1, 1] if down.ndim == 4 else [-1]
                    tensors[f"{key}.lora_magnitude_vector"] = magnitude.data.reshape(shape).contiguous()
        if tensors:
            (folder / place).mkdir(parents=True, exist_ok=True)
            save_file(tensors, folder / place / "adapter_model.safetensors")
            alpha = 1 if pattern else next(iter(alphas.values()))
            config = {"peft_type": "LORA", "r": 4, "lora_alpha": alpha, "alpha_pattern": alphas if pattern else {}}
            (folder / place / "adapter_config.json").write_text(json.dumps(config))
    return folder


def write_diffusers(path: Path, lora: LoRA, *, old: bool) -> Path:
    """As `save_lora_weights` does now, and as it did at first, when attention had processors and no alpha."""
    tensors, folders = {}, {"unet": "unet", "text": "text_encoder", "text2": "text_encoder_2"}
    for part, (name, down, up, alpha), _ in factors(lora):
        key, up = f"{folders[part]}.{name}", up * (alpha / len(down))
        if not old:
            tensors |= {f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up}
        elif part == "unet" and ".attn" in key:
            key = re.sub(r"(attn\d)\.(to_\w+)(\.0)?$", r"\1.processor.\2_lora", key)
            tensors |= {f"{key}.down.weight": down, f"{key}.up.weight": up}
        else:
            tensors |= {f"{key}.lora_linear_layer.down.weight": down, f"{key}.lora_linear_layer.up.weight": up}
    save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    return path
