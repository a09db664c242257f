"""Tiled upscale: a picture enlarged and drawn over at a size that no model knows, in tiles of one that it knows.

A1111's "SD upscale" draws tile after tile and joins the pictures; here all tiles are joined within each step.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from PIL import Image
from torch import Tensor

from ..diffusion.denoiser import Step
from ..diffusion.tiles import joined
from ..families.model import Model
from ..provenance.record import UsedPicture
from ..request import Autoguidance, RequestError, SelfAttentionGuidance, TextToImage, TiledUpscale, Tiling
from .controls.steering import Call, Inner, steered
from .drawing import Control, Drawing, Picture, under
from .given import GRID, opaque, used
from .image_to_image import image_to_image
from .tiling import meets, repeating
from .upscale import enlarged_to, find_upscaler
from .window import Window

DIRECTIONS: dict[tuple[bool, bool], Tiling] = {meets(way): way for way in ("off", "x", "y", "both")}


@dataclass(frozen=True)
class InTiles:
    """Controls under which the network sees tiles of so many pixels, and never the whole picture."""

    tile: int
    overlap: float  # share of a tile
    controls: Sequence[Control] = ()  # which steer it in each tile

    @contextmanager
    def attached(self, drawing: Drawing) -> Iterator[Drawing]:
        """The drawing in tiles. Raises RequestError for a guide that has to see all of the picture."""
        for guide in drawing.request.guides:
            if isinstance(guide, SelfAttentionGuidance) or (isinstance(guide, Autoguidance) and guide.model):
                told = f"guide {guide.kind} looks at the whole picture, and this one is drawn in tiles"
                raise RequestError(f"{told}; take pag, seg, or auto:drop=mid_attn")
        factor, picture = drawing.model.vae.config.factor, drawing.window.picture
        size = max(1, self.tile // factor)
        width, height = (min(side, size * factor) for side in picture)
        meet = meets(drawing.request.tiling)

        def seen(left: int, upper: int) -> Window:
            return Window(picture, (left, upper, left + width, upper + height), meet)

        def steer(inner: Inner, call: Call) -> Tensor:
            def predict(x: Tensor, row: int, column: int) -> Tensor:
                return inner(call._replace(x=x, window=seen(column * factor, row * factor)))

            return joined(predict, call.x, size, round(size * self.overlap), meet)

        # The edges of a tile meet where it reaches from edge to edge of the picture alone.
        both = meet[0] and height == picture[1], meet[1] and width == picture[0]
        unguided = repeating(drawing.model, DIRECTIONS[both]).denoiser() if any(meet) else drawing.unguided
        with under(replace(drawing, part=seen(0, 0), unguided=unguided), self.controls) as drawing:
            yield steered(drawing, steer)


def tiled_upscale(
    model: Model, request: TiledUpscale, image: Image.Image, controls: Sequence[Control] = ()
) -> Iterator[Step | Picture]:
    """Yields steps and pictures as `image_to_image` does, of a picture of any size and mode, enlarged.

    Strengths from 0.2 to 0.4 add detail; higher ones draw the prompt into every tile. Raises RequestError,
    CheckpointError and NumericError.
    """
    given, tile = opaque(image), request.tile or model.defaults.width
    request = with_size(request, given.size)
    upscaler = find_upscaler(request.upscaler)
    seen = [used("image", given)] + ([UsedPicture(role="upscaler", sha256=upscaler.sha256)] if upscaler else [])
    large = enlarged_to(given, (request.width, request.height), request.upscaler, upscaler)
    in_tiles = InTiles(tile, request.overlap, controls)
    for event in image_to_image(sized(model, tile), request, large, [in_tiles]):
        if isinstance(event, Picture):
            others = tuple(picture for picture in event.record.pictures if picture.role != "image")
            event = replace(event, record=replace(event.record, pictures=(*seen, *others)))
        yield event


def with_size(request: TiledUpscale, size: tuple[int, int]) -> TiledUpscale:
    """The request with the sides that it leaves open, by a picture's width and height. Raises RequestError."""
    width, height = (max(64, round(side * request.enlarge / GRID) * GRID) for side in size)
    return replace(request, width=request.width or width, height=request.height or height)


def sized(model: Model, tile: int) -> Model:
    """The model, told of the size of a tile where its family is told sizes: what the network sees is a tile."""
    vector = model.family.vector
    if vector is None:
        return model
    told = vector

    def of_tile(pooled, asked: TextToImage, width: int, negative: bool):  # type: ignore[no-untyped-def]
        return told(pooled, replace(asked, width=tile, height=tile), width, negative)

    return replace(model, family=replace(model.family, vector=of_tile))
