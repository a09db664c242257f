"""What is shown while a picture is drawn."""

import pytest
from PIL import Image

from daguerre import TextToImage, text_to_image
from daguerre.generate.preview import preview
from tests.toy import toy, write_toy


@pytest.mark.parametrize("memory", [(), ("--low-memory",)])
def test_a_preview_is_made_of_latents_without_the_vae(run, tmp_path, memory):
    path = write_toy(toy(), tmp_path / "toy.safetensors")
    exact = ("--device", "cpu", "--dtype", "float32")
    small = ("--steps", 1, "--size", "64x80", "--seed", 5, "--sampler", "Euler", "--cfg", 7)
    run("generate", "an apple", "--model", path, *small, *exact, "--preview", *memory)
    request = TextToImage(prompt="an apple", steps=1, width=64, height=80, seed=5, sampler="Euler")
    step, _ = text_to_image(toy(), request)
    with Image.open(tmp_path / "outputs" / "preview.png") as shown:
        assert shown.tobytes() == preview(toy(), step.x0).resize((64, 80)).tobytes()
