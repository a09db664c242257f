"""The script that trains tintype on a GPU, here on the CPU with a handful of pictures: it has one chance there."""

import subprocess
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch

from daguerre.families.loading import load_model
from daguerre.models.clip import CLIPText
from daguerre.models.vae import VAE
from daguerre.models.vision import CLIPVision
from daguerre.train import checkpoint
from daguerre.train.contrastive import Towers
from daguerre.train.tintype import TINTYPE
from tests.train import toys
from tests.train.test_illustrations import shape

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu" / "train_tintype.py"
NAMES = "box", "drum", "wheel", "cushion", "lantern", "pot"


def script(*arguments: object) -> str:
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_from_the_kit_to_a_model_file(tmp_path):
    torch.manual_seed(0)
    vae, towers = VAE(TINTYPE.vae), Towers(CLIPText(TINTYPE.text), CLIPVision(TINTYPE.vision))
    checkpoint.save(tmp_path / "run" / "autoencoder", 1, {"averaged": vae.state_dict()}, {})
    checkpoint.save(tmp_path / "run" / "clip", 1, {"averaged": towers.state_dict()}, {})
    data = tmp_path / "data"
    data.mkdir()
    drawn = [shape(n, c, s) for n, c in zip(NAMES, toys.COLORS, strict=True) for s in toys.STYLES]
    toys.write_parquet(data / "illustrations.parquet", [{**row, "concept": "1F4E6", "style": "x"} for row in drawn])
    names = [{"concept": "1F4E6", "locale": "de", "label": "Kiste", "tags": ["Paket"]}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(names), data / "names.parquet")

    kit, out = tmp_path / "kit", tmp_path / "out"
    assert "12 pictures" in script("pack", tmp_path / "run", data, kit)
    few = "--steps", 3, "--batch", 2, "--scenes", 8, "--precision", "float32", "--eager"
    assert "3 of 3 steps" in script("train", kit, out, *few)
    assert {path.name for path in out.iterdir()} == {*(f"unet.{n}" for n in range(4)), "log.jsonl"}
    assert all(path.stat().st_size <= 16_000_000 for path in out.iterdir())
    script("join", out, kit, tmp_path / "model.safetensors")
    model = load_model(tmp_path / "model.safetensors", device="cpu", dtype="float32")
    assert torch.equal(model.vae.quant.weight, vae.quant.weight.half().float())
    averaged = checkpoint.newest(kit / "unet")[1]["averaged"]
    for part, network in (("unet", model.unet), ("text", model.text[0])):
        assert all(torch.equal(v, averaged[f"{part}.{k}"].half().float()) for k, v in network.state_dict().items())
