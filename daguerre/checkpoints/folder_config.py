"""The JSON files that make a folder of weights a diffusers pipeline."""

from typing import Any

from ..models.clip import CLIPTextConfig
from ..models.unet import UNetConfig
from ..models.vae import VAEConfig
from .identify import Description, structure

TASKS = {"inpaint": "Inpaint", "edit": "InstructPix2Pix", "refiner": "Img2Img"}


def model_index(model: Description, *, tokenizers: bool) -> dict[str, Any]:
    """The pipeline's class, and the class of each of its parts."""
    assert model.unet is not None
    large, refiner = bool(model.unet.vector), model.unet.vector and len(model.text) == 1
    task = TASKS.get(structure(model.unet, len(model.text)).rpartition("-")[2], "")
    tokenizer = ["transformers", "CLIPTokenizer"] if tokenizers else [None, None]
    index: dict[str, Any] = {
        "_class_name": f"StableDiffusion{'XL' if large else ''}{task}Pipeline",
        "_daguerre_family": model.family,
        "scheduler": ["diffusers", scheduler_config(model)["_class_name"]],
        "text_encoder": [None, None] if refiner else ["transformers", "CLIPTextModel"],
        "tokenizer": [None, None] if refiner else tokenizer,
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if not large:
        absent: dict[str, Any] = {"feature_extractor": [None, None], "safety_checker": [None, None]}
        return index | absent | {"requires_safety_checker": False}
    index |= {"text_encoder_2": ["transformers", "CLIPTextModelWithProjection"], "tokenizer_2": tokenizer}
    return index | ({"requires_aesthetics_score": True} if refiner else {})


def unet_config(c: UNetConfig, text: tuple[CLIPTextConfig, ...]) -> dict[str, Any]:
    """Raises ValueError for a structure that diffusers' class does not know."""
    if not c.mid_depth or c.depth[-1] not in (0, c.mid_depth):
        raise ValueError(f"diffusers cannot build {c.mid_depth} blocks in the middle after {c.depth[-1]}")
    kinds = ["CrossAttn" if depth else "" for depth in c.depth]
    config: dict[str, Any] = {
        "_class_name": "UNet2DConditionModel",
        "act_fn": "silu",
        "attention_head_dim": c.heads or [width // c.head_width for width in c.channels],
        "block_out_channels": c.channels,
        "cross_attention_dim": c.context,
        "down_block_types": [f"{kind}DownBlock2D" for kind in kinds],
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": c.channels_in,
        "layers_per_block": c.blocks,
        "norm_num_groups": c.groups,
        "out_channels": c.channels_out,
        "sample_size": 128 if c.vector else 64,
        "transformer_layers_per_block": [depth or 1 for depth in c.depth[:-1]] + [c.mid_depth],
        "up_block_types": [f"{kind}UpBlock2D" for kind in reversed(kinds)],
        "use_linear_projection": c.linear,
    }
    if c.vector:
        sizes = 6 if len(text) > 1 else 5  # numbers beside the pooled text, each as a sinusoid
        config["addition_embed_type"] = "text_time"
        config["addition_time_embed_dim"] = (c.vector - text[-1].projection) // sizes
        config["projection_class_embeddings_input_dim"] = c.vector
    return config


def vae_config(c: VAEConfig) -> dict[str, Any]:
    return {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": c.channels,
        "down_block_types": ["DownEncoderBlock2D"] * len(c.channels),
        "in_channels": 3,
        "latent_channels": c.latent_channels,
        "layers_per_block": c.blocks,
        "norm_num_groups": c.groups,
        "out_channels": 3,
        "scaling_factor": c.scale,
        "up_block_types": ["UpDecoderBlock2D"] * len(c.channels),
    }


def text_config(c: CLIPTextConfig, layers: int) -> dict[str, Any]:
    return {
        "bos_token_id": c.end_token - 1,
        "eos_token_id": c.end_token,
        "hidden_act": c.activation,
        "hidden_size": c.width,
        "intermediate_size": 4 * c.width,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": c.context,
        "model_type": "clip_text_model",
        "num_attention_heads": c.heads,
        "num_hidden_layers": layers,
        "projection_dim": c.projection or c.width,
        "vocab_size": c.vocabulary,
    }


def scheduler_config(model: Description) -> dict[str, Any]:
    turbo, large = model.family == "turbo", model.unet is not None and model.unet.vector
    kind = "EulerAncestralDiscrete" if turbo else "EulerDiscrete" if large else "DDIM"
    config = {
        "_class_name": f"{kind}Scheduler",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction" if model.prediction == "v" else "epsilon",
        "rescale_betas_zero_snr": model.zero_snr,
        "steps_offset": 1,
        "timestep_spacing": "trailing" if turbo or model.zero_snr else "leading",
    }
    return config if large else {**config, "clip_sample": False, "set_alpha_to_one": False}


def tokenizer_config(c: CLIPTextConfig) -> dict[str, Any]:
    end = "<|endoftext|>"
    return {
        "bos_token": "<|startoftext|>",
        "eos_token": end,
        "model_max_length": c.context,
        "pad_token": "!" if c.activation == "gelu" else end,  # OpenCLIP pads with token 0
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": end,
    }
