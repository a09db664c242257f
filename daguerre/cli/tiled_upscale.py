"""`daguerre tiled-upscale`: a picture enlarged and drawn over in tiles."""

from pathlib import Path

from ..request import TiledUpscale
from .drawing import RUN_ONCE, RunFlags
from .redraw import task_of


def tiled_upscale(
    image: Path,
    prompt: str = "",
    /,
    *,
    scale: float = 2.0,
    strength: float = 0.3,
    upscaler: str = "built-in",
    tile: int = 0,
    overlap: float = 0.25,
    run: RunFlags = RUN_ONCE,
) -> None:
    """Enlarge a picture and draw it over in tiles, so that detail appears at any size.

    Parameters
    ----------
    image
        A PNG, JPEG, WebP or other picture.
    prompt
        What it shows; by default what the picture itself says that it was drawn from.
    scale
        How many times as large; --size says it in pixels.
    strength
        0.2 to 0.4 adds detail; more draws the prompt into every tile.
    upscaler
        What enlarges it first: built-in, Lanczos, Nearest, or a file of ESRGAN's family.
    tile
        Pixels along each side of a tile; by default the size that the model knows.
    overlap
        The share of a tile that its neighbor draws, too; more hides seams better and takes longer.
    """
    own = {"enlarge": scale, "strength": strength, "upscaler": upscaler, "tile": tile, "overlap": overlap}
    given = run.fields(prompt=prompt or _said(image), **own)
    task, _ = task_of(TiledUpscale(**given), image)
    run.draw(TiledUpscale, given, task)


def _said(image: Path) -> str:
    """The prompt in a picture, "" where there is none."""
    from ..provenance import infotext, png

    try:
        record, said = png.read(image)
    except (png.PNGError, OSError):
        return ""
    return record.request.prompt if record else infotext.read(said)["Prompt"] if said else ""
