"""A model with the adapter files of a request, and what a picture's record says of them."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from ..families.model import Attach, Model
from ..provenance.record import Pass, UsedAdapter
from ..request import RequestError
from .change import Change
from .formats import load_lora
from .hypernetwork import Hypernetwork
from .lora import Factors, LoRA
from .lora_file import adapter_sha256
from .textual_inversion import TextualInversion

log = logging.getLogger(__name__)

WEIGHTED = re.compile(r"(.*?)(?::([-+]?[\d.]+))?(?::([-+]?[\d.]+))?", re.DOTALL)  # a file and up to two weights


@dataclass(frozen=True, kw_only=True)
class AdapterFile:
    """A file to be used, and how."""

    kind: Literal["lora", "embedding", "hypernetwork"]
    path: Path
    weight: float = 1.0  # of a LoRA or hypernetwork
    text_weight: float | None = None  # in the text encoders; None: `weight`
    word: str = ""  # of an embedding; "": as the file or its name says
    name: str = ""  # by which a prompt asks for anything else; "": none does, and a record has the file's
    ranks: int | None = None  # only the first so many of a LoRA; None: all
    during: Pass = ""  # the pass of a hires fix to be used in alone
    inversion: TextualInversion | None = None  # what is in an embedding's file, where that has been read


def weighted(text: str, told: str = "") -> AdapterFile:
    """A LoRA from FILE, FILE:WEIGHT or FILE:WEIGHT:WEIGHT, the second that in the text encoders.

    Raises RequestError, with `told` before the text.
    """
    found = None if Path(text).exists() else WEIGHTED.fullmatch(text)
    path, *numbers = found.groups() if found else (text, None, None)
    wrong = RequestError(f"{told}{text}: write it as FILE, FILE:WEIGHT or FILE:WEIGHT:WEIGHT")
    if not path:  # which would be the current folder
        raise wrong
    try:
        weight, text_weight = (None if number is None else float(number) for number in numbers)
    except ValueError:
        raise wrong from None
    return AdapterFile(kind="lora", path=Path(path), weight=1.0 if weight is None else weight, text_weight=text_weight)


@contextmanager
def adapted(model: Model, files: Sequence[AdapterFile]) -> Iterator[tuple[Model, tuple[UsedAdapter, ...]]]:
    """The model with all of the files attached, for the body, and how a record names them. Raises AdapterError.

    Files for one pass alone are attached by `Model.during`, and are read before.
    """
    used, passes = [], dict(model.passes)
    with ExitStack() as stack:
        for file in files:
            name, attach = _read(file, model)
            if file.during:
                with attach(model):  # refused now, or not at all
                    passes[file.during] = (*passes.get(file.during, ()), attach)
            else:
                model = stack.enter_context(attach(model))
            used.append(
                UsedAdapter(
                    kind=file.kind,
                    name=name,
                    sha256=adapter_sha256(file.path),
                    weight=file.weight,
                    text_weight=file.text_weight,
                    ranks=file.ranks,
                    during=file.during,
                )
            )
        yield replace(model, passes=passes), tuple(used)


def _read(file: AdapterFile, model: Model) -> tuple[str, Attach]:
    """What a record calls a file, and what attaches it."""
    if file.kind == "embedding":
        inversion = file.inversion or TextualInversion.load(file.path, model, file.word)
        return inversion.word, inversion.attach
    if file.kind == "hypernetwork":
        attach = partial(Hypernetwork.load(file.path, model).attach, strength=file.weight)
    else:
        lora, report = load_lora(file.path, model)
        if report.unmatched:
            count, first = len(report.unmatched), report.unmatched[0]
            log.warning("%s: %d tensors fit no layer of this model, such as %r", file.path, count, first)
        lora = lora if file.ranks is None else narrowed(lora, file.ranks)
        attach = partial(lora.attach, scale=file.weight, text_scale=file.text_weight)

    @contextmanager
    def attached(to: Model) -> Iterator[Model]:
        with attach(to):
            yield replace(to, attached=(*to.attached, file.name)) if file.name else to

    return file.name or (file.path.stem if file.path.is_file() else file.path.name), attached


def narrowed(lora: LoRA, ranks: int) -> LoRA:
    """The first ranks alone of what is of low rank in it, each as strong as it was: A1111's `dyn`."""

    def first(change: Change) -> Change:
        if not isinstance(change, Factors) or change.rank <= ranks:
            return change
        down, up = change.down.detach()[:ranks], change.up.detach()[:, :ranks]
        return Factors(down, up, change.strength * ranks, change.magnitude)

    return LoRA({path: first(change) for path, change in lora.changes.items()})
