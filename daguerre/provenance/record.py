"""What made a picture: enough to make it again, pixel for pixel, or to say why that cannot be."""

import hashlib
import json
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal, Self, get_args

from PIL import Image

from .. import __version__
from ..request import GUIDES, REQUESTS, Guide, Hires, RequestError, TextToImage

Pass = Literal["", "first", "second"]  # of a hires fix; "": all there are
LIBRARIES = ("torch", "numpy", "Pillow", "safetensors")
# The fields beside the request that decide the pixels, weightiest first, and what a reader calls them.
DECISIVE = {
    "model_sha256": "model",
    "family": "model family",
    "prediction": "prediction",
    "vae_sha256": "VAE",
    "adapters": "LoRAs and embeddings",
    "upscalers": "upscalers",
    "controls": "controls",
    "pictures": "given pictures",
    "sampler": "sampler",
    "schedule": "schedule",
    "noise": "noise source",
    "mode": "mode",
    "dtype": "dtype",
    "device": "device",
    "processor": "processor",
    "threads": "CPU threads",
}


class RecordError(ValueError):
    """A record that cannot be read; the message names the field."""


def library_versions() -> dict[str, str]:
    """The versions of everything that can change a pixel, daguerre first."""
    return {"daguerre": __version__, **{name: version(name) for name in LIBRARIES}}


def pixel_sha256(picture: Image.Image) -> str:
    """The identity of a picture: a digest of its size and RGB bytes, the same in whatever file they lie."""
    width, height = picture.size
    return hashlib.sha256(f"{width}x{height} RGB ".encode() + picture.convert("RGB").tobytes()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class UsedAdapter:
    """A file that was attached to the model."""

    kind: str  # "lora" or "embedding"
    name: str  # by which the prompt asks for it, the file's, or the word that an embedding adds
    sha256: str
    weight: float = 1.0
    text_weight: float | None = None  # in the text encoders; None: `weight`
    ranks: int | None = None  # only the first so many of a LoRA; None: all
    during: Pass = ""  # the pass that it was attached in

    def __str__(self) -> str:
        alone = f", {self.during} pass" if self.during else ""
        return f"{self.name} ({self.sha256[:10]}, {self.weight:g}{alone})"


@dataclass(frozen=True, kw_only=True)
class UsedUpscaler:
    """A network that enlarged the picture when it was drawn."""

    scale: float
    name: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.scale:g}x by {self.name} ({self.sha256[:10]})"


@dataclass(frozen=True, kw_only=True)
class UsedControl:
    """What steered the picture beside its prompt."""

    kind: str  # "ControlNet", "IP-Adapter", "style", "region" and so on
    module: str = "none"  # how the given picture was made ready for it
    name: str = ""  # of its file, or the prompt of a region or of a style's reference
    sha256: str = ""  # of its file
    encoder: str = ""  # SHA-256 of the CLIP that an IP-Adapter sees by
    weight: float = 1.0
    start: float = 0.0  # the part of the steps that it steered
    end: float = 1.0
    mode: str = "balanced"
    resize: str = "crop"

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.sha256[:10] or self.module}, {self.weight:g})"


@dataclass(frozen=True, kw_only=True)
class UsedPicture:
    """A picture that was given along with a request."""

    role: str  # "image", "mask", or what a control calls it
    sha256: str  # `pixel_sha256` of it as it was given

    def __str__(self) -> str:
        return f"{self.role} ({self.sha256[:10]})"


@dataclass(frozen=True, kw_only=True)
class Record:
    """How one picture was made; what has a default here is the state of the running program."""

    request: TextToImage  # as asked for
    template: str = ""  # the prompt as it was typed, where styles or choices made another of it
    negative_template: str = ""
    hires_template: str = ""  # likewise of a second pass's own prompts
    hires_negative_template: str = ""
    seed: int  # of this picture, never -1
    index: int = 0  # of the request's pictures
    sampler: str  # as resolved: never an alias, nor a name with a schedule in it
    schedule: str  # likewise
    family: str
    prediction: str  # "epsilon" or "v"
    model: str  # the name it has on this machine
    model_sha256: str
    vae: str | None = None  # if it is not the model's own
    vae_sha256: str | None = None
    adapters: tuple[UsedAdapter, ...] = ()  # in the order of their attachment
    upscalers: tuple[UsedUpscaler, ...] = ()  # in the order of their use
    controls: tuple[UsedControl, ...] = ()  # in the order of their attachment
    pictures: tuple[UsedPicture, ...] = ()
    device: str
    processor: str
    dtype: str
    threads: int
    noise: str = "cpu"  # where noise is drawn
    mode: str = "exact"  # one picture per forward pass
    pixel_sha256: str  # as enlarged, if it was
    versions: Mapping[str, str] = field(default_factory=library_versions)
    python: str = field(default_factory=platform.python_version)
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def again(self) -> TextToImage:
        """The request for this picture alone."""
        values: dict[str, Any] = {"seed": self.seed, "count": 1}
        if self.request.variation_strength:
            values["variation_seed"] = self.request.variation_seed + self.index
        return replace(self.request, **values)

    def to_json(self) -> str:
        """One line of JSON that UTF-8 can hold, whatever the prompt holds."""
        values = asdict(self)
        values["request"] = {"kind": type(self.request).__name__, **values["request"]}
        text = json.dumps(values, ensure_ascii=False)
        return text.encode("utf-8", "backslashreplace").decode()  # a lone surrogate becomes its JSON escape

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The record that `to_json` wrote. Raises RecordError, naming the field, for anything else."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecordError(f"the record is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise RecordError("the record is not a JSON object")
        since = {**dict.fromkeys(USED, ()), **dict.fromkeys(TEMPLATES, "")}
        values = {**since, **values}  # unknown to records before there were any
        types = {f.name: f.type for f in fields(cls)}
        if unknown := sorted(set(values) - set(types)):
            raise RecordError(f"the record's field {unknown[0]!r} is unknown to this version; update daguerre")
        if missing := sorted(set(types) - set(values)):
            raise RecordError(f"the record has no field {missing[0]!r}; it is damaged or was edited")
        if not _is_table(values["versions"]):
            raise RecordError("the record's field 'versions' is not a table of texts")
        read: dict[str, Any] = {}
        for name, convert in {"request": _request, **USED}.items():
            try:
                read[name] = convert(values[name])
            except (TypeError, ValueError) as error:
                raise RecordError(f"the record's field {name!r} is wrong: {error}") from error
        for name in types.keys() - {"versions", *read}:
            if not isinstance(values[name], types[name]) or isinstance(values[name], bool):  # type: ignore[arg-type]
                raise RecordError(f"the record's field {name!r} is of the wrong type")
        return cls(**{**values, **read})


