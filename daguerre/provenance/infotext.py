"""The one-paragraph text that Stable Diffusion programs write into pictures, written and read.

Prompt lines, an optional line "Negative prompt: ...", and a last line of "Key: value, Key: value". A prompt
may itself look like any of these, so this text is for other programs; ours read the record beside it.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..request import Guide, RequestError, SkipNegative, TextToImage, read_guide
from .record import Record, UsedUpscaler
from .task_text import kind_and_values, told

NEGATIVE = "Negative prompt:"
# A key has a longest length, so that reading a long line without colons takes no quadratic time.
PAIR = re.compile(r'(\w[\w \-/]{1,80}):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
SIZE = re.compile(r"(\d{1,9})x(\d{1,9})")
DEFAULTS = {"Clip skip": "1", "RNG": "GPU", "Schedule type": "Automatic"}  # what leaving a key out means
UNITS = "ControlNet", "ControlLoRA", "T2I-Adapter", "IP-Adapter"  # that A1111's extension has, too
MODE_LABELS = {"prompt": "My prompt is more important", "control": "ControlNet is more important"}
RESIZE_LABELS = {"stretch": "Just Resize", "fill": "Resize and Fill"}
SCHEDULE_LABELS = {  # the others are their names as titles
    "sgm_uniform": "SGM Uniform",
    "ddim_uniform": "DDIM",
    "kl_optimal": "KL Optimal",
    "align_your_steps_gits": "Align Your Steps GITS",
}


def _schedule(label: str) -> str:
    names = {label: name for name, label in SCHEDULE_LABELS.items()}
    return names.get(label, label.lower().replace(" ", "_"))


def _interval(value: str) -> tuple[float, ...]:
    return tuple(float(share) for share in value.split(" to "))


def _guides(value: str) -> tuple[Guide, ...]:
    return tuple(read_guide(text.strip()) for text in value.split(";"))


# Infotext key -> field of the request, and how its value is read.
FIELDS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "Prompt": ("prompt", str),
    "Negative prompt": ("negative_prompt", str),
    "Steps": ("steps", int),
    "Sampler": ("sampler", str),
    "Schedule type": ("schedule", _schedule),
    "CFG scale": ("cfg_scale", float),
    "CFG rescale": ("guidance_rescale", float),
    "CFG interval": ("guidance_interval", _interval),
    "Guides": ("guides", _guides),
    "Seed": ("seed", int),
    "Size-1": ("width", int),
    "Size-2": ("height", int),
    "Clip skip": ("clip_skip", int),
    "Emphasis": ("emphasis", str.lower),
    "Eta": ("eta", float),
    "Eta DDIM": ("eta", float),
    "Sigma churn": ("s_churn", float),
    "Sigma tmin": ("s_tmin", float),
    "Sigma tmax": ("s_tmax", float),
    "Sigma noise": ("s_noise", float),
    "ENSD": ("ensd", int),
    "Noise": ("noise", str.lower),
    "Schedule rho": ("rho", float),
    "Schedule min sigma": ("sigma_min", float),
    "Schedule max sigma": ("sigma_max", float),
}


TUNED = ("eta", "s_churn", "s_tmin", "s_tmax", "s_noise", "ensd", "rho", "sigma_min", "sigma_max")


def write(record: Record) -> str:
    """The infotext of a picture."""
    request, interval = record.request, record.request.guidance_interval
    pairs = {
        "Steps": request.steps,
        "Sampler": record.sampler,
        "Schedule type": SCHEDULE_LABELS.get(record.schedule, record.schedule.replace("_", " ").title()),
        "CFG scale": _number(request.cfg_scale),
        "Seed": record.seed,
        "Size": f"{request.width}x{request.height}",
        "Model hash": record.model_sha256[:10],
        "Model": record.model,
        "VAE hash": record.vae_sha256 and record.vae_sha256[:10],
        "VAE": record.vae,
        **told(request, record.index),
        "Clip skip": request.clip_skip if request.clip_skip > 1 else None,
        "RNG": "NV" if request.noise == "nv" else "CPU",
        "Noise": request.noise if request.noise != "cpu" else None,
        "CFG rescale": _number(request.guidance_rescale) if request.guidance_rescale else None,
        "CFG interval": "{} to {}".format(*interval) if interval != (0, 1) else None,
        **_told(request.guides),
        "Template": record.template or None,
        "Negative Template": record.negative_template or None,
        "Hires template": record.hires_template or None,
        "Hires negative template": record.hires_negative_template or None,
        "Lora hashes": _hashes(record, "lora", 10),
        "TI hashes": _hashes(record, "embedding", 12),
        "Emphasis": request.emphasis.capitalize() if request.emphasis != "original" else None,
        **_sampling(request, record.sampler),
        **_refined(record),
        **_steered(record),
        **_postprocessing(record.upscalers),
        "Version": f"daguerre {record.versions.get('daguerre', 'unknown')}",
    }
    negative = [f"{NEGATIVE} {request.negative_prompt}"] if request.negative_prompt else []
    last = ", ".join(f"{key}: {_quote(str(value))}" for key, value in pairs.items() if value is not None)
    return "\n".join([request.prompt, *negative, last])


def read(text: str) -> dict[str, str]:
    """Key -> value as text, of an infotext of any program; "Size: 512x768" becomes "Size-1" and "Size-2".

    Never fails: text without a line of settings is a prompt and nothing else.
    """
    *lines, last = text.replace("\r\n", "\n").strip().split("\n")
    pairs = PAIR.findall(last)
    if len(pairs) < 3:
        lines, pairs = [*lines, last], []
    start = next((i for i, line in enumerate(lines) if line.strip().startswith(NEGATIVE)), len(lines))
    found = {"Prompt": "\n".join(lines[:start]).strip()}
    if start < len(lines):
        found["Negative prompt"] = "\n".join(lines[start:]).strip()[len(NEGATIVE) :].strip()
    for key, value in pairs:
        value = _unquote(value.strip())
        if size := SIZE.fullmatch(value):
            found[f"{key}-1"], found[f"{key}-2"] = size.groups()
        else:
            found[key] = value
    return (DEFAULTS | found) if pairs else found


def to_request(found: Mapping[str, str]) -> TextToImage:
    """The request that an infotext, as `read`, describes; what it does not say has the request's default.

    Keys that mean nothing to us are passed over: other programs can do other things. Raises RequestError
    for a value that makes no sense or lies outside our limits.
    """
    kind, more = kind_and_values(found)
    values: dict[str, Any] = {"prompt": "", **more}
    for key, (name, convert) in FIELDS.items():
        if key in found:
            try:
                values[name] = convert(found[key])
            except ValueError as error:
                raise RequestError(f"{key} is {found[key][:50]!r} in the picture; expected numbers") from error
    if (skip := _skipped(found)) and "Guides" not in found:
        values["guides"] = (skip,)
    return kind(**values)


def _sampling(request: TextToImage, sampler: str) -> dict[str, Any]:
    """The settings of sampler and schedule that differ from the usual ones, in A1111's keys."""
    told = {
        key: (getattr(request, name), getattr(TextToImage, name)) for key, (name, _) in FIELDS.items() if name in TUNED
    }
    del told["Eta" if sampler.startswith("DDIM") else "Eta DDIM"]
    return {key: _number(value) for key, (value, usual) in told.items() if value != usual}


