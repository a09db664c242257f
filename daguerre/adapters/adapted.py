"""A model with the adapter files of a request, and what a picture's record says of them."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..families.model import Model
from ..provenance.record import UsedAdapter
from .formats import load_lora
from .lora_file import adapter_sha256
from .textual_inversion import TextualInversion

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AdapterFile:
    """A file to be used, and how."""

    kind: Literal["lora", "embedding"]
    path: Path
    weight: float = 1.0  # of a LoRA
    text_weight: float | None = None  # in the text encoders; None: `weight`
    word: str = ""  # of an embedding; "": as the file or its name says


@contextmanager
def adapted(model: Model, files: Sequence[AdapterFile]) -> Iterator[tuple[Model, tuple[UsedAdapter, ...]]]:
    """The model with all of the files attached, for the body, and how a record names them. Raises AdapterError."""
    used = []
    with ExitStack() as stack:
        for file in files:
            name = file.path.stem if file.path.is_file() else file.path.name
            if file.kind == "embedding":
                inversion = TextualInversion.load(file.path, model, file.word)
                model, name = stack.enter_context(inversion.attach(model)), inversion.word
            else:
                lora, report = load_lora(file.path, model)
                if report.unmatched:
                    count, first = len(report.unmatched), report.unmatched[0]
                    log.warning("%s: %d tensors fit no layer of this model, such as %r", file.path, count, first)
                stack.enter_context(lora.attach(model, file.weight, file.text_weight))
            sha256, text_weight = adapter_sha256(file.path), file.text_weight
            used.append(
                UsedAdapter(kind=file.kind, name=name, sha256=sha256, weight=file.weight, text_weight=text_weight)
            )
        yield model, tuple(used)
