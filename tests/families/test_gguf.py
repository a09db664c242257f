"""Quantized files draw: whole ones alone, and a lone U-Net with a base that lends the rest."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from daguerre.families.loading import load_model
from daguerre.files.checkpoint import CheckpointError
from tests.adapters.made import apart, outputs
from tests.files.test_gguf import Raw, gguf
from tests.toy import toy, write_toy

UNET = "model.diffusion_model."


def q8_0(values: np.ndarray) -> Raw:
    """Rows of 32, each with a scale of a 127th of its largest number, as ggml rounds."""
    rows = values.reshape(-1, 32)
    scale = (np.abs(rows).max(axis=1, keepdims=True) / 127).astype(np.float16)
    q = np.round(rows / np.maximum(scale.astype(np.float32), 1e-12)).clip(-127, 127).astype(np.int8)
    data = np.concatenate([scale.view(np.uint8), q.view(np.uint8)], axis=1)
    return values.shape, 8, data.tobytes()


def write(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """Matrices quantized, all else float32, as both programs do."""
    made = {
        key: q8_0(v.numpy()) if v.ndim > 1 and v.shape[-1] % 32 == 0 else (tuple(v.shape), 0, v.numpy().tobytes())
        for key, v in tensors.items()
    }
    path.write_bytes(gguf(made, {"general.architecture": "sd1"}))
    return path


@pytest.mark.parametrize("prefix", ["", UNET])
@torch.no_grad()
def test_a_lone_unet_draws_with_a_base(prefix: str, tmp_path: Path) -> None:
    base, exact = write_toy(toy(seed=1), tmp_path / "base.safetensors"), toy(seed=0)
    whole = load_file(write_toy(exact, tmp_path / "exact.safetensors"))
    tensors = {prefix + key.removeprefix(UNET): value for key, value in whole.items() if key.startswith(UNET)}
    file = write(tmp_path / "lone.gguf", tensors)
    with pytest.raises(CheckpointError, match="--base"):
        load_model(file, device="cpu", dtype="float32")
    model = load_model(file, base=base, family="tintype", device="cpu", dtype="float32")
    assert model.name == "lone"
    assert (model.vae_name, len(model.text)) == ("base", 1)
    lent = load_model(base, device="cpu", dtype="float32")
    assert all(torch.equal(x, y) for x, y in zip(model.vae.parameters(), lent.vae.parameters(), strict=True))
    mine, text = outputs(model), outputs(lent)[1]
    assert torch.equal(mine[1], text)
    assert 0 < apart(mine[:1], outputs(exact)[:1]) < 0.05, "eight bits are nearly exact"
    assert apart(mine[:1], outputs(lent)[:1]) > 0.2


OPENCLIP = {  # stable-diffusion.cpp's table
    "model.transformer.resblocks.": "transformer.text_model.encoder.layers.", "ln_1": "layer_norm1",
    "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2", "attn.out_proj": "self_attn.out_proj",
    "model.token_embedding": "transformer.text_model.embeddings.token_embedding",
    "model.positional_embedding": "transformer.text_model.embeddings.position_embedding.weight",
    "model.ln_final": "transformer.text_model.final_layer_norm",
    "model.text_projection": "transformer.text_model.text_projection",
}  # fmt: skip


def test_a_whole_sdxl_of_stable_diffusion_cpp(tmp_path: Path) -> None:
    whole, tensors = load_file(write_toy(toy("sdxl"), tmp_path / "a.safetensors")), dict[str, torch.Tensor]()
    for key, value in whole.items():
        name = key.replace("conditioner.embedders.0.", "cond_stage_model.")
        name = name.replace("conditioner.embedders.1.", "cond_stage_model.1.")
        if name.startswith("cond_stage_model.1."):
            for theirs, new in OPENCLIP.items():
                name = name.replace(theirs, new)
        place, third, leaf = name.rpartition("attn.in_proj_")
        if third:  # divided while it is read there
            tensors |= {
                f"{place}self_attn.{x}_proj.{leaf}": part for x, part in zip("qkv", value.chunk(3), strict=True)
            }
        else:
            tensors[name] = value
    made = {key: (tuple(v.shape), 0, v.contiguous().numpy().tobytes()) for key, v in tensors.items()}
    (path := tmp_path / "whole.gguf").write_bytes(gguf(made))
    model, exact = load_model(path, device="cpu", dtype="float32"), toy("sdxl")
    assert model.family.name == "sdxl"
    for part, network in exact.parts.items():
        state = model.parts[part].state_dict()
        for name, value in network.state_dict().items():
            assert torch.equal(state[name], value), f"{part}.{name}"


def test_a_base_of_another_family_is_refused(tmp_path: Path) -> None:
    whole = load_file(write_toy(toy(), tmp_path / "a.safetensors"))
    file = write(tmp_path / "lone.gguf", {key: v for key, v in whole.items() if key.startswith(UNET)})
    base = write_toy(toy("sd1"), tmp_path / "sd1.safetensors")
    with pytest.raises(CheckpointError, match=r"lone\.gguf.*cannot borrow from the sd1 model.*sd1\.safetensors"):
        load_model(file, base=base)
