"""Tells from names and shapes alone, never from the file's name, what is in a checkpoint."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from ..files.checkpoint import Checkpoint, CheckpointError
from ..files.safetensors_writer import Deferred
from ..models.clip import CLIPTextConfig
from ..models.unet import SD2, UNetConfig
from ..models.vae import SDXL, VAEConfig
from .layout import Part, Source
from .settings import COUNT, FOLDERS, Settings, complete, one_of, settings_of
from .tables import KEYS, Config, infer, shapes, table

OLD, NEW = "cond_stage_model.", "conditioner.embedders."
GGML = f"{OLD}1.transformer."  # stable-diffusion.cpp's second text encoder
TEXTS = f"{OLD}transformer.", f"{OLD}model.", f"{NEW}0.transformer.", f"{NEW}0.model.", f"{NEW}1.model.", GGML
PLACES = {  # a parameter that only this network has, and the prefixes, in the order of a pipeline's text encoders
    "unet": ("conv_out.weight", ("model.diffusion_model.", "diffusion_model.", "unet/", "")),
    "vae": ("decoder.mid.1.q.weight", ("first_stage_model.", "vae/", "")),
    "text": ("token.weight", (*TEXTS, "text_encoder/", "text_encoder_2/", "")),
}
AVERAGE = Part("unet", "ldm", "model_ema.diffusion_model", flat=True)
IGNORED = {
    r"model\.diffusion_model\..*": "the weights whose moving average is taken",
    r"model_ema\..*": "moving average of the weights, or its counter",
    r"\w*alphas_cumprod\w*|betas|posterior_\w+|logvar|scale_factor|denoiser\.sigmas": "noise schedule",
    r".*\bposition_ids": "counts 0, 1, 2",
    r".*\blogit_scale": "only for training CLIP",
    r".*\battn_mask": "causal mask, always the same",
    r"(first_stage_model\.)?loss\..*": "only for training the VAE",
    r"v_pred|ztsnr": "mark of the kind of prediction",
}
DERIVED = r"(?!sd|vae|text)[a-z0-9-]{1,32}"  # a model that is built like one of ours and used in its own way
FLOATS = torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2
V_STATISTIC = "output_blocks.11.1.transformer_blocks.0.norm1.bias"


@dataclass(frozen=True, kw_only=True)
class Description:
    """All that is needed to build a model's networks and to use them as they were trained."""

    family: str  # as `structure` names it, or the name of a derived model; vae or text if that is all
    prediction: Literal["epsilon", "v", "flow"] = "epsilon"
    zero_snr: bool = False  # trained with a schedule that ends in pure noise (arXiv:2305.08891)
    unet: UNetConfig | None = None
    vae: VAEConfig | None = None
    text: tuple[CLIPTextConfig, ...] = ()
    unused_layers: int = 0  # at the end of the only text encoder, unused in training (SD 2: 1)

    @property
    def configs(self) -> dict[str, Config]:
        """By part: unet, vae, text, text2."""
        named = {"unet": self.unet, "vae": self.vae, **dict(zip(("text", "text2"), self.text, strict=False))}
        return {name: config for name, config in named.items() if config}

    @property
    def folders(self) -> dict[str, str]:
        """By part, what diffusers calls it; the refiner has the second of SDXL's text encoders only."""
        second = self.unet and self.unet.vector and len(self.text) == 1
        return {**FOLDERS, "text": FOLDERS["text2" if second else "text"]}


@dataclass(frozen=True, kw_only=True)
class Identity(Description):
    layout: str  # ldm or diffusers; a lone text encoder's own
    parts: tuple[Part, ...]
    missing: tuple[str, ...] = ()  # keys that the networks need and the checkpoint lacks
    extra: tuple[str, ...] = ()  # keys that nothing here knows
    ignored: Mapping[str, str] = field(default_factory=dict)  # key -> why it is not needed
    notes: tuple[str, ...] = ()


