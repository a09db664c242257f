"""Sample pictures of a run: fixed prompts at fixed seeds, drawn by what has been learned so far."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.config import Captions
from ..data.decode import PictureError, decode
from ..data.manifest import Entry
from ..families.model import Model
from ..generate.drawing import Picture
from ..generate.text_to_image import text_to_image
from ..request import TextToImage
from .config import Run
from .contact_sheet import to_tensor
from .nearest import Gallery
from .samples import save_matches, save_samples

MOST = 8  # sample pictures where the recipe names no prompts
SHOWN = 256  # pixels: side of a training picture beside a sample
COMPARED = 20_000  # training pictures that samples are compared with; of more every second, or third ...


class Drawing:
    """Draws a strip of sample pictures for a step, and beside it the training pictures that are nearest to them."""

    def __init__(self, run: Run, entries: Sequence[Entry]):
        self.run = run
        own = list(dict.fromkeys(first_words(e.caption, run.data.captions) for e in entries))
        self.prompts = run.samples.prompts or tuple(own[:MOST])
        step = -(-len(entries) // COMPARED)
        self.by_name = {e.name: e for e in entries[::step]}
        self.gallery: Gallery | None = None

    def __call__(self, model: Model, path: Path) -> None:
        requests = self.requests(model)
        pictures = torch.cat([picture for request in requests for picture in drawn(model, request)])
        seeds = [request.seed for request in requests]
        step = int(path.stem.removeprefix("step-"))
        save_samples(self.run.run, step, pictures, self.prompts, seeds)
        matches = self._gallery().nearest(pictures)
        save_matches(self.run.run, step, matches, [self._shown(self.by_name[match.name]) for match in matches])

    def _gallery(self) -> Gallery:
        if self.gallery is None:
            self.gallery = Gallery((name, self._shown(entry)) for name, entry in self.by_name.items())
        return self.gallery

    def _shown(self, entry: Entry) -> Tensor:
        """A training picture as it is, no larger than it has to be; gray if it cannot be read any more."""
        try:
            image = decode(entry.read(), self.run.data.background)
        except (PictureError, OSError):
            return torch.zeros(3, SHOWN, SHOWN)
        image.thumbnail((SHOWN, SHOWN))
        return to_tensor(image)[0]

    def requests(self, model: Model) -> list[TextToImage]:
        """What is drawn, in the model's own way but for what the run says."""
        s, given = self.run.samples, dict[str, Any]()
        if s.cfg_scale is not None:
            given["cfg_scale"] = s.cfg_scale
        if s.sampler:
            given["sampler"] = s.sampler
        if s.steps:
            given["steps"] = s.steps
        size: dict[str, Any] = {"width": s.width or self.run.data.size, "height": s.height or self.run.data.size}
        first = replace(model.defaults, negative_prompt=s.negative, clip_skip=self.run.clip_skip, **size, **given)
        return [replace(first, prompt=prompt, seed=s.seed + i) for i, prompt in enumerate(self.prompts)]


def drawn(model: Model, request: TextToImage) -> list[Tensor]:
    """The pictures of a request, each (1, 3, H, W) in [-1, 1]."""
    return [to_tensor(made.image) for made in text_to_image(model, request) if isinstance(made, Picture)]


def first_words(caption: str, captions: Captions) -> str:
    """A caption as a prompt: of wildcards the first."""
    while captions.wildcards and "{" in caption and "}" in caption.partition("{")[2]:
        before, _, rest = caption.rpartition("{")
        inside, _, after = rest.partition("}")
        caption = before + inside.split("|")[0] + after
    return f"{captions.prefix}{caption}{captions.suffix}"
