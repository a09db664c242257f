"""The JSON files that make a folder of weights a diffusers pipeline."""

import json
from collections.abc import Mapping
from typing import Any

from ..models.clip import CLIPTextConfig
from ..models.unet import UNetConfig
from ..models.vae import VAEConfig
from .identify import Description, structure
from .settings import FIXED, STATED

TASKS = {"inpaint": "Inpaint", "edit": "InstructPix2Pix", "refiner": "Img2Img"}
NONE = (None, None)
# fmt: off


def describe(model: Description) -> dict[str, dict[str, Any]]:
    """The settings of every network there is, by its folder, and of scheduler and whole if there is a U-Net."""
    described: dict[str, dict[str, Any]] = {}
    if model.unet:
        described = {"model_index": {"_daguerre_family": model.family}, "scheduler": _scheduler(model)}
    for part, config in model.configs.items():
        kind: type = type(config)
        stated = {name: getattr(config, field) for name, (field, _) in STATED[kind].items()}
        described[model.folders[part]] = FIXED[kind] | stated | SHOWN[kind](config, model)
    return described


def pipeline_files(model: Description, tokenizer_files: Mapping[str, bytes]) -> dict[str, bytes]:
    """File -> content of a whole folder but for the weights. Raises ValueError for what diffusers cannot build."""
    if not (model.unet and model.vae and model.text):
        raise ValueError("a pipeline is made of U-Net, VAE and text encoder")
    c, large, described = model.unet, bool(model.unet.vector), describe(model)
    if not c.mid_depth or c.depth[-1] not in (0, c.mid_depth):
        raise ValueError(f"diffusers cannot build {c.mid_depth} blocks in the middle after {c.depth[-1]}")
    task = TASKS.get(structure(c, len(model.text)).split("-")[-1], "")
    index, scheduler = described.pop("model_index"), described.pop("scheduler")
    index |= {
        "_class_name": f"StableDiffusion{'XL' * large}{task}Pipeline", "_diffusers_version": "0.36.0",
        "scheduler": ("diffusers", scheduler["_class_name"]),
        "unet": ("diffusers", "UNet2DConditionModel"), "vae": ("diffusers", "AutoencoderKL"),
    }
    if not large:
        index |= {"feature_extractor": NONE, "safety_checker": NONE, "requires_safety_checker": False}
    if model.folders["text"] == "text_encoder_2":
        index |= {"text_encoder": NONE, "tokenizer": NONE, "requires_aesthetics_score": True}
    objects = {"model_index": index, "scheduler/scheduler_config": scheduler}
    objects |= {f"{place}/config": values for place, values in described.items()}
    files: dict[str, bytes] = {}
    for part, config in zip(("text", "text2"), model.text, strict=False):
        place = model.folders[part]
        index[place] = "transformers", "CLIPTextModel" + "WithProjection" * (place == "text_encoder_2")
        place = place.replace("text_encoder", "tokenizer")
        index[place] = ("transformers", "CLIPTokenizer") if tokenizer_files else NONE
        files |= {f"{place}/{file}": content for file, content in tokenizer_files.items()}
        objects |= {f"{place}/tokenizer_config": _tokenizer(config)} if tokenizer_files else {}
    return files | {f"{name}.json": json.dumps(values, indent=2).encode() for name, values in objects.items()}


def _unet(c: UNetConfig, model: Description) -> dict[str, Any]:
    kinds = ["CrossAttn" * bool(depth) for depth in c.depth]
    config = {
        "_class_name": "UNet2DConditionModel", "sample_size": 128 if c.vector else 64, "layers_per_block": c.blocks,
        "in_channels": c.channels_in, "out_channels": c.channels_out, "block_out_channels": c.channels,
        "transformer_layers_per_block": [*(depth or 1 for depth in c.depth[:-1]), c.mid_depth],
        "down_block_types": [f"{kind}DownBlock2D" for kind in kinds],
        "up_block_types": [f"{kind}UpBlock2D" for kind in reversed(kinds)],
        "attention_head_dim": c.heads or [max(1, width // c.head_width) for width in c.channels],
        "cross_attention_dim": c.context, "use_linear_projection": c.linear,
    }
    if not (c.vector and model.text):
        return config
    each = (c.vector - model.text[-1].projection) // (6 if len(model.text) > 1 else 5)  # numbers after pooled text
    added = {"addition_embed_type": "text_time", "addition_time_embed_dim": each}
    return config | added | {"projection_class_embeddings_input_dim": c.vector}


def _vae(c: VAEConfig, _: Description) -> dict[str, Any]:
    return {
        "_class_name": "AutoencoderKL", "in_channels": 3, "out_channels": 3, "latent_channels": c.latent_channels,
        "block_out_channels": c.channels, "layers_per_block": c.blocks,
        "down_block_types": ["DownEncoderBlock2D"] * len(c.channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(c.channels),
    }


def _text(c: CLIPTextConfig, model: Description) -> dict[str, Any]:
    return {
        "model_type": "clip_text_model", "hidden_size": c.width, "intermediate_size": 4 * c.width,
        "num_hidden_layers": c.layers - model.unused_layers, "projection_dim": c.projection or c.width,
        "vocab_size": c.vocabulary, "max_position_embeddings": c.context, "bos_token_id": c.end_token - 1,
    }


SHOWN: dict[type, Any] = {UNetConfig: _unet, VAEConfig: _vae, CLIPTextConfig: _text}  # what shapes show


def _tokenizer(c: CLIPTextConfig) -> dict[str, Any]:
    end = "<|endoftext|>"  # OpenCLIP, which has plain GELU, pads with token 0 instead
    return {
        "tokenizer_class": "CLIPTokenizer", "model_max_length": c.context, "bos_token": "<|startoftext|>",
        "eos_token": end, "unk_token": end, "pad_token": "!" if c.activation == "gelu" else end,
    }


def _scheduler(model: Description) -> dict[str, Any]:
    turbo, large = model.family == "turbo", model.unet is not None and model.unet.vector
    kind = "EulerAncestralDiscrete" if turbo else "EulerDiscrete" if large else "DDIM"
    config = {
        "_class_name": f"{kind}Scheduler", "beta_start": 0.00085, "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
        "steps_offset": 1, "rescale_betas_zero_snr": model.zero_snr,
        "prediction_type": {"v": "v_prediction", "flow": "flow_prediction"}.get(model.prediction, "epsilon"),
        "timestep_spacing": "trailing" if turbo or model.zero_snr else "leading",
    }
    return config if large else config | {"clip_sample": False, "set_alpha_to_one": False}
