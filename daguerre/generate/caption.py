"""A sentence for a picture, by a BLIP (arXiv:2201.12086) in transformers' folder layout."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..checkpoints.clip_pair import Color, colors_of
from ..checkpoints.identify import read_part
from ..checkpoints.layout import Part
from ..checkpoints.settings import COUNT, Settings, one_of
from ..checkpoints.tables import blank, infer, shapes
from ..files.checkpoint import Checkpoint, CheckpointError
from ..files.reader import open_checkpoint
from ..models.blip import BLIP, BLIPConfig
from ..request import RequestError
from ..runtime.device import pick_device
from ..runtime.precision import pick_dtype

PART = Part("captioner", "hf")
STATED = {"text_config": {"num_attention_heads": "heads", "bos_token_id": "start_token", "sep_token_id": "end_token"},
          "vision_config": {"num_attention_heads": "vision_heads"}}  # fmt: skip
MAX_BYTES = 16_000_000  # of a vocabulary


@dataclass(frozen=True)
class Captioner:
    """A BLIP, the colors it was trained with, and the words of its tokens."""

    network: BLIP
    mean: Color
    std: Color
    words: Sequence[str]


def load_captioner(folder: Path, *, device: str | None = None, dtype: str | None = None) -> Captioner:
    """A captioner from a folder with config.json, weights, and vocab.txt or tokenizer.json.

    Raises CheckpointError for a folder that holds no BLIP, and RequestError for what is no folder.
    """
    if not folder.is_dir():
        raise RequestError(f"{folder}: there is no such folder; a captioner is a folder with its vocabulary beside it")
    checkpoint = open_checkpoint(folder)
    if not shapes(checkpoint, PART).has("layers.{j}.cross.q.weight", j=0):
        reason = f"none of its {len(checkpoint.tensors)} tensors belongs to a BLIP that writes captions"
        raise CheckpointError(folder, reason, remedy="Name a folder such as that of blip-image-captioning-base")
    shown = infer(checkpoint, PART)
    assert isinstance(shown, BLIPConfig)
    config = _stated(checkpoint, shown)
    words = _vocabulary(folder)
    if not config.end_token < len(words) <= config.vocabulary:
        reason = f"its vocabulary has {len(words):,} words and its network {config.vocabulary:,}"
        raise CheckpointError(folder, reason, remedy="Get the whole folder again")
    network, number = blank(config), pick_dtype(where := pick_device(device), dtype)
    assert isinstance(network, BLIP)
    state = read_part(checkpoint, PART, config)
    network.load_state_dict({name: value.to(number) for name, value in state.items()}, assign=True)
    return Captioner(network.eval().requires_grad_(False).to(where), *colors_of(checkpoint), words)


@torch.no_grad()
def caption(captioner: Captioner, picture: Image.Image, *, most: int = 30) -> str:
    """The likeliest word after word for a picture of mode RGB, at most `most` tokens."""
    network, c = captioner.network, captioner.network.config
    image = picture.convert("RGB").resize((c.size, c.size), Image.Resampling.BICUBIC)  # not cropped, as trained
    values = np.array(image, np.float32) / 255
    normal = (values - np.array(captioner.mean, np.float32)) / np.array(captioner.std, np.float32)
    seen = network.look(torch.from_numpy(normal).permute(2, 0, 1)[None].to(network.bias))
    ids = torch.tensor([[c.start_token]], device=seen.device)
    for _ in range(min(most, c.context - 1)):
        chosen = network(ids, seen).argmax(dim=-1, keepdim=True)
        if chosen.item() == c.end_token:
            break
        ids = torch.cat([ids, chosen], dim=1)
    return sentence([captioner.words[i] for i in ids[0, 1:].tolist() if i < len(captioner.words)])


def sentence(tokens: Sequence[str]) -> str:
    """Word pieces as a sentence: "##" joins to what is before, signs stand close, [PAD] and its like are left out."""
    text = " ".join(t for t in tokens if not (t.startswith("[") and t.endswith("]"))).replace(" ##", "")
    for sign in (".", ",", "!", "?", "'", ")", ":"):
        text = text.replace(f" {sign}", sign)
    return text.replace("' ", "'").replace("( ", "(").replace(" - ", "-").strip()


def _stated(checkpoint: Checkpoint, config: BLIPConfig) -> BLIPConfig:
    """The config with what config.json adds to the shapes."""
    for section, fields in STATED.items():
        own = checkpoint.configs.get("", {}).get(section)
        stated = Settings(replace(checkpoint, configs={section: own if isinstance(own, dict) else {}}), section)
        stated.get("hidden_act", "gelu", one_of("gelu"))
        found = {ours: stated.get(theirs, getattr(config, ours), COUNT) for theirs, ours in fields.items()}
        config = replace(config, **found)
    for width, heads in ((config.width, config.heads), (config.vision_width, config.vision_heads)):
        if width % heads:
            raise CheckpointError(checkpoint.path, f"{heads} attention heads do not divide {width} channels")
    if not max(config.start_token, config.end_token) < config.vocabulary:
        raise CheckpointError(checkpoint.path, "its first or last token is outside its vocabulary")
    return config


def _vocabulary(folder: Path) -> list[str]:
    """Words by token, from vocab.txt or tokenizer.json."""
    plain, whole = folder / "vocab.txt", folder / "tokenizer.json"
    path = plain if plain.is_file() else whole
    if not path.is_file():
        raise CheckpointError(
            folder, "there is no vocab.txt or tokenizer.json in it", remedy="Download the whole folder"
        )
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(path, f"it is larger than {MAX_BYTES // 1_000_000} MB", remedy="Download it again")
    try:
        text = path.read_text(encoding="utf-8")
        if path == plain:
            return text.splitlines()
        told = json.loads(text)
        known: Mapping[str, Any] = told["model"]["vocab"]
        ids = {int(i): str(word) for word, i in known.items()}
        ids |= {int(added["id"]): str(added["content"]) for added in told.get("added_tokens", ())}
        return [ids.get(i, "[UNK]") for i in range(max(ids) + 1)] if len(ids) < 1 << 20 > max(ids) else []
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(path, "it is no vocabulary of a captioner", remedy="Download it again") from error
