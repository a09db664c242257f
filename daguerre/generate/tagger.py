"""Tags for a picture, as image boards write them, by a network in an ONNX file: WD14's and DeepDanbooru's."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..request import RequestError
from .clip import padded

GENERAL, CHARACTER, RATING = 0, 4, 9  # categories of WD14's tables
WORD = re.compile(r"[^\W\d_]{2}")  # without two letters together, a tag is a face such as ^_^ and keeps its underscore


@dataclass(frozen=True)
class Tag:
    """A tag's name as it stands in the table, its category, and the network's confidence from 0 to 1."""

    name: str
    category: int
    confidence: float


@dataclass(frozen=True)
class Tagger:
    """A network and the names of what it tells; made by `load_tagger`."""

    session: Any  # onnxruntime.InferenceSession
    tags: Sequence[tuple[str, int]]  # name and category of each output
    size: int  # pixels of the input's side
    channels_first: bool
    danbooru: bool  # DeepDanbooru wants RGB in [0, 1]; WD14 wants BGR from 0 to 255


def load_tagger(model: Path, tags: Path | None = None) -> Tagger:
    """A tagger from an ONNX file and the table of its tags.

    A table NAME.csv with the columns `name` and `category` is WD14's, and one NAME.txt with a tag on each line is
    DeepDanbooru's. If none is named, it is selected_tags.csv or tags.txt beside the model. Raises RequestError for
    files that do not go together, and ModuleNotFoundError that names the extra where onnxruntime is not installed.
    """
    table = tags or next((p for n in ("selected_tags.csv", "tags.txt") if (p := model.parent / n).is_file()), None)
    if not model.is_file():
        raise RequestError(f"{model}: there is no such file")
    if table is None:
        raise RequestError(f"{model}: no selected_tags.csv or tags.txt is beside it; name the table with --tags")
    names = _csv(table) if table.suffix.lower() == ".csv" else _lines(table)
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "tagging needs onnxruntime: pip install 'daguerre[tagger]'", name=error.name
        ) from None
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4  # its messages are none of the user's
    try:
        session = onnxruntime.InferenceSession(str(model), quiet, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a kind of error for each way a file can be wrong
        raise RequestError(f"{model}: onnxruntime cannot read it: {str(error).strip().splitlines()[0]}") from error
    return _fitting(model, session, table, names)


def _fitting(model: Path, session: Any, table: Path, names: list[tuple[str, int]]) -> Tagger:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = list(inputs[0].shape) if len(inputs) == 1 else []
    first = shape[1:2] == [3]  # the channels; a batch, which may have a name for a number, is before them
    height, width, channels = (
        (*shape[2:], 3) if first and len(shape) == 4 else (shape[1:] if len(shape) == 4 else (0,) * 3)
    )
    if not isinstance(height, int) or height < 1 or (width, channels) != (height, 3):
        raise RequestError(f"{model}: it takes {shape or 'several inputs'}, not one square picture of three channels")
    count = outputs[0].shape[-1]
    if isinstance(count, int) and count != len(names):
        raise RequestError(
            f"{model} tells {count:,} tags and {table} names {len(names):,}; they do not belong together"
        )
    return Tagger(session, names, height, first, table.suffix.lower() != ".csv")


def tag(tagger: Tagger, picture: Image.Image) -> tuple[Tag, ...]:
    """All tags of a picture of mode RGB, the likeliest first, which is laid on a white square."""
    values: npt.NDArray[np.float32] = np.array(
        padded(picture.convert("RGB"), tagger.size, Image.Resampling.BICUBIC), np.float32
    )
    values = values / np.float32(255) if tagger.danbooru else values[..., ::-1]
    batch = np.ascontiguousarray(values.transpose(2, 0, 1) if tagger.channels_first else values)[None]
    told: npt.NDArray[np.float32] = tagger.session.run(None, {tagger.session.get_inputs()[0].name: batch})[0]
    confidences = told.reshape(-1).tolist()
    if len(confidences) != len(tagger.tags):
        raise RequestError(
            f"the tagger told {len(confidences)} numbers for {len(tagger.tags)} tags; name its own table"
        )
    tags = [Tag(name, kind, sure) for (name, kind), sure in zip(tagger.tags, confidences, strict=True)]
    return tuple(sorted(tags, key=lambda t: -t.confidence))


def prompt_of(tags: Sequence[Tag], *, threshold: float = 0.35, character: float = 0.85) -> str:
    """The tags of at least the threshold, characters of a threshold of their own, ratings left out, as a prompt.

    0.35 and 0.85 are what the WD14 taggers are used with.
    """
    least = {GENERAL: threshold, CHARACTER: character}
    return ", ".join(written(t.name) for t in tags if t.category in least and t.confidence >= least[t.category])


def written(name: str) -> str:
    r"""A tag as a prompt has it: "long_hair" as "long hair", "saber_(fate)" as "saber \(fate\)", "^_^" as it is."""
    spaced = name.replace("_", " ") if WORD.search(name) else name
    return re.sub(r"([\\()])", r"\\\1", spaced)


def ratings(tags: Sequence[Tag]) -> Mapping[str, float]:
    """How sure the tagger is of each rating, such as general or explicit; empty where it tells none."""
    return {t.name.removeprefix("rating:"): t.confidence for t in tags if t.category == RATING}


def _csv(path: Path) -> list[tuple[str, int]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [(row["name"], int(row["category"])) for row in csv.DictReader(file)]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise RequestError(f"{path}: it is no table of tags with the columns name and category") from error


def _lines(path: Path) -> list[tuple[str, int]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except ValueError as error:
        raise RequestError(f"{path}: it is not UTF-8 text; write one tag a line") from error
    return [(line.strip(), RATING if line.startswith("rating:") else GENERAL) for line in lines if line.strip()]
