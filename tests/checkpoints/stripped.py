"""Checkpoints without a file: of names and shapes alone, or of tensors in memory."""

import lzma
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from daguerre.files.checkpoint import Checkpoint, TensorInfo

REAL_KEYS = Path(__file__).parent / "real_keys"
REAL = "sd1", "sd1_inpaint", "sd2", "sdxl", "sdxl_refiner"


def of_tensors(tensors: Mapping[str, Tensor], **more: object) -> Checkpoint:
    infos = {key: TensorInfo(tuple(tensor.shape), tensor.dtype) for key, tensor in tensors.items()}
    return Checkpoint(Path("memory"), infos, tensors.__getitem__, (), **more)


def of_shapes(
    shapes: Mapping[str, tuple[int, ...]], fill: Callable[..., Tensor] = torch.zeros, **more: object
) -> Checkpoint:
    infos = {key: TensorInfo(shape, torch.float16) for key, shape in shapes.items()}
    return Checkpoint(Path("stripped"), infos, lambda key: fill(shapes[key]), (), **more)


def real_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Key -> shape of all 1,100 to 2,500 entries of a real checkpoint in the original layout."""
    rows = lzma.decompress((REAL_KEYS / f"{name}.tsv.xz").read_bytes()).decode().splitlines()
    split = (row.split("\t") for row in rows)
    return {key: tuple(int(n) for n in shape.split("x")) if shape else () for key, shape in split}


def averaged(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The U-Net's moving average as a trainer saves it: every name without its dots, and two counters."""
    names = {key: key.removeprefix("model.") for key in shapes if key.startswith("model.diffusion_model.")}
    flat = {"model_ema." + name.replace(".", ""): shapes[key] for key, name in names.items()}
    return flat | {"model_ema.decay": (), "model_ema.num_updates": ()}
