"""Pictures one after the other, as WebP, GIF or APNG, and the film of a drawing."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ...diffusion.denoiser import Step
from ...families.model import Model
from ...request import RequestError, TextToImage
from ..drawing import Picture, to_image
from ..hires import passes
from ..preview import preview
from ..text_to_image import text_to_image

Format = Literal["webp", "gif", "png"]
SHORTEST = 10  # milliseconds of a frame
USER_COMMENT, EXIF_PLACE = 0x9286, 0x8769  # where A1111 writes its text in WebP


def animated(frames: Iterable[Image.Image], durations: Sequence[int], kind: Format, said: str = "") -> bytes:
    """A file of these RGB frames of one size, shown for so many milliseconds each, again and again.

    `said` is an infotext, at the place where A1111 has it in such files. WebP and PNG keep all colors, WebP nearly;
    GIF has 256 a frame. Raises RequestError for no frames.
    """
    frames = iter(frames)
    if (first := next(frames, None)) is None:
        raise RequestError("an animation needs a frame")
    if any(duration < SHORTEST for duration in durations):
        raise RequestError(f"a frame lasts at least {SHORTEST} milliseconds; take fewer frames a second")
    options: dict[str, Any] = {"duration": list(durations), "loop": 0}
    if kind == "webp":
        exif = Image.Exif()
        exif.get_ifd(EXIF_PLACE)[USER_COMMENT] = b"UNICODE\0" + said.encode("utf-16-be", "replace")
        options |= {"quality": 90, "exif": exif}
    elif kind == "gif":
        options |= {"comment": said.encode("utf-8", "replace"), "disposal": 1}
    else:
        texts = PngInfo()
        texts.add_text("parameters", said.replace("\0", "").encode("utf-8", "replace").decode())
        options |= {"pnginfo": texts}
        frames = list(frames)  # which Pillow goes through twice
    buffer = io.BytesIO()
    first.save(buffer, kind, save_all=True, append_images=frames, **options)
    return buffer.getvalue()


def film(
    model: Model,
    request: TextToImage,
    *,
    quick: bool = False,
    task: Callable[[Model, TextToImage], Iterator[Step | Picture]] = text_to_image,
) -> Iterator[Image.Image | Picture]:
    """What each step takes the picture for, as large as the picture, and last the picture itself.

    Estimates are decoded by the VAE, or with `quick` by what previews are made with, at a small part of the cost.
    Raises RequestError for more pictures than one.
    """
    if request.count != 1:
        raise RequestError(f"count is {request.count}; a film is of one picture")
    last = passes(request)[-1]
    for event in task(model, request):
        if isinstance(event, Picture):
            yield event
        else:
            frame = preview(model, event.x0) if quick else to_image(model.decode(event.x0))
            yield frame.resize((last.width, last.height), Image.Resampling.BICUBIC)
