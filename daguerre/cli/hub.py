"""`daguerre models pull`: the files that drawing needs from the Hugging Face Hub, each of them fetched once."""

import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from glob import escape
from pathlib import Path
from typing import Literal, NoReturn
from urllib.parse import urlsplit

from huggingface_hub import (
    HfApi,
    constants,
    get_cached_repo_tree,
    get_hf_file_metadata,
    hf_hub_url,
    snapshot_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.errors import HTTPError as ConnectionFault  # type: ignore[attr-defined]
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import WeakFileLock, build_hf_headers, disable_progress_bars  # type: ignore[attr-defined]

from .exit import FAILED, UNUSABLE, Failure
from .kinds import Switch
from .models import WEIGHTS

FOLDERS = ("unet", "vae", "text_encoder", "text_encoder_2")
DESCRIPTIONS = ("", *FOLDERS, "scheduler", "tokenizer", "tokenizer_2")
STEMS = ("diffusion_pytorch_model", "model")
LISTED = 6  # files named in an error

Variant = Literal["fp16"] | None


def pull(
    repo: str, /, *, file: str | None = None, revision: str = "main", variant: Variant = None, offline: Switch = False
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
    variant
        fp16: the smaller copy of the weights, where the repository has one.
    offline
        Use what is already here; do not touch the network.
    """
    print(fetch(repo, file=file, revision=revision, variant=variant, offline=offline))


def fetch(repo: str, *, file: str | None, revision: str, variant: Variant, offline: bool) -> Path:
    """The file or folder of a model, downloaded unless it is here. Raises Failure."""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries are no news, and their URLs are long
    try:
        if offline or constants.HF_HUB_OFFLINE:
            return _find_here(repo, file, revision, variant)
        info = HfApi().model_info(repo, revision=revision)
        names = choose(repo, [entry.rfilename for entry in info.siblings or ()], file, variant)
        for name in names:
            if name.endswith(WEIGHTS):
                _download(repo, str(info.sha), name)
        with disable_progress_bars():  # what is left are small files, and the links and references of the cache
            snapshot = snapshot_download(repo, revision=revision, allow_patterns=[escape(name) for name in names])
        return Path(snapshot) if _is_folder(names) else Path(snapshot) / names[0]
    except (ConnectionFault, OSError, ValueError) as error:
        _explain(repo, revision, error)


def choose(repo: str, names: Sequence[str], file: str | None, variant: Variant) -> list[str]:
    """Of a repository's files those that drawing needs: one set of weights per network, and the descriptions.

    A repository that many programs use holds the same weights several times over.
    """
    if outside := [name for name in names if name.startswith("/") or ".." in re.split(r"[/\\]", name)]:
        raise Failure(f"{repo}: not to be trusted, it names files outside of itself: {_listed(outside)}", UNUSABLE)
    if file is not None:
        if file not in names:
            near = get_close_matches(file, names, n=3) or [name for name in names if name.endswith(WEIGHTS)]
            raise Failure(f"{repo}: no file {file!r} in it; there are {_listed(near)}", UNUSABLE)
        if not file.endswith(WEIGHTS):
            raise Failure(f"{repo}: {file} is no file of weights ({', '.join(WEIGHTS)})", UNUSABLE)
        return [file]
    if _is_folder(names):
        places = [place for place in FOLDERS if any(n.startswith(f"{place}/") for n in names)] or [""]
        found = {place: _network(names, place, variant) for place in places}
        if lacking := [place or "the network" for place in places if not found[place]]:
            wanted = f" of variant {variant}" if variant else ""
            raise Failure(f"{repo}: no safetensors weights{wanted} for {' and '.join(lacking)} in it", UNUSABLE)
        weights = [name for place in places for name in found[place]]
        indexes = {re.sub(r"-\d+-of-\d+(?=\.)", "", name) for name in weights} - set(weights)
        return weights + [name for name in names if _describes(name, indexes)]
    single = [name for name in names if "/" not in name and name.endswith(".safetensors")]  # pickles only by --file
    if len(single) == 1:
        return single
    others = single or [name for name in names if name.endswith(WEIGHTS)]
    if not others:
        raise Failure(f"{repo}: no weights of a model in it", UNUSABLE)
    raise Failure(f"{repo}: choose one of its files with --file: {_listed(others)}", UNUSABLE)


def _is_folder(names: Sequence[str]) -> bool:
    """Whether these are the files of a diffusers folder, whole or of a single network."""
    return "model_index.json" in names or ("config.json" in names and bool(_network(names, "", None)))


def _network(names: Sequence[str], place: str, variant: Variant) -> list[str]:
    """The weights of one network as the reader of folders would choose them: plain before fp16, whole before shards."""
    start = f"{place}/" if place else ""
    for kind in ("", r"\.fp16") if variant is None else (rf"\.{variant}",):
        for stem in STEMS:
            for shard in ("", r"(-\d+-of-\d+)"):
                pattern = rf"{start}{stem}({shard}{kind}|{kind}{shard})\.safetensors"
                if found := sorted(name for name in names if re.fullmatch(pattern, name)):
                    return found
    return []


def _describes(name: str, indexes: set[str]) -> bool:
    """Whether a JSON or text file belongs to a network; a list of shards only where `indexes` has its weights."""
    place, _, rest = name.rpartition("/")
    if place not in DESCRIPTIONS or not name.endswith((".json", ".txt")):
        return False
    stem, index, kind = rest.partition(".safetensors.index")
    of = f"{stem}{kind.removesuffix('.json')}.safetensors"
    return not index or (f"{place}/{of}" if place else of) in indexes


def _download(repo: str, commit: str, name: str) -> None:
    """One file of weights into the cache; goes on where an earlier process stopped, and checks the hash.

    `snapshot_download` begins a file anew in every process, and nobody has gigabytes to fetch twice.
    """
    url = hf_hub_url(repo, name, revision=commit)
    found = get_hf_file_metadata(url)
    if found.etag is None or not re.fullmatch(r"\w[\w.-]*", found.etag):
        raise Failure(f"{repo}: the Hub gives no usable ETag for {name}", FAILED)
    cache, folder = Path(constants.HF_HUB_CACHE), repo_folder_name(repo_id=repo, repo_type="model")
    blob, lock = cache / folder / "blobs" / found.etag, cache / ".locks" / folder / f"{found.etag}.lock"
    part = blob.with_name(f"{blob.name}.part")
    same_host = urlsplit(found.location).netloc == urlsplit(url).netloc  # a login is not for the store elsewhere
    for path in (blob, lock):
        path.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.exists():
            return
        with part.open("ab") as target:
            if found.size is not None and target.tell() > found.size:
                target.truncate(0)
            http_get(
                found.location,
                target,
                resume_size=target.seek(0, 2),
                headers=build_hf_headers(token=None if same_host else False),
                expected_size=found.size,
                displayed_filename=name,
            )
        if len(found.etag) == 64 and _sha256(part) != found.etag:
            part.unlink()
            raise Failure(f"{repo}: {name} arrived damaged and was removed; fetch it again", FAILED)
        part.replace(blob)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find_here(repo: str, file: str | None, revision: str, variant: Variant) -> Path:
    """What an earlier download left, if it is whole."""
    names = [file] if file else choose(repo, list(_listing_here(repo, revision)), None, variant)
    paths = {name: try_to_load_from_cache(repo, name, revision=revision) for name in names}
    if missing := [name for name, path in paths.items() if not isinstance(path, str)]:
        lacking = _listed(missing) + (" is" if len(missing) == 1 else " are")
        raise Failure(f"{repo}: {lacking} not on this machine; fetch without --offline", FAILED)
    first = Path(str(paths[names[0]]))
    return first.parents[names[0].count("/")] if _is_folder(names) else first


def _listing_here(repo: str, revision: str) -> Iterator[str]:
    try:
        yield from (entry.path for entry in get_cached_repo_tree(repo, revision=revision))
    except CachedRepoTreeNotFoundError:
        at = f" at revision {revision!r}" if revision != "main" else ""
        raise Failure(f"{repo}{at}: not on this machine; fetch it without --offline", FAILED) from None


def _explain(repo: str, revision: str, error: Exception) -> NoReturn:
    """Raises the Failure that says what to do about an error of the Hub's client."""
    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) and error.__cause__ else error
    status = cause.response.status_code if isinstance(cause, HfHubHTTPError) else 0
    hub = f"the Hub at {constants.ENDPOINT}"
    code, login = UNUSABLE, "log in with `hf auth login`"
    if isinstance(cause, HFValidationError):
        reason = "that is no name of a repository; write it as OWNER/NAME"
    elif isinstance(cause, GatedRepoError):
        reason = f"accept its terms at {constants.ENDPOINT}/{repo}, then {login}"
    elif isinstance(cause, RepositoryNotFoundError) or status == 401:
        reason = f"{hub} has no such model, or it is private; for a private one {login}"
    elif isinstance(cause, RevisionNotFoundError):
        reason = f"no branch, tag or commit {revision!r} in it; name another with --revision"
    elif status:
        code, reason = FAILED, f"{hub} answered {status}; try again later"
    elif isinstance(cause, ConnectionFault):
        again = "the same command goes on where it stopped, --offline uses what is here"
        code, reason = FAILED, f"no connection to {hub} ({cause}); {again}"
    else:
        code, reason = FAILED, str(cause)
    raise Failure(f"{repo}: {reason}", code) from error


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return (", ".join(names[:LISTED]) or "none") + more
