"""Sample pictures of a run: a strip per step, which says itself what it shows, and a sheet of them over time."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..files.durable import durable_write
from .contact_sheet import contact_sheet
from .nearest import Match

FOLDER = "samples"
KEY = "daguerre:pictures"  # of the PNG text that says what each picture of a strip is
OVER_TIME = "samples-over-time.png"
COLUMNS = 12  # steps that a sheet over time shows at most
CELL = 256  # pixels: the longer side of its pictures at most
LABEL = 28  # pixels: height of its line of step numbers
UNREADABLE = OSError, ValueError, KeyError, TypeError, SyntaxError, Image.DecompressionBombError


@dataclass(frozen=True)
class Strip:
    """A row of equally large pictures in one file."""

    path: Path
    step: int
    width: int  # pixels, of each picture
    height: int
    told: Sequence[dict[str, Any]]  # of each picture, from left to right: of samples, `prompt` and `seed`


def save_samples(run: Path, step: int, pictures: Tensor, prompts: Sequence[str], seeds: Sequence[int]) -> Path:
    """Writes samples (N, 3, H, W) in [-1, 1] of a step as RUN/samples/step-N.png; returns its path."""
    told = [{"prompt": prompt, "seed": seed} for prompt, seed in zip(prompts, seeds, strict=True)]
    return _save(run / FOLDER / f"step-{step:08d}.png", pictures, told)


def save_matches(run: Path, step: int, matches: Sequence[Match], pictures: Sequence[Tensor]) -> Path:
    """Writes the nearest training pictures, each (3, H, W) in [-1, 1] of any size, of a step's samples as one strip.

    It becomes RUN/samples/nearest-N.png, with pictures as large as the first; returns its path.
    """
    size = pictures[0].shape[-2:]
    alike = [F.interpolate(picture[None].float(), size, mode="bilinear", antialias=True) for picture in pictures]
    told = [asdict(match) for match in matches]
    return _save(run / FOLDER / f"nearest-{step:08d}.png", torch.cat(alike), told)


def _save(path: Path, pictures: Tensor, told: list[dict[str, Any]]) -> Path:
    if len(told) != len(pictures):
        raise ValueError(f"{path}: {len(pictures)} pictures and {len(told)} descriptions; there should be one of each")
    info = PngInfo()
    info.add_itxt(KEY, json.dumps(told), zip=True)
    contact_sheet(pictures, path, len(pictures), info)
    return path


def strips(run: Path, kind: str = "step") -> list[Strip]:
    """The strips of samples, or of kind "nearest", in the order of steps; damaged and foreign files are left out."""
    found = []
    for path in sorted((run / FOLDER).glob(f"{kind}-*.png")):
        try:
            with Image.open(path, formats=["PNG"]) as picture:
                told = [dict(one) for one in json.loads(picture.info[KEY])]
                step = int(path.stem.removeprefix(f"{kind}-"))
                found.append(Strip(path, step, picture.width // len(told), picture.height, told))
        except (*UNREADABLE, ZeroDivisionError):
            continue
    return found


def spread(found: Sequence[Strip], most: int = COLUMNS) -> list[Strip]:
    """The first, the last, and others evenly between: at most `most`."""
    if len(found) <= most:
        return list(found)
    return [found[round(i * (len(found) - 1) / (most - 1))] for i in range(most)]


def subjects(found: Sequence[Strip]) -> list[tuple[str, int]]:
    """Prompt and seed of each row of a sheet over time: those of the last strip."""
    return [(str(one.get("prompt", "")), int(one.get("seed", 0))) for one in found[-1].told] if found else []


def place(strip: Strip, subject: tuple[str, int]) -> int | None:
    """Where in a strip the picture of this prompt and seed is; None when that was not drawn then."""
    own = subjects([strip])
    return own.index(subject) if subject in own else None


def over_time(run: Path) -> Path | None:
    """Writes RUN/samples-over-time.png: a column per step, a row per prompt; None when there are no samples."""
    shown = spread(strips(run))
    if not shown:
        return None
    rows, last = subjects(shown), shown[-1]
    scale = min(1.0, CELL / max(last.width, last.height))
    width, height = round(last.width * scale), round(last.height * scale)
    sheet = Image.new("RGB", (len(shown) * width, LABEL + len(rows) * height), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(LABEL // 2)
    for column, strip in enumerate(shown):
        draw.text((column * width + width / 2, LABEL / 2), f"{strip.step:,}", "black", font, anchor="mm")
        try:
            with Image.open(strip.path, formats=["PNG"]) as picture:
                picture.load()
                for row, subject in enumerate(rows):
                    if (at := place(strip, subject)) is not None:
                        box = at * strip.width, 0, (at + 1) * strip.width, strip.height
                        cell = picture.resize((width, height), Image.Resampling.LANCZOS, box)
                        sheet.paste(cell, (column * width, LABEL + row * height))
        except UNREADABLE:  # its head was whole, its pixels are not
            continue
    path = run / OVER_TIME
    durable_write(path, lambda target: sheet.save(target, "PNG"))
    return path