def _request(values: dict[str, Any]) -> TextToImage:
    """A request from its JSON form; refuses unknown kinds and fields by name."""
    values = {"kind": "TextToImage", **values}  # there was but one kind once
    if (kind := REQUESTS.get(values.pop("kind"))) is None:
        raise RequestError(f"unknown kind of request; the kinds are {', '.join(REQUESTS)}")
    known = {f.name for f in fields(kind)}
    if unknown := sorted(set(values) - known):
        raise RequestError(f"unknown field {unknown[0]!r}; the fields are {', '.join(sorted(known))}")
    given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    given["guides"] = tuple(_guide(**guide) for guide in given.get("guides", ()))
    if given.get("hires") is not None:
        given["hires"] = Hires(**given["hires"])
    return kind(**given)


def _guide(kind: str, **values: Any) -> Guide:
    if kind not in GUIDES:
        raise RequestError(f"unknown guide {kind!r}; the guides are {', '.join(GUIDES)}")
    return GUIDES[kind](**values)


def _adapters(values: Any) -> tuple[UsedAdapter, ...]:
    found = tuple(UsedAdapter(**value) for value in values)
    for used in found:
        numbers = (used.weight, 1.0 if used.text_weight is None else used.text_weight)
        if not all(isinstance(text, str) for text in (used.kind, used.name, used.sha256)):
            raise ValueError("kind, name and sha256 are texts")
        if not all(type(number) in (int, float) and abs(number) < math.inf for number in numbers):
            raise ValueError("weight and text_weight are finite numbers")
        if used.ranks is not None and (type(used.ranks) is not int or used.ranks < 1):
            raise ValueError("ranks is a whole number above 0")
        if used.during not in get_args(Pass):
            raise ValueError("during is 'first', 'second' or nothing")
    return found


def _upscalers(values: Any) -> tuple[UsedUpscaler, ...]:
    found = tuple(UsedUpscaler(**value) for value in values)
    for used in found:
        if type(used.scale) not in (int, float) or not 0 < used.scale < math.inf:
            raise ValueError("scale is a number above 0")
        if not all(isinstance(text, str) for text in (used.name, used.sha256)):
            raise ValueError("name and sha256 are texts")
    return found


def _controls(values: Any) -> tuple[UsedControl, ...]:
    found = tuple(UsedControl(**value) for value in values)
    for used in found:
        texts = used.kind, used.module, used.name, used.sha256, used.encoder, used.mode, used.resize
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("all but weight, start and end are texts")
        if not all(type(n) in (int, float) and abs(n) < math.inf for n in (used.weight, used.start, used.end)):
            raise ValueError("weight, start and end are finite numbers")
    return found


def _pictures(values: Any) -> tuple[UsedPicture, ...]:
    found = tuple(UsedPicture(**value) for value in values)
    if not all(isinstance(text, str) for used in found for text in (used.role, used.sha256)):
        raise ValueError("role and sha256 are texts")
    return found


USED: Mapping[str, Callable[[Any], Any]] = {
    "adapters": _adapters, "upscalers": _upscalers, "controls": _controls, "pictures": _pictures
}  # fmt: skip
TEMPLATES = ("template", "negative_template", "hires_template", "hires_negative_template")


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())


def _shown(value: Any) -> Any:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else value


def differences(then: Record, now: Record) -> list[str]:
    """What could make the pixels of `now` differ from those of `then`, a line each, the weightiest first."""
    lines = [
        f"{name}: {_shown(getattr(then, key))} then, {_shown(getattr(now, key))} now"
        for key, name in DECISIVE.items()
        if getattr(then, key) != getattr(now, key)
    ]
    if type(then.request) is not type(now.request):
        lines.append(f"task: {type(then.request).__name__} then, {type(now.request).__name__} now")
    for name in (f.name for f in fields(then.request) if f.name not in DECISIVE):
        asked, given = getattr(then.again(), name), getattr(now.again(), name, None)
        if asked != given:
            lines.append(f"{name}: {asked!r} then, {given!r} now")
    for library in dict.fromkeys([*then.versions, *now.versions]):
        old, new = (r.versions.get(library, "unknown") for r in (then, now))
        if old != new:
            lines.append(f"{library}: version {old} then, {new} now")
    return lines
