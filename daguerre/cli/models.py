"""`daguerre models list`: the models on this machine, by name."""

import os
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from ..files.built_in import BUILT_IN, built_in
from .exit import UNUSABLE, Failure
from .kinds import Json

WEIGHTS = (".safetensors", ".ckpt", ".pt", ".bin")


class Entry(NamedTuple):
    name: str
    path: Path
    source: str


def folder() -> Path:
    """Where a user's own model files are looked for by name."""
    return Path(os.environ.get("DAGUERRE_MODELS") or Path.home() / ".local/share/daguerre/models")


def find(name: str) -> Entry:
    """A model from a path, or from a name that `daguerre models list` shows."""
    path = Path(name).expanduser()
    if name != BUILT_IN and path.exists():
        return Entry(path.stem if path.is_file() else path.resolve().name, path, "path")
    names = []
    for entry in entries_here():
        if entry.name == name:
            return entry
        names.append(entry.name)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    fetch = f" To fetch it from the Hub: daguerre models pull {name}" if name.count("/") == 1 else ""
    raise Failure(
        f"no model {name!r}: it is no file or folder, and no name that `daguerre models list` shows{hint}{fetch}",
        UNUSABLE,
    )


def resolve(name: str) -> Path:
    """A model's file or folder, from a path or a name that `daguerre models list` shows."""
    return find(name).path


def entries_here() -> Iterator[Entry]:
    """The built-in model, the user's own files and folders, and what was pulled from the Hub."""
    yield Entry(BUILT_IN, built_in(), "built in")
    own = folder()
    for path in sorted(own.iterdir()) if own.is_dir() else ():
        if path.suffix in WEIGHTS or (path / "model_index.json").is_file():
            yield Entry(path.stem if path.is_file() else path.name, path, "your folder")
    yield from _pulled()


def _pulled() -> Iterator[Entry]:
    """Whole models in the cache of huggingface_hub, which other programs use as well.

    OWNER/NAME is a repository's main branch, OWNER/NAME@REVISION another; a file has its name behind it where the
    repository is not that file alone.
    """
    from huggingface_hub import constants, scan_cache_dir

    if not Path(constants.HF_HUB_CACHE).is_dir():
        return
    for repo in sorted(scan_cache_dir(constants.HF_HUB_CACHE).repos, key=lambda repo: repo.repo_id):
        if repo.repo_type != "model":
            continue
        for revision in sorted(repo.revisions, key=lambda revision: "main" not in revision.refs):
            label = "" if "main" in revision.refs else f"@{min(revision.refs, default=revision.commit_hash[:8])}"
            for suffix, path in _models_in(revision.snapshot_path):
                yield Entry(f"{repo.repo_id}{label}{suffix}", path, "Hub")


def _models_in(snapshot: Path) -> Iterator[tuple[str, Path]]:
    """The folder if it is a diffusers one, and every single file beside its networks."""
    whole = (snapshot / "model_index.json").is_file()
    if whole:
        yield "", snapshot
    elif (snapshot / "config.json").is_file():
        return  # a lone network, perhaps of another kind of model
    found = (path for path in sorted(snapshot.rglob("*")) if path.suffix in WEIGHTS)
    single = [path for path in found if not (path.parent / "config.json").is_file()]
    for path in single:
        alone = len(single) == 1 and not whole
        yield "" if alone else f"/{path.relative_to(snapshot).as_posix()}", path


def show_all(*, json_lines: Json = False) -> None:
    """List the models on this machine: name, size, where it comes from.

    Parameters
    ----------
    json_lines
        Print one JSON object per model.
    """
    import json

    for entry in entries_here():
        size = _size(entry.path)
        if json_lines:
            print(json.dumps({"name": entry.name, "path": str(entry.path), "source": entry.source, "bytes": size}))
        else:
            print(f"{entry.name:40} {size / 1e6:>10,.0f} MB  {entry.source}")


def _size(path: Path) -> int:
    inside = path.rglob("*") if path.is_dir() else [path]
    return sum(item.stat().st_size for item in inside if item.is_file())
