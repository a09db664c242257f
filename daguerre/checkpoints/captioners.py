"""Tells what captioner a folder of transformers holds: its network, how pictures are made ready, how it writes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..files.checkpoint import Checkpoint, CheckpointError
from ..files.reader import BESIDE
from ..models.blip import BLIPConfig
from ..models.vision import ViTConfig
from ..models.vit_gpt2 import ViTGPT2Config
from .clip_pair import MEAN, STD, Color, colors_of
from .layout import Part
from .settings import COUNT, SCALE, Kind, Settings, one_of
from .tables import CaptionerConfig, infer, shapes

BLIP, VIT_GPT2 = Part("BLIP", "hf"), Part("ViT-GPT2", "hf")
PROBES = {BLIP: "layers.{j}.cross.q.weight", VIT_GPT2: "layers.{j}.kv.weight"}  # what only a captioner has
TYPES = {BLIP: ("blip", None, None), VIT_GPT2: ("vision-encoder-decoder", "vit", "gpt2")}  # whole, seeing, telling
SECTIONS = {BLIP: ("vision_config", "text_config"), VIT_GPT2: ("encoder", "decoder")}  # of config.json
FILTERS, HALF = {BLIP: 3, VIT_GPT2: 2}, (0.5, 0.5, 0.5)  # Pillow's numbers: bicubic, bilinear
COLORS = {BLIP: (MEAN, STD), VIT_GPT2: (HALF, HALF)}
TOKEN: Kind = ("the number of a token", lambda value: type(value) is int and 0 <= value < 1 << 31)
TOKENS: Kind = ("the number of a token", lambda value: TOKEN[1](value[0] if value and type(value) is list else value))
BEAMS: Kind = ("a number from 1 to 64", lambda value: type(value) is int and 0 < value <= 64)
POWER: Kind = ("a number from -10 to 10", lambda value: type(value) in (int, float) and abs(value) <= 10)
STATED: Mapping[str, Mapping[str, tuple[str, Kind]]] = {  # what differs, by section: its field here
    "vision_config": {"num_attention_heads": ("heads", COUNT), "layer_norm_eps": ("epsilon", SCALE)},
    "text_config": {"num_attention_heads": ("heads", COUNT),
                    "bos_token_id": ("start_token", TOKEN), "sep_token_id": ("end_token", TOKEN)},
    "encoder": {"num_attention_heads": ("heads", COUNT), "layer_norm_eps": ("epsilon", SCALE)},
    "decoder": {"n_head": ("heads", COUNT)},
}  # fmt: skip
FIXED: Mapping[str, Mapping[str, Any]] = {  # what the networks here always do
    "vision_config": {"hidden_act": "gelu"},
    "text_config": {"hidden_act": "gelu"},
    "encoder": {"hidden_act": "gelu"},
    "decoder": {"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "scale_attn_weights": True,
                "scale_attn_by_inverse_layer_idx": False},
}  # fmt: skip
# Where the first and the last token of a GPT-2 are told; the first place that does so counts.
SAID = "generation", "", "decoder"
START = [*((section, "decoder_start_token_id") for section in SAID), ("decoder", "bos_token_id")]
END = [(section, "eos_token_id") for section in SAID]


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How a picture is made ready: all of it is resized to the network's square, then its colors are normalized."""

    resample: int  # Pillow's number of the filter
    factor: float  # by which values from 0 to 255 are multiplied
    mean: Color  # is taken off, then the rest divided by `std`
    std: Color


@dataclass(frozen=True, kw_only=True)
class Writing:
    """How a sentence is sought: `beams` of them are kept in view; with one, the likeliest token follows each time."""

    beams: int = 1
    most: int = 30  # tokens
    penalty: float = 1.0  # finished sentences are compared by log-likelihood over length to this power
    early: bool | Literal["never"] = (
        False  # end once `beams` sentences are finished; "never": while one could be better
    )
    repeat: int = 0  # no group of so many tokens occurs twice; 0 = any may


@dataclass(frozen=True, kw_only=True)
class CaptionerIdentity:
    """What a captioner's folder holds, but for its words."""

    part: Part
    config: CaptionerConfig
    preparation: Preparation
    writing: Writing


