"""Adapters that a prompt names, found in folders: LoRAs and hypernetworks by their tags, embeddings by their words."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from ..families.model import Model
from ..files.checkpoint import CheckpointError
from ..files.reader import open_checkpoint
from ..request import RequestError, TextToImage
from ..text.extra_networks import split_networks
from ..text.segments import without_comments
from ..text.template import second_prompts
from ..text.tokenizer import Tokenizer
from .adapted import AdapterFile
from .textual_inversion import TextualInversion, WithWord

log = logging.getLogger(__name__)

SUFFIXES = (".safetensors", ".pt", ".ckpt", ".bin")
PICTURES = (".png", ".webp")  # that an embedding may be in
ALIAS = "ss_output_name"  # in the metadata of a file: what its maker calls it


def networks_of(request: TextToImage, loras: Path, hypernetworks: Path) -> list[AdapterFile]:
    """The files that the prompt's tags name, with their weights, in the tags' order.

    Where a second pass has a prompt of its own, each pass has the files that its own prompt names, and no others.
    A name is that of a file in the folder, without its ending, or what its metadata call it, in any case. Raises
    RequestError for a tag that cannot be read and a name that is not there, or twice.
    """
    prompt = without_comments(request.prompt) if request.comments else request.prompt
    first, (own, _) = _files_of(prompt, loras, hypernetworks), second_prompts(request)
    if not own:
        return first
    second = _files_of(own, loras, hypernetworks)
    return [*(replace(file, during="first") for file in first), *(replace(file, during="second") for file in second)]


def _files_of(prompt: str, loras: Path, hypernetworks: Path) -> list[AdapterFile]:
    """What the tags of a prompt without comments name."""
    files = []
    for asked in split_networks(prompt)[1]:
        if asked.kind == "hypernet":
            path = find(asked.name, hypernetworks, "hypernetwork")
            files.append(AdapterFile(kind="hypernetwork", path=path, weight=asked.weight, name=asked.name))
        else:
            files.append(
                AdapterFile(
                    kind="lora",
                    path=find(asked.name, loras, "LoRA"),
                    weight=asked.weight,
                    text_weight=asked.text_weight if asked.text_weight != asked.weight else None,
                    name=asked.name,
                    ranks=asked.ranks,
                )
            )
    return files


def find(name: str, folder: Path, kind: str) -> Path:
    """The file or peft folder of this name. Raises RequestError with names like it, if there is none or more."""
    found = called(name, folder)
    if len(found) == 1:
        return found[0]
    if found:
        places = " or ".join(_name(path, folder) for path in found)
        raise RequestError(f"the prompt's {kind} {name!r} may be {places} in {folder}; write one of these")
    paths = list(_adapters(folder))
    known = {known.casefold(): known for path in paths for known in (_name(path, path.parent), _alias(path)) if known}
    near = [known[key] for key in get_close_matches(name.casefold(), known, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"the folder has {len(paths)} others"
    hint = hint if folder.is_dir() else "there is no such folder"
    raise RequestError(f"the prompt asks for the {kind} {name!r}, which is not in {folder}; {hint}")


def called(name: str, folder: Path) -> list[Path]:
    """The files and peft folders of this name: by their place in the folder, their own name, or their metadata."""
    paths, wanted = list(_adapters(folder)), name.casefold().strip("/")
    found = [path for path in paths if _name(path, folder).casefold() == wanted]
    found = found or [path for path in paths if _name(path, path.parent).casefold() == wanted]
    return found or [path for path in paths if _alias(path).casefold() == wanted]


def words_of(request: TextToImage, folder: Path, model: Model) -> list[AdapterFile]:
    """The embeddings in a folder whose word, that is the name of their file, stands in a prompt of either pass.

    Longer words go first, so that none is found within another. Those of other models are passed over, with a warning.
    """
    said = request.prompt, request.negative_prompt, *second_prompts(request)
    text, files = "\n".join(said), list[AdapterFile]()
    paths = (p for p in _files(folder) if p.suffix.lower() in (*SUFFIXES, *PICTURES) and p.stem.split())
    for path in sorted(paths, key=lambda path: (-len(path.stem), path)):
        known = WithWord(Tokenizer(), path.stem, range(0)).pattern
        if known.search(text):
            try:
                inversion = TextualInversion.load(path, model, path.stem)
            except ValueError as fault:
                log.warning("left out of the prompt's words: %s", fault)
                continue
            text = known.sub("\n", text)
            files.append(AdapterFile(kind="embedding", path=path, word=path.stem, inversion=inversion))
    return files[::-1]  # what is attached last is looked for first


def _files(folder: Path) -> Sequence[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []


def _adapters(folder: Path) -> Iterator[Path]:
    """Files of weights, and peft's folders in place of the files in them."""
    for path in _files(folder):
        if path.name == "adapter_config.json":
            yield path.parent
        elif path.suffix.lower() in SUFFIXES and not path.with_name("adapter_config.json").is_file():
            yield path


def _name(path: Path, folder: Path) -> str:
    place = path.relative_to(folder)
    return (place if path.is_dir() else place.with_suffix("")).as_posix()


def _alias(path: Path) -> str:
    if path.suffix.lower() != ".safetensors":
        return ""
    try:
        return open_checkpoint(path).metadata.get(ALIAS, "")
    except CheckpointError:
        return ""  # a damaged file is told of when it is asked for
