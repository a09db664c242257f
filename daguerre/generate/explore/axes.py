"""Axes of a grid: what changes from cell to cell, written as "NAME: VALUES".

A name is any field of the request as in Python or as in A1111 ("cfg_scale", "CFG Scale"), a field inside of a field
("pag.scale" of a guide), or one of these:

    size, seed size  512x768, 768x512
    guides           none, pag, freeu+sag, "pag:scale=2,layers=mid_attn+decoder.1": quotes keep commas, and a + joins
                     guides where the name of one follows
    S/R              the first value is searched in all prompts, and replaced by each of them
    order            some words of the prompt, in all orders
    model, vae       names or files; for a VAE also none, the model's own
    lora             files with weights, such as ink.safetensors:0.8, or none; beside those of all cells
    lora weight      of every LoRA; "lora NAME" that of one
"""

import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from functools import partial
from itertools import islice, permutations
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from ...adapters.adapted import weighted
from ...request import CHOICES, GUIDES, MAX_SEED, RANDOM_SEED, Guide, RequestError, read_guide
from .job import Job
from .values import MOST, numbers, texts

# A1111's names of axes, and short ones, for our fields. Others are the fields' own, with blanks for underscores.
NAMES: Mapping[str, str] = {
    "cfg": "cfg_scale",
    "schedule type": "schedule",
    "var. seed": "variation_seed",
    "var. strength": "variation_strength",
    "denoising": "strength",
    "denoising strength": "strength",
    "initial noise multiplier": "noise_multiplier",
    "negative": "negative_prompt",
    "checkpoint": "model",
    "checkpoint name": "model",
    "prompt s/r": "s/r",
    "prompt order": "order",
}
SIZE = re.compile(r"(\d{1,5})\s*[x×*]\s*(\d{1,5})", re.ASCII)
SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
Change = Callable[[Job], Job]


class Value(NamedTuple):
    """One place on an axis."""

    label: str
    change: Change


@dataclass(frozen=True)
class Axis:
    """What changes along one side of a grid."""

    name: str  # as labels say it
    typed: str  # its values as they were written
    values: tuple[Value, ...]
    late: int = 0  # changes what the axes of a smaller number have set


def read_axis(text: str, base: Job) -> Axis:
    """The axis that a text such as "steps: 10, 20" asks for. Raises RequestError that names axis and value."""
    name, colon, typed = text.partition(":")
    wanted = " ".join(name.split())
    key = NAMES.get(wanted.lower(), wanted.lower())
    if not colon or not wanted:
        raise RequestError(f"{text!r:.60} is no axis; write its name, a colon and its values: steps: 10, 20, 30")
    try:
        if key in SPECIAL:
            return SPECIAL[key](typed, base)
        if key.startswith("lora "):
            return _lora_weight(typed, base, wanted.split(" ", 1)[1])
        return _field(key.replace(" ", "_"), typed, base)
    except RequestError as error:
        raise RequestError(f"axis {wanted!r}: {error}") from error


def _field(path: str, typed: str, base: Job) -> Axis:
    """An axis over a field, or over a field of what a field holds."""
    name, *rest = path.split(".")
    if rest and name in GUIDES:
        return _guide_field(name, ".".join(rest), typed, base)
    kind = _kind(type(base.request), base.request, path)
    label = path.replace("_", " ").replace(".", " ")
    label = label[:1].upper() + label[1:]
    if label == "Cfg scale":
        label = "CFG scale"
    values = _converted(kind, path, typed)
    spoken = kind in (int, float, bool)  # a number alone says little
    return Axis(
        label,
        typed.strip(),
        tuple(Value(f"{label}: {said}" if spoken else said, _Put(path, value)) for said, value in values),
    )


