"""Flags for what stands in a prompt beside words: styles, wildcards, and the names of LoRAs and embeddings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import Parameter

from ..request import TextToImage
from ..text.segments import check_prompts
from ..text.styles import read_styles
from ..text.template import resolved
from ..text.wildcards import Wildcards
from .exit import UNUSABLE, Failure
from .flags import refuse_alone
from .kinds import NAMES, Texts
from .models import folder

if TYPE_CHECKING:
    from ..adapters.adapted import AdapterFile
    from ..diffusion.denoiser import Step
    from ..families.model import Model
    from ..generate.drawing import Picture, Task

# Folders beside the models, by the kind of adapter that is in them.
PLACES = {"lora": "loras", "hypernetwork": "hypernetworks", "embedding": "embeddings"}


@Parameter(name="*", group=NAMES)
@dataclass(frozen=True, kw_only=True)
class LanguageFlags:
    """Where what a prompt names is found; by default beside your models.

    Parameters
    ----------
    style
        A style to put on the prompt, by its name; may be given several times.
    styles
        The table of styles, as A1111 writes it; by default styles.csv beside your models.
    wildcards
        The folder of text files for `__NAME__` in prompts; by default wildcards beside your models.
    lora_dir
        The folder of files for `<lora:NAME:WEIGHT>` in prompts; by default loras beside your models.
    hypernetwork_dir
        The folder of files for `<hypernet:NAME:WEIGHT>` in prompts; by default hypernetworks beside your
        models.
    embedding_dir
        The folder of embeddings, whose file names are words in prompts; by default embeddings beside your
        models.
    """

    style: Texts = ()
    styles: Path | None = None
    wildcards: Path | None = None
    lora_dir: Path | None = None
    hypernetwork_dir: Path | None = None
    embedding_dir: Path | None = None

    def requests(self, request: TextToImage) -> list[TextToImage]:
        """The request as it is drawn, its seed being known; one for each picture where their prompts differ."""
        refuse_alone("--styles", self.styles, "--style", self.style)
        path = self.styles or folder() / "styles.csv"
        if self.style and not path.is_file():
            raise Failure(f"there is no table of styles {path}; name yours with --styles", UNUSABLE)
        styles = read_styles(path) if self.style else {}
        wildcards = Wildcards(_place(self.wildcards, "wildcards", "--wildcards"))
        return resolved(request, styles, self.style, wildcards)

    def networks(self, request: TextToImage) -> "list[AdapterFile]":
        """The files that a prompt's tags name."""
        from ..adapters.named import networks_of

        loras = _place(self.lora_dir, "loras", "--lora-dir")
        return networks_of(request, loras, _place(self.hypernetwork_dir, "hypernetworks", "--hypernetwork-dir"))

    def read(self, request: TextToImage) -> None:
        """Raises an error for prompts that cannot be read, in either pass, and for what they name and is not there."""
        from ..diffusion.samplers import find_sampler
        from ..generate.hires import passes

        self.networks(request)
        after = 0
        for one in passes(request):
            calls = find_sampler(one.sampler)[0].counted(one.steps)
            check_prompts(one, calls, after=after)
            after += calls

    def check(self, request: TextToImage) -> None:
        """Raises an error for what is not found or cannot be read, before there is a model."""
        for one in self.requests(request):
            self.read(one)
        _place(self.embedding_dir, "embeddings", "--embedding-dir")

    def drawn(
        self, model: "Model", request: TextToImage, files: "Sequence[AdapterFile]", draw: "Task"
    ) -> "Iterator[Step | Picture]":
        """What a task yields for the request, with these files and those that its prompts name attached.

        The pictures' records tell of the files, and of the prompts as they were typed.
        """
        from ..adapters.adapted import adapted
        from ..adapters.named import words_of
        from ..generate.drawing import Picture

        embeddings = _place(self.embedding_dir, "embeddings", "--embedding-dir")
        for one in self.requests(request):
            named = [*words_of(one, embeddings, model), *self.networks(one)]
            typed = _typed(request, one)
            with adapted(model, [*files, *named]) as (whole, used):
                for event in draw(whole, one):
                    if isinstance(event, Picture):
                        event = replace(event, record=replace(event.record, adapters=used, **typed))
                    yield event


def _typed(request: TextToImage, drawn: TextToImage) -> dict[str, Any]:
    """A record's templates: the prompts of both passes as they were typed, where others are drawn."""
    own = request.hires, drawn.hires
    prompts = {
        "template": (request.prompt, drawn.prompt),
        "negative_template": (request.negative_prompt, drawn.negative_prompt),
        "hires_template": tuple(hires.prompt for hires in own if hires),
        "hires_negative_template": tuple(hires.negative_prompt for hires in own if hires),
    }
    return {name: texts[0] for name, texts in prompts.items() if len(set(texts)) > 1}


def _place(given: Path | None, name: str, flag: str) -> Path:
    """A folder that was given, or else the one of this name beside the models, which may be missing."""
    if given is not None and not given.is_dir():
        raise Failure(f"{flag} {given}: there is no such folder", UNUSABLE)
    return given or folder() / name


WORDS_ALONE = LanguageFlags()