def _told(guides: tuple[Guide, ...]) -> dict[str, Any]:
    """Guides as texts, and in A1111's keys as far as they go."""
    told: dict[str, Any] = {"Guides": "; ".join(map(str, guides)) or None}
    for skip in guides:
        if isinstance(skip, SkipNegative):
            told |= {"NGMS": skip.below or None, "NGMS all steps": skip.every or None}
            told["Skip Early CFG"] = skip.early or None
    return told


def _skipped(found: Mapping[str, str]) -> SkipNegative | None:
    """What A1111's keys say of the steps without a negative side."""
    try:
        below, early = (float(found.get(key, 0)) for key in ("NGMS", "Skip Early CFG"))
    except ValueError as error:
        raise RequestError("NGMS and Skip Early CFG in the picture are no numbers") from error
    every = found.get("NGMS all steps") == "True"
    return SkipNegative(below=below, every=every, early=early) if below or early else None


def add_upscaler(text: str | None, used: UsedUpscaler) -> str:
    """The infotext of a picture, None where it had none, that was then enlarged."""
    pairs = ", ".join(f"{key}: {_quote(str(value))}" for key, value in _postprocessing((used,)).items())
    return f"{text}, {pairs}" if text else pairs


def _refined(record: Record) -> dict[str, Any]:
    """The model that took over for the last steps."""
    used = next((used for used in record.controls if used.kind == "refiner"), None)
    return {"Refiner": f"{used.name} [{used.sha256[:10]}]", "Refiner switch at": _number(used.start)} if used else {}


def _steered(record: Record) -> dict[str, Any]:
    """Controls as the units of A1111's ControlNet, counted from 0; styles and regions in our own words."""
    told: dict[str, Any] = {}
    for used in record.controls:
        if used.kind in UNITS:
            unit = {
                "Module": used.module,
                "Model": f"{used.name} [{used.sha256[:8]}]",
                "Weight": _number(used.weight),
                "Resize Mode": RESIZE_LABELS.get(used.resize, "Crop and Resize"),
                "Guidance Start": float(used.start),
                "Guidance End": float(used.end),
                "Pixel Perfect": True,
                "Control Mode": MODE_LABELS.get(used.mode, used.mode.title()),
            }
            number = sum(key.startswith("ControlNet ") for key in told)
            told[f"ControlNet {number}"] = ", ".join(f"{key}: {value}" for key, value in unit.items())
        elif used.kind in ("style", "region"):
            number = sum(key.startswith(used.kind.title()) for key in told) + 1
            told[f"{used.kind.title()} {number}"] = f"{used.name}, Weight: {_number(used.weight)}, {used.mode}"
    return told


def _postprocessing(used: tuple[UsedUpscaler, ...]) -> dict[str, Any]:
    """The last one, in the words that other programs use."""
    return {"Postprocess upscale by": used[-1].scale, "Postprocess upscaler": used[-1].name} if used else {}


def _hashes(record: Record, kind: str, digits: int) -> str | None:
    """Names and the beginnings of SHA-256, by which model sites find files."""
    files = dict.fromkeys((used.name, used.sha256[:digits]) for used in record.adapters if used.kind == kind)
    return ", ".join(f"{name}: {sha256}" for name, sha256 in files) or None


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _quote(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r'[,:\n"]|^\s|\s$', value) else value


def _unquote(value: str) -> str:
    if value[:1] == value[-1:] == '"':
        try:
            return str(json.loads(value))
        except ValueError:
            return value
    return value