def identify(checkpoint: Checkpoint, *, weights: Literal["auto", "ema"] = "auto") -> Identity:
    """What a checkpoint holds. `auto` takes the U-Net's plain weights, or their average if it has none."""
    parts, configs = _find(checkpoint, weights), dict[str, Any]()
    for part in parts:
        config = infer(checkpoint, part)
        if isinstance(config, VAEConfig) and "unet" in configs and configs["unet"].vector:
            config = replace(config, scale=SDXL.scale)
        configs[part.name] = complete(checkpoint, part, config)
    unet, text = configs.get("unet"), tuple(config for name, config in configs.items() if "text" in name)
    absent = {"unet": "U-Net", "vae": "VAE", "text": "text encoder"}.items()
    layouts = [part.layout for part in parts]
    prediction, zero_snr, why = _prediction(checkpoint, parts[0], unet)
    needed = {source.key for part in parts for source in table(part, configs[part.name]).values()}
    spare = {key: _spare(key, averaged=AVERAGE in parts) for key in sorted(checkpoint.tensors.keys() - needed)}
    return Identity(
        family=_family(checkpoint, unet, len(text)) if unet else parts[0].name,
        prediction=prediction,
        zero_snr=zero_snr,
        unet=unet,
        vae=configs.get("vae"),
        text=text,
        unused_layers=_unused(checkpoint, parts[-1], text[0]) if unet and len(text) == 1 else 0,
        layout=next((name[:9] for name in layouts if name.startswith(("ldm", "diffusers"))), layouts[0]),
        parts=parts,
        missing=tuple(sorted(needed - checkpoint.tensors.keys())),
        extra=tuple(key for key, why in spare.items() if not why),
        ignored={key: why for key, why in spare.items() if why},
        notes=(*checkpoint.notes, *why, *(f"it has no {what}" for name, what in absent if name not in configs)),
    )


def structure(unet: UNetConfig, texts: int | None) -> str:
    """The family that a U-Net's structure shows, with this many text encoders (None: not known)."""
    if unet.vector:
        base = "sdxl-refiner" if texts == 1 or (texts is None and not unet.depth[-1]) else "sdxl"
    else:
        base = "sd2" if unet.linear else "sd1"
    return base + _task(unet)


def _task(unet: UNetConfig) -> str:
    """What the input channels beyond the latents are for: mask and masked latents, or the picture to edit."""
    tasks = {unet.channels_out + 1: "-inpaint", unet.channels_out: "-edit"}
    return tasks.get(unet.channels_in - unet.channels_out, "")


def _find(checkpoint: Checkpoint, weights: str) -> tuple[Part, ...]:
    found: dict[str, list[Part]] = {}
    for name, (probe, prefixes) in PLACES.items():
        places = (
            Part(name, layout, prefix)
            for prefix in prefixes
            for layout in KEYS[name].RULES
            if (layout == "ggml") == (prefix == GGML)
        )
        found[name] = [part for part in places if shapes(checkpoint, part).has(probe)]
    average = shapes(checkpoint, AVERAGE).has(PLACES["unet"][0])
    if weights == "ema" and not average:
        remedy = "Load its plain weights"
        raise CheckpointError(checkpoint.path, "there is no moving average of the weights in it", remedy=remedy)
    if average and (weights == "ema" or not found["unet"]):
        found["unet"] = [AVERAGE]
    texts = [replace(part, name=name) for part, name in zip(found["text"], ("text", "text2"), strict=False)]
    parts = (*found["unet"][:1], *found["vae"][:1], *texts)
    if not parts:
        known = "U-Net, VAE or CLIP text encoder of Stable Diffusion"
        raise CheckpointError(checkpoint.path, f"none of its {len(checkpoint.tensors)} tensors belongs to a {known}")
    return parts


def _family(checkpoint: Checkpoint, unet: UNetConfig, texts: int) -> str:
    if unet.channels_in != unet.channels_out and not _task(unet):
        c = unet.channels_out
        reason = f"its U-Net takes {unet.channels_in} channels; models that take {c}, {2 * c} or {2 * c + 1} are known"
        raise CheckpointError(checkpoint.path, reason)
    shown, scheduler = structure(unet, texts or None), checkpoint.configs.get("scheduler", {})
    how = scheduler.get("_class_name"), scheduler.get("timestep_spacing")
    if shown == "sdxl" and how == ("EulerAncestralDiscreteScheduler", "trailing"):
        return "turbo"
    index = Settings(checkpoint, "model_index")
    stated = index.values.get("_daguerre_family", shown)
    if stated != shown and not (isinstance(stated, str) and re.fullmatch(DERIVED, stated)):
        raise index.wrong("_daguerre_family", f"{shown!r}, as its tensors are, or one derived from it")
    return str(stated)


