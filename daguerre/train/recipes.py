"""The recipes by name. Each says what of the base is trained and how what was learned is saved; the rest they share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ..adapters.lora import LoRA
from ..adapters.textual_inversion import TextualInversion
from ..data.cache import Cache
from ..data.config import Data
from ..data.manifest import Entry
from ..families.catalog import FAMILIES
from ..families.model import Model
from ..request import RequestError
from . import loop
from .adversarial import AdversarialRecipe
from .bases import widened
from .batch import Batch, Batches
from .batches import PictureBatches, Sight, held_out
from .canvas import EditBatches, InpaintBatches
from .config import Run
from .consistency import ConsistencyRecipe
from .denoising import DenoisingRecipe
from .objective import DenoisingObjective
from .outputs import Result, inversion_result, lora_result, model_result
from .randomness import generator

Dressed = Callable[[Model, PictureBatches, bool], Batches]  # what is seen besides, also of held-out pictures
DrawWith = Callable[[Model, Path], None]  # sample pictures of a model into a PNG


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run with its base and its pictures; `stack` closes what it opened."""

    run: Run
    model: Model
    entries: Sequence[Entry]
    held: Sequence[Entry]
    cache: Cache | None
    draw: DrawWith
    stack: ExitStack


@dataclass(frozen=True, kw_only=True)
class Work:
    """A recipe that is ready for the loop."""

    recipe: loop.Recipe
    batches: PictureBatches
    model: Model  # draws with what is trained
    result: Result


def full(job: Job, dressed: Dressed | None = None) -> Work:
    """Fine-tunes the parameters that the patterns name."""
    c, model = job.run.full, job.model
    named = {f"{part}.{n}": p for part, module in model.parts.items() for n, p in module.named_parameters()}
    for pattern in (*c.train, *c.frozen):
        if not any(fnmatchcase(name, pattern) for name in named):
            raise RequestError(
                f"full: the pattern {pattern!r} names no parameter; they begin with {', '.join(model.parts)}"
            )
    for name, parameter in named.items():
        wanted = any(fnmatchcase(name, p) for p in c.train) and not any(fnmatchcase(name, p) for p in c.frozen)
        parameter.requires_grad_(wanted)
    parts = {k: m for k, m in model.parts.items() if any(p.requires_grad for p in m.parameters())}
    if not parts.keys() - {"vae"} or "vae" in parts:
        raise RequestError("full: these patterns leave nothing to train, or the VAE, which recipe 'scratch' trains")
    return _denoising(job, nn.ModuleDict(parts), model, model_result(model, job.run.output), dressed=dressed)


def lora(job: Job) -> Work:
    """Learns low-rank changes of layers; the base stays as it is."""
    adapter = LoRA.new(job.model, job.run.lora, job.run.seed).train()
    job.stack.enter_context(adapter.attach(job.model))

    def draws(step: int, part: range) -> None:
        adapter.random = partial(_dropout, job.run.seed, step, part)

    return _denoising(job, adapter, job.model, lora_result(adapter, job.model, job.run.output), before=draws)


def _dropout(seed: int, step: int, part: range, path: str, pictures: int, features: int) -> Tensor:
    return torch.stack([torch.rand(features, generator=generator(seed, "dropout", step, i, path)) for i in part])


def dreambooth(job: Job) -> Work:
    """A subject, with pictures of its class beside it, by a LoRA or in the weights."""
    return (lora if job.run.dreambooth.adapter else full)(job)


def inversion(job: Job) -> Work:
    """Learns the vectors of a new word."""
    c = job.run.inversion
    if not c.word:
        raise RequestError("inversion.word is missing: the new word, as prompts will say it")
    word = TextualInversion.new(job.model, c.word, c.vectors, c.initializer, job.run.seed)
    model = job.stack.enter_context(word.attach(job.model))
    if not c.templates and not any(c.word.lower() in e.caption.lower() for e in job.entries):
        raise RequestError(f'no caption says {c.word!r}; set inversion.templates, such as ["a photo of {{}}"]')
    return _denoising(replace(job, model=model), word, model, inversion_result(word))


def inpaint(job: Job) -> Work:
    """A network that also sees a mask and what is outside it."""
    c = job.run.inpaint
    return _with_canvas(job, "inpaint", lambda model, batches, held: InpaintBatches(model, batches, c))


def edit(job: Job) -> Work:
    """A network that also sees the picture that the prompt changes."""
    c = job.run.edit
    sure = replace(c, picture_dropout=0.0, both_dropout=0.0)
    return _with_canvas(job, "edit", lambda model, batches, held: EditBatches(model, batches, sure if held else c))


