"""`daguerre checkpoint prune`: what a drawing needs, and nothing more."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from daguerre.cli.main import app
from tests.toy import toy, write_toy

UNET = "model.diffusion_model."


@pytest.mark.parametrize("weights", ["auto", "ema"])
def test_what_no_drawing_needs_is_dropped(weights, tmp_path):
    plain, whole, pruned = (tmp_path / f"{name}.safetensors" for name in ("plain", "whole", "pruned"))
    write_toy(toy("sd1"), plain)
    needed = load_file(plain)
    ema = {
        f"model_ema.{key.removeprefix('model.').replace('.', '')}": value + 1
        for key, value in needed.items()
        if key.startswith(UNET)
    }
    more = {"betas": torch.ones(1000), "model_ema.decay": torch.ones(()), "optimizer.state": torch.ones(5)}
    save_file(needed | ema | more, whole)
    app(["checkpoint", "prune", str(whole), str(pruned), "--weights", weights], result_action="return_value")
    found = load_file(pruned)
    assert found.keys() == needed.keys()
    for key, value in needed.items():
        averaged = weights == "ema" and key.startswith(UNET)
        assert torch.equal(found[key], value + 1 if averaged else value), key
