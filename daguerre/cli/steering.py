"""Flags for what steers a drawing from outside of its prompt: controls, pictures as prompts, styles, regions."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from cyclopts import Parameter

from ..request import RequestError, TextToImage
from ..text.extra_networks import split_networks
from ..text.wildcards import Wildcards, expand
from .exit import UNUSABLE, Failure
from .flags import refuse_alone
from .kinds import STEERING, Switch, Texts

if TYPE_CHECKING:
    from PIL import Image

    from ..diffusion.denoiser import Step
    from ..families.model import Model
    from ..generate.controls.style import Style
    from ..generate.drawing import Control, Picture, Task

NUMBERS = re.compile(r"(?P<named>.+?)(?::(?P<weight>[\d.]+))?(?::(?P<start>[\d.]+)-(?P<end>[\d.]+))?", re.DOTALL)
PROMPT = "ip-adapter"  # the kind of control that takes a picture as a prompt


@Parameter(name="*", group=STEERING)
@dataclass(frozen=True, kw_only=True)
class SteeringFlags:
    """What steers a drawing beside its prompt; each but the switches may be given several times.

    Parameters
    ----------
    control
        KIND:MODEL:PICTURE, or KIND:MODEL:PICTURE:WEIGHT, or KIND:MODEL:PICTURE:WEIGHT:START-END in shares of the steps.
        MODEL is a ControlNet, ControlLoRA or T2I-Adapter; KIND says how the picture becomes its hint: canny, lineart,
        softedge, scribble, depth, tile, inpaint, invert, or none where it is a hint. Without :PICTURE it is the one
        that is drawn over; a tile or a part that is drawn sees its part of the hint. With ip-adapter as KIND, MODEL is
        an IP-Adapter and the picture a prompt.
    control_mode
        Who leads: both (balanced, which is the default), the prompt, the control, or "guess" for pictures without a
        prompt.
    image_encoder
        The CLIP of an IP-Adapter, where it does not lie in image_encoder/ beside it.
    style_picture
        PICTURE, PICTURE:WEIGHT or PICTURE:WEIGHT:START-END: draw in the style of a picture. Needs no file.
    style_prompt
        Draw in the style of what this prompt draws; with --style-picture, what is on that picture.
    style_seed
        The seed of what --style-prompt draws; 0 by default.
    style_features
        0 to 1: how far the style's colors and textures are taken over, beside its attention; by default 0.5 for models
        that attend at their small sizes only, as the built-in one does, and 0 for others.
    style_inverted
        Bring the picture of --style-picture to noise by DDIM inversion, in place of adding noise to it.
    region
        MASK:PROMPT: a part of the picture by a prompt of its own, without choices and networks. MASK is a picture of
        the whole one's shape, white where the prompt holds, or left, right, top or bottom.
    region_base
        0 to 1: how much the whole picture's prompt counts in regions; by default not at all.
    """

    control: Texts = ()
    control_mode: Literal["balanced", "prompt", "control", "guess"] | None = None
    image_encoder: Path | None = None
    style_picture: str | None = None
    style_prompt: str = ""
    style_seed: int | None = None
    style_features: float | None = None
    style_inverted: Switch = False
    region: Texts = ()
    region_base: float | None = None

    def around(self, task: "Task") -> "Task":
        """The task with all that is asked for. Raises before there is a model where a file is missing."""
        asked = [_Asked.read(text) for text in self.control]
        self._check(asked)
        style, masks = self._style(), [_mask(text) for text in self.region]
        if not (asked or style or masks):
            return task
        regions = self._regions(masks)
        loaded: WeakKeyDictionary[Any, list[Control]] = WeakKeyDictionary()  # by the network that they steer

        def steered(
            model: "Model", request: TextToImage, controls: "Sequence[Control]" = (), **given: Any
        ) -> "Iterator[Step | Picture]":
            if model.unet not in loaded:
                loaded[model.unet] = [self._control(one, model) for one in asked]
            return task(model, request, controls=(*style, *loaded[model.unet], *regions, *controls), **given)

        return steered

    def told(self) -> str:
        """What changes with these flags and with what is in their files; "" where nothing steers."""
        if self == SteeringFlags():
            return ""
        from ..generate.controls.picture_prompt import vision_beside
        from ..provenance.record import pixel_sha256
        from .steered_again import sha256_of

        asked = [_Asked.read(text) for text in self.control]
        eyes = [self.image_encoder or vision_beside(one.path) for one in asked if one.kind == PROMPT]
        images = [
            *(one.how.get("image") for one in asked),
            *(style.image for style in self._style()),
            *(mask for mask, _ in map(_mask, self.region) if not isinstance(mask, str)),
        ]
        files = map(sha256_of, (*(one.path for one in asked), *eyes))
        return " ".join((repr(self), *files, *(pixel_sha256(image) for image in images if image)))

    def _check(self, asked: "list[_Asked]") -> None:
        """Raises RequestError for a flag that does nothing beside the others."""
        kinds, style = {one.kind for one in asked}, self.style_picture or self.style_prompt
        refuse_alone("--control-mode", self.control_mode, "--control", tuple(kinds - {PROMPT}))
        refuse_alone("--image-encoder", self.image_encoder, "--control ip-adapter:...", PROMPT in kinds)
        drawn = self.style_prompt and not self.style_picture
        refuse_alone("--style-seed", self.style_seed, "--style-prompt, or beside --style-picture", drawn)
        refuse_alone("--style-features", self.style_features, "--style-picture or --style-prompt", style)
        refuse_alone("--style-inverted", self.style_inverted, "--style-picture", self.style_picture)
        refuse_alone("--region-base", self.region_base, "--region", self.region)

    def _control(self, asked: "_Asked", model: "Model") -> "Control":
        from ..generate.controls.networks import NetworkControl, load_control
        from ..generate.controls.picture_prompt import PicturePrompt, load_vision, vision_beside

        loaded = load_control(asked.path, model)
        if asked.kind != PROMPT:
            mode = self.control_mode or "balanced"
            return NetworkControl(loaded=loaded, module=asked.kind, mode=mode, **asked.how)
        encoder = self.image_encoder or vision_beside(asked.path)
        return PicturePrompt(loaded=loaded, vision=load_vision(encoder, model), **asked.how)

    def _style(self) -> "list[Style]":
        if self.style_picture is None and not self.style_prompt:
            return []
        from ..generate.controls.style import Style

        path, how = _numbers("--style-picture", self.style_picture) if self.style_picture else ("", {})
        return [
            Style(
                image=_picture(Path(path), "--style-picture") if path else None,
                prompt=_plain("--style-prompt", self.style_prompt),
                seed=self.style_seed or 0,
                way="inverted" if self.style_inverted else "noised",
                features=self.style_features,
                **how,
            )
        ]

    def _regions(self, masks: "list[tuple[Image.Image | str, str]]") -> "list[Control]":
        from ..generate.controls.regions import Region, Regions

        regions = tuple(Region(mask=mask, prompt=prompt) for mask, prompt in masks)
        return [Regions(regions=regions, base=self.region_base or 0.0)] if regions else []


@dataclass(frozen=True)
class _Asked:
    """One --control."""

    kind: str
    path: Path
    how: dict[str, Any]  # image, weight, span

    @classmethod
    def read(cls, text: str) -> "_Asked":
        """Raises RequestError for what is written otherwise, or names no file, or an unknown kind."""
        from ..generate.controls.hints import MODULES

        kind, _, rest = text.partition(":")
        if kind not in (*MODULES, PROMPT):
            raise RequestError(
                f"--control {text}: unknown kind {kind!r}; choose one of {', '.join((*MODULES, PROMPT))}"
            )
        named, how = _numbers("--control", rest)
        cuts = [i for i, letter in enumerate(named) if letter == ":"] if not Path(named).exists() else []
        there = [i for i in cuts if Path(named[:i]).exists() and Path(named[i + 1 :]).exists()]
        cut = (there or cuts or [len(named)])[0]
        model, picture = Path(named[:cut]), named[cut + 1 :]
        if not named or (kind == PROMPT and not picture):
            raise RequestError(f"--control {text}: write it as KIND:MODEL:PICTURE, KIND:MODEL:PICTURE:WEIGHT:START-END")
        if not model.exists():
            raise Failure(f"--control {kind}: there is no model {model}", UNUSABLE)
        return cls(kind, model, {"image": _picture(Path(picture), f"--control {kind}"), **how} if picture else how)


def _numbers(flag: str, text: str) -> tuple[str, dict[str, Any]]:
    """What comes before :WEIGHT:START-END, and weight and span as far as they are given."""
    from ..generate.controls.steering import Span

    found = None if Path(text).exists() else NUMBERS.fullmatch(text)
    if found is None:
        return text, {}
    how: dict[str, Any] = {}
    try:
        if found["weight"]:
            how["weight"] = float(found["weight"])
        if found["start"]:
            how["span"] = Span(float(found["start"]), float(found["end"]))
    except RequestError as error:
        raise RequestError(f"{flag} {text}: {error}") from None
    except ValueError:
        raise RequestError(f"{flag} {text}: write the numbers as :WEIGHT:START-END, such as :0.8:0-0.5") from None
    return found["named"], how


def _mask(text: str) -> "tuple[Image.Image | str, str]":
    """A region's mask, opened or by name, and its prompt."""
    from ..generate.controls.regions import HALVES

    mask, colon, prompt = text.partition(":")
    if not colon:
        raise RequestError(f"--region {text}: write it as MASK:PROMPT, such as left:a red apple")
    return (mask if mask in HALVES else _picture(Path(mask), "--region")), _plain("--region", prompt)


def _plain(flag: str, prompt: str) -> str:
    """Refuses what the request's own prompt alone can have, rather than draw its signs as words."""
    try:
        is_plain = expand(prompt, Wildcards(), Random(0)) == prompt
    except RequestError:  # there is a wildcard
        is_plain = False
    if not is_plain or split_networks(prompt)[1]:
        raise RequestError(
            f"{flag} {prompt}: choices, wildcards and networks such as <lora:NAME> are for the picture's own prompt "
            "alone; write plain words here"
        )
    return prompt


def _picture(path: Path, flag: str) -> "Image.Image":
    from .files import read_picture

    if not path.is_file():
        raise Failure(f"{flag}: there is no picture {path}", UNUSABLE)
    return read_picture(path)


UNSTEERED = SteeringFlags()