def identify_captioner(checkpoint: Checkpoint) -> CaptionerIdentity:
    """What a folder's captioner is, by config.json, or by its tensors if that names no kind.

    Raises CheckpointError for another kind of model, which it names, and for settings that do not go together.
    """
    part = _kind(checkpoint)
    shown = infer(checkpoint, part)
    assert isinstance(shown, BLIPConfig | ViTGPT2Config)
    seeing, telling = SECTIONS[part]
    vision = replace(shown.vision, **_stated(checkpoint, seeing, shown.vision))
    config = replace(shown, vision=vision, **_stated(checkpoint, telling, shown))
    if part == VIT_GPT2:
        end = _first(checkpoint, END, config.end_token, TOKENS)
        start = _first(checkpoint, START, config.start_token, TOKEN)
        config = replace(config, start_token=start, end_token=end[0] if isinstance(end, list) else end)
    if not max(config.start_token, config.end_token) < config.vocabulary:
        raise CheckpointError(checkpoint.path, "its first or last token is outside its vocabulary")
    prepared = _preparation(checkpoint, part, vision.size)
    return CaptionerIdentity(part=part, config=config, preparation=prepared, writing=_writing(checkpoint))


def _kind(checkpoint: Checkpoint) -> Part:
    sections = (_section(checkpoint, name).values for name in ("", *SECTIONS[VIT_GPT2]))
    said = tuple(section.get("model_type") for section in sections)
    there = [part for part, probe in PROBES.items() if shapes(checkpoint, part).has(probe, j=0)]
    wanted = [part for part, types in TYPES.items() if said == types] if said[0] else list(PROBES)
    if found := [part for part in wanted if part in there]:
        return found[0]
    names = " or ".join(part.name for part in wanted)
    reason = f"none of its {len(checkpoint.tensors)} tensors belongs to a {names} that writes captions"
    if not wanted:
        kinds = " of ".join(repr(name) for name in said if name)
        reason = f"its config.json tells of a {kinds:.80}, which is no captioner that is known here"
    remedy = "Name the folder of a BLIP, such as blip-image-captioning-base, or of a ViT-GPT2"
    raise CheckpointError(checkpoint.path, reason, remedy=remedy)


def _section(checkpoint: Checkpoint, name: str) -> Settings:
    """One of the folder's files, or a section of its config.json."""
    if name in ("", *BESIDE):
        return Settings(checkpoint, name)
    own = checkpoint.configs.get("", {}).get(name)
    return Settings(replace(checkpoint, configs={name: own if isinstance(own, dict) else {}}), name)


def _stated(checkpoint: Checkpoint, section: str, config: CaptionerConfig | ViTConfig) -> dict[str, Any]:
    """What a section of config.json adds to the shapes, by field."""
    stated = _section(checkpoint, section)
    for name, value in FIXED[section].items():
        stated.get(name, value, one_of(value))
    found = {field: stated.get(name, getattr(config, field), kind) for name, (field, kind) in STATED[section].items()}
    if config.width % found["heads"]:
        raise CheckpointError(
            checkpoint.path, f"{found['heads']} attention heads do not divide {config.width} channels"
        )
    return found


def _first(checkpoint: Checkpoint, places: Iterable[tuple[str, str]], default: Any, kind: Kind) -> Any:
    """The first setting that is there, of (section, name)."""
    for section, name in places:
        if (stated := _section(checkpoint, section)).values.get(name) is not None:
            return stated.get(name, default, kind)
    return default


def _preparation(checkpoint: Checkpoint, part: Part, size: int) -> Preparation:
    """As preprocessor_config.json says; refuses what would not show the network all of the picture in its size."""
    stated = Settings(checkpoint, "preprocessor")
    for name, always in {"do_resize": True, "do_rescale": True, "do_center_crop": False}.items():
        stated.get(name, always, one_of(always))
    square = {"height": size, "width": size}
    stated.get("size", square, (f"{square}, as its network has it", lambda value: value in (size, [size] * 2, square)))
    mean, std = colors_of(checkpoint, *COLORS[part])
    if not stated.get("do_normalize", True, one_of(True, False)):
        mean, std = (0.0,) * 3, (1.0,) * 3
    return Preparation(
        resample=stated.get("resample", FILTERS[part], one_of(*range(6))),
        factor=stated.get("rescale_factor", 1 / 255, SCALE),
        mean=mean,
        std=std,
    )


def _writing(checkpoint: Checkpoint) -> Writing:
    """As generation_config.json says, or config.json where there is no such file."""
    plain = Writing()

    def said(name: str, default: Any, kind: Kind) -> Any:
        return _first(checkpoint, (("generation", name), ("", name)), default, kind)

    most = said("max_new_tokens", said("max_length", plain.most + 1, COUNT) - 1, COUNT)  # the first token counts there
    return Writing(
        beams=said("num_beams", plain.beams, BEAMS),
        most=most,
        penalty=said("length_penalty", plain.penalty, POWER),
        early=said("early_stopping", plain.early, one_of(True, False, "never")),
        repeat=said("no_repeat_ngram_size", plain.repeat, TOKEN),
    )
