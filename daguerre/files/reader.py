"""Opens checkpoints: single files and diffusers folders, safetensors and pickles. Never runs code from a file."""

import json
from codecs import getincrementaldecoder
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from .checkpoint import Checkpoint, CheckpointError, TensorInfo
from .gguf import MAGIC, open_gguf
from .pickle_reader import open_pickle
from .safetensors_header import read_header

SETTINGS = "daguerre.config"  # in a single file's metadata: what a diffusers folder has as JSON files
FOLDERS = "unet", "vae", "text_encoder", "text_encoder_2"
BESIDE = "preprocessor", "open_clip", "generation"  # settings beside those of the network: of CLIPs and captioners
STEMS = "diffusion_pytorch_model", "model", "pytorch_model", "open_clip_model", "open_clip_pytorch_model"
OTHERS = {  # that files taken for models begin with
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"<": "a web page",
    b"version https://git-lfs": "a pointer to a file in Git LFS (git lfs pull fetches that)",
    b"7z": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x1f\x8b": "a gzip archive",
}
MAX_JSON = 1 << 20  # bytes


def open_checkpoint(path: Path | str, *, variant: str | None = None) -> Checkpoint:
    """A file or a diffusers folder. `variant` picks a folder's files of that name, such as fp16.

    Only names and shapes are read here; tensors are views of the memory-mapped file. Raises CheckpointError.
    """
    path = Path(path)
    try:
        return _open_folder(path, variant) if path.is_dir() else _open_file(path)
    except (OSError, SafetensorError) as fault:
        raise CheckpointError(path, f"cannot be read: {fault}") from None


def _open_file(path: Path) -> Checkpoint:
    if not path.is_file():  # a named pipe would wait for ever
        raise CheckpointError(path, "it is no regular file" if path.exists() else "there is no such file")
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"PK\3\4") or (start.startswith(b"\x80") and start[8:9] != b"{"):
        return open_pickle(path)
    if start.startswith(MAGIC) and start[5:8] == bytes(3):  # a safetensors header would be terabytes long
        return open_gguf(path)
    if start[5:9] != b"\0\0\0{" and (kind := _kind(start)):  # where a safetensors header begins
        raise CheckpointError(path, f"it is {kind}, no model")
    entries, metadata = read_header(path)
    tensors = {key: TensorInfo(entry.shape, entry.dtype) for key, entry in entries.items()}
    configs = _parse(path, metadata.get(SETTINGS, "{}"), SETTINGS)
    if not all(isinstance(section, dict) for section in configs.values()):
        raise CheckpointError(path, "should be JSON objects by section", key=SETTINGS, remedy="Remove it")
    return Checkpoint(path, tensors, safe_open(path, "pt").get_tensor, (path,), metadata, configs)


def _kind(start: bytes) -> str:
    """What a file is that begins so, where a user may have taken it for a model; "" where that is not known."""
    if start.startswith(b"RIFF"):
        return "a WebP picture" if start[8:12] == b"WEBP" else "a sound or a film"
    if found := next((kind for magic, kind in OTHERS.items() if start.startswith(magic)), ""):
        return found
    try:
        text = getincrementaldecoder("utf-8")().decode(start)  # whose last letter may be cut
        return "a text" if text and "".join(text.split()).isprintable() else ""
    except UnicodeDecodeError:
        return ""


def _open_folder(folder: Path, variant: str | None) -> Checkpoint:
    parts = [name for name in FOLDERS if (folder / name).is_dir()] or [""]
    settings = {part: folder / part / "config.json" for part in parts}
    settings["model_index"] = folder / "model_index.json"
    settings["scheduler"] = folder / "scheduler" / "scheduler_config.json"
    settings |= {name: folder / f"{name}_config.json" for name in BESIDE}
    configs = {name: _json(path) for name, path in settings.items() if path.exists()}
    code = "custom_pipeline" in configs.get("model_index", {}) or any(folder.rglob("*.py"))
    files: list[Path] = []
    origins: dict[str, tuple[Checkpoint, str]] = {}
    for part in parts:
        for file in _weights(folder / part, variant):
            files.append(file)
            opened = _open_file(file)
            for key in opened.tensors:
                name = f"{part}/{key}" if part else key
                if name in origins:
                    raise CheckpointError(file, "the tensor is in another shard too", key=key)
                origins[name] = opened, key

    def fetch(name: str) -> Tensor:
        opened, key = origins[name]
        return opened.tensor(key)

    tensors = {name: opened.tensors[key] for name, (opened, key) in origins.items()}
    notes = ("it comes with code of its own, which is not run",) if code else ()
    return Checkpoint(folder, tensors, fetch, tuple(sorted(files)), configs=configs, notes=notes)


def _weights(folder: Path, variant: str | None) -> list[Path]:
    """The files of one network: whole or in shards, safetensors before pickles, plain ones before fp16."""
    for suffix in ("safetensors", "bin"):
        for kind in ("", ".fp16") if variant is None else (f".{variant}",):
            for stem in STEMS:
                if (whole := folder / f"{stem}{kind}.{suffix}").exists():
                    return [whole]
                if (index := folder / f"{stem}.{suffix}.index{kind}.json").exists():
                    return list(_shards(index))
    kind = f" of variant {variant!r}" if variant else ""
    raise CheckpointError(folder, f"no weights{kind} in this folder", remedy="Download the whole folder")


def _shards(index: Path) -> Iterator[Path]:
    names = _json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise CheckpointError(index, "should map tensors to files", key="weight_map")
    for name in dict.fromkeys(name if isinstance(name, str) else "" for name in names.values()):
        if not name.isprintable() or not name or Path(name).name != name or "\\" in name:
            raise CheckpointError(index, f"{name!r:.100} is not the name of a file beside it", key="weight_map")
        if not (index.parent / name).is_file():
            raise CheckpointError(index.parent / name, "this shard is missing", remedy="Download the whole folder")
        yield index.parent / name


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(path, "there is no such file")
    with path.open("rb") as file:
        return _parse(path, file.read(MAX_JSON + 1))


def _parse(path: Path, text: str | bytes, key: str = "") -> dict[str, Any]:
    if len(text) > MAX_JSON:
        raise CheckpointError(path, f"more than {MAX_JSON:,} bytes of JSON", key=key, remedy="Download it again")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise CheckpointError(path, f"is not valid JSON: {fault}", key=key, remedy="Download it again") from None
    if not isinstance(values, dict):
        raise CheckpointError(path, "should be a JSON object", key=key, remedy="Download it again")
    return values
