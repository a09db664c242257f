"""A sentence for a picture, by a BLIP (arXiv:2201.12086) or a ViT-GPT2, from its folder in transformers' layout."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..checkpoints.captioners import BLIP as BLIP_PART
from ..checkpoints.captioners import Preparation, Writing, identify_captioner
from ..checkpoints.identify import read_part
from ..checkpoints.tables import blank
from ..files.checkpoint import CheckpointError
from ..files.reader import open_checkpoint
from ..models.blip import BLIP
from ..models.vit_gpt2 import ViTGPT2
from ..request import RequestError
from ..runtime.device import pick_device
from ..runtime.precision import pick_dtype
from .beam_search import likeliest
from .caption_words import Words, read_words

MOST = 64  # beams, and tokens that a caller may ask for


@dataclass(frozen=True, kw_only=True)
class Captioner:
    """A network that writes, how its pictures are made ready, and the words of its tokens."""

    network: BLIP | ViTGPT2
    preparation: Preparation
    writing: Writing
    words: Words

    def pixels(self, picture: Image.Image) -> Tensor:
        """A picture of mode RGB as the network takes it, (3, size, size)."""
        how, size = self.preparation, self.network.config.vision.size
        image = picture.resize((size, size), Image.Resampling(how.resample))  # not cropped, as trained
        values = np.array(image, np.float32) * np.float32(how.factor)
        normal = (values - np.array(how.mean, np.float32)) / np.array(how.std, np.float32)
        return torch.from_numpy(normal).permute(2, 0, 1)


def load_captioner(folder: Path, *, device: str | None = None, dtype: str | None = None) -> Captioner:
    """A captioner from a folder with config.json, weights, and its vocabulary: vocab.txt of a BLIP, vocab.json of a
    ViT-GPT2, or tokenizer.json. How it writes is as the folder says (num_beams, max_length); greedily by default.

    Raises CheckpointError for a folder that holds no captioner, and RequestError for what is no folder.
    """
    if not folder.is_dir():
        raise RequestError(f"{folder}: there is no such folder; a captioner is a folder with its vocabulary beside it")
    checkpoint = open_checkpoint(folder)
    found = identify_captioner(checkpoint)
    words = read_words(folder, "word pieces" if found.part == BLIP_PART else "byte pairs")
    if not found.config.end_token < len(words.tokens) <= found.config.vocabulary:
        reason = f"its vocabulary has {len(words.tokens):,} words and its network {found.config.vocabulary:,}"
        raise CheckpointError(folder, reason, remedy="Get the whole folder again")
    network, number = blank(found.config), pick_dtype(where := pick_device(device), dtype)
    assert isinstance(network, BLIP | ViTGPT2)
    state = read_part(checkpoint, found.part, found.config)
    network.load_state_dict({name: value.to(number) for name, value in state.items()}, assign=True)
    network = network.eval().requires_grad_(False).to(where)
    return Captioner(network=network, preparation=found.preparation, writing=found.writing, words=words)


@torch.no_grad()
def caption(captioner: Captioner, picture: Image.Image, *, most: int | None = None, beams: int | None = None) -> str:
    """The likeliest sentence for a picture, of at most `most` tokens, found with `beams` of them in view.

    Both are by default as the captioner's folder says. Raises RequestError for numbers out of range.
    """
    network, c, how = captioner.network, captioner.network.config, captioner.writing
    for name, given in (("beams", beams), ("most", most)):
        if given is not None and not 1 <= given <= MOST:
            raise RequestError(f"{name} is {given}; it goes from 1 to {MOST}")
    how = replace(how, beams=beams or how.beams, most=min(most or how.most, c.context - 1))
    seen = network.look(captioner.pixels(picture.convert("RGB"))[None].to(network.token.weight))
    ids = likeliest(lambda ids: network(ids.to(seen.device), seen), c.start_token, c.end_token, how)
    return captioner.words.text(ids)
