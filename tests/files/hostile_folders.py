"""Hostile diffusers folders: lying indices, configs of wrong types, links and pipes instead of files."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from .hostile_pickles import zipped
from .hostile_safetensors import packed
from .hostile_zips import BAD

WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = WEIGHTS + ".index.json"
SECRET = "the secret of another folder"

Sample = tuple[str, Path, tuple[str, ...]]  # class, folder, words of which the error holds one


def weights(*keys: str) -> bytes:
    fields = {
        key: {"dtype": "F16", "shape": [2], "data_offsets": [4 * place, 4 * place + 4]}
        for place, key in enumerate(keys)
    }
    return packed(fields, bytes(4 * len(keys)))


def pipeline(folder: Path) -> Path:
    """A folder that opens."""
    for part in ("unet", "vae", "scheduler"):
        (folder / part).mkdir(parents=True)
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        (folder / part / name).write_text('{"_class_name": "Toy"}')
    for part in ("unet", "vae"):
        (folder / part / WEIGHTS).write_bytes(weights("conv_in.weight", "conv_in.bias"))
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    return folder


def indexed(folder: Path, index: Any, *shards: str) -> None:
    """Replaces the U-Net's file by an index and some shards."""
    (folder / "unet" / WEIGHTS).unlink()
    content = index if isinstance(index, bytes) else json.dumps(index).encode()
    (folder / "unet" / INDEX).write_bytes(content)
    for number, name in enumerate(shards):
        (folder / "unet" / name).write_bytes(weights(f"block{number}.weight"))


def indices(rng: Random, fresh: Callable[[], Path], secret: Path) -> Iterator[Sample]:
    shards = [f"diffusion_pytorch_model-{n:05}-of-00003.safetensors" for n in (1, 2, 3)]
    full = {"weight_map": {f"block{n}.weight": shard for n, shard in enumerate(shards)}}
    for gone in (0, 1, 2):
        indexed(folder := fresh(), full, *(shard for n, shard in enumerate(shards) if n != gone))
        yield "folder: shard is missing", folder, (shards[gone],)
    outside = [
        "../vae/" + WEIGHTS, "../../secret.safetensors", str(secret), "/etc/passwd",
        "sub/model.safetensors", "..", ".", "", "C:\\secret", "..\\secret", "a\0b", "~/secret",
        "file:///etc/passwd", "http://127.0.0.1/x", "\\\\host\\share\\x",
    ]  # fmt: skip
    for name in outside:
        indexed(folder := fresh(), {"weight_map": {"a": shards[0], "b": name}}, shards[0])
        yield "folder: index points outside", folder, ("weight_map", "missing", "cannot be read", "index")
    for name in (5, None, True, ["x"], {"x": "y"}, 1.5, ["../x"]):
        indexed(folder := fresh(), {"weight_map": {"a": name}})
        yield "folder: index of wrong types", folder, ("weight_map",)
    for index in ({}, {"weight_map": {}}, {"weight_map": []}, {"weight_map": None}, {"weight_map": shards[0]}, [], 5):
        indexed(folder := fresh(), index, *shards)
        yield "folder: index of wrong types", folder, ("weight_map", "JSON object")
    for raw in (b"", b"{", b"\xff", b"[" * 100_000, b"{}" * 2, b"NaN", b'{"a":' * 50_000, b" " * (9 << 20)):
        indexed(folder := fresh(), raw, *shards)
        yield "folder: index is no JSON", folder, (INDEX,)
    indexed(folder := fresh(), {"weight_map": {"a": INDEX}})
    yield "folder: index names itself", folder, (INDEX,)
    indexed(folder := fresh(), full, *shards)
    (folder / "unet" / shards[2]).write_bytes(weights("block0.weight"))
    yield "folder: two shards, one tensor", folder, ("'block0.weight'",)


