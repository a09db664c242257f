"""`daguerre upscale`: pictures of any program, enlarged by a network that knows drawings."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from PIL import Image

from ..files.durable import durable_new
from ..provenance import infotext, png
from ..provenance.record import Record, UsedUpscaler, pixel_sha256
from .exit import UNUSABLE, Failure

if TYPE_CHECKING:
    from ..generate.upscale import Upscaler


def upscale(
    *pictures: Annotated[Path, Parameter(negative="")],
    scale: float = 4,
    out: Path = Path("outputs"),
    upscaler: Annotated[Path | None, Parameter(name=["--upscaler", "--model"])] = None,
    device: str | None = None,
) -> None:
    """Enlarge pictures; what they say of their making is kept, and how they were enlarged is added.

    Parameters
    ----------
    pictures
        PNG, JPEG, WebP and other pictures; transparency is kept.
    scale
        How many times as large, along each side; any number, such as 2.5.
    out
        The folder for the results, which are PNGs.
    upscaler
        A file of ESRGAN's family, such as RealESRGAN_x4plus.pth, or a network that `daguerre train` made. The
        built-in one knows emoji and clip art.
    device
        cuda, mps, xpu or cpu; for a file of ESRGAN's family the best one by default.
    """
    from ..generate.upscale import load_upscaler

    if not pictures:
        raise Failure("name one picture or more", UNUSABLE)
    network = load_upscaler(upscaler, device)
    for path in pictures:
        print(durable_new(out / f"{path.stem}-{scale:g}x.png", _enlarged(path, scale, network)), flush=True)


def _enlarged(path: Path, scale: float, upscaler: "Upscaler") -> bytes:
    """The PNG of a file's picture, enlarged. Raises Failure that names the file."""
    from ..data.decode import PictureError, decode_transparent
    from ..data.found import file_bytes
    from ..generate.upscale import upscale as enlarge
    from ..request import RequestError

    try:
        image = decode_transparent(file_bytes(path))
        large = enlarge(image, scale, upscaler.network)
    except (PictureError, RequestError) as error:
        raise Failure(f"{path}: {error}", UNUSABLE) from error
    record, said = _said(path, image)
    used = upscaler.used(scale)
    return png.encode_said(large, infotext.add_upscaler(said, used), _after(record, used, large))


def _said(path: Path, image: Image.Image) -> tuple[Record | None, str | None]:
    """A picture's record, if its pixels are those that it tells of, and its infotext."""
    try:
        record, said = png.read(path)
    except png.PNGError:  # another format, or texts that nobody can read
        return None, None
    return (record if record and record.pixel_sha256 == pixel_sha256(image) else None), said


def _after(record: Record | None, used: UsedUpscaler, large: Image.Image) -> Record | None:
    if record is None:
        return None
    return replace(record, upscalers=(*record.upscalers, used), pixel_sha256=pixel_sha256(large))