def _with_canvas(job: Job, task: str, dressed: Dressed) -> Work:
    latents = job.model.unet.config.channels_out
    model = widened(job.model, 2 * latents + (task == "inpaint"), f"{job.model.family.name.split('-')[0]}-{task}")
    return full(replace(job, model=model), dressed)


def adversarial(job: Job) -> Work:
    """A student of few steps, by adversarial distillation."""
    batches = _batches(job, job.model)
    recipe = AdversarialRecipe(job.model, batches, job.run.adversarial, job.run.seed, job.draw)
    return _distilled(job, recipe, batches, recipe.student)


def consistency(job: Job) -> Work:
    """A student of few steps, by consistency distillation."""
    batches = _batches(job, job.model)
    recipe = ConsistencyRecipe(job.model, batches, job.run.consistency, job.run.seed, job.draw)
    return _distilled(job, recipe, batches, recipe.student)


def _distilled(job: Job, recipe: loop.Recipe, batches: PictureBatches, student: Model) -> Work:
    name = "turbo" if job.model.family.name == "sdxl" else f"{job.model.family.name}-turbo"
    if name not in FAMILIES:
        raise RequestError(f"base {job.run.base!r} is of family {job.model.family.name!r}, which has no few-steps kind")
    row = replace(FAMILIES[name], encodings=job.model.family.encodings)
    model = replace(student, family=row)
    return Work(recipe=recipe, batches=batches, model=model, result=model_result(model, job.run.output))


RECIPES: Mapping[str, Callable[[Job], Work]] = {
    "full": full,
    "lora": lora,
    "dreambooth": dreambooth,
    "inversion": inversion,
    "inpaint": inpaint,
    "edit": edit,
    "adversarial": adversarial,
    "consistency": consistency,
}


def captioned(run: Run) -> Data:
    """The run's data as its recipe words it: DreamBooth's prompt, wildcards for inversion's templates."""
    data = run.data
    if run.recipe == "dreambooth":
        if not run.dreambooth.prompt:
            raise RequestError('dreambooth.prompt is missing: it names the subject, such as "a photo of zwx dog"')
        sources = tuple(replace(s, caption=s.caption or run.dreambooth.prompt) for s in data.sources)
        return replace(data, sources=sources)
    if run.recipe == "inversion" and run.inversion.templates:
        return replace(data, captions=replace(data.captions, wildcards=True))
    return data


def worded(run: Run, entries: Sequence[Entry]) -> list[Entry]:
    """The entries with the captions that the recipe gives them: inversion's templates, as a wildcard."""
    if run.recipe != "inversion" or not run.inversion.templates:
        return list(entries)
    said = [template.replace("{}", run.inversion.word) for template in run.inversion.templates]
    return [replace(e, caption="{" + "|".join(said) + "}") for e in entries]


def _denoising(
    job: Job,
    trained: nn.Module,
    model: Model,
    result: Result,
    *,
    before: Callable[[int, range], None] | None = None,
    dressed: Dressed | None = None,
) -> Work:
    run, learning_text = job.run, any(_reaches_text(trained))
    pictures = _batches(job, model, learning_text=learning_text)
    others = held_out(model, job.held, pictures.sight, job.cache)

    def held() -> list[Batch]:
        seen = [dressed(model, some, True) if dressed else some for some in others]
        return [batches(0, range(some.sight.batch)) for batches, some in zip(seen, others, strict=True)]

    recipe = DenoisingRecipe(
        trained=trained,
        denoise=model.denoiser(),
        batches=dressed(model, pictures, False) if dressed else pictures,
        objective=DenoisingObjective(run.objective, model.prediction, model.levels),
        batch=run.loop.batch,
        seed=run.seed,
        draw=partial(job.draw, model),
        held=None if not others else held if learning_text else cache(held),
        before=before,
    )
    return Work(recipe=recipe, batches=pictures, model=model, result=result)


def _reaches_text(trained: nn.Module) -> Iterator[bool]:
    """Of each trained parameter, whether text features depend on it."""
    inversion = isinstance(trained, TextualInversion)
    for name, parameter in trained.named_parameters():
        yield parameter.requires_grad and (inversion or name.startswith("text"))


def _batches(job: Job, model: Model, *, learning_text: bool = False) -> PictureBatches:
    run = job.run
    sight = Sight(
        data=run.data, batch=run.loop.batch, seed=run.seed, clip_skip=run.clip_skip, learning_text=learning_text
    )
    return PictureBatches(model, job.entries, sight, job.cache)
