"""Pictures and captions of a manifest as batches of latents and conditions, computed once where nothing varies."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.augment import choose_frame, fitted, prepared, prepared_mask
from ..data.buckets import bucket_of
from ..data.cache import Cache
from ..data.captions import varied
from ..data.config import Data
from ..data.decode import PictureError, decode
from ..data.manifest import Entry
from ..data.order import Order
from ..diffusion.denoiser import Cond
from ..families.model import Model
from ..text.embed import Embedded
from .batch import Batch
from .randomness import generator
from .text import Framing, embed, padded, steering

log = logging.getLogger(__name__)


class View(NamedTuple):
    """A picture as one step sees it."""

    latents: Tensor  # (C, H, W)
    framing: Framing
    mask: Tensor | None  # (1, H, W), of the latents' size


@dataclass(frozen=True, kw_only=True)
class Sight:
    """How a run looks at its data."""

    data: Data
    batch: int
    seed: int
    clip_skip: int = 1
    learning_text: bool = False  # a text encoder is trained, so that text features change with every step


class PictureBatches:
    """The data of a run: a function of the step and the places in its batch.

    Where no crop or color varies, a picture's latents are made once and kept in `cache`, as are text features unless a
    text encoder learns. An entry that cannot be read any more is named and another of its batch takes its place.
    """

    def __init__(self, model: Model, entries: Sequence[Entry], sight: Sight, cache: Cache | None):
        self.model, self.sight, self.cache = model, sight, cache
        data = sight.data
        self.fixed = data.crop != "random" and not data.color
        self.entries = list(entries)
        self.sizes = {e.sha256: bucket_of(e.width, e.height, data) for e in entries}
        self.order: Order | None = None
        self.bad: set[str] = set()

    def prepare(self) -> Iterator[tuple[int, int]]:
        """Makes and checks the latents of all pictures, telling (done, of all); what is not finite is left out.

        Text features of captions that are the same in every step are made as well.
        """
        kept, c = [], self.sight.data.captions
        settled = self.cache and not (c.shuffle or c.tag_dropout or c.wildcards or self.sight.learning_text)
        for i, entry in enumerate(self.entries):
            yield i, len(self.entries)
            try:
                finite = not self.fixed or all(
                    torch.isfinite(self._view(entry, flip, None).latents).all() for flip in self._flips()
                )
            except (PictureError, OSError) as error:
                self._leave_out(entry, str(error))
                continue
            if finite:
                kept.append(entry)
                if settled:
                    self._embedded(varied(entry.caption, replace(c, dropout=0.0), generator(self.sight.seed)))
            else:
                self._leave_out(entry, "its latents are not finite")
        if not kept:
            raise ValueError("no picture is left to train on; see the warnings above")
        self.entries = kept
        yield len(self.entries), len(self.entries)

    def _leave_out(self, entry: Entry, reason: str) -> None:
        self.bad.add(entry.sha256)
        log.warning("%s is left out: %s", entry.name, reason)

    def _flips(self) -> tuple[bool, ...]:
        return (False, True) if self.sight.data.flip else (False,)

    def chosen(self, step: int, part: range) -> list[Entry]:
        """The entries at some places of a step's batch."""
        if self.order is None:
            sizes, repeats = [self.sizes[e.sha256] for e in self.entries], [e.repeats for e in self.entries]
            self.order = Order(sizes, repeats, self.sight.batch, self.sight.seed)
        picked = self.order.entries(step)
        return [self.entries[picked[i]] for i in part]

    def __call__(self, step: int, part: range) -> Batch:
        chosen, seed = self.chosen(step, part), self.sight.seed
        entries, views = zip(*(self._seen(chosen, k, step, i) for k, i in enumerate(part)), strict=True)
        settings = self.sight.data.captions
        captions = [
            varied(e.caption, settings, generator(seed, "caption", step, i)) for e, i in zip(entries, part, strict=True)
        ]
        device = self.model.device
        masks = [v.mask if v.mask is not None else torch.ones_like(v.latents[:1]) for v in views]
        return Batch(
            x0=torch.stack([v.latents for v in views]).to(device),
            cond=self.condition(captions, [v.framing for v in views]),
            weight=torch.tensor([e.weight for e in entries], device=device),
            captions=captions,
            mask=torch.stack(masks).to(device) if any(v.mask is not None for v in views) else None,
        )

    def _seen(self, entries: Sequence[Entry], k: int, step: int, place: int) -> tuple[Entry, View]:
        """Entry k, or the next one that can be read, and its view."""
        while True:
            entry, flip, rng = self._look(entries, k, step, place)
            try:
                return entry, self._view(entry, flip, rng)
            except (PictureError, OSError) as error:
                self._leave_out(entry, str(error))

    def _look(self, entries: Sequence[Entry], k: int, step: int, place: int) -> tuple[Entry, bool, torch.Generator]:
        """Which entry to show at a place, whether mirrored, and the generator of crops and colors."""
        rng = generator(self.sight.seed, "view", step, place)
        flip = self.sight.data.flip and bool(torch.rand((), generator=rng) < 0.5)
        for entry in (*entries[k:], *entries[:k]):
            if entry.sha256 not in self.bad:
                return entry, flip, rng
        raise ValueError(f"step {step}: no picture of the batch can be read any more; see the warnings above")

    def shown(self, step: int, part: range, column: str = "") -> tuple[Batch, Tensor]:
        """A batch and the pictures (B, 3, H, W) in [-1, 1] behind it, or those in another column of their tables."""
        while True:
            batch, pixels = self(step, part), []
            known = len(self.bad)
            for k, i in enumerate(part):
                entry, flip, rng = self._look(self.chosen(step, part), k, step, i)
                try:
                    pixels.append(self.pixels(entry, flip, rng, entry.read_other(column) if column else None)[0])
                except (PictureError, OSError) as error:
                    self._leave_out(entry, str(error))
            if len(self.bad) == known:  # else the batch is another one now
                return batch, torch.stack(pixels)

    def _view(self, entry: Entry, flip: bool, rng: torch.Generator | None) -> View:
        if not (self.fixed and self.cache):
            return self._made(entry, flip, rng)

        def make() -> dict[str, Tensor]:
            view = self._made(entry, flip, rng)
            stored = {"latents": view.latents, "framing": torch.tensor(view.framing)}
            return stored if view.mask is None else {**stored, "mask": view.mask}

        width, height = self.sizes[entry.sha256]
        found = self.cache.get(f"{entry.sha256} {width}x{height} {flip} {entry.beside.get('mask', '')}", make)
        return View(found["latents"], Framing(*map(tuple, found["framing"].tolist())), found.get("mask"))

    @torch.no_grad()
    def _made(self, entry: Entry, flip: bool, rng: torch.Generator | None) -> View:
        pixels, mask, framing = self.pixels(entry, flip, rng)
        with self.model.on_device("vae"):
            latents = self.model.vae.encode(pixels[None].to(self.model.device))[0].cpu()
        return View(
            latents,
            framing,
            None if mask is None else F.adaptive_avg_pool2d(mask, (latents.shape[-2], latents.shape[-1])),
        )

    def pixels(
        self, entry: Entry, flip: bool, rng: torch.Generator | None, data: bytes | None = None
    ) -> tuple[Tensor, Tensor | None, Framing]:
        """A picture (3, H, W) in [-1, 1], its mask (1, H, W) in [0, 1] if it has one, and how they were framed.

        `data`: another picture that is framed alike, in place of the entry's own.
        """
        settings, size = self.sight.data, self.sizes[entry.sha256]
        rng = rng or generator(self.sight.seed, "view", entry.sha256)
        fit = settings.crop == "fit"
        image = decode(entry.read() if data is None else data, settings.background)
        image = fitted(image, size, settings.background) if fit else image
        frame = choose_frame(image.size, size, settings, rng)._replace(flipped=flip)
        pixels, _ = prepared(image, size, settings, rng, frame)
        masked = entry.read_mask()
        drawn = None if masked is None else decode(masked, "black")
        drawn = fitted(drawn, size, "black") if fit and drawn else drawn
        mask = None if drawn is None else prepared_mask(drawn, size, frame)
        return pixels, mask, Framing(frame.original, frame.corner, size)

    def condition(self, captions: Sequence[str], framings: Sequence[Framing]) -> Cond:
        """What steers the network: text features and sizes. An empty caption is all zeros where the family wants it."""
        if self.sight.learning_text:
            embedded = embed(self.model, captions, self.sight.clip_skip)
        else:
            each = [self._embedded(caption) for caption in captions]
            tokens = padded([e.tokens for e in each], self._embedded("").tokens)
            embedded = Embedded(tokens, torch.cat([e.pooled for e in each]))
        if self.model.family.zero_empty_negative:
            said = torch.tensor([float(bool(c)) for c in captions], device=embedded.pooled.device)
            embedded = Embedded(embedded.tokens * said[:, None, None], embedded.pooled * said[:, None])
        return steering(self.model, embedded, framings)

    def empty(self, count: int) -> Cond:
        """The condition of no caption, for guidance."""
        size = (self.sight.data.size, self.sight.data.size)
        return self.condition([""] * count, [Framing(size, (0, 0), size)] * count)

    @torch.no_grad()
    def _embedded(self, caption: str) -> Embedded:
        def make() -> dict[str, Tensor]:
            made = embed(self.model, [caption], self.sight.clip_skip)
            return {"tokens": made.tokens.cpu(), "pooled": made.pooled.cpu()}

        digest = hashlib.sha256(caption.encode()).hexdigest()
        found = self.cache.get(f"text {digest}", make) if self.cache else make()
        return Embedded(found["tokens"].to(self.model.device), found["pooled"].to(self.model.device))


def held_out(
    model: Model, entries: Sequence[Entry], sight: Sight, cache: Cache | None, most: int = 16
) -> list[PictureBatches]:
    """Some held-out pictures with their captions whole, those of each size by themselves: step 0 is all there is."""
    plain = replace(sight.data.captions, shuffle=False, tag_dropout=0.0, dropout=0.0)
    crop = sight.data.crop if sight.data.crop == "fit" else "center"
    data = replace(sight.data, captions=plain, crop=crop, color=0.0, flip=False)
    by_size: dict[tuple[int, int], list[Entry]] = {}
    for entry in entries[:most]:
        by_size.setdefault(bucket_of(entry.width, entry.height, data), []).append(replace(entry, repeats=1.0))
    still = replace(sight, data=data)
    return [PictureBatches(model, some, replace(still, batch=len(some)), cache) for some in by_size.values()]
