"""Fifty losses of a toy run, as they were when this was written: what changes them changes every run.

python -m tests.train.test_loss_curve    writes them anew, for a change that is meant
"""

import json
import tempfile
from pathlib import Path

import pytest
import torch

from daguerre.train.config import Loop, Optimizer
from daguerre.train.loop import Stage
from tests.train import toys
from tests.train.line import finish

RECORDED = Path(__file__).with_name("loss_curve.json")
STAGE = Stage(loop=Loop(steps=50, batch=4, ema=0.9), optimizer=Optimizer(learning_rate=2e-3, warmup=5, decay=10))


def losses(folder: Path) -> list[float]:
    """Of fifty steps on a colored ball's latents, from scratch."""
    return [record["loss"] for record in finish(toys.denoising(toys.balls(folder)), STAGE, folder / "run")]


def test_the_loss_curve_is_the_recorded_one(tmp_path):
    """Within rounding, which other machines and libraries do otherwise."""
    assert losses(tmp_path) == pytest.approx(json.loads(RECORDED.read_text()), rel=1e-4)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        RECORDED.write_text(json.dumps([round(loss, 7) for loss in losses(Path(folder))]) + "\n")
