"""What an infotext says of tasks beside text to image, in A1111's words: seeds that vary, given pictures, hires."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from ..request import Edit, Hires, ImageToImage, Inpaint, Outpaint, RequestError, TextToImage

RESIZE = {
    "stretch": "Just resize",
    "crop": "Crop and resize",
    "fill": "Resize and fill",
    "latent": "Just resize (latent upscale)",
}
SECOND = {"Hires upscale", "Hires resize-1"}  # either tells of a second pass
SIDES = ("left", "right", "up", "down")


def _true(value: str) -> bool:
    return value == "True"


def _tiling(value: str) -> str:
    return {"True": "both", "False": "off"}.get(value, value)


def _resize(value: str) -> str:
    return next((way for way, label in RESIZE.items() if label == value), value)


# Infotext key -> field of the request, and how its value is read.
VARIED: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "Variation seed": ("variation_seed", int),
    "Variation seed strength": ("variation_strength", float),
    "Seed resize from-1": ("seed_width", int),
    "Seed resize from-2": ("seed_height", int),
    "Tiling": ("tiling", _tiling),
}
GIVEN: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "Denoising strength": ("strength", float),
    "Exact steps": ("exact_steps", _true),
    "Resize mode": ("resize", _resize),
    "Noise multiplier": ("noise_multiplier", float),
    "Image CFG scale": ("image_cfg_scale", float),
    "Mask blur": ("mask_blur", float),
    "Masked content": ("fill", str),
    "Mask mode": ("invert", lambda value: value == "Inpaint not masked"),
    "Inpaint area": ("only_masked", lambda value: value == "Only masked"),
    "Masked area padding": ("padding", int),
    "Differential mask": ("differential", _true),
    **{f"Outpaint {side}": (side, int) for side in SIDES},
}
HIRES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "Hires upscale": ("scale", float),
    "Hires resize-1": ("width", int),
    "Hires resize-2": ("height", int),
    "Hires steps": ("steps", int),
    "Hires upscaler": ("upscaler", str),
    "Hires sampler": ("sampler", lambda value: "" if value == "Use same sampler" else value),
    "Hires schedule type": ("schedule", lambda value: "" if value == "Use same scheduler" else value),
    "Hires prompt": ("prompt", str),
    "Hires negative prompt": ("negative_prompt", str),
    "Denoising strength": ("strength", float),
}


def told(request: TextToImage, index: int) -> dict[str, Any]:
    """Pairs for picture `index` of a request; what is as usual is None."""
    pairs: dict[str, Any] = {}
    if request.variation_strength:
        pairs |= {"Variation seed": request.variation_seed + index}
        pairs |= {"Variation seed strength": _short(request.variation_strength)}
    if request.seed_width:
        pairs["Seed resize from"] = f"{request.seed_width}x{request.seed_height}"
    pairs |= _told_of_given(request)
    if request.tiling != "off":
        pairs["Tiling"] = True if request.tiling == "both" else request.tiling
    return pairs | (_told_of_hires(request.hires) if request.hires else {})


def _told_of_given(request: TextToImage) -> dict[str, Any]:
    if not isinstance(request, ImageToImage):
        return {}
    pairs: dict[str, Any] = {"Denoising strength": _short(request.strength)}
    pairs["Exact steps"] = True if request.exact_steps else None
    pairs["Resize mode"] = RESIZE[request.resize] if request.resize != "crop" else None
    pairs["Noise multiplier"] = _short(request.noise_multiplier) if request.noise_multiplier != 1 else None
    if isinstance(request, Inpaint | Outpaint):
        pairs |= {"Mask blur": _short(request.mask_blur), "Masked content": request.fill}
    if isinstance(request, Inpaint):
        pairs["Mask mode"] = "Inpaint not masked" if request.invert else None
        pairs["Differential mask"] = True if request.differential else None
        if request.only_masked:
            pairs |= {"Inpaint area": "Only masked", "Masked area padding": request.padding}
    if isinstance(request, Outpaint):
        pairs |= {f"Outpaint {side}": getattr(request, side) or None for side in SIDES}
    if isinstance(request, Edit):
        pairs["Image CFG scale"] = _short(request.image_cfg_scale)
    return pairs


def _told_of_hires(hires: Hires) -> dict[str, Any]:
    pairs: dict[str, Any] = {"Denoising strength": _short(hires.strength)}
    if hires.width or hires.height:
        pairs["Hires resize"] = f"{hires.width}x{hires.height}"
    else:
        pairs["Hires upscale"] = _short(hires.scale)
    pairs |= {"Hires steps": hires.steps or None, "Hires upscaler": hires.upscaler}
    pairs |= {"Hires sampler": hires.sampler or None, "Hires schedule type": hires.schedule or None}
    return pairs | {"Hires prompt": hires.prompt or None, "Hires negative prompt": hires.negative_prompt or None}


def kind_and_values(found: Mapping[str, str]) -> tuple[type[TextToImage], dict[str, Any]]:
    """The kind of request that an infotext tells of, and the fields that its keys in this file tell.

    Raises RequestError for a value that makes no sense.
    """
    kind = _kind(found)
    values = _read(found, VARIED) | (_read(found, GIVEN) if kind is not TextToImage else {})
    if kind is TextToImage and found.keys() & SECOND:
        values["hires"] = Hires(**_read(found, HIRES))
    own = {f.name for f in fields(kind)}
    return kind, {name: value for name, value in values.items() if name in own}


def _kind(found: Mapping[str, str]) -> type[TextToImage]:
    if any(f"Outpaint {side}" in found for side in SIDES):
        return Outpaint
    if "Image CFG scale" in found:
        return Edit
    if found.keys() & {"Mask blur", "Masked content", "Inpaint area"}:
        return Inpaint
    drawn_over = "Denoising strength" in found and not found.keys() & SECOND
    return ImageToImage if drawn_over else TextToImage


def _read(found: Mapping[str, str], table: Mapping[str, tuple[str, Callable[[str], Any]]]) -> dict[str, Any]:
    values = {}
    for key, (name, convert) in table.items():
        if key in found:
            try:
                values[name] = convert(found[key])
            except ValueError as error:
                raise RequestError(f"{key} is {found[key][:50]!r} in the picture; expected numbers") from error
    return values


def _short(value: float) -> float | int:
    return int(value) if value == int(value) else value
