"""Groups of flags that commands share: what to draw, and with which model."""

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ..files.built_in import BUILT_IN
from ..request import Autoguidance, Guide, RequestError, read_guide
from .kinds import ADAPTERS, DRAWING, MODEL, Paths, Switch, Texts
from .models import find

if TYPE_CHECKING:
    from ..adapters.adapted import AdapterFile
    from ..families.model import Model


@Parameter(name="*", group=DRAWING)
@dataclass(frozen=True, kw_only=True)
class DrawingFlags:
    """The request's fields; what is not given is the model's own default.

    Parameters
    ----------
    negative_prompt
        What to keep out of the picture.
    steps
        More steps, finer work, more time.
    sampler
        Such as "Euler a", "DPM++ 2M Karras", "DDIM"; docs/samplers.md shows all.
    schedule
        automatic, karras, exponential, sgm_uniform, simple, beta, kl_optimal, align_your_steps and more.
    cfg_scale
        How closely to follow the prompt; 1 turns guidance off.
    seed
        The same seed draws the same picture; -1 takes a random one.
    size
        WIDTHxHEIGHT in pixels, such as 512x768.
    count
        How many pictures; their seeds follow one another.
    clip_skip
        2 reads the text encoder one layer before its last, 3 two layers, and so on.
    guidance_rescale
        0 to 1: takes back the over-contrast of strong guidance.
    guidance_interval
        The part of the steps that is guided, such as 0.1 0.8.
    guide
        What steers beside the negative prompt, as KIND or KIND:FIELD=VALUE,...: pag, seg, sag, apg, auto, freeu,
        threshold, perp, tcfg, zero, skip. Such as pag:scale=3. May be given several times.
    emphasis
        How word weights are applied.
    comments
        A "#" and what follows it on its line are no part of a prompt; --no-comments makes them so.
    variation_seed
        The seed that pictures of one --seed vary towards; a random one by default.
    variation_strength
        0 to 1: how far.
    seed_size
        WIDTHxHEIGHT: take the noise of a picture of this size, so that another --size shows much the same.
    tiling
        The directions in which the picture repeats without a seam.
    eta
        How much noise each step renews, 0 to 1; samplers that renew none take no heed of it.
    s_churn
        Noise that Euler, Heun and DPM2 get in all their steps.
    s_tmin
        The lowest noise level that gets it.
    s_tmax
        The highest; 0 is no limit.
    s_noise
        How strong the noise is that samplers add.
    ensd
        Eta noise seed delta: noise within the steps from a seed this far on.
    noise
        Whose random numbers: our own, those of A1111 with its RNG set to CPU, or to NV.
    rho
        How steep the karras and polyexponential schedules are, 0.1 to 20.
    sigma_min
        The noise level that a schedule ends at, before 0.
    sigma_max
        The noise level that a schedule begins at.
    """

    negative_prompt: Annotated[str, Parameter(name="--negative")] = ""
    steps: int | None = None
    sampler: str | None = None
    schedule: str | None = None
    cfg_scale: Annotated[float | None, Parameter(name="--cfg")] = None
    seed: int = -1
    size: str | None = None
    count: int = 1
    clip_skip: int | None = None
    guidance_rescale: float | None = None
    guidance_interval: Annotated[tuple[float, float] | None, Parameter(negative="")] = None
    guide: Texts = ()
    emphasis: Literal["original", "no norm", "ignore", "none"] | None = None
    comments: bool | None = None
    variation_seed: int | None = None
    variation_strength: float | None = None
    seed_size: str | None = None
    tiling: Literal["x", "y", "both"] | None = None
    eta: float | None = None
    s_churn: float | None = None
    s_tmin: float | None = None
    s_tmax: float | None = None
    s_noise: float | None = None
    ensd: int | None = None
    noise: Literal["cpu", "a1111", "nv"] | None = None
    rho: float | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None

    def given(self) -> dict[str, Any]:
        """The fields of a `TextToImage` that were given."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("size", "seed_size", "guide")}
        if self.size is not None:
            values |= width_and_height("--size", self.size)
        if self.seed_size is not None:
            noise = width_and_height("--seed-size", self.seed_size)
            values |= {f"seed_{side}": pixels for side, pixels in noise.items()}
        refuse_alone("--variation-seed", self.variation_seed, "--variation-strength", self.variation_strength)
        if self.guide:
            values["guides"] = tuple(_pinned(read_guide(text)) for text in self.guide)
        return {name: value for name, value in values.items() if value is not None}


def _pinned(guide: Guide) -> Guide:
    """The guide; where it names another model, with that one's path and SHA-256."""
    if not isinstance(guide, Autoguidance) or not guide.model or guide.sha256:
        return guide
    from ..files.reader import open_checkpoint

    path = find(guide.model).path
    return replace(guide, model=str(path.resolve()), sha256=open_checkpoint(path).sha256)


