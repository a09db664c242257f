"""Tells from names and shapes alone, never from the file's name, what is in a checkpoint."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..models.clip import CLIPTextConfig
from ..models.unet import SD2, UNetConfig
from ..models.vae import SDXL, VAEConfig
from .checkpoint import Checkpoint, CheckpointError
from .layout import Part
from .settings import Fields, check, complete, ours
from .tables import Config, infer, table

PLACES = {
    "unet": ("model.diffusion_model.", "diffusion_model.", "unet/", ""),
    "vae": ("first_stage_model.", "vae/", ""),
    "text": (
        *("cond_stage_model.transformer.", "cond_stage_model.model."),
        *("conditioner.embedders.0.transformer.", "conditioner.embedders.0.model."),
        *("conditioner.embedders.1.model.", "text_encoder/", "text_encoder_2/", ""),
    ),
}  # the prefixes, in the order of a pipeline's text encoders
PROBES = {
    "unet": {"ldm": "out.2.weight", "diffusers": "conv_out.weight"},
    "vae": {
        "ldm": "decoder.mid.attn_1.q.weight",
        "diffusers": "decoder.mid_block.attentions.0.to_q.weight",
        "diffusers_old": "decoder.mid_block.attentions.0.query.weight",
    },
    "text": {
        "hf": "text_model.embeddings.token_embedding.weight",
        "hf_bare": "embeddings.token_embedding.weight",
        "openclip": "positional_embedding",
    },
}  # a tensor that every network of this kind has in this layout, and no other has
AVERAGE = Part("unet", "ldm", "model_ema.diffusion_model", flat=True)
IGNORED = {
    r"model_ema\..*": "moving average of the weights, or its counter",
    r"\w*alphas_cumprod\w*|betas|posterior_\w+|logvar|scale_factor|denoiser\.sigmas": "noise schedule",
    r".*\bposition_ids": "counts 0, 1, 2",
    r".*\blogit_scale": "only for training CLIP",
    r".*\battn_mask": "causal mask, always the same",
    r"(first_stage_model\.)?loss\..*": "only for training the VAE",
    r"v_pred|ztsnr": "mark of the kind of prediction",
}
EXTRA_CHANNELS = {0: "", 5: "-inpaint", 4: "-edit"}  # mask and masked latents; the picture to edit
STRUCTURAL = r"(sd1|sd2|sdxl|sdxl-refiner)(-inpaint|-edit)?"
V_STATISTIC = "output_blocks.11.1.transformer_blocks.0.norm1.bias"


@dataclass(frozen=True, kw_only=True)
class Description:
    """All that is needed to build a model's networks and to use them as they were trained."""

    family: str  # as `structure` names it, or the name of a derived model; vae or text if that is all
    prediction: Literal["epsilon", "v"] = "epsilon"
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
    parts, mine = _find(checkpoint, weights), ours(checkpoint)
    unet: UNetConfig | None = None
    vae: VAEConfig | None = None
    text: list[CLIPTextConfig] = []
    for part in parts:
        config = infer(checkpoint, part)
        if isinstance(config, VAEConfig) and unet and unet.vector:
            config = replace(config, scale=SDXL.scale)
        config = complete(part, config, mine.inner(part.name), _theirs(checkpoint, part))
        check(checkpoint.path, part, config)
        match config:
            case UNetConfig():
                unet = config
            case VAEConfig():
                vae = config
            case CLIPTextConfig():
                text.append(config)
    prediction, zero_snr, why = _prediction(checkpoint, parts[0], unet, mine)
    layouts = [part.layout for part in parts]
    absent = [name for name, config in (("U-Net", unet), ("VAE", vae), ("text encoder", text)) if not config]
    identity = Identity(
        family=_family(checkpoint, unet, vae, len(text), mine),
        prediction=prediction,
        zero_snr=zero_snr,
        unet=unet,
        vae=vae,
        text=tuple(text),
        unused_layers=_unused(checkpoint, parts[-1], text[0], mine) if unet and len(text) == 1 else 0,
        layout=next((name[:9] for name in layouts if name.startswith(("ldm", "diffusers"))), layouts[0]),
        parts=parts,
        notes=(*checkpoint.notes, *([why] if unet else []), *(f"it has no {name}" for name in absent)),
    )
    return _account(checkpoint, identity)


def structure(unet: UNetConfig, texts: int | None) -> str:
    """The family that a U-Net's structure shows, with this many text encoders (None: not known)."""
    if unet.vector:
        base = "sdxl-refiner" if texts == 1 or (texts is None and not unet.depth[-1]) else "sdxl"
    else:
        base = "sd2" if unet.linear else "sd1"
    return base + EXTRA_CHANNELS.get(unet.channels_in - unet.channels_out, "")


def _find(checkpoint: Checkpoint, weights: str) -> tuple[Part, ...]:
    found: dict[str, list[Part]] = {}
    for name, prefixes in PLACES.items():
        places = (Part(name, layout, prefix) for prefix in prefixes for layout in PROBES[name])
        found[name] = [p for p in places if p.key(PROBES[name][p.layout]) in checkpoint.tensors]
    average = AVERAGE.key(PROBES["unet"]["ldm"]) in checkpoint.tensors
    if weights == "ema" and not average:
        remedy = "Load its plain weights"
        raise CheckpointError(
            checkpoint.path, "there is no moving average of the weights in it", remedy=remedy
        )
    if average and (weights == "ema" or not found["unet"]):
        found["unet"] = [AVERAGE]
    texts = [replace(part, name=name) for part, name in zip(found["text"], ("text", "text2"), strict=False)]
    parts = (*found["unet"][:1], *found["vae"][:1], *texts)
    if not parts:
        known = "U-Net, VAE or CLIP text encoder of Stable Diffusion"
        raise CheckpointError(
            checkpoint.path, f"none of its {len(checkpoint.tensors)} tensors belongs to a {known}"
        )
    return parts


