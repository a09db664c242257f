"""The training benchmarks at toy size: they run, and their figures are consistent."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2] / "benchmarks"


def told(script: str, *options: object) -> dict[str, float]:
    command = [sys.executable, ROOT / script, *options, "--json"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def sd15(*options: object) -> dict[str, float]:
    return told(
        "gpu/train_sd15.py", "--model", "toy", "--eager", "--device", "cpu", "--warm", 1, "--steps", 2, *options
    )


def test_the_gpu_script_reports_how_much_of_the_peak_it_reaches() -> None:
    facts = sd15("--peak", 2, "--ema", 0.9)
    assert facts["images/s"] == pytest.approx(facts["batch"] / facts["seconds per step"])
    assert facts["TFLOP/s"] == pytest.approx(facts["images/s"] * facts["GFLOP per image"] / 1e3)
    assert facts["MFU"] == pytest.approx(facts["TFLOP/s"] / 2)
    assert 0 < facts["last loss"] < 10


def test_the_gpu_script_trains_on_pictures(tmp_path: Path) -> None:
    for i in range(3):
        Image.effect_noise((64, 64), 40).convert("RGB").save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(f"picture {i}")
    facts = sd15("--pictures", tmp_path, "--precision", "float32", "--accumulate", 2)
    assert facts["seconds to fill the caches"] > 0
    assert facts["MFU"] is None  # nobody told the peak of this processor
    assert 0 < facts["last loss"] < 10


def test_flops_are_those_of_sd15(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "gpu")
    monkeypatch.syspath_prepend(ROOT)
    import train_sd15

    assert train_sd15.flops(train_sd15.SHAPES["sd15"]) / 3e9 == pytest.approx(803, abs=1)  # one pass, at 512 px


@pytest.mark.slow
def test_the_comparison_with_diffusers_runs() -> None:
    pytest.importorskip("diffusers")
    pytest.importorskip("peft")
    facts = told("train/speed.py", "--toy", "--pictures", 8, "--turns", 1)
    for kind in ("full", "lora"):
        assert facts[kind].keys() == {"daguerre", "diffusers", "diffusers, precomputed"}
        assert all(turns[0]["seconds"] > 0 and 0 < turns[0]["loss"] < 10 for turns in facts[kind].values())
