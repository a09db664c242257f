"""`daguerre models`: the models on this machine, by name, and how more of them come here."""

import os
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, NamedTuple

from cyclopts import Parameter

from .exit import FAILED, UNUSABLE, Failure

BUILT_IN = "tintype"
WEIGHTS = (".safetensors", ".ckpt", ".pt", ".bin")
# What drawing needs of a repository: weights in safetensors, and their descriptions.
WANTED = ["*.json", "*.safetensors", "*.txt"]


class Entry(NamedTuple):
    name: str
    path: Path
    source: str


def folder() -> Path:
    """Where a user's own model files are looked for by name."""
    return Path(os.environ.get("DAGUERRE_MODELS") or Path.home() / ".local/share/daguerre/models")


def resolve(name: str) -> Path:
    """A model's file or folder, from a path or a name that `daguerre models list` shows."""
    path = Path(name).expanduser()
    if name != BUILT_IN and path.exists():
        return path
    entries = {entry.name: entry.path for entry in entries_here()}
    if name in entries:
        return entries[name]
    from difflib import get_close_matches

    near = get_close_matches(name, entries, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    fetch = f" To fetch it from the Hub: daguerre models pull {name}" if name.count("/") == 1 else ""
    raise Failure(
        f"no model {name!r}: it is no file or folder, and no name that `daguerre models list` shows{hint}{fetch}",
        UNUSABLE,
    )


def entries_here() -> Iterator[Entry]:
    """The built-in model, the user's own files and folders, and what was pulled from the Hub."""
    yield Entry(BUILT_IN, Path(str(files("daguerre") / "weights" / f"{BUILT_IN}.safetensors")), "built in")
    own = folder()
    for path in sorted(own.iterdir()) if own.is_dir() else ():
        if path.suffix in WEIGHTS or (path / "model_index.json").is_file():
            yield Entry(path.stem if path.is_file() else path.name, path, "your folder")
    yield from _pulled()


def _pulled() -> Iterator[Entry]:
    from huggingface_hub import constants, scan_cache_dir

    if not Path(constants.HF_HUB_CACHE).is_dir():
        return
    for repo in sorted(scan_cache_dir().repos, key=lambda repo: repo.repo_id):
        for revision in repo.revisions:
            if "main" in revision.refs and repo.repo_type == "model" and _is_model(revision.snapshot_path):
                yield Entry(repo.repo_id, _single_file(revision.snapshot_path), "Hub")


def _is_model(snapshot: Path) -> bool:
    return (snapshot / "model_index.json").is_file() or any(snapshot.glob("*.safetensors"))


def _single_file(snapshot: Path) -> Path:
    """The folder if it is a diffusers one, else its only weights file."""
    weights = sorted(snapshot.glob("*.safetensors"))
    return snapshot if (snapshot / "model_index.json").is_file() or len(weights) != 1 else weights[0]


def pull(
    repo: str,
    /,
    *,
    file: str | None = None,
    revision: str = "main",
    offline: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Download a model from the Hugging Face Hub, or go on with a download that was cut off.

    Parameters
    ----------
    repo
        OWNER/NAME, such as stabilityai/sdxl-turbo.
    file
        Only this file of the repository: a single-file checkpoint.
    revision
        A branch, tag or commit.
    offline
        Use what is already here; do not touch the network.
    """
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        if file:
            print(hf_hub_download(repo, file, revision=revision, local_files_only=offline))
        else:
            print(snapshot_download(repo, revision=revision, allow_patterns=WANTED, local_files_only=offline))
    except RepositoryNotFoundError as error:
        raise Failure(
            f"{repo}: the Hub has no such model, or it is private: log in with `hf auth login`", UNUSABLE
        ) from error
    except LocalEntryNotFoundError as error:
        why = "and --offline forbids to fetch it" if offline else "and the Hub cannot be reached"
        raise Failure(f"{repo}: not on this machine, {why}", FAILED) from error
    except HfHubHTTPError as error:
        raise Failure(f"{repo}: the Hub answered {error.response.status_code}; try again later", FAILED) from error


def show_all(*, json_lines: Annotated[bool, Parameter(name="--json", negative="")] = False) -> None:
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
