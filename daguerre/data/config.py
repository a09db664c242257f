"""Which pictures a run sees, and how: the part of a recipe file that the data rooms read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Source:
    """Pictures and captions: a folder, a Parquet file, or a WebDataset tar."""

    path: Path
    repeats: float = 1.0  # how often an epoch has each picture; a fraction is a chance
    weight: float = 1.0  # of its pictures' loss
    caption: str = ""  # for pictures without one of their own
    split: str = ""  # of a table with a column `split`: only these rows
    match: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by column: only rows that a shell pattern fits
    masks: Path | None = None  # folder of pictures by the same names; loss counts where they are white


@dataclass(frozen=True, kw_only=True)
class Captions:
    shuffle: bool = False  # the order of tags
    separator: str = ","
    keep: int = 0  # so many tags at the start stay where they are
    tag_dropout: float = 0.0  # chance of each other tag to be left out
    dropout: float = 0.1  # chance of the whole caption to be left out, for guidance (arXiv:2207.12598)
    wildcards: bool = False  # "{red|green} ball": one of them
    prefix: str = ""  # put before every caption that is not left out, as it is: mind the space
    suffix: str = ""


@dataclass(frozen=True, kw_only=True)
class Data:
    sources: tuple[Source, ...] = ()
    size: int = 512  # pixels: the side of the square whose area a picture is brought to
    buckets: bool = False  # aspect ratios near the picture's own, of about this area; else squares
    bucket_step: int = 64  # pixels; sides are multiples
    bucket_reach: float = 2.0  # largest ratio of sides
    crop: Literal["center", "random", "fit"] = "center"  # fit: the whole picture, with background around it
    flip: bool = False  # half of the time, left and right change places
    color: float = 0.0  # strength of brightness, contrast, saturation and hue changes, 0 to 1
    background: str = "white"  # behind transparent pictures
    captions: Captions = Captions()
    held_out: float = 0.0  # share of the pictures, chosen by their content, that only measure the loss
    cache: Path | None = None  # folder of latents and text features; None: `cache` in the run's folder
    keep_cache: bool = True  # False: compute latents and text features anew for every batch
