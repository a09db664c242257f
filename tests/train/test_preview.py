import torch

from daguerre.models.enlarger import Enlarger, EnlargerConfig
from daguerre.models.vae import VAE
from daguerre.train.preview import PreviewRecipe
from tests.train import toys
from tests.train.line import finish, quick


def recipe(pictures):
    torch.manual_seed(0)
    with torch.no_grad():
        latents = VAE(toys.ARCHITECTURE.vae).encode(pictures.batch(torch.arange(len(pictures))))
    pair = latents / latents.std(), pictures.pixels
    network = Enlarger(EnlargerConfig(channels=4, width=16, blocks=1, fold=1, residual=False))
    return PreviewRecipe(network, pair, (pair[0][:4], pair[1][:4]), 4, 0)


def test_it_learns_to_show_latents(tmp_path, pictures):
    made = recipe(pictures)
    before = made.held_out()["preview"]
    records = finish(made, quick(3e-3, steps=100, save_every=1000), tmp_path)
    assert records[-1]["loss"] < 0.7 * records[0]["loss"]
    assert made.held_out()["preview"] > before + 3


def test_targets_are_as_large_as_the_output(pictures):
    made = recipe(pictures)
    assert made.held[1].shape == (4, 3, 16, 16)
    assert made._decoded().shape == (4, 3, 16, 16)


def test_samples(tmp_path, pictures):
    recipe(pictures).sample(tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").exists()
