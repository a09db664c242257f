"""`daguerre interrogate`: a prompt for each picture."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from PIL import Image

from ..files.built_in import BUILT_IN
from .exit import UNUSABLE, Failure
from .flags import refuse_alone
from .kinds import Json, Switch
from .models import find

if TYPE_CHECKING:
    from ..generate.interrogate import Ranker

Read = Callable[[Image.Image], Mapping[str, Any]]  # a picture of mode RGB -> its prompt and what else is known


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class InterrogationFlags:
    """What reads the pictures; tintype's own eyes by default, which know emoji and clip art only.

    Parameters
    ----------
    clip
        A CLIP: a folder of transformers or OpenCLIP, or a single file of either.
    eyes
        A network that `daguerre train` made for the text encoder of --model, in place of tintype's own.
    activation
        What a single file of a CLIP does not tell: OpenAI's have quick_gelu, OpenCLIP's own gelu.
    lists
        A folder with your own phrases: subject.txt, color.txt, style.txt, medium.txt, artist.txt, flavor.txt.
    top
        How many phrases of each list --json tells, and how many prompts --exact judges.
    exact
        Let --model judge the likeliest prompts, a captioner's among them, by how well it could draw the picture from
        each; slower.
    model
        The model for --exact and --eyes; the built-in one by default.
    draws
        Noise levels at which --exact compares, 16 by default; more is surer and slower.
    captioner
        A folder of a BLIP or a ViT-GPT2, whose sentence is the prompt, or its beginning where --clip is given too.
    beams
        How many sentences the captioner keeps in view while it seeks the likeliest; as its folder says by default.
    tagger
        An ONNX file of WD14 or DeepDanbooru, which tells tags.
    tags
        Its table of tags, if that is not beside it.
    threshold
        How sure, from 0 to 1, the tagger has to be of a tag; 0.35 by default.
    device
        cuda, mps, xpu or cpu; the best one by default.
    """

    clip: Path | None = None
    eyes: Path | None = None
    activation: Literal["gelu", "quick_gelu"] | None = None
    lists: Path | None = None
    top: int = 5
    exact: Switch = False
    model: str | None = None
    draws: int | None = None
    captioner: Path | None = None
    beams: int | None = None
    tagger: Path | None = None
    tags: Path | None = None
    threshold: float | None = None
    device: str | None = None


PLAIN = InterrogationFlags()


def interrogate(
    *pictures: Annotated[Path, Parameter(negative="")], flags: InterrogationFlags = PLAIN, json_lines: Json = False
) -> None:
    """Print a prompt for each picture; several pictures have their names in front.

    Parameters
    ----------
    pictures
        PNG, JPEG, WebP and other pictures; of an animation the first frame, transparency on white.
    json_lines
        Print one JSON object for each picture, with phrases and how likely they are.
    """
    from ..data.decode import PictureError, decode
    from ..data.found import file_bytes

    if not pictures:
        raise Failure("name one picture or more", UNUSABLE)
    read, failed = _reader(flags), list[Path]()
    for path in pictures:
        try:
            image = decode(file_bytes(path), "white")
        except (PictureError, OSError) as error:
            reason = (error.strerror or error) if isinstance(error, OSError) else error
            print(f"daguerre: {path}: {reason}", file=sys.stderr)
            failed.append(path)
            continue
        told = read(image)
        if json_lines:
            print(json.dumps({"picture": str(path), **told}, ensure_ascii=False), flush=True)
        else:
            print(f"{path}: {told['prompt']}" if len(pictures) > 1 else told["prompt"], flush=True)
    if failed and len(failed) < len(pictures):
        raise Failure(f"{len(failed)} of {len(pictures)} pictures could not be read", UNUSABLE)
    if failed:
        sys.exit(UNUSABLE)


def _reader(flags: InterrogationFlags) -> Read:
    """What turns a picture into words, its files opened; raises Failure for flags that do not go together."""
    refuse_alone("--model", flags.model, "--exact or --eyes", flags.exact or flags.eyes)
    refuse_alone("--draws", flags.draws, "--exact", flags.exact)
    refuse_alone("--threshold", flags.threshold, "--tagger", flags.tagger)
    refuse_alone("--tags", flags.tags, "--tagger", flags.tagger)
    refuse_alone("--beams", flags.beams, "--captioner", flags.captioner)
    refuse_alone("--activation", flags.activation, "--clip", flags.clip)
    if flags.tagger:
        others = {"--clip": flags.clip, "--captioner": flags.captioner, "--exact": flags.exact, "--lists": flags.lists}
        if given := [name for name, value in others.items() if value]:
            raise Failure(f"--tagger tells tags alone; leave out {' and '.join(given)}", UNUSABLE)
        return _tags(flags)
    if flags.eyes and flags.clip:
        raise Failure("--eyes and --clip both see; leave out one", UNUSABLE)
    if flags.captioner and not (flags.clip or flags.eyes):
        if given := [name for name, value in {"--exact": flags.exact, "--lists": flags.lists}.items() if value]:
            raise Failure(f"{given[0]} is of phrases; name what ranks them with --clip, beside --captioner", UNUSABLE)
        return _caption(flags)
    return _phrases(flags)


def _tags(flags: InterrogationFlags) -> Read:
    from ..generate.tagger import load_tagger, prompt_of, ratings, tag

    threshold = 0.35 if flags.threshold is None else flags.threshold
    if not 0 <= threshold <= 1:
        raise Failure(f"--threshold is {threshold:g}; it goes from 0 to 1", UNUSABLE)
    tagger = load_tagger(flags.tagger or Path(), flags.tags)

    def read(image: Image.Image) -> Mapping[str, Any]:
        tags = tag(tagger, image)
        known = [asdict(t) for t in tags if t.confidence >= min(threshold, 0.05)]
        prompt = prompt_of(tags, threshold=threshold, character=max(threshold, 0.85))
        return {"prompt": prompt, "tags": known, "ratings": ratings(tags)}

    return read


def _caption(flags: InterrogationFlags) -> Read:
    from ..generate.caption import caption, load_captioner

    captioner = load_captioner(flags.captioner or Path(), device=flags.device)
    return lambda image: {"prompt": caption(captioner, image, beams=flags.beams)}


def _phrases(flags: InterrogationFlags) -> Read:
    from ..generate.interrogate import interrogate as ranked
    from ..generate.interrogate import prompts
    from ..generate.likelihood import judge

    ranker = _ranker(flags)
    says = _caption(flags) if flags.captioner else None
    model = _model(flags) if flags.exact else None

    def read(image: Image.Image) -> Mapping[str, Any]:
        start = str(says(image)["prompt"]) if says else ""
        found = ranked(ranker, image, top=flags.top, start=start)
        told = {"prompt": found.prompt, "similarity": found.similarity}
        if model:
            judged = judge(model, image, prompts(ranker, image, flags.top, start=start), draws=flags.draws or 16)
            told = {"prompt": judged[0].prompt, "judged": [asdict(j) for j in judged]}
        return {**told, "phrases": {name: [asdict(p) for p in phrases] for name, phrases in found.ranked.items()}}

    return read


def _model(flags: InterrogationFlags) -> Any:
    from ..families.loading import load_model

    entry = find(flags.model or BUILT_IN)
    return load_model(entry.path, name=entry.name, device=flags.device)


def _ranker(flags: InterrogationFlags) -> "Ranker":
    from ..files.built_in import built_in
    from ..generate.clip import load_clip, load_towers
    from ..generate.interrogate import phrase_lists, ranker

    own = phrase_lists(flags.lists) if flags.lists else None
    if flags.clip:
        clip = load_clip(flags.clip, device=flags.device, activation=flags.activation)
        return ranker(clip, own or phrase_lists())
    eyes = flags.eyes or built_in("vision")
    if not eyes.is_file():
        how = "name a CLIP with --clip, or make them: daguerre train recipes/tintype-vision.toml, then --eyes"
        raise Failure(f"{eyes}: there is no such file, so {flags.model or BUILT_IN} has no eyes; {how}", UNUSABLE)
    clip, learned = load_towers(
        find(flags.model if flags.eyes and flags.model else BUILT_IN).path, eyes, device=flags.device
    )
    return ranker(clip, own or learned)