def bombs(rng: Random, fresh: Callable[[], Path], secret: Path) -> Iterator[Sample]:
    for atom in (b"[],", b"{},", b'{"a":0},', b"257,", b'"aa",'):
        raw = b'{"weight_map":[' + atom * ((4 << 20) // len(atom) - 20) + b"0]}"
        indexed(folder := fresh(), raw)
        yield "folder: JSON bomb", folder, (INDEX,)


def configs(rng: Random, fresh: Callable[[], Path], secret: Path) -> Iterator[Sample]:
    for name in ("model_index.json", "unet/config.json", "vae/config.json", "scheduler/scheduler_config.json"):
        for raw in (b"[]", b"5", b'"x"', b"null", b"", b"{", b"\xff{}", b"[" * 100_000, b"{'a': 1}", b"true"):
            (folder := fresh()).joinpath(name).write_bytes(raw)
            yield "folder: config is no object", folder, (name,)


def files(rng: Random, fresh: Callable[[], Path], secret: Path) -> Iterator[Sample]:
    for part in ("unet", "vae"):
        (folder := fresh()).joinpath(part, WEIGHTS).unlink()
        yield "folder: no weights", folder, ("no weights",)
        (folder := fresh()).joinpath(part, WEIGHTS).unlink()
        (folder / part / "diffusion_pytorch_model.bin").write_bytes(zipped(BAD))
        yield "folder: pickle with a payload", folder, ("os.system",)
        (folder := fresh()).joinpath(part, WEIGHTS).write_bytes(zipped(BAD))
        yield "folder: pickle under another name", folder, ("os.system",)
        (folder := fresh()).joinpath(part, WEIGHTS).write_bytes(weights("a.__class__"))
        yield "folder: name is a trap", folder, ("'a.__class__'",)
        content = weights("conv_in.weight")
        for end in (0, 7, 8, 20, len(content) - 1):
            (folder := fresh()).joinpath(part, WEIGHTS).write_bytes(content[:end])
            yield "folder: weights cut short", folder, ("cut short",)
        (folder := fresh()).joinpath(part, WEIGHTS).unlink()
        (folder / part / WEIGHTS).mkdir()
        yield "folder: folder instead of a file", folder, (WEIGHTS,)
        for target in (secret, Path("/dev/zero"), Path("/proc/self/environ"), Path("/etc/passwd"), Path("/nowhere")):
            (folder := fresh()).joinpath(part, WEIGHTS).unlink()
            (folder / part / WEIGHTS).symlink_to(target)
            yield "folder: link out of it", folder, (WEIGHTS, "no weights")
        (folder := fresh()).joinpath(part, WEIGHTS).unlink()
        (folder / part / WEIGHTS).symlink_to(WEIGHTS)
        yield "folder: link to itself", folder, (WEIGHTS, "no weights")
        (folder := fresh()).joinpath(part, "config.json").unlink()
        (folder / part / "config.json").symlink_to(secret)
        yield "folder: config links out of it", folder, ("config.json",)
        if hasattr(os, "mkfifo"):
            (folder := fresh()).joinpath(part, WEIGHTS).unlink()
            os.mkfifo(folder / part / WEIGHTS)
            yield "folder: pipe instead of a file", folder, (WEIGHTS, "no weights")
            (folder := fresh()).joinpath(part, "config.json").unlink()
            os.mkfifo(folder / part / "config.json")
            yield "folder: pipe instead of a config", folder, ("config.json",)
    (folder := fresh().parent / "empty").mkdir()
    yield "folder: empty", folder, ("no weights",)


def hostile_folders(rng: Random, root: Path) -> Iterator[Sample]:
    """Every class, each in a folder of its own below `root`."""
    secret = root / "secret.safetensors"
    root.mkdir()
    secret.write_text(SECRET)
    count = iter(range(1_000_000))
    for make in (indices, bombs, configs, files):
        yield from make(rng, lambda: pipeline(root / f"{next(count):03}"), secret)


def harmless_folders(root: Path, canary: str) -> Iterator[tuple[str, Path]]:
    """Folders with code in them. They open, and the code is not looked at."""
    code = f"open({canary!r}, 'w').write('ran')\n"
    names = (
        "pipeline.py",
        "unet/my_unet.py",
        "__init__.py",
        "setup.py",
        "conftest.py",
        "scheduler/x.py",
        "unet/sitecustomize.py",
    )
    for name in names:
        (folder := pipeline(root / name.replace("/", "-"))).joinpath(name).write_text(code)
        yield f"folder: {name}", folder
    wishes: dict[str, dict[str, Any]] = {
        "custom_pipeline": {"custom_pipeline": "pipeline.py"}, "trust_remote_code": {"trust_remote_code": True},
        "class in a file": {"_class_name": ["pipeline", "Evil"]}, "part in a file": {"unet": ["my_unet", "Evil"]},
        "auto_map": {"auto_map": {"AutoModel": "pipeline.Evil"}}, "part of the library": {"vae": ["os", "system"]},
    }  # fmt: skip
    for name, wish in wishes.items():
        folder = pipeline(root / name)
        (folder / "pipeline.py").write_text(code)
        (folder / "unet" / "my_unet.py").write_text(code)
        (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"} | wish))
        yield f"folder: {name}", folder