def _kind(owner: type, holder: Any, path: str) -> Any:
    """The type of a field by its path. Raises RequestError where there is none."""
    name, _, rest = path.partition(".")
    known = {f.name for f in fields(owner)} - {"count", "kind"}
    if name not in known:
        near = get_close_matches(name, [*known, *SPECIAL, *GUIDES], n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise RequestError(f"there is no such field; {hint}All: {', '.join(sorted(known | SPECIAL.keys()))}")
    kind = get_type_hints(owner)[name]
    options = [option for option in get_args(kind) if option is not type(None)]
    if get_origin(kind) in (Union, UnionType) and len(options) == 1:
        kind = options[0]
    if not rest:
        return kind
    if not is_dataclass(kind) or not isinstance(kind, type):
        raise RequestError(f"{name} has no fields of its own")
    inner = getattr(holder, name)
    if inner is None:
        raise RequestError(f"{name} is off in this request; turn it on first")
    return _kind(type(inner), inner, rest)


def _converted(kind: Any, path: str, typed: str) -> Iterator[tuple[str, Any]]:
    """Each value as a label says it, and as the field wants it."""
    if kind is int or kind is float:
        for number in numbers(typed, whole=kind is int):
            if path in ("seed", "variation_seed") and number == RANDOM_SEED:
                number = secrets.randbelow(MAX_SEED + 1)
            yield f"{round(number, 8):g}" if kind is float else str(number), number
        return
    for text in texts(typed):
        if kind is bool:
            if text.lower() not in SWITCH:
                raise RequestError(f"{text!r} is neither true nor false")
            yield str(SWITCH[text.lower()]).lower(), SWITCH[text.lower()]
        elif kind == tuple[Guide, ...]:
            off = text.lower() in ("", "none")
            yield text or "none", () if off else tuple(map(read_guide, _joined(text)))
        elif get_origin(kind) is tuple:
            shares = [numbers(part, whole=False) for part in re.split(r"\s+to\s+|\s+", text)]
            if len(shares) != len(get_args(kind)):
                raise RequestError(f"{text!r} must be {len(get_args(kind))} numbers, such as 0.1 to 0.8")
            yield text, tuple(share[0] for share in shares)
        elif is_dataclass(kind):
            raise RequestError(f"{path} has fields of its own; name one, such as {path}.{fields(kind)[0].name}")
        else:
            choices = {choice.lower(): choice for choice in CHOICES.get(path, ())}
            yield text or "none", choices.get(text.lower(), text)


def _joined(text: str) -> list[str]:
    """The guides that + joins. Within a guide's field + is a part of it, unless the name of a guide follows."""
    found = list[str]()
    for part in text.split("+"):
        if found and "=" in found[-1] and part.partition(":")[0].strip().lower() not in GUIDES:
            found[-1] += f"+{part}"
        else:
            found.append(part)
    return found


@dataclass(frozen=True)
class _Put:
    """A field, or a field of what a field holds, with another value."""

    path: str
    value: Any

    def __call__(self, job: Job) -> Job:
        return replace(job, request=self._put(job.request, self.path))

    def _put(self, owner: Any, path: str) -> Any:
        name, _, rest = path.partition(".")
        return replace(owner, **{name: self._put(getattr(owner, name), rest) if rest else self.value})


def _guide_field(kind: str, name: str, typed: str, base: Job) -> Axis:
    """An axis over a number of a guide, which is added where the request has none of its kind."""
    known = {f.name: f for f in fields(GUIDES[kind]) if f.init}
    if name not in known:
        raise RequestError(f"guide {kind} has no field {name!r}; its fields are {', '.join(known) or 'none'}")

    def put(value: Any) -> Change:
        def change(job: Job) -> Job:
            there = {guide.kind: guide for guide in job.request.guides}
            there[kind] = replace(there[kind], **{name: value}) if kind in there else GUIDES[kind](**{name: value})
            return replace(job, request=replace(job.request, guides=tuple(there.values())))

        return change

    values = _converted(type(known[name].default), name, typed)
    label = f"{kind} {name}"
    return Axis(label, typed.strip(), tuple(Value(f"{label}: {said}", put(value)) for said, value in values), late=1)


def _size(typed: str, base: Job, name: str = "Size") -> Axis:
    before = "" if name == "Size" else "seed_"

    def put(text: str) -> Change:
        if not (match := SIZE.fullmatch(text)):
            raise RequestError(f"{text!r} is no size; write WIDTHxHEIGHT, such as 512x768")
        sides: dict[str, Any] = {f"{before}width": int(match[1]), f"{before}height": int(match[2])}
        return lambda job: replace(job, request=replace(job.request, **sides))

    return Axis(
        name, typed.strip(), tuple(Value(f"{name}: {text}" if before else text, put(text)) for text in texts(typed))
    )


def _with_prompts(job: Job, edit: Callable[[str], str]) -> Job:
    """The job with its prompts edited, in both passes."""
    request, hires = job.request, job.request.hires
    if hires:
        hires = replace(hires, prompt=edit(hires.prompt), negative_prompt=edit(hires.negative_prompt))
    prompt, negative = edit(request.prompt), edit(request.negative_prompt)
    return replace(job, request=replace(request, prompt=prompt, negative_prompt=negative, hires=hires))


def _search_and_replace(typed: str, base: Job) -> Axis:
    words = texts(typed)
    if not words[0] or _with_prompts(base, lambda prompt: prompt.replace(words[0], "")) == base:
        raise RequestError(f"{words[0]!r}, the first value, is what to replace; it is in no prompt")

    def put(word: str) -> Change:
        return lambda job: _with_prompts(job, lambda prompt: prompt.replace(words[0], word))

    return Axis("Prompt S/R", typed.strip(), tuple(Value(word or "(nothing)", put(word)) for word in words), late=2)


def _order(typed: str, base: Job) -> Axis:
    words = texts(typed)
    for word in words:
        if not word or word not in base.request.prompt:
            raise RequestError(f"{word!r} is not in the prompt")
    orders = list(islice(permutations(words), MOST + 1))
    if len(orders) > MOST:
        raise RequestError(f"{len(words)} words have more than {MOST:,} orders; name fewer")

    def put(order: tuple[str, ...]) -> Change:
        return lambda job: replace(job, request=replace(job.request, prompt=_ordered(job.request.prompt, order)))

    return Axis("Prompt order", typed.strip(), tuple(Value(", ".join(o), put(o)) for o in orders), late=1)


def _ordered(prompt: str, order: tuple[str, ...]) -> str:
    """The prompt with these words, where each first occurs, in another order."""
    if lost := [word for word in order if word not in prompt]:
        raise RequestError(f"{lost[0]!r} is not in the prompt {prompt!r:.60}, which another axis has changed")
    places = sorted((prompt.index(word), len(word)) for word in order)
    made, end = "", 0
    for (start, length), word in zip(places, order, strict=True):
        made += prompt[end:start] + word
        end = start + length
    return made + prompt[end:]


def _model(typed: str, base: Job) -> Axis:
    def put(text: str) -> Change:
        return lambda job: replace(job, setup=replace(job.setup, model=text))

    return Axis("Model", typed.strip(), tuple(Value(short(text), put(text)) for text in texts(typed)))


def _vae(typed: str, base: Job) -> Axis:
    def put(text: str) -> Change:
        return lambda job: replace(job, setup=replace(job.setup, vae=text or "none"))

    values = tuple(Value("own VAE" if text in ("", "none") else short(text), put(text)) for text in texts(typed))
    return Axis("VAE", typed.strip(), values)


def short(name: str) -> str:
    """A file's or a repository's name without its folders and what tells its kind."""
    return re.sub(r"\.(safetensors|ckpt|pth?|bin|gguf)$", "", Path(name).name)


def _lora(typed: str, base: Job) -> Axis:
    def put(text: str) -> Change:
        more = () if text.lower() in ("", "none") else (weighted(text),)
        return lambda job: replace(job, setup=replace(job.setup, adapters=job.setup.adapters + more))

    return Axis("LoRA", typed.strip(), tuple(Value(_lora_label(text), put(text)) for text in texts(typed)))


def _lora_label(text: str) -> str:
    if text.lower() in ("", "none"):
        return "no LoRA"
    file = weighted(text)
    return file.path.stem if file.weight == 1 else f"{file.path.stem} {file.weight:g}"


def _lora_weight(typed: str, base: Job, name: str = "weight") -> Axis:
    def put(weight: float) -> Change:
        def change(job: Job) -> Job:
            meant = [one.kind == "lora" and name in ("weight", one.path.stem) for one in job.setup.adapters]
            if not any(meant) and name != "weight":
                raise RequestError(f"there is no LoRA {name!r}; name the stem of a file that is given")
            adapters = tuple(
                replace(one, weight=weight, text_weight=None) if hit else one
                for one, hit in zip(job.setup.adapters, meant, strict=True)
            )
            return replace(job, setup=replace(job.setup, adapters=adapters))

        return change

    label = "LoRA weight" if name == "weight" else name
    values = tuple(Value(f"{label}: {weight:g}", put(weight)) for weight in numbers(typed, whole=False))
    return Axis(label, typed.strip(), values, late=1)


SPECIAL: Mapping[str, Callable[[str, Job], Axis]] = {
    "size": _size,
    "seed size": partial(_size, name="Seed size"),
    "s/r": _search_and_replace,
    "order": _order,
    "model": _model,
    "vae": _vae,
    "lora": _lora,
    "lora weight": _lora_weight,
}