def _prediction(checkpoint: Checkpoint, part: Part, unet: UNetConfig | None) -> tuple[Any, bool, list[str]]:
    """What the U-Net predicts, whether its schedule ends in pure noise, and how that is known."""
    kind, zero_snr, why = "epsilon", "ztsnr" in checkpoint.tensors, "nothing says otherwise"
    scheduler, key = Settings(checkpoint, "scheduler"), part.key(V_STATISTIC)
    stated = checkpoint.metadata.get("modelspec.prediction_type")
    if scheduler.values:
        kind = scheduler.get(
            "prediction_type", kind, one_of("epsilon", "v_prediction", "flow_prediction")
        ).removesuffix("_prediction")
        zero_snr, why = scheduler.get("rescale_betas_zero_snr", False, one_of(False, True)), "its scheduler says so"
    elif "v_pred" in checkpoint.tensors:
        kind, why = "v", "a tensor named v_pred says so"
    elif stated in ("epsilon", "v", "flow"):
        kind, why = stated, "modelspec.prediction_type says so"
    elif unet == SD2 and key in checkpoint.tensors:
        spread = checkpoint.tensor(key).float().std(correction=0).item()
        kind, why = ("epsilon", "v")[spread > 0.09], f"{key} spreads by {spread:.3f}; above 0.09 means v"
    return kind, zero_snr, [f"predicts {kind}: {why}"] if unet else []


def _unused(checkpoint: Checkpoint, part: Part, text: CLIPTextConfig) -> int:
    """Trailing layers that the U-Net was trained without: SD 2 reads OpenCLIP's last layer but one."""
    stated, sd2 = settings_of(checkpoint, part), part.layout == "openclip" and part.prefix.startswith("cond_stage")
    used = text.layers if stated.values or not text.projection or not sd2 else text.layers - 1
    used = int(stated.get("num_hidden_layers", used, COUNT))
    if used > text.layers:
        raise stated.wrong("num_hidden_layers", f"at most {text.layers}, as many as there are")
    return text.layers - used


def _spare(key: str, *, averaged: bool) -> str:
    """Why no network needs this tensor; empty if nothing here knows it."""
    known = averaged or not key.startswith("model.")
    return next((why for pattern, why in IGNORED.items() if known and re.fullmatch(pattern, key)), "")


def read_component(checkpoint: Checkpoint, identity: Identity, name: str) -> dict[str, Tensor]:
    """The native state dict of the part `unet`, `vae`, `text` or `text2`: views in the file's own dtype.

    Meant for `module.load_state_dict(..., assign=True)`, which then makes no copy of the weights either.
    """
    return {parameter: one.make() for parameter, one in deferred_component(checkpoint, identity, name).items()}


def deferred_component(checkpoint: Checkpoint, identity: Identity, name: str) -> dict[str, Deferred]:
    """`read_component`, each tensor read when it is needed. All names, shapes and dtypes are checked here."""
    part = next((part for part in identity.parts if part.name == name), None)
    if part is None:
        raise CheckpointError(checkpoint.path, f"there is no {name} in it", remedy="Name a file that has one")
    return deferred_part(checkpoint, part, identity.configs[name])


def read_part(checkpoint: Checkpoint, part: Part, config: Config) -> dict[str, Tensor]:
    """The native state dict of a network whose place and structure are known, as `read_component` gives it."""
    return {parameter: one.make() for parameter, one in deferred_part(checkpoint, part, config).items()}


def deferred_part(checkpoint: Checkpoint, part: Part, config: Config) -> dict[str, Deferred]:
    """`read_part`, each tensor read when it is needed."""
    state = {}
    for parameter, source in table(part, config).items():
        info, fault = checkpoint.tensors.get(source.key), ""
        if info is None:
            fault = "the tensor is missing"
        elif not source.accepts(info.shape):
            fault = f"the shape is {list(info.shape)}"
        elif info.dtype not in FLOATS:
            fault = f"the numbers are of type {str(info.dtype).removeprefix('torch.')}"
        if info is None or fault:
            expected = f"expected {list(source.stored)} of float16, bfloat16 or float32"
            remedy = "Get the whole file again, or one that is not quantized"
            raise CheckpointError(checkpoint.path, f"{fault}; {expected}", key=source.key, remedy=remedy)
        state[parameter] = Deferred(source.shape, info.dtype, partial(_native, checkpoint, source))
    return state


def _native(checkpoint: Checkpoint, source: Source) -> Tensor:
    return source.to_native(checkpoint.tensor(source.key))