def _theirs(checkpoint: Checkpoint, part: Part) -> Fields:
    folder = part.prefix.rstrip("/")
    return Fields(checkpoint.path, f"{part.prefix}config.json", checkpoint.configs.get(folder, {}))


def _family(
    checkpoint: Checkpoint, unet: UNetConfig | None, vae: VAEConfig | None, texts: int, mine: Fields
) -> str:
    if unet is None:
        return "vae" if vae else "text"
    if unet.channels_in - unet.channels_out not in EXTRA_CHANNELS:
        reason = f"its U-Net takes {unet.channels_in} channels; models that take 4, 8 or 9 are known"
        raise CheckpointError(checkpoint.path, reason)
    shown = structure(unet, texts or None)
    scheduler = checkpoint.configs.get("scheduler", {})
    trailing = scheduler.get("timestep_spacing") == "trailing"
    if shown == "sdxl" and trailing and scheduler.get("_class_name") == "EulerAncestralDiscreteScheduler":
        return "turbo"
    index = checkpoint.configs.get("model_index", {})
    stated = mine.values.get("family", index.get("_daguerre_family", shown))
    if not isinstance(stated, str) or not re.fullmatch(r"[a-z0-9-]{1,32}", stated):
        raise mine.wrong("family", "a family's name")
    if re.fullmatch(STRUCTURAL, stated) and stated != shown:
        raise mine.wrong("family", f"{shown!r}, as its tensors are")
    return stated


def _prediction(
    checkpoint: Checkpoint, part: Part, unet: UNetConfig | None, mine: Fields
) -> tuple[Any, bool, str]:
    """What the U-Net predicts, whether its schedule ends in pure noise, and how that is known."""
    scheduler = Fields(
        checkpoint.path, "scheduler/scheduler_config.json", checkpoint.configs.get("scheduler", {})
    )
    if scheduler.values:
        kind = scheduler.choice("prediction_type", "epsilon", "v_prediction")
        zero_snr = scheduler.choice("rescale_betas_zero_snr", False, True)
        return (
            "v" if kind == "v_prediction" else "epsilon",
            zero_snr,
            f"predicts {kind}: its scheduler says so",
        )
    if "prediction" in mine.values:
        kind = mine.choice("prediction", "epsilon", "v")
        return kind, mine.choice("zero_snr", False, True), f"predicts {kind}: its metadata say so"
    marked, stated = "v_pred" in checkpoint.tensors, checkpoint.metadata.get("modelspec.prediction_type", "")
    if marked or stated in ("v", "epsilon"):
        kind = "v" if marked else stated
        source = "a tensor named v_pred" if marked else "modelspec.prediction_type"
        return kind, "ztsnr" in checkpoint.tensors, f"predicts {kind}: {source} says so"
    key = part.key(V_STATISTIC)
    if unet == SD2 and key in checkpoint.tensors:
        spread = checkpoint.tensor(key).float().std(correction=0).item()
        kind = ("epsilon", "v")[spread > 0.09]
        return kind, False, f"predicts {kind}: told from the spread {spread:.3f} of {key}, v is above 0.09"
    return "epsilon", False, "predicts epsilon: nothing says otherwise"


def _unused(checkpoint: Checkpoint, part: Part, text: CLIPTextConfig, mine: Fields) -> int:
    """Trailing layers that the U-Net was trained without: SD 2 reads OpenCLIP's last layer but one."""
    theirs = _theirs(checkpoint, part)
    if theirs.values:
        used = theirs.integer("num_hidden_layers", text.layers)
        if used > text.layers:
            raise theirs.wrong("num_hidden_layers", f"at most {text.layers}, as many as there are")
        return text.layers - used
    sd2 = part.prefix.startswith("cond_stage_model") and part.layout == "openclip" and text.projection > 0
    return mine.integer("unused_layers", int(sd2), least=0)


def _account(checkpoint: Checkpoint, identity: Identity) -> Identity:
    """Every key of the checkpoint is used, ignored for a reason, or extra."""
    needed: dict[str, None] = {}
    for part in identity.parts:
        needed.update((source.key, None) for source in table(part, identity.configs[part.name]).values())
    reasons = [(re.compile(pattern), why) for pattern, why in IGNORED.items()]
    if AVERAGE in identity.parts:
        reasons.insert(0, (re.compile(r"model\.diffusion_model\."), "the weights whose average is taken"))
    ignored = {}
    for key in checkpoint.tensors.keys() - needed.keys():
        why = next((why for pattern, why in reasons if pattern.fullmatch(key)), None)
        if why:
            ignored[key] = why
    extra = tuple(sorted(checkpoint.tensors.keys() - needed.keys() - ignored.keys()))
    missing = tuple(key for key in needed if key not in checkpoint.tensors)
    return replace(identity, missing=missing, extra=extra, ignored=dict(sorted(ignored.items())))
