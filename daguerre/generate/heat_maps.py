"""Which word drew what: how much each place of a picture looked at each word of its prompt (DAAM, arXiv:2210.04885).

Cross-attention to the words' tokens, averaged over heads, layers and steps. It is computed beside the attention that
draws, of which not a bit changes; what it holds in memory is one map per word.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..diffusion.denoiser import Cond, Denoiser, with_negative
from ..models.attention import Attend, attending
from ..request import Emphasis, Outpaint, RequestError
from ..text.embed import runs, tokenize
from ..text.prompt import BREAK
from ..text.segments import plan_of
from ..text.tokenizer import START, byte_pair_encoder
from .controls.steering import Call, Inner, Steered, steered
from .drawing import Drawing
from .hires import larger_latents
from .perturbations import grid
from .window import Window

# Colors of a map's overlay, in [0, 255], from where a word was not looked at to where most.
COLORS = ((0, 0, 20), (90, 15, 110), (225, 75, 60), (255, 190, 60), (255, 255, 200))


class Said(NamedTuple):
    """A text that steered the network, and where in it each word stands."""

    tokens: Tensor  # (T, D) features, by which the network's calls for it are known
    places: tuple[list[int], ...]  # of each word's tokens


@dataclass(frozen=True)
class Anew:
    """A denoiser that tells when an estimate begins."""

    inner: Denoiser
    begin: Callable[[], object]

    def __call__(self, x: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
        self.begin()
        return self.inner(x, sigma, cond)

    def with_negative(self, x: Tensor, sigma: Tensor, cond: Cond) -> tuple[Tensor, Tensor]:
        """As `denoiser.with_negative`."""
        self.begin()
        return with_negative(self.inner, x, sigma, cond)


@dataclass
class HeatMaps:
    """A control that watches a drawing and then tells, for the picture last drawn, where each word went.

    Give it to a task along with the request: `text_to_image(model, request, controls=[maps])`. `asked` are words or
    phrases of the prompt, in any case; by default each of its words. Raises RequestError for one that is not there.
    Of a picture in tiles each map is joined from theirs; what is drawn on in windows has none. Of a hires fix the
    first pass is watched, which decides what is where. What guides call the network for once more, such as worse
    attention, does not count.
    """

    asked: Sequence[str] = ()
    words: tuple[str, ...] = field(default=(), init=False)  # that there are maps of, in the drawing last begun
    _sums: Tensor = field(default_factory=lambda: torch.zeros(0), init=False, repr=False)  # (words, h, w) of latents
    _layers: Tensor = field(default_factory=lambda: torch.zeros(0), init=False, repr=False)  # added up (words, h, w)
    _read: set[tuple[int, Window]] = field(default_factory=set, init=False, repr=False)  # texts, in this estimate
    _size: tuple[int, int] = field(default=(0, 0), init=False, repr=False)  # of the picture, height and width

    @contextmanager
    def attached(self, drawing: Drawing) -> Iterator[Drawing]:
        """The drawing, watched."""
        if isinstance(drawing.request, Outpaint):
            raise RequestError("heat maps are of a picture that is drawn at once; draw on without them")
        self._size = drawing.request.height, drawing.request.width
        if drawing.after:
            yield drawing
            return
        texts = _texts(drawing)
        known = tuple(dict.fromkeys(word for text in texts for word in words_of(text, drawing.request.emphasis)))
        self.words = tuple(self.asked) or known
        if not self.words:
            raise RequestError("heat maps are of words, and the prompt has none; give it some")
        said = [Said(tokens, _places(self.words, text, drawing)) for text, tokens in texts.items()]
        for i, word in enumerate(self.words):
            if not any(one.places[i] for one in said):
                raise _missing(word, known, "the prompt")
        factor = drawing.model.vae.config.factor

        def begun(guided: Denoiser) -> Denoiser:  # once for each picture
            self._sums = torch.zeros(len(self.words), *drawing.shape[1:])
            self._layers = torch.zeros_like(self._sums)
            return Anew(drawing.around(guided), self._read.clear)

        def steer(inner: Inner, call: Call) -> Tensor:
            rows, there = self._unread(call, said), call.window.scaled(1 / factor)
            with attending(drawing.model.unet, lambda path, attend: self._watching(path, attend, rows, there)):
                return inner(call)

        watched = steered(drawing, steer)
        network = watched.unguided.network
        assert isinstance(network, Steered)
        *others, own = network.steers
        network = replace(network, steers=(own, *others))  # within all others, where every call is seen as it is
        yield replace(watched, unguided=replace(drawing.unguided, network=network), around=begun)

    def _unread(self, call: Call, said: Sequence[Said]) -> list[tuple[int, Said]]:
        """The rows of a call that are read. An estimate's first call for a text is guidance's own; guides' follow."""
        rows = []
        for n, one in enumerate(said):
            found = [i for i, tokens in enumerate(call.tokens) if torch.equal(tokens, one.tokens)]
            if call.own and found and (n, call.window) not in self._read:
                self._read.add((n, call.window))
                rows.append((found[0], one))
        return rows

    def _watching(self, path: str, attend: Attend, rows: list[tuple[int, Said]], there: Window) -> Attend | None:
        if not rows or not path.endswith("cross_attn"):
            return None

        def watching(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            for i, said in rows:
                self._add(q[i], k[i], said.places, there)
            return attend(q, k, v)

        return watching

    def _add(self, q: Tensor, k: Tensor, places: tuple[list[int], ...], there: Window) -> None:
        """What one layer attends to, for q (heads, S, D) and k (heads, T, D), one head after the other."""
        width, height = there.size
        small = torch.zeros(len(places), q.shape[1], device=q.device)
        for one, other in zip(q.float(), k.float(), strict=True):
            looks = (one @ other.T * q.shape[-1] ** -0.5).softmax(-1)  # (S, T)
            small += torch.stack([looks[:, columns].sum(1) / max(1, len(columns)) for columns in places])
        shaped = (small / len(q)).reshape(1, len(places), *grid(q.shape[1], (height, width)))
        rows, columns = there.places
        self._sums[:, rows, columns] += F.interpolate(shaped, (height, width), mode="bicubic")[0].clamp_min(0).cpu()
        self._layers[:, rows, columns] += torch.tensor([bool(at) for at in places])[:, None, None]

    def of(self, word: str) -> Tensor:
        """(H, W) of the picture's pixels: the share of attention that went to a word, a mean over its tokens.

        All 0 for a word that the prompt turned to in no step. Raises RequestError for one that was not watched.
        """
        if not self._layers.any():
            raise RequestError("there are no heat maps before a picture is drawn")
        names = [known.casefold() for known in self.words]
        if word.casefold() not in names:
            raise _missing(word, self.words, "what was watched")
        small = (self._sums / self._layers.clamp_min(1))[names.index(word.casefold())]
        return larger_latents(small[None, None], self._size, "Latent (bicubic)").clamp_min(0)[0, 0]

    def overlay(self, word: str, image: Image.Image) -> Image.Image:
        """The picture in gray, and over it in colors where a word went: its least share dark, its largest bright."""
        heat = self.of(word).numpy()
        heat = (heat - heat.min()) / max(float(np.ptp(heat)), 1e-12)
        stops = np.linspace(0, 1, len(COLORS))
        channels = [np.interp(heat, stops, [color[i] for color in COLORS]) for i in range(3)]
        colors = Image.fromarray(np.stack(channels, -1).round().astype(np.uint8)).resize(image.size)
        return Image.blend(image.convert("L").convert("RGB"), colors, 0.6)


def _missing(word: str, known: Sequence[str], where: str) -> RequestError:
    near = get_close_matches(word.casefold(), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"its words are {', '.join(known) or 'none'}"
    return RequestError(f"there is no {word!r} in {where}; {hint}")


def words_of(text: str, emphasis: Emphasis = "original") -> tuple[str, ...]:
    """The words of a text, each once, without brackets and weights."""
    plain = " ".join(run.text for run in runs(text, emphasis) if run != BREAK)
    return tuple(dict.fromkeys(re.findall(r"[^\W_]+", plain.casefold())))


def _texts(drawing: Drawing) -> dict[str, Tensor]:
    """Every text that a drawing's prompt becomes over its steps, with its features (T, D)."""
    plan, _ = plan_of(drawing.request, drawing.conditions[-1].last)
    pairs = zip(plan, drawing.conditions, strict=True)
    return {
        part.text: cond.tokens[0]
        for segment, conditions in pairs
        for part, (cond, _) in zip(segment.positive, conditions.positive, strict=True)
    }


def _places(words: Sequence[str], text: str, drawing: Drawing) -> tuple[list[int], ...]:
    """Where the tokens of each word stand among those of a text, wherever it occurs as a whole."""
    tokenizer, context = drawing.model.tokenizer, drawing.model.text[0].config.context
    chunks = tokenize(text, tokenizer, context=context, emphasis=drawing.request.emphasis)
    ids = [token for chunk in chunks for token in chunk.ids]
    places = []
    for word in words:
        wanted = tokenizer.encode(word)
        starts = [i for i in range(len(ids)) if wanted and ids[i : i + len(wanted)] == wanted and _begins(ids, i)]
        places.append([start + offset for start in starts for offset in range(len(wanted))])
    return tuple(places)


def _begins(ids: Sequence[int], i: int) -> bool:
    """Whether a word begins at a place, and not the rest of one."""
    before = byte_pair_encoder().id_to_token(ids[i - 1])
    return ids[i - 1] == START or before is None or before.endswith("</w>")