@Parameter(name="*", group=MODEL)
@dataclass(frozen=True, kw_only=True)
class ModelFlags:
    """Which model, and what it runs on.

    Parameters
    ----------
    model
        A checkpoint file, a diffusers folder, or a name that `daguerre models list` shows.
    vae
        A VAE file or folder to use in place of the model's own.
    base
        A whole model that lends text encoders and VAE to a file that has only a U-Net, as most GGUF files.
    family
        Overrides what the file looks like, for example turbo.
    prediction
        Overrides what the file looks like.
    device
        cuda, mps, xpu or cpu; the best one by default.
    dtype
        float32, float16 or bfloat16; what the device is fast at by default.
    low_memory
        Keep only the part at work in memory; slower.
    """

    model: str = BUILT_IN
    vae: Path | None = None
    base: str | None = None
    family: str | None = None
    prediction: Literal["epsilon", "v", "flow"] | None = None
    device: str | None = None
    dtype: str | None = None
    low_memory: Switch = False

    def load(self) -> "Model":
        """The model, on its device."""
        from ..families.loading import load_model

        entry = find(self.model)
        return load_model(
            entry.path,
            name=entry.name,
            vae=self.vae,
            base=find(self.base).path if self.base else None,
            family=self.family,
            prediction=self.prediction,
            device=self.device,
            dtype=self.dtype,
            low_memory=self.low_memory,
        )


@Parameter(name="*", group=ADAPTERS)
@dataclass(frozen=True, kw_only=True)
class AdapterFlags:
    """What is added to the model; each may be given several times.

    Parameters
    ----------
    lora
        A LoRA file, or FILE:WEIGHT, or FILE:WEIGHT:WEIGHT with the text encoders' own weight.
    embedding
        A textual inversion file, or a picture that holds one; its word can then be used in prompts.
    hypernetwork
        A hypernetwork file, or FILE:WEIGHT.
    """

    lora: Texts = ()
    embedding: Paths = ()
    hypernetwork: Texts = ()

    def files(self) -> "list[AdapterFile]":
        from ..adapters.adapted import AdapterFile, weighted

        words = [AdapterFile(kind="embedding", path=path) for path in self.embedding]
        networks = [replace(weighted(text, "--hypernetwork "), kind="hypernetwork") for text in self.hypernetwork]
        return words + networks + [weighted(text, "--lora ") for text in self.lora]


def refuse_alone(flag: str, value: object, other: str, there: object) -> None:
    """Raises RequestError where a flag has a value and the other, without which it does nothing, has none."""

    def is_given(what: object) -> bool:
        return what is not None and what is not False and what not in ("", ())

    if is_given(value) and not is_given(there):
        raise RequestError(f"{flag} does nothing without {other}")


def width_and_height(flag: str, size: str) -> dict[str, int]:
    """Both sides from WIDTHxHEIGHT."""
    found = re.fullmatch(r"(\d{1,6})x(\d{1,6})", size.lower())
    if not found:
        raise RequestError(f"{flag} is {size!r:.60}; write it as WIDTHxHEIGHT, such as 512x768")
    return {"width": int(found[1]), "height": int(found[2])}


STANDARD, BUILT_IN_MODEL, PLAIN = DrawingFlags(), ModelFlags(), AdapterFlags()
